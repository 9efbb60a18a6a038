package copy_test

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// noted remembers as a file between runs would.
type noted struct {
	mu sync.Mutex
	at map[string][]ref.Name
}

func (n *noted) Has(host string, d oci.Digest) []ref.Name {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.at[host+"@"+d.String()])
}

func (n *noted) Remember(host string, in ref.Name, d oci.Digest, _ bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == nil {
		n.at = map[string][]ref.Name{}
	}
	key := host + "@" + d.String()
	n.at[key] = append([]ref.Name{in}, n.at[key]...)
}

// local is a layout with one image.
func local(t testing.TB, seed uint64, sizes ...int) (*layout.Dir, oci.Descriptor) {
	t.Helper()
	dir, err := layout.CreateDir(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir, putImage(t, dir, tag("v1"), seed, sizes...)
}

// Layers of a folder that a run before brought to the registry, into another repository, are mounted, and a dry run says so before.
func TestMountsFromEarlierRuns(t *testing.T) {
	host := berthd(t)
	k := cut(t, host)
	c := plainClient(remote.Options{})
	dir, d := local(t, 300, 400_000, 300_000)
	var m noted
	run := func(name string, dry bool) *copy.Result {
		t.Helper()
		res, err := copy.New(copy.Options{Memory: &m, DryRun: dry}).Copy(t.Context(), copy.Job{From: dir, At: tag("v1"), To: repo(t, c, k.addr, name), As: []ref.Reference{tag("v1")}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := run("a/app", true); res.Sent != 3 || res.Mounted != 0 || len(m.at) > 0 {
		t.Errorf("a plan: %+v, remembered %v", res, m.at)
	}
	if res := run("a/app", false); res.Sent != 3 || k.sent.Load() < 700_000 {
		t.Errorf("the first time: %+v", res)
	}
	k.sent.Store(0)
	if res := run("b/app", true); res.Sent != 0 || res.Mounted != 3 || res.Bytes != 0 {
		t.Errorf("a plan of mounts: %+v", res)
	}
	if res := run("b/app", false); res.Sent != 0 || res.Mounted != 3 || res.Bytes != 0 {
		t.Errorf("the second time: %+v", res)
	}
	if n := k.sent.Load(); n > 2000 { // the manifest
		t.Errorf("%d bytes were sent", n)
	}
	mustHave(t, repo(t, c, host, "b/app"), tag("v1"), d.Digest)
}

// What was read from a repository is mounted from there when it comes back from a folder.
func TestMountsWhatWasRead(t *testing.T) {
	host := berthd(t)
	c := plainClient(remote.Options{})
	from := repo(t, c, host, "team/app")
	d := putImage(t, from, tag("v1"), 310, 100_000, 50_000)
	dir, err := layout.CreateDir(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var m noted
	to := repo(t, c, host, "back/app")
	for _, j := range []copy.Job{{From: from, To: dir}, {From: dir, To: to}} {
		j.At, j.As = tag("v1"), []ref.Reference{tag("v1")}
		res, err := copy.New(copy.Options{Memory: &m}).Copy(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if j.To == copy.Target(to) && (res.Sent != 0 || res.Mounted != 3) {
			t.Errorf("%+v", res)
		}
	}
	mustHave(t, to, tag("v1"), d.Digest)
}

// A memory that is wrong costs nothing but the question: what the registry does not have there is sent.
func TestWrongMemory(t *testing.T) {
	host := berthd(t)
	c := plainClient(remote.Options{})
	dir, d := local(t, 320, 200_000, 100_000)
	var m noted
	_, body, err := dir.Manifest(t.Context(), tag("v1"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(parsed.Layers, *parsed.Config) {
		for _, n := range []string{"no/such", "nor/that"} {
			m.Remember(host, repo(t, c, host, n).Name(), l.Digest, true)
		}
	}
	to := repo(t, c, host, "team/app")
	job := copy.Job{From: dir, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}}
	if res, err := copy.New(copy.Options{Memory: &m, DryRun: true}).Copy(t.Context(), job); err != nil || res.Sent != 3 || res.Mounted != 0 {
		t.Errorf("a plan: %+v, %v", res, err)
	}
	if res, err := copy.New(copy.Options{Memory: &m}).Copy(t.Context(), job); err != nil || res.Sent != 3 || res.Mounted != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	mustHave(t, to, tag("v1"), d.Digest)
}
