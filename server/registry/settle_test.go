package registry_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/registry"
)

var dockerWay = ways["end is empty"]

// row reads what the database says of a blob.
func (p *plant) row(d oci.Digest) metadb.Blob {
	p.Helper()
	b, err := p.db.BlobAnywhere(p.ctx, d)
	if err != nil {
		p.Fatal(err)
	}
	return b
}

func (p *plant) settle() {
	p.Helper()
	if err := p.Settle(p.ctx); err != nil {
		p.Error(err)
	}
}

// A blob is readable before it is moved under its digest, afterwards, and when the place is gone: also for a replica that
// remembers the place.
func TestSettle(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{"sqlite": func(*testing.T) string { return "" }, "postgres": postgres} {
		t.Run(name, func(t *testing.T) {
			p := newParkingPlant(t, database(t))
			name := named(t, "library/app")
			data := blobtest.Random(1, 70_000)
			d := oci.FromBytes(oci.SHA256, data)
			if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
				t.Fatal(err)
			}
			first := p.row(d).Place
			if first == "" {
				t.Fatal("it is not parked")
			}
			other := p.replica()
			remembers := func(what string) {
				t.Helper()
				for _, s := range []func() ([]byte, error){
					func() ([]byte, error) { return p.read(p.Service, name, d) }, func() ([]byte, error) { return p.read(other, name, d) },
				} {
					if got, err := s(); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s: %d bytes, %v", what, len(got), err)
					}
				}
			}
			remembers("parked")
			p.settle()
			if b := p.row(d); b.Place != "" {
				t.Errorf("after the move: %+v", b)
			}
			blobtest.RequireContent(t, p.disk, d, data)
			remembers("moved")
			p.settle()
			if c, _, err := blob.OpenAt(p.ctx, p.blobs, first, d); err != nil {
				t.Errorf("the place was deleted while somebody may have an address of it: %v", err)
			} else {
				c.Close()
			}
			p.later(2 * time.Hour)
			p.settle()
			blobtest.RequireNoBlob(t, p.disk, blobtest.PlaceDigest(first))
			remembers("its place gone")

			// Again, with the digest last: the new bytes are what is read, and become what is under the digest.
			if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
				t.Fatal(err)
			}
			second := p.row(d).Place
			if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
				t.Fatal(err)
			}
			third := p.row(d).Place
			if second == "" || third == "" || second == third || second == first {
				t.Errorf("places %q, %q, %q", first, second, third)
			}
			remembers("pushed again")
			p.later(2 * time.Hour)
			p.settle()
			p.later(2 * time.Hour)
			p.settle()
			for _, place := range []string{second, third} {
				blobtest.RequireNoBlob(t, p.disk, blobtest.PlaceDigest(place))
			}
			remembers("in the end")
			p.sweepAll()
			p.wantClean()
			if files := p.files("blobs"); len(files) != 1 {
				t.Errorf("%d files for one blob", len(files))
			}
		})
	}
}

// A move that fails, or whose process dies, at whatever step, is done again; nothing is lost and nothing is left.
func TestSettleFails(t *testing.T) {
	eio := errors.New("the bucket is away")
	for what, plan := range map[string]func(p *plant){
		"open":     func(p *plant) { p.disk.Fail(blobtest.Open, 1, eio) },
		"begin":    func(p *plant) { p.disk.Fail(blobtest.Upload, 1, eio) },
		"copy":     func(p *plant) { p.disk.Fail(blobtest.Write, 1, eio) },
		"end":      func(p *plant) { p.disk.Fail(blobtest.Commit, 1, eio) },
		"ended":    func(p *plant) { p.disk.FailAfter(blobtest.Commit, 1, eio) },
		"clean up": func(p *plant) { p.disk.Fail(blobtest.Commit, 1, eio); p.disk.Fail(blobtest.Abort, 1, eio) },
		"killed":   func(p *plant) { dies := func() { panic(killed{}) }; p.steps.afterCommit.Store(&dies) },
		"early":    func(p *plant) { dies := func() { panic(killed{}) }; p.steps.beforeCommit.Store(&dies) },
	} {
		t.Run(what, func(t *testing.T) {
			p := newParkingPlant(t, "")
			name := named(t, "library/app")
			data := blobtest.Random(2, 70_000)
			d := oci.FromBytes(oci.SHA256, data)
			if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
				t.Fatal(err)
			}
			place := p.row(d).Place
			plan(p)
			if what == "killed" || what == "early" { // as the end of the process: nothing behind the step is done
				func() {
					defer func() { _ = recover() }()
					p.settleHere(d)
				}()
				p.restart()
			} else if err := p.Settle(p.ctx); !errors.Is(err, eio) {
				t.Errorf("settle: %v", err)
			}
			if p.row(d).Place != place {
				t.Error("the place was forgotten")
			}
			p.wantBlob(name, d, data)
			p.settle()
			p.wantBlob(name, d, data)
			p.sweepAll()
			p.settle()
			p.wantBlob(name, d, data)
			p.wantClean()
			if files := p.files("blobs"); len(files) != 1 {
				t.Errorf("%d files for one blob", len(files))
			}
		})
	}
}

// While a move may be in progress nobody ends its announcement, however short the life of uploads is; when its process has
// died, that is over after minutes. A process that only stood still ends its move after that, and nothing is lost or left.
func TestSettleStandsStill(t *testing.T) {
	p := newParkingPlant(t, "")
	p.age = time.Second
	p.restart()
	name := named(t, "library/app")
	data := blobtest.Random(9, 70_000)
	d := oci.FromBytes(oci.SHA256, data)
	if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
		t.Fatal(err)
	}
	announced := func() int {
		rows, err := p.db.ExpiredUploads(p.ctx, p.now().Add(time.Hour), metadb.Upload{}, 10)
		if err != nil {
			t.Error(err)
		}
		return len(rows)
	}
	meanwhile := func() {
		for _, step := range []struct {
			later time.Duration
			rows  int
		}{{115 * time.Second, 1}, {10 * time.Second, 0}} {
			p.later(step.later)
			if err := p.replica().Sweep(p.ctx); err != nil {
				t.Error(err)
			}
			if n := announced(); n != step.rows {
				t.Errorf("%s later there are %d announcements, want %d", step.later, n, step.rows)
			}
		}
	}
	p.steps.beforeCommit.Store(&meanwhile)
	if err := p.Settle(p.ctx); err != nil && !fault.Has(err, fault.BlobUploadUnknown) { // what it wrote is swept
		t.Error(err)
	}
	p.wantBlob(name, d, data)
	p.settle()
	p.later(2 * time.Hour)
	p.settle()
	p.wantBlob(name, d, data)
	p.sweepAll()
	p.wantClean()
	if files := p.files("blobs"); len(files) != 1 {
		t.Errorf("%d files for one blob", len(files))
	}
}

// A blob whose bytes are gone is put aside, not looked for every minute; a push brings it back.
func TestSettleLost(t *testing.T) {
	p := newParkingPlant(t, "")
	name, data := named(t, "library/app"), blobtest.Random(7, 70_000)
	d := oci.FromBytes(oci.SHA256, data)
	if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
		t.Fatal(err)
	}
	if err := p.disk.Delete(p.ctx, blobtest.PlaceDigest(p.row(d).Place)); err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(p.ctx); !fault.Has(err, fault.BlobUnknown) {
		t.Errorf("settle: %v", err)
	}
	if b := p.row(d); b.State != metadb.Damaged {
		t.Errorf("row: %+v", b)
	}
	p.settle()
	if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
		t.Fatal(err)
	}
	p.wantBlob(name, d, data)
	p.settle()
	p.wantBlob(name, d, data)
}

type killed struct{}

// settleHere is what Settle does for one blob, on this goroutine, so that it can be ended in the middle.
func (p *plant) settleHere(d oci.Digest) {
	u := metadb.Upload{ID: "settle-by-hand", Principal: "settle", Algorithm: oci.SHA256, HashState: []byte{}, DriverState: []byte{}}
	err := p.db.Update(p.ctx, func(tx *metadb.Tx) error {
		return errors.Join(tx.CreateUpload(u), tx.SetCommitting(u.ID, d))
	})
	if err != nil {
		p.Fatal(err)
	}
	parker, _ := blob.ParkerOf(p.blobs)
	if err := parker.Settle(p.ctx, p.row(d).Place, d); err != nil {
		p.Fatal(err)
	}
}

// While a blob is moved it may be pushed again, put aside and deleted: what the row says then, counts.
func TestSettleMeetsOthers(t *testing.T) {
	for what, meanwhile := range map[string]func(p *plant, d oci.Digest, data []byte){
		"pushed again": func(p *plant, d oci.Digest, data []byte) {
			if err := dockerWay(p.ctx, p.replica(), named(p, "library/other"), d, data); err != nil {
				p.Error(err)
			}
		},
		"pushed with the digest first": func(p *plant, d oci.Digest, data []byte) {
			if err := p.db.Update(p.ctx, func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(data))}, nil) }); err != nil {
				p.Error(err)
			}
		},
		"moved by another": func(p *plant, _ oci.Digest, _ []byte) {
			if err := p.replica().Settle(p.ctx); err != nil {
				p.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newParkingPlant(t, "")
			name := named(t, "library/app")
			data := blobtest.Random(3, 70_000)
			d := oci.FromBytes(oci.SHA256, data)
			if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
				t.Fatal(err)
			}
			step := func() { meanwhile(p, d, data) }
			p.steps.afterCommit.Store(&step)
			p.settle()
			for range 3 {
				p.wantBlob(name, d, data)
				p.later(2 * time.Hour)
				p.settle()
			}
			p.sweepAll()
			p.wantBlob(name, d, data)
			p.wantClean()
			if files := p.files("blobs"); len(files) != 1 {
				t.Errorf("%d files for one blob", len(files))
			}
		})
	}
}

// Two replicas at one upload: one ends it, by a cancellation or a sweep, before, while and after the other parks it. The
// commit fails or the blob stays; and what is parked is deleted exactly when no blob has it.
func TestParkedMeetsItsEnd(t *testing.T) {
	for what, ender := range map[string]func(p *plant, s *replicaOf, id string){
		"cancelled": func(p *plant, s *replicaOf, id string) {
			if err := s.CancelUpload(p.ctx, s.name, id); err != nil && !fault.Is(err, fault.NotFound) {
				p.Error(err)
			}
		},
		"swept": func(p *plant, s *replicaOf, _ string) {
			p.later(8 * 24 * time.Hour)
			if err := s.Sweep(p.ctx); err != nil {
				p.Error(err)
			}
		},
	} {
		for _, at := range []string{"before", "parked", "later"} {
			for _, again := range []bool{false, true} { // the end is interrupted, and done again
				t.Run(what+"/"+at, func(t *testing.T) {
					p := newParkingPlant(t, "")
					name := named(t, "library/app")
					data := blobtest.Random(4, 70_000)
					d := oci.FromBytes(oci.SHA256, data)
					other := &replicaOf{p.replica(), name}
					id := p.start(name, oci.SHA256)
					p.append(name, id, all(data), len(data))
					end := func() {
						if again {
							p.disk.Fail(blobtest.Delete, 1, errors.New("died"))
							_ = other.CancelUpload(p.ctx, name, id)
						}
						ender(p, other, id)
					}
					switch at {
					case "before":
						p.steps.beforeCommit.Store(&end)
					case "parked":
						p.steps.afterCommit.Store(&end)
					}
					err := p.Commit(p.ctx, name, id, d, all(nil))
					if at == "later" {
						end()
					}
					if (err == nil) != (at == "later") {
						t.Errorf("commit: %v", err)
					}
					check := func() {
						t.Helper()
						if err == nil {
							p.wantBlob(name, d, data)
						} else {
							p.wantNoBlob(name, d)
						}
					}
					check()
					p.sweepAll()
					p.sweepAll()
					check()
					p.wantClean()
					if files := p.files("blobs"); len(files) > 0 && err != nil {
						t.Errorf("files %q", files)
					}
				})
			}
		}
	}
}

// A process that dies between parking and its commit leaves what the sweep finds, by the upload's row or without it.
func TestDeathAfterPark(t *testing.T) {
	for _, row := range []bool{true, false} {
		p := newParkingPlant(t, "")
		name := named(t, "library/app")
		data := blobtest.Random(5, 70_000)
		d := oci.FromBytes(oci.SHA256, data)
		id := p.start(name, oci.SHA256)
		p.append(name, id, all(data), len(data))
		u, err := p.db.ExpiredUploads(p.ctx, p.now().Add(time.Hour), metadb.Upload{}, 1)
		if err != nil || len(u) != 1 {
			t.Fatal(u, err)
		}
		if err := p.db.Update(p.ctx, func(tx *metadb.Tx) error { return tx.SetCommitting(u[0].ID, d) }); err != nil {
			t.Fatal(err)
		}
		if _, err := blob.Park(p.ctx, p.blobs, u[0].ID, blob.State{Offset: u[0].Received, Driver: u[0].DriverState}, d); err != nil {
			t.Fatal(err)
		}
		if !row { // and the row is lost, too
			if err := p.db.Update(p.ctx, func(tx *metadb.Tx) error { _, err := tx.DeleteUpload(u[0].ID); return err }); err != nil {
				t.Fatal(err)
			}
		}
		p.restart()
		if files := p.files("blobs"); len(files) != 1 {
			t.Fatalf("files %q", files)
		}
		p.sweepAll()
		if files := p.files("blobs"); len(files) != 0 {
			t.Errorf("with a row: %t: files %q are left", row, files)
		}
		p.wantNoBlob(name, d)
		p.wantClean()
	}
}

// The same request to end an upload, at two replicas: both may succeed, and the blob stays whatever the loser does.
func TestTwoCommitsOfOneUpload(t *testing.T) {
	onBoth(t, func(p *plant) {
		name := named(p, "library/app")
		data := blobtest.Random(6, 70_000)
		d := oci.FromBytes(oci.SHA256, data)
		id := p.start(name, oci.SHA256)
		p.append(name, id, all(data), len(data))
		other := p.replica()
		var second error
		step := func() { second = other.Commit(p.ctx, name, id, d, all(nil)) }
		p.steps.afterCommit.Store(&step)
		if first := p.Commit(p.ctx, name, id, d, all(nil)); first != nil || second != nil {
			p.Errorf("%v, %v", first, second)
		}
		p.wantBlob(name, d, data)
		p.sweepAll()
		p.wantBlob(name, d, data)
		p.settle()
		p.later(2 * time.Hour)
		p.settle()
		p.restart()
		p.wantBlob(name, d, data)
		p.wantClean()
	})
}

// replicaOf is another process, for a repository.
type replicaOf struct {
	*registry.Service
	name ref.Name
}

func postgres(t *testing.T) string { return metadbtest.Postgres(t) }
