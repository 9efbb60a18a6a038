package metadbtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

func testRollback(t *testing.T, db *metadb.DB) {
	refused := errors.New("refused")
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		if err := tx.PutSetting("a", "1"); err != nil {
			return err
		}
		equal(t, "inside", get[string](t)(tx.Setting(t.Context(), "a")), "1")
		return refused
	})
	if err != refused {
		t.Fatalf("the closure's error was changed: %v", err)
	}
	_, err = db.Setting(t.Context(), "a")
	wantErr(t, "rolled back", err, metadb.ErrNotFound)
}

// gather makes n closures wait for one writer that holds it, so that on SQLite they become one batch. It returns when
// all have ended.
func gather(t *testing.T, db *metadb.DB, n int, fn func(i int, tx *metadb.Tx) error) []error {
	t.Helper()
	held, release := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		var once sync.Once
		if err := db.Update(background(), func(tx *metadb.Tx) error {
			once.Do(func() { close(held) })
			<-release
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-held
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = db.Update(background(), func(tx *metadb.Tx) error { return fn(i, tx) }) })
	}
	time.Sleep(20 * time.Millisecond)
	close(release)
	all.Wait()
	return errs
}

func testRollbackOne(t *testing.T, db *metadb.DB) {
	refused := errors.New("refused")
	errs := gather(t, db, 20, func(i int, tx *metadb.Tx) error {
		if err := tx.PutSetting(fmt.Sprint(i), "1"); err != nil {
			return err
		}
		if i%5 == 3 {
			return refused
		}
		return tx.PutSetting(fmt.Sprint(i), "2")
	})
	for i, err := range errs {
		v, readErr := db.Setting(t.Context(), fmt.Sprint(i))
		if i%5 == 3 {
			wantErr(t, "refused", err, refused)
			wantErr(t, "undone", readErr, metadb.ErrNotFound)
			continue
		}
		must(t, errors.Join(err, readErr))
		equal(t, "kept", v, "2")
	}
}

// testFailedStatement: a closure that swallows the failure of a statement commits nothing, and hurts nobody beside it.
func testFailedStatement(t *testing.T, db *metadb.DB) {
	update(t, db, func(tx *metadb.Tx) error { return tx.AddSigningKey(metadb.SigningKey{ID: "k", Private: []byte{1}}) })
	errs := gather(t, db, 10, func(i int, tx *metadb.Tx) error {
		if err := tx.PutSetting(fmt.Sprint(i), "1"); err != nil {
			return err
		}
		if i == 4 {
			_ = tx.AddSigningKey(metadb.SigningKey{ID: "k", Private: []byte{1}})
			if err := tx.PutSetting("after", "1"); err == nil {
				t.Error("a statement after a failed one was run")
			}
		}
		return nil
	})
	for i, err := range errs {
		_, readErr := db.Setting(t.Context(), fmt.Sprint(i))
		if i == 4 {
			if !fault.Is(err, fault.Conflict) {
				t.Fatalf("the failure was forgotten: %v", err)
			}
			wantErr(t, "undone", readErr, metadb.ErrNotFound)
			continue
		}
		must(t, errors.Join(err, readErr))
	}
	_, err := db.Setting(t.Context(), "after")
	wantErr(t, "after the failure", err, metadb.ErrNotFound)
}

func testPanic(t *testing.T, db *metadb.DB) {
	errs := gather(t, db, 3, func(i int, tx *metadb.Tx) error {
		if err := tx.PutSetting(fmt.Sprint(i), "1"); err != nil {
			return err
		}
		if i == 1 {
			panic("kaboom")
		}
		return nil
	})
	must(t, errors.Join(errs[0], errs[2]))
	if errs[1] == nil || !strings.Contains(errs[1].Error(), "kaboom") {
		t.Fatalf("panic: %v", errs[1])
	}
	_, err := db.Setting(t.Context(), "1")
	wantErr(t, "undone", err, metadb.ErrNotFound)
	get[string](t)(db.Setting(t.Context(), "2"))
}

func testHooks(t *testing.T, db *metadb.DB) {
	var ran atomic.Int32
	update(t, db, func(tx *metadb.Tx) error {
		tx.AfterCommit(func() {
			if v, err := db.Setting(background(), "a"); err != nil || v != "1" {
				t.Errorf("a hook ran before the commit: %q, %v", v, err)
			}
			ran.Add(1)
		})
		tx.AfterCommit(func() { panic("a hook") })
		tx.AfterCommit(func() { ran.Add(10) })
		return tx.PutSetting("a", "1")
	})
	equal(t, "hooks run before the answer", ran.Load(), int32(11))
	_ = db.Update(t.Context(), func(tx *metadb.Tx) error {
		tx.AfterCommit(func() { t.Error("a hook of a refused transaction ran") })
		return errors.New("refused")
	})
}

func testContext(t *testing.T, db *metadb.DB) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.Update(ended, func(tx *metadb.Tx) error { t.Error("a closure ran for a caller who had left"); return nil })
	wantErr(t, "ended context", err, context.Canceled)
	_, err = db.Setting(ended, "a")
	wantErr(t, "read with an ended context", err, context.Canceled)

	// Those who leave while they wait for the writer are either not run, or run whole.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	outcome := make([]error, 50)
	for i := range outcome {
		wg.Go(func() {
			outcome[i] = db.Update(ctx, func(tx *metadb.Tx) error {
				if err := tx.PutSetting(fmt.Sprint("x", i), "1"); err != nil {
					return err
				}
				return tx.PutSetting(fmt.Sprint("y", i), "1")
			})
		})
	}
	cancel()
	wg.Wait()
	for i, err := range outcome {
		_, x := db.Setting(t.Context(), fmt.Sprint("x", i))
		_, y := db.Setting(t.Context(), fmt.Sprint("y", i))
		if (x == nil) != (y == nil) {
			t.Fatalf("half of update %d is there", i)
		}
		if err == nil && x != nil {
			t.Fatalf("update %d was acknowledged and is not there", i)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("update %d: %v", i, err)
		}
	}
}

// testConcurrency: 64 callers push manifests, move one tag and read. Every push is there afterwards, and the tag's
// journal, made of what each PutTag said was before, is one unbroken line.
func testConcurrency(t *testing.T, db *metadb.DB) {
	const callers, each = 64, 6
	r := repository(t, db, "x/a")
	var mu sync.Mutex
	next := map[oci.Digest]oci.Digest{} // before → after
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				content := fmt.Sprintf("%d/%d", c, i)
				d := digestOf("%s", content)
				var before oci.Digest
				err := db.Update(background(), func(tx *metadb.Tx) error {
					edge := metadb.Edge{Child: digestOf("layer %d", c), Kind: metadb.LayerEdge}
					if _, err := putManifest(tx, metadb.Manifest{RepoID: r.ID, Digest: d}, content, edge); err != nil {
						return err
					}
					if _, err := tx.PutTag(r.ID, fmt.Sprintf("t%d-%d", c, i), d, metadb.Origin{}); err != nil {
						return err
					}
					var err error
					before, err = tx.PutTag(r.ID, "latest", d, metadb.Origin{})
					return err
				})
				if err != nil {
					t.Errorf("push %s: %v", content, err)
					return
				}
				mu.Lock()
				if _, twice := next[before]; twice {
					t.Errorf("two moves away from %s", before.Short())
				}
				next[before] = d
				mu.Unlock()
				if _, b, err := db.ManifestByTag(background(), r.ID, fmt.Sprintf("t%d-%d", c, i)); err != nil || string(b) != content {
					t.Errorf("read own push %s: %q, %v", content, b, err)
				}
			}
		})
	}
	wg.Wait()
	steps, at := 0, oci.Digest{}
	for {
		to, ok := next[at]
		if !ok {
			break
		}
		at, steps = to, steps+1
	}
	equal(t, "moves of the tag", steps, callers*each)
	equal(t, "end of the line", get[metadb.Tag](t)(db.Tag(t.Context(), r.ID, "latest")).Digest, at)
	equal(t, "tags", len(get[[]string](t)(db.Tags(t.Context(), r.ID, "", 10_000))), callers*each+1)
}

// testTagRace: whoever makes a tag first says so, exactly one.
func testTagRace(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "x/a")
	d := putTagged(t, db, r.ID, "seed", "one")
	for round := range 5 {
		var first atomic.Int32
		errs := gather(t, db, 16, func(_ int, tx *metadb.Tx) error {
			before, err := tx.PutTag(r.ID, fmt.Sprint("v", round), d, metadb.Origin{})
			if err == nil && before.IsZero() {
				tx.AfterCommit(func() { first.Add(1) })
			}
			return err
		})
		must(t, errors.Join(errs...))
		equal(t, "makers of a tag", first.Load(), int32(1))
	}
}

func testEnsureRace(t *testing.T, db *metadb.DB) {
	ids := make([]int64, 32)
	errs := gather(t, db, len(ids), func(i int, tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("p", true)
		if err != nil {
			return err
		}
		r, err := tx.EnsureRepository(p.ID, "p/r")
		ids[i] = r.ID
		return err
	})
	must(t, errors.Join(errs...))
	for _, id := range ids {
		equal(t, "id", id, ids[0])
	}
}

// testPushAgainstDelete: a manifest is pushed while one of its blobs is deleted. Either may win, but never both: no
// manifest refers to a blob that the repository does not have.
func testPushAgainstDelete(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "x/a")
	lost := errors.New("lost")
	for round := range 30 {
		layer, content := digestOf("layer %d", round), fmt.Sprint("manifest ", round)
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.PutBlob(metadb.Blob{Digest: layer, Size: 1}, nil); err != nil {
				return err
			}
			_, err := tx.LinkBlob(r.ID, layer)
			return err
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			err := db.Update(background(), func(tx *metadb.Tx) error {
				missing, err := tx.MissingBlobs(r.ID, []oci.Digest{layer})
				if err != nil || len(missing) > 0 {
					return errors.Join(err, lost)
				}
				_, err = putManifest(tx, metadb.Manifest{RepoID: r.ID, Digest: digestOf("%s", content)}, content,
					metadb.Edge{Child: layer, Kind: metadb.LayerEdge})
				return err
			})
			if err != nil && !errors.Is(err, lost) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			err := db.Update(background(), func(tx *metadb.Tx) error {
				if _, err := tx.UnlinkBlob(r.ID, layer); err != nil {
					return err
				}
				parents, err := tx.Parents(background(), r.ID, layer, 1)
				if err != nil || len(parents) > 0 {
					return errors.Join(err, lost)
				}
				return nil
			})
			if err != nil && !errors.Is(err, lost) {
				t.Error(err)
			}
		})
		wg.Wait()
		_, err := db.Blob(t.Context(), r.ID, layer)
		parents := get[[]metadb.Edge](t)(db.Parents(t.Context(), r.ID, layer, 1))
		if errors.Is(err, metadb.ErrNotFound) && len(parents) > 0 {
			t.Fatalf("round %d: a manifest refers to a blob that was deleted", round)
		}
	}
}

func testClosed(t *testing.T, db *metadb.DB) {
	must(t, db.Check(t.Context()))
	must(t, db.Close())
	if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.PutSetting("a", "1") }); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("update of a closed database: %v", err)
	}
	if err := db.Check(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("check of a closed database: %v", err)
	}
	if _, err := db.Setting(t.Context(), "a"); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("read of a closed database: %v", err)
	}
}
