package fs_test

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
)

// platter is what a power loss would leave, told by the operations alone: a file's content from its last sync on, a
// name from the next sync of its directory on, and nothing else. It is slow, so that who does not wait for another's
// sync is caught.
type platter struct {
	mu      sync.Mutex
	content map[string]bool            // file → its content is on the platter
	pending map[string]map[string]bool // directory → names that were changed in it: there or gone
	names   map[string]bool            // names on the platter
}

func newPlatter() *platter {
	return &platter{content: map[string]bool{}, pending: map[string]map[string]bool{}, names: map[string]bool{}}
}

func (p *platter) hook(op durable.Op, name, to string) error {
	switch {
	case op == durable.OpSyncDir && name == "blobs/sha256":
		time.Sleep(20 * time.Millisecond) // longer than the rest of a commit takes
	case op == durable.OpSync || op == durable.OpSyncDir:
		time.Sleep(time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch op {
	case durable.OpOpen, durable.OpMkdir:
		p.change(name, true)
	case durable.OpWrite, durable.OpTruncate:
		p.content[name] = false
	case durable.OpSync:
		p.content[name] = true
	case durable.OpRename:
		p.content[to] = p.content[name]
		p.change(name, false)
		p.change(to, true)
	case durable.OpRemove:
		p.change(name, false)
	case durable.OpSyncDir:
		for n, there := range p.pending[name] {
			p.names[n] = there
		}
		delete(p.pending, name)
	}
	return nil
}

func (p *platter) change(name string, there bool) {
	dir := path.Dir(name)
	if p.pending[dir] == nil {
		p.pending[dir] = map[string]bool{}
	}
	p.pending[dir][name] = there
}

// survives is "" when a power loss now leaves the file whole under its name, else what would be missing.
func (p *platter) survives(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.content[name] {
		return "the content of " + name
	}
	for n := name; n != "."; n = path.Dir(n) {
		if !p.names[n] {
			return "the name " + n
		}
	}
	return ""
}

// Whatever many clients do at once, at the moment of each answer a power loss leaves what was answered. Few shards are
// used, so that many first commits of a shard meet.
func TestPowerLoss(t *testing.T) {
	p := newPlatter()
	s := open(t, t.TempDir(), p.hook)
	contents := append(sameShard(4, 12), blobtest.Random(1, 70_000), blobtest.Random(2, 300_000))
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i, data := range contents {
				d := oci.FromBytes(oci.SHA256, data)
				name := "blobs/sha256/" + shardPath(d)
				if err := blobtest.Push(s, fmt.Sprintf("loss-%d-%d", worker, i), data); err != nil {
					t.Errorf("commit: %v", err)
				} else if lost := p.survives(name); lost != "" {
					t.Errorf("commit of %s was answered, and a power loss would take %s", d.Short(), lost)
				}
			}
		})
	}
	wg.Wait()

	// Deleted stays deleted, too: an orphan that comes back is named by no row.
	for _, data := range contents {
		d := oci.FromBytes(oci.SHA256, data)
		if err := s.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if lost := p.survives("blobs/sha256/" + shardPath(d)); !strings.HasPrefix(lost, "the name") {
			t.Errorf("%s was deleted, and a power loss would bring it back", d.Short())
		}
	}
}

// A part of an upload that was suspended is on the platter, however small, whoever began it.
func TestPowerLossOfUpload(t *testing.T) {
	p := newPlatter()
	s := open(t, t.TempDir(), p.hook)
	for _, size := range []int{0, 1, 50_000, 300_000} {
		id := fmt.Sprint("part-", size)
		w, err := s.Upload(t.Context(), id, blob.State{})
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close() // an attempt that came to nothing
		state := begun(t, s, id, blobtest.Random(3, size))
		if lost := p.survives("uploads/" + id); lost != "" && size > 0 {
			t.Errorf("%d bytes were suspended, and a power loss would take %s", size, lost)
		}
		if w, err = s.Upload(t.Context(), id, state); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lost := p.survives("uploads/" + id); lost != "" {
			t.Errorf("4 more bytes were suspended, and a power loss would take %s", lost)
		}
	}
}

// sameShard makes contents whose digests begin with one of the first few bytes.
func sameShard(shards, n int) (contents [][]byte) {
	for i := 0; len(contents) < n; i++ {
		data := fmt.Appendf(nil, "content %d", i)
		if d := oci.FromBytes(oci.SHA256, data); d.Hex()[:2] < fmt.Sprintf("%02x", shards) {
			contents = append(contents, data)
		}
	}
	return contents
}
