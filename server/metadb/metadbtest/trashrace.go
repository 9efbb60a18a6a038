package metadbtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// trashWorld is a manifest over one layer, in the trash of a repository, and due in every way.
type trashWorld struct {
	db       *metadb.DB
	repoID   int64
	content  string
	manifest oci.Digest
	layer    oci.Digest
	trashed  metadb.Trashed
}

func newTrashWorld(t *testing.T, db *metadb.DB, repoID int64, name string) *trashWorld {
	t.Helper()
	w := &trashWorld{db: db, repoID: repoID, content: "manifest " + name}
	w.layer = putFile(t, db, repoID, "layer "+name, past())
	w.manifest = putImage(t, db, metadb.Manifest{RepoID: repoID, PushedAt: time.Now().Add(-48 * time.Hour)}, w.content, past(), layer(w.layer))
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.TrashManifest(repoID, w.manifest, metadb.Discard{Hold: -time.Hour})
		return err
	})
	w.trashed = get[metadb.Trashed](t)(db.Trashed(t.Context(), repoID, w.manifest))
	return w
}

// push pushes the manifest again, as a client does that was promised its layer.
func (w *trashWorld) push() error {
	return w.db.Update(background(), func(tx *metadb.Tx) error {
		missing, err := tx.MissingBlobs(w.repoID, []oci.Digest{w.layer})
		if err == nil && len(missing) > 0 {
			err = errGone
		}
		if err == nil {
			err = tx.PutBlob(metadb.Blob{Digest: w.manifest, Size: int64(len(w.content)), LeaseUntil: time.Now().Add(time.Hour)}, []byte(w.content))
		}
		if err != nil {
			return err
		}
		_, err = tx.PutManifest(metadb.Manifest{RepoID: w.repoID, Digest: w.manifest, MediaType: "m"}, []metadb.Edge{layer(w.layer)})
		return err
	})
}

func (w *trashWorld) collect() error {
	return w.db.Update(background(), func(tx *metadb.Tx) error {
		_, err := tx.Collect(metadb.Collecting{Due: later(), Limit: 1000, Hold: time.Minute, TrashHold: time.Hour})
		return err
	})
}

// unlink takes the layer from the repository unless a manifest needs it, as the deletion of a blob does.
func (w *trashWorld) unlink() error {
	return w.db.Update(background(), func(tx *metadb.Tx) error {
		if _, err := tx.UnlinkBlob(w.repoID, w.layer); err != nil {
			return err
		}
		parents, err := tx.Parents(background(), w.repoID, w.layer, 1)
		if err == nil && len(parents) > 0 {
			err = errGone
		}
		return err
	})
}

// check: the manifest is where it can be, with all that it needs, or nowhere, and then nothing keeps what it needed.
func (w *trashWorld) check(t *testing.T, what string, restored error) {
	t.Helper()
	ctx := t.Context()
	_, living := w.db.Manifest(ctx, w.repoID, w.manifest)
	_, trashed := w.db.Trashed(ctx, w.repoID, w.manifest)
	for _, err := range []error{living, trashed} {
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if restored == nil && living != nil && trashed != nil {
		t.Fatalf("%s: it was restored, and is nowhere", what)
	}
	if living != nil && trashed != nil {
		equal(t, what+": edges of what is nowhere", len(get[metadb.Reasons](t)(w.db.Why(ctx, w.layer, time.Now())).Holds), 0)
		must(t, w.collect())
		for _, d := range []oci.Digest{w.manifest, w.layer} {
			if b, err := w.db.BlobAnywhere(ctx, d); err == nil && b.State != metadb.Claimed {
				t.Fatalf("%s: nothing needs it, and collection has left it: %+v", what, b)
			}
		}
		return
	}
	for _, d := range []oci.Digest{w.manifest, w.layer} {
		if b := get[metadb.Blob](t)(w.db.BlobAnywhere(ctx, d)); b.State != metadb.Live {
			t.Fatalf("%s: the manifest is there, and what it needs is %+v", what, b)
		}
	}
	if living != nil {
		return
	}
	edges := get[[]metadb.Edge](t)(w.db.Children(ctx, w.repoID, w.manifest))
	equal(t, what+": edges", edges, []metadb.Edge{{Parent: w.manifest, Child: w.layer, Kind: metadb.LayerEdge}})
	if _, err := w.db.Blob(ctx, w.repoID, w.layer); err != nil {
		t.Fatalf("%s: the repository has the manifest and not its layer: %v", what, err)
	}
}

// testRestoreRivals: a manifest is brought back from the trash at the very moment at which somebody else purges it, collects,
// pushes or deletes the same one, or takes its layer from the repository.
func testRestoreRivals(t *testing.T, db *metadb.DB) {
	ctx := background()
	r := repository(t, db, "gc/restore")
	change := func(fn func(tx *metadb.Tx) error) error { return db.Update(ctx, fn) }
	rivals := map[string]func(w *trashWorld) error{
		"purge": func(w *trashWorld) error {
			return change(func(tx *metadb.Tx) error { _, err := tx.PurgeTrash(w.trashed.ID); return err })
		},
		"purge of what is due": func(*trashWorld) error {
			return change(func(tx *metadb.Tx) error { _, _, err := tx.PurgeDue(metadb.PurgeCursor{}, 100); return err })
		},
		"collection": (*trashWorld).collect,
		"untagged": func(*trashWorld) error {
			return change(func(tx *metadb.Tx) error {
				_, _, err := tx.TrashUntagged(0, later(), time.Hour, time.Hour, 1000)
				return err
			})
		},
		"push": (*trashWorld).push,
		"push and delete": func(w *trashWorld) error {
			if err := w.push(); err != nil {
				return err
			}
			return change(func(tx *metadb.Tx) error {
				_, err := tx.TrashManifest(r.ID, w.manifest, metadb.Discard{Hold: time.Hour})
				return err
			})
		},
		"unlink": (*trashWorld).unlink,
		"restore": func(w *trashWorld) error {
			return change(func(tx *metadb.Tx) error { _, err := tx.RestoreManifest(w.trashed); return err })
		},
	}
	// Who takes the layer while the restoring has not committed yet: a link that is there is no reason not to be waited for.
	w := newTrashWorld(t, db, r.ID, "that is being restored")
	told := make(chan error, 1)
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.RestoreManifest(w.trashed)
		go func() { told <- w.unlink() }()
		time.Sleep(100 * time.Millisecond)
		return err
	})
	wantErr(t, "unlink while the manifest is being restored", <-told, errGone)
	w.check(t, "restored while its layer was unlinked", nil)

	first, second := 0, 0
	for name, rival := range rivals {
		for n := range 60 {
			w := newTrashWorld(t, db, r.ID, fmt.Sprintf("of %s %d", name, n))
			var wg sync.WaitGroup
			var restored, told error
			done := make(chan struct{})
			wg.Go(func() {
				if n%6 == 5 { // now and then surely too late
					<-done
				}
				time.Sleep(time.Duration(n%6) * 150 * time.Microsecond)
				restored = change(func(tx *metadb.Tx) error { _, err := tx.RestoreManifest(w.trashed); return err })
			})
			wg.Go(func() {
				defer close(done)
				time.Sleep(time.Duration(n%4) * 200 * time.Microsecond)
				told = rival(w)
			})
			wg.Wait()
			what := fmt.Sprintf("%s %d", name, n)
			if told != nil && !errors.Is(told, errGone) && !errors.Is(told, metadb.ErrNotFound) {
				t.Fatalf("%s: %v", what, told)
			}
			switch {
			case restored == nil:
				first++
			case errors.Is(restored, metadb.ErrNotFound):
				second++
			default:
				t.Fatalf("%s: restore: %v", what, restored)
			}
			if name == "collection" || name == "untagged" || name == "unlink" {
				must(t, restored)
			}
			w.check(t, what, restored)
		}
	}
	if first == 0 || second == 0 {
		t.Errorf("restore was first %d times and somebody else %d times: nothing was tested", first, second)
	}
}

// testDeleteRivals: a manifest is deleted with its tags while it is pushed with one, from nothing. Nobody is told of a
// conflict: there is none.
func testDeleteRivals(t *testing.T, db *metadb.DB) {
	ctx := background()
	r := repository(t, db, "gc/delete")
	there, gone := 0, 0
	for n := range 120 {
		content, tag := fmt.Sprint("pushed and deleted ", n%7), fmt.Sprint("t", n%7)
		d := digestOf("%s", content)
		push := func() error {
			return db.Update(ctx, func(tx *metadb.Tx) error {
				if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(content)), LeaseUntil: time.Now().Add(time.Hour)}, []byte(content)); err != nil {
					return err
				}
				if _, err := tx.PutManifest(metadb.Manifest{RepoID: r.ID, Digest: d, MediaType: "m"}, nil); err != nil {
					return err
				}
				_, err := tx.PutTag(r.ID, tag, d, metadb.Origin{})
				return err
			})
		}
		remove := func() error {
			err := db.Update(ctx, func(tx *metadb.Tx) error {
				if _, err := tx.DeleteTagsOf(r.ID, d, metadb.Origin{}); err != nil {
					return err
				}
				existed, err := tx.TrashManifest(r.ID, d, metadb.Discard{Hold: time.Hour})
				if err == nil && !existed {
					err = fmt.Errorf("a manifest whose tags were deleted is not there")
				}
				return err
			})
			if errors.Is(err, metadb.ErrNotFound) {
				return nil
			}
			return err
		}
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i, do := range []func() error{push, remove, remove, push}[:3+n%2] {
			wg.Go(func() {
				time.Sleep(time.Duration(n%[]int{2, 5, 11, 3}[i]) * 400 * time.Microsecond)
				errs[i] = do()
			})
		}
		wg.Wait()
		for i, err := range errs {
			if fault.Is(err, fault.Conflict) {
				t.Fatalf("%d was told of a conflict (%d): %v", i, n, err)
			}
		}
		must(t, errors.Join(errs...))
		_, err := db.Manifest(ctx, r.ID, d)
		tags := get[[]string](t)(db.TagsOf(ctx, r.ID, d))
		switch {
		case err == nil:
			there++
			equal(t, "tags", slices.Equal(tags, []string{tag}), true)
		case errors.Is(err, metadb.ErrNotFound):
			gone++
			equal(t, "tags of nothing", len(tags), 0)
		default:
			t.Fatal(err)
		}
	}
	if there == 0 || gone == 0 {
		t.Errorf("%d were there in the end and %d gone: nothing was tested", there, gone)
	}
}

// testQuarantineRivals: a blob is found to be damaged at the very moment at which collection claims it. When the claim is
// given up, or its worker dies, nobody is told that the blob is damaged, nor, when it is pushed again, that it is repaired.
func testQuarantineRivals(t *testing.T, db *metadb.DB) {
	ctx := background()
	r := repository(t, db, "gc/quarantine")
	first, second := 0, 0
	for n := range 80 {
		content := fmt.Sprint("rotten ", n)
		d := putFile(t, db, r.ID, content, past())
		var wg sync.WaitGroup
		var aside bool
		var c metadb.Collected
		var err1, err2 error
		wg.Go(func() {
			time.Sleep(time.Duration(n%6) * 150 * time.Microsecond)
			err1 = db.Update(ctx, func(tx *metadb.Tx) (err error) {
				_, aside, err = tx.Quarantine(metadb.Damage{Digest: d, FoundBy: "test", Detail: "it rotted"})
				return err
			})
		})
		wg.Go(func() {
			time.Sleep(time.Duration(n%4) * 200 * time.Microsecond)
			hold := time.Minute
			if n%2 == 1 {
				hold = time.Millisecond // it dies
			}
			err2 = db.Update(ctx, func(tx *metadb.Tx) (err error) {
				c, err = tx.Collect(metadb.Collecting{Due: time.Now(), Limit: 1000, Hold: hold})
				return err
			})
		})
		wg.Wait()
		must(t, errors.Join(err1, err2))
		if aside {
			first++
		} else {
			second++
		}
		claimed := slices.Contains(collectedDigests(c), d) // perhaps beside the one before, whose worker died
		if !aside && !claimed {
			t.Fatalf("%d: it was live, and neither put aside nor claimed", n)
		}
		if !claimed { // the row was locked: it stays as it is, damaged, and due
			get[metadb.Damage](t)(db.Damage(ctx, d))
			c = collect(t, db, metadb.Collecting{Hold: time.Minute})
			equal(t, "claimed by the next run", collectedDigests(c), []oci.Digest{d})
		}
		nobody := func(when string) {
			t.Helper()
			_, err := db.Damage(ctx, d)
			wantErr(t, when, err, metadb.ErrNotFound)
			update(t, db, func(tx *metadb.Tx) error {
				stale, err := tx.ForgetRepaired()
				equal(t, when+": rows of damage that nothing has", stale, int64(0))
				return err
			})
		}
		nobody("claimed")
		if n%2 == 0 {
			update(t, db, func(tx *metadb.Tx) error { return tx.ReleaseClaims(c.Garbage, c.Until, time.Hour) })
		} else {
			time.Sleep(2 * time.Millisecond)
		}
		nobody("given up")
		if n%4 < 2 {
			_, err := keepFile(db, r.ID, content)
			if errors.Is(err, metadb.ErrClaimed) { // by the next run above
				update(t, db, func(tx *metadb.Tx) error { return tx.EndClaims(c.Garbage, c.Until) })
				_, err = keepFile(db, r.ID, content)
			}
			must(t, err)
			equal(t, "state", get[metadb.Blob](t)(db.Blob(ctx, r.ID, d)).State, metadb.Live)
		}
	}
	for _, e := range get[[]event.Event](t)(db.Events(ctx, event.Cursor{}, 10_000)) {
		if e.Kind == event.KindBlobRepaired {
			t.Fatalf("somebody was told of a repair: %+v", e)
		}
	}
	if first == 0 || second == 0 {
		t.Errorf("it was put aside first %d times and claimed first %d times: nothing was tested", first, second)
	}
}
