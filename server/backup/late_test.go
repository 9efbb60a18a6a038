package backup_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/metadb"
)

// late is a target whose listings are those of some moments ago; what is asked for by name is as it is.
type late struct {
	*fs.Store
	t     *testing.T
	notes []string // nil: as they are
	blobs []blob.Listed
}

func (l *late) NoteNames(ctx context.Context, folder string) ([]string, error) {
	if l.notes == nil {
		return l.Store.NoteNames(ctx, folder)
	}
	return slices.DeleteFunc(slices.Clone(l.notes), func(n string) bool { return folder != "" && !strings.HasPrefix(n, folder+"/") }), nil
}

func (l *late) List(ctx context.Context, after oci.Digest, each func(blob.Listed) error) error {
	if l.blobs == nil {
		return l.Store.List(ctx, after, each)
	}
	for _, b := range l.blobs {
		if b.Digest.String() <= after.String() {
			continue
		}
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}

// freezeNotes has it list the notes that there are now from now on.
func (l *late) freezeNotes() {
	l.t.Helper()
	all, err := l.Store.NoteNames(l.t.Context(), "")
	if err != nil {
		l.t.Fatal(err)
	}
	l.notes = append([]string{}, all...)
}

func (l *late) freezeBlobs() {
	l.t.Helper()
	l.blobs = []blob.Listed{}
	err := l.Store.List(l.t.Context(), oci.Digest{}, func(b blob.Listed) error { l.blobs = append(l.blobs, b); return nil })
	if err != nil {
		l.t.Fatal(err)
	}
}

// A snapshot that the target does not list yet is one that is kept: neither it nor what it alone needs is removed, by the run that
// made it, by the next ones, and by those of other registries. The newest is the newest although it is not listed.
func TestSnapshotsThatAreNotListedYet(t *testing.T) {
	r, other := newRegistry(t), newRegistry(t)
	target := &late{Store: r.target, t: t}
	r.tamed, other.tamed = target, target
	reused := r.layer(1, 1000)
	other.layer(1, 1000)
	first := r.image("v1", reused)
	r.take(backup.Ask{})
	target.freezeNotes() // the first snapshot of one registry is all that is ever listed
	other.image("w1", reused, other.layer(9, 900))
	theirs := other.take(backup.Ask{Keep: 1})
	second := r.image("v2", r.layer(2, 2000))
	r.take(backup.Ask{Keep: 1})
	third := r.image("v3", r.layer(3, 3000))
	last := r.take(backup.Ask{Keep: 1})
	if _, err := other.backup.Prune(t.Context(), "", 1, nil); err != nil {
		t.Fatal(err)
	}
	if p, err := r.backup.Prune(t.Context(), "", 1, nil); err != nil || len(p.Snapshots) > 0 {
		t.Errorf("pruned again: %+v, %v", p, err)
	}
	all, err := backup.Snapshots(t.Context(), target)
	if err != nil || len(all) != 2 || all[0].ID != theirs.ID || all[1].ID != last.ID {
		t.Fatalf("snapshots %+v, %v, want %s and %s", all, err, theirs.ID, last.ID)
	}
	to, result, err := r.restore(backup.Restoring{From: target, Verify: true})
	if err != nil || result.Record.ID != last.ID {
		t.Fatalf("restored %+v, %v; the newest is %s", result, err, last.ID)
	}
	for tag, d := range map[string]oci.Digest{"v1": first, "v2": second, "v3": third} {
		to.requireTag(tag, d)
	}
	if _, _, err := r.restore(backup.Restoring{From: target, Snapshot: theirs.ID, Verify: true}); err != nil {
		t.Errorf("the other registry's snapshot: %v", err)
	}
}

// A blob that was removed and is listed yet is copied again.
func TestBlobsThatAreListedStill(t *testing.T) {
	r := newRegistry(t)
	target := &late{Store: r.target, t: t}
	r.tamed = target
	a := r.layer(1, 1000)
	image := r.image("v1", a)
	r.take(backup.Ask{})
	target.freezeBlobs()
	aside := func(tx *metadb.Tx) error {
		_, _, err := tx.Quarantine(metadb.Damage{Digest: a, FoundBy: "test", Detail: "for the test"})
		return err
	}
	r.update(aside)
	r.take(backup.Ask{Keep: 1})
	blobtest.RequireNoBlob(t, r.target, a)
	r.update(func(tx *metadb.Tx) error { _, err := tx.Release(a); return err })
	if record := r.take(backup.Ask{Keep: 1}); record.Copied.Blobs != 1 {
		t.Errorf("copied %+v, want the one blob that is not there any more", record.Copied)
	}
	to, _, err := r.restore(backup.Restoring{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	to.requireTag("v1", image)
	blobtest.RequireContent(t, to.blobs, a, blobtest.Random(1, 1000))
}

// A registry that uses a target sees another one at work there although that is not listed.
func TestRunsThatAreNotListedYet(t *testing.T) {
	r, other := newRegistry(t), newRegistry(t)
	r.image("v1", r.layer(1, 1000))
	other.image("v1", other.layer(2, 1000))
	target := &late{Store: r.target, t: t}
	other.tamed = target
	other.take(backup.Ask{})
	target.freezeNotes()
	slow := &stopping{Store: r.target, reached: make(chan struct{}), go_: make(chan struct{})}
	r.tamed = slow
	done := make(chan error, 1)
	go func() {
		_, err := r.backup.Run(context.Background(), backup.Ask{}, nil)
		done <- err
	}()
	<-slow.reached
	for what, run := range map[string]func() error{
		"backup": func() error { _, err := other.backup.Run(t.Context(), backup.Ask{Keep: 1}, nil); return err },
		"prune":  func() error { _, err := other.backup.Prune(t.Context(), "", 1, nil); return err },
	} {
		if err := run(); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "another registry") {
			t.Errorf("%s beside the first run of another registry: %v", what, err)
		}
	}
	close(slow.go_)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A note that cannot be read keeps everything, is said, and is made again by the next backup.
func TestDamagedIndex(t *testing.T) {
	r := newRegistry(t)
	r.image("v1", r.layer(1, 1000))
	record := r.take(backup.Ask{})
	index := "backup-index/" + record.Source
	for _, text := range []string{"{", `{"names":["../../etc"]}`} {
		for _, note := range []string{index, "backup-sources"} {
			if err := r.target.PutNote(t.Context(), note, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.backup.Prune(t.Context(), "", 1, nil); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), index) {
			t.Errorf("pruning with an index as %s: %v", text, err)
		}
		if _, _, err := r.restore(backup.Restoring{Snapshot: record.ID, Verify: true}); err != nil {
			t.Errorf("a restore by name: %v", err)
		}
		second := r.take(backup.Ask{})
		if p, err := r.backup.Prune(t.Context(), "", 1, nil); err != nil || len(p.Snapshots) != 1 || p.Snapshots[0] != record.ID {
			t.Errorf("after the next backup: %+v, %v", p, err)
		}
		record = second
	}
}
