package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/metadb"
)

func TestRoundTrip(t *testing.T) {
	r := newRegistry(t)
	a, b := r.layer(1, 100_000), r.layer(2, 1)
	image := r.image("v1", a, b)
	r.sign(image, "a", "signed before the backup")
	first := r.take(backup.Ask{})
	if first.Copied != (backup.Amount{Blobs: 2, Bytes: 100_001}) || first.Holds.Tags != 1 || first.Damaged != 0 {
		t.Errorf("first backup: %+v", first)
	}
	c := r.layer(3, 5000)
	image2 := r.image("v2", a, c)
	second := r.take(backup.Ask{})
	if second.Copied != (backup.Amount{Blobs: 1, Bytes: 5000}) {
		t.Errorf("the second backup copied %+v, want the one new blob", second.Copied)
	}
	if holds, err := r.db.CollectionHolds(t.Context(), first.At); err != nil || len(holds) > 0 {
		t.Errorf("collection is still held: %q, %v", holds, err)
	}

	old, result, err := r.restore(backup.Restoring{Snapshot: first.ID, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	if result.Copied.Blobs != 2 || len(result.Lost) > 0 {
		t.Errorf("restored %+v", result)
	}
	old.requireTag("v1", image)
	if all, err := old.db.Signatures(t.Context(), old.repo, image); err != nil || len(all) != 1 || string(all[0].Content) != "signed before the backup" || all[0].CreatedBy != "user:alice" {
		t.Errorf("signatures after the restore: %+v, %v", all, err)
	}
	if _, err := old.db.Tag(t.Context(), old.repo, "v2"); !errors.Is(err, metadb.ErrNotFound) {
		t.Errorf("the first snapshot has the tag v2: %v", err)
	}
	blobtest.RequireContent(t, old.blobs, a, blobtest.Random(1, 100_000))
	blobtest.RequireNoBlob(t, old.blobs, c)

	last, _, err := r.restore(backup.Restoring{})
	if err != nil {
		t.Fatal(err)
	}
	last.requireTag("v1", image)
	last.requireTag("v2", image2)
	blobtest.RequireContent(t, last.blobs, c, blobtest.Random(3, 5000))
}

func TestEveryMethodAsks(t *testing.T) {
	r := newRegistry(t)
	s := r.service(door{errDenied})
	ctx := t.Context()
	_, run := s.Run(ctx, backup.Ask{}, nil)
	_, list := s.List(ctx, "")
	_, prune := s.Prune(ctx, "", 1, nil)
	_, start := s.Start(ctx, backup.Ask{Target: "x"})
	for name, err := range map[string]error{"Run": run, "List": list, "Prune": prune, "Start": start} {
		if !errors.Is(err, errDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the registry has not got whole is named, and does not keep the rest from being saved.
func TestDamagedAtTheSource(t *testing.T) {
	r := newRegistry(t)
	good, gone, short := r.layer(1, 1000), r.layer(2, 1000), r.layer(3, 1000)
	image := r.image("v1", good, gone, short)
	if err := r.blobs.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	blobtest.Put(t, r.blobs, "other", []byte("x")) // an orphan, which nobody needs
	if err := blobtestReplace(r.blobs, short, blobtest.Random(4, 1000)); err != nil {
		t.Fatal(err)
	}
	record := r.take(backup.Ask{})
	if record.Damaged != 2 || !strings.Contains(record.Summary(), "2 damaged") {
		t.Fatalf("record %+v", record)
	}
	to, result, err := r.restore(backup.Restoring{Verify: true})
	if err != nil || result.Copied.Blobs != 1 {
		t.Fatalf("restored %+v, %v", result, err)
	}
	to.requireTag("v1", image)
	for _, d := range []oci.Digest{gone, short} {
		if b, err := to.db.BlobAnywhere(t.Context(), d); err != nil || b.State != metadb.Damaged {
			t.Errorf("%s is %+v, %v, want damaged", d, b, err)
		}
	}
}

func TestDamagedBackup(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(r *registry, record *backup.Record, layer oci.Digest) error
		says   string
		allow  bool // --allow-damaged helps
	}{
		{"missing blob", func(r *registry, _ *backup.Record, layer oci.Digest) error {
			return r.target.Delete(t.Context(), layer)
		}, "1 blobs", true},
		{"flipped blob", func(r *registry, _ *backup.Record, layer oci.Digest) error {
			return blobtestReplace(r.target, layer, blobtest.Random(9, 1000))
		}, "1 blobs", true},
		{"missing metadata", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return r.target.Delete(t.Context(), record.Metadata.Digest)
		}, "metadata of snapshot", false},
		{"flipped metadata", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return blobtestReplace(r.target, record.Metadata.Digest, blobtest.Random(9, int(record.Metadata.Size)))
		}, "metadata of snapshot", false},
		{"flipped inventory", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return blobtestReplace(r.target, record.Needs.Digest, blobtest.Random(9, int(record.Needs.Size)))
		}, "inventory of snapshot", false},
		{"flipped record", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return rewrite(r.target, record.ID, `"blobs": 1`, `"blobs": 2`)
		}, "record of snapshot", false},
		{"newer", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return reseal(r.target, record.ID, func(m map[string]any) { m["schema"] = 9999 })
		}, "newer berth", false},
		{"newer form", func(r *registry, record *backup.Record, _ oci.Digest) error {
			return reseal(r.target, record.ID, func(m map[string]any) { m["format"] = 2 })
		}, "newer berth", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			layer := r.layer(1, 1000)
			r.image("v1", layer)
			record := r.take(backup.Ask{})
			if err := c.break_(r, record, layer); err != nil {
				t.Fatal(err)
			}
			_, _, err := r.restore(backup.Restoring{})
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("restore says %v, want %q", err, c.says)
			}
			to, result, err := r.restore(backup.Restoring{AllowDamaged: true})
			if !c.allow {
				if err == nil {
					t.Error("it is restored with --allow-damaged")
				}
				return
			}
			if err != nil || len(result.Lost) != 1 || result.Lost[0].Digest != layer {
				t.Fatalf("with --allow-damaged: %+v, %v", result, err)
			}
			if b, err := to.db.BlobAnywhere(t.Context(), layer); err != nil || b.State != metadb.Damaged {
				t.Errorf("the lost layer is %+v, %v", b, err)
			}
			// A backup that looks closely repairs its place.
			r.take(backup.Ask{Verify: true})
			if _, _, err := r.restore(backup.Restoring{Verify: true}); err != nil {
				t.Errorf("after another backup: %v", err)
			}
		})
	}
}

func TestRestoreRefusesWhatIsNotEmpty(t *testing.T) {
	r := newRegistry(t)
	r.image("v1", r.layer(1, 1000))
	if _, _, err := r.restore(backup.Restoring{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a place without snapshots: %v", err)
	}
	r.take(backup.Ask{})
	store := newFS(t)
	blobtest.Put(t, store, "x", []byte("x"))
	if _, _, err := r.restore(backup.Restoring{To: store}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a store with content: %v", err)
	}
	temp := t.TempDir()
	file := filepath.Join(temp, "berth.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := backup.Restore(t.Context(), backup.Restoring{From: r.target, To: newFS(t), File: file, Temp: temp, Log: quiet()})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a database that is there: %v", err)
	}
}

// A backup or restore that ends anywhere is no snapshot, or no registry; the next one goes on.
func TestInterrupted(t *testing.T) {
	r := newRegistry(t)
	var layers []oci.Digest
	for i := range 20 {
		layers = append(layers, r.layer(byte(i), 1000+i))
	}
	image := r.image("v1", layers...)
	faulty := &failing{Store: r.target, left: 7}
	r.tamed = faulty
	if _, err := r.backup.Run(t.Context(), backup.Ask{}, nil); !errors.Is(err, errBroken) {
		t.Fatalf("a target that breaks: %v", err)
	}
	if all, err := backup.Snapshots(t.Context(), r.target); err != nil || len(all) > 0 {
		t.Fatalf("snapshots %v, %v", all, err)
	}
	r.tamed = r.target
	record := r.take(backup.Ask{})
	if record.Copied.Blobs == 0 || record.Copied.Blobs >= 20 {
		t.Errorf("the next backup copied %d of 20 blobs", record.Copied.Blobs)
	}
	store := newFS(t)
	if _, _, err := r.restore(backup.Restoring{To: &failing{Store: store, left: 7}}); !errors.Is(err, errBroken) {
		t.Fatalf("a store that breaks: %v", err)
	}
	if err := backup.Unclaimed(t.Context(), store); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), record.ID) {
		t.Errorf("a registry may begin on half a restore: %v", err)
	}
	to, result, err := r.restore(backup.Restoring{To: store, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	if result.Copied.Blobs == 0 || result.Copied.Blobs >= 20 {
		t.Errorf("the next restore copied %d of 20 blobs", result.Copied.Blobs)
	}
	if err := backup.Unclaimed(t.Context(), store); err != nil {
		t.Errorf("a restore that is complete: %v", err)
	}
	to.requireTag("v1", image)
}

func TestKeep(t *testing.T) {
	r := newRegistry(t)
	a := r.layer(1, 1000)
	r.image("v1", a)
	r.take(backup.Ask{})
	r.update(func(tx *metadb.Tx) error { // what is put aside is in no snapshot from now on
		_, _, err := tx.Quarantine(metadb.Damage{Digest: a, FoundBy: "test", Detail: "for the test"})
		return err
	})
	b := r.layer(2, 2000)
	second := r.image("v2", b)
	kept := r.take(backup.Ask{})
	last := r.take(backup.Ask{Keep: 2})
	all, err := backup.Snapshots(t.Context(), r.target)
	if err != nil || len(all) != 2 || all[0].ID != kept.ID || all[1].ID != last.ID {
		t.Fatalf("snapshots %+v, %v, want %s and %s", all, err, kept.ID, last.ID)
	}
	blobtest.RequireNoBlob(t, r.target, a)
	to, _, err := r.restore(backup.Restoring{Snapshot: kept.ID, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	to.requireTag("v2", second)
	if err := rewrite(r.target, last.ID, `"tags": 2`, `"tags": 7`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.backup.Prune(t.Context(), "", 1, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("pruning although a snapshot cannot be read: %v", err)
	}
	blobtest.RequireContent(t, r.target, b, blobtest.Random(2, 2000))
}

// One run is at work in a place, of this registry and of others.
func TestOneAtATime(t *testing.T) {
	r := newRegistry(t)
	r.image("v1", r.layer(1, 1000))
	other := newRegistry(t)
	other.image("v1", other.layer(2, 1000))
	slow := &stopping{Store: r.target, reached: make(chan struct{}), go_: make(chan struct{})}
	r.tamed = slow
	done := make(chan error, 1)
	go func() {
		_, err := r.backup.Run(context.Background(), backup.Ask{}, nil)
		done <- err
	}()
	<-slow.reached
	if holds, err := r.db.CollectionHolds(t.Context(), now()); err != nil || len(holds) != 1 {
		t.Errorf("collection is held by %q, %v, want one backup", holds, err)
	}
	r2 := *r
	r2.tamed = newFS(t)
	if _, err := r2.service(door{}).Run(t.Context(), backup.Ask{}, nil); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "of this registry") {
		t.Errorf("a second backup of this registry: %v", err)
	}
	other.tamed = r.target
	if _, err := other.backup.Run(t.Context(), backup.Ask{}, nil); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "another registry") {
		t.Errorf("a backup of another registry into the same place: %v", err)
	}
	close(slow.go_)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := other.backup.Run(t.Context(), backup.Ask{Keep: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if all, err := backup.Snapshots(t.Context(), r.target); err != nil || len(all) != 2 {
		t.Errorf("two registries share a place: %d snapshots, %v", len(all), err)
	}
}

var _ blob.Store = (*failing)(nil)
