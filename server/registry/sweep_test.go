package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/metadb"
)

// crashed leaves what a process leaves that dies between the store's commit and the row of the blob.
func (p *plant) crashed(id string, data []byte) oci.Digest {
	p.Helper()
	d := oci.FromBytes(oci.SHA256, data)
	err := p.db.Update(p.ctx, func(tx *metadb.Tx) error {
		if err := tx.CreateUpload(metadb.Upload{ID: id, Repository: "library/app", Principal: "alice", Algorithm: oci.SHA256, HashState: []byte{}, DriverState: []byte{}}); err != nil {
			return err
		}
		return tx.SetCommitting(id, d)
	})
	if err != nil {
		p.Fatal(err)
	}
	if err := blobtest.Push(p.disk, id, data); err != nil {
		p.Fatal(err)
	}
	return d
}

func (p *plant) sweep() {
	p.Helper()
	if err := p.Sweep(p.ctx); err != nil {
		p.Error(err)
	}
}

func TestSweepOrphans(t *testing.T) {
	onBoth(t, func(p *plant) {
		if _, parks := blob.ParkerOf(p.blobs); parks {
			p.Skip("it counts files under digests; settle_test.go has the places")
		}
		name := named(p, "library/app")
		orphan, live, twice := blobtest.Random(1, 5000), blobtest.Random(2, 5000), blobtest.Random(3, 5000)
		p.crashed("a", orphan)
		p.crashed("b", live)
		p.crashed("c", twice)
		p.crashed("d", twice)
		liveDigest := oci.FromBytes(oci.SHA256, live)
		if err := p.PutBlob(p.ctx, name, liveDigest, all(live)); err != nil {
			p.Fatal(err)
		}
		p.sweep()
		if n := len(p.files("blobs")); n != 3 {
			p.Errorf("%d files before anything expired, want 3", n)
		}
		p.later(8 * 24 * time.Hour)
		p.sweep()
		if names := p.files("blobs"); !slices.Equal(names, []string{liveDigest.Hex()}) {
			p.Errorf("files %q, want the live one", names)
		}
		p.wantBlob(name, liveDigest, live)
		p.wantClean()
	})
}

// A push of a digest that is being swept at this moment waits and wins.
func TestPushDuringSweep(t *testing.T) {
	onBoth(t, func(p *plant) {
		name, data := named(p, "library/app"), blobtest.Random(4, 5000)
		p.later(-8 * 24 * time.Hour) // so that the files of the push are as young as they are
		d := p.crashed("a", data)
		p.later(8 * 24 * time.Hour)
		p.disk.Slow(150 * time.Millisecond)
		swept := make(chan error, 1)
		go func() { swept <- p.replica().Sweep(p.ctx) }()
		deadline := time.Now().Add(10 * time.Second)
		for { // until it is claimed
			if b, err := p.db.BlobAnywhere(p.ctx, d); err == nil && b.State == metadb.Claimed {
				break
			}
			if time.Now().After(deadline) {
				p.Fatal("the orphan was not claimed")
			}
			time.Sleep(time.Millisecond)
		}
		if err := p.PutBlob(p.ctx, name, d, all(data)); err != nil {
			p.Error(err)
		}
		if err := <-swept; err != nil {
			p.Error(err)
		}
		p.disk.Slow(0)
		p.wantBlob(name, d, data)
		p.wantClean()
	})
}

// More than a batch, some of which the store cannot remove: the rest goes, and the next sweep ends it.
func TestSweepGoesOn(t *testing.T) {
	p := newPlant(t, "")
	for i := range 250 {
		p.crashed(fmt.Sprintf("u%03d", i), fmt.Appendf(nil, "content %d", i))
		p.later(time.Second)
	}
	p.later(8 * 24 * time.Hour)
	for _, nth := range []int{1, 1, 60, 200} {
		p.disk.Fail(blobtest.Abort, nth, syscall.EIO)
	}
	p.disk.Fail(blobtest.Delete, 3, syscall.EIO)
	if err := p.Sweep(p.ctx); err == nil {
		t.Error("failures of the store are not reported")
	}
	if n := len(p.files("blobs")); n == 0 || n > 5 {
		t.Errorf("%d of 250 files are left, want those that failed", n)
	}
	p.sweep()
	p.wantClean()
	if n := len(p.files("blobs")); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// An upload that goes on is not swept, however old it is; what a crash left without a row is.
func TestSweepStrays(t *testing.T) {
	p := newPlant(t, "")
	name := named(t, "library/app")
	old := p.start(name, oci.SHA256)
	for n := range 5 {
		p.append(name, old, all([]byte("x")), n+1)
		p.later(24 * time.Hour)
		p.sweep()
	}
	p.wantStatus(name, old, 5)

	uploads := filepath.Join(p.dir, "store", "uploads")
	for file, age := range map[string]time.Duration{"stray": 25 * time.Hour, "fresh": time.Hour, "Not an upload": 25 * time.Hour} {
		path := filepath.Join(uploads, file)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := p.now().Add(-age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	p.sweep()
	left := p.files("uploads")
	slices.Sort(left)
	if len(left) != 3 || !slices.Contains(left, "Not an upload") || !slices.Contains(left, "fresh") {
		t.Errorf("left %q, want all but the stray", left)
	}
	p.wantStatus(name, old, 5)
}
