package metadbtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// errGone is how a rival learns that it came too late: it was told so, and promises nothing.
var errGone = errors.New("gone")

// rival is what a client does at the very moment at which collection decides about blob d, which is due and needed by
// nobody. nil says that it was promised the blob, or has a manifest over it.
type rival func(db *metadb.DB, repoID int64, d oci.Digest, n int) error

// testCollectRivals: of each pair of collection and a rival, one is first, and the other one knows. What a rival was
// promised has its row, and no claim.
func testCollectRivals(t *testing.T, db *metadb.DB) {
	ctx := background()
	soon := func() time.Time { return time.Now().Add(time.Hour) }
	put := func(tx *metadb.Tx, repoID int64, content string, edges ...metadb.Edge) error {
		m := digestOf("%s", content)
		if err := tx.PutBlob(metadb.Blob{Digest: m, Size: int64(len(content)), LeaseUntil: soon()}, []byte(content)); err != nil {
			return err
		}
		_, err := tx.PutManifest(metadb.Manifest{RepoID: repoID, Digest: m, MediaType: "m", Size: int64(len(content))}, edges)
		return err
	}
	late := func(err error) error {
		if errors.Is(err, metadb.ErrClaimed) || errors.Is(err, metadb.ErrNotFound) {
			return errGone
		}
		return err
	}
	rivals := map[string]rival{
		"mount": func(db *metadb.DB, repoID int64, d oci.Digest, _ int) error {
			return late(db.Update(ctx, func(tx *metadb.Tx) error {
				if _, err := tx.LinkBlob(repoID, d); err != nil {
					return err
				}
				return tx.LeaseBlob(d, soon())
			}))
		},
		"mount by the intake": func(db *metadb.DB, repoID int64, d oci.Digest, _ int) error {
			since := db.Mark()
			if b, err := db.BlobAnywhere(ctx, d); err != nil || b.State != metadb.Live {
				return errGone
			}
			return late(db.KeepLink(ctx, repoID, d, soon(), since))
		},
		"manifest": func(db *metadb.DB, repoID int64, d oci.Digest, n int) error {
			return db.Update(ctx, func(tx *metadb.Tx) error {
				missing, err := tx.MissingBlobs(repoID, []oci.Digest{d})
				if err == nil && len(missing) > 0 {
					err = errGone
				}
				if err != nil {
					return err
				}
				return put(tx, repoID, fmt.Sprint("rival ", n), layer(d))
			})
		},
		"push again": func(db *metadb.DB, repoID int64, d oci.Digest, n int) error {
			return late(db.Update(ctx, func(tx *metadb.Tx) error {
				if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1, LeaseUntil: soon()}, nil); err != nil {
					return err
				}
				_, err := tx.LinkBlob(repoID, d)
				return err
			}))
		},
		"announce": func(db *metadb.DB, repoID int64, d oci.Digest, n int) error {
			return late(db.Update(ctx, func(tx *metadb.Tx) error {
				id := fmt.Sprint("upload-", n)
				if err := tx.CreateUpload(metadb.Upload{ID: id, Repository: "gc/rival", Algorithm: oci.SHA256}); err != nil {
					return err
				}
				return tx.SetCommitting(id, d)
			}))
		},
		"head": func(db *metadb.DB, repoID int64, d oci.Digest, _ int) error {
			return late(db.Update(ctx, func(tx *metadb.Tx) error {
				if err := tx.LeaseBlob(d, soon()); err != nil {
					return err
				}
				_, err := tx.Blob(ctx, repoID, d)
				if err == nil {
					b, err2 := tx.BlobAnywhere(ctx, d)
					if err = err2; err == nil && !b.LeaseUntil.After(time.Now()) {
						err = fmt.Errorf("the lease of a blob that is there was not renewed: %+v", b)
					}
				}
				return err
			}))
		},
	}
	r := repository(t, db, "gc/rival")
	n, first, second := 0, 0, 0
	for name, rival := range rivals {
		for range 40 {
			n++
			d := digestOf("rival of %s %d", name, n)
			update(t, db, func(tx *metadb.Tx) error {
				if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1, LeaseUntil: past()}, nil); err != nil {
					return err
				}
				_, err := tx.LinkBlob(r.ID, d)
				return err
			})
			var wg sync.WaitGroup
			var told error
			var c metadb.Collected
			var failed error
			delay := time.Duration(n%8) * 100 * time.Microsecond
			done := make(chan struct{})
			wg.Go(func() {
				if n%8 == 7 { // now and then surely too late
					<-done
				}
				time.Sleep(delay)
				told = rival(db, r.ID, d, n)
			})
			wg.Go(func() {
				defer close(done)
				time.Sleep(400*time.Microsecond - delay/2)
				failed = db.Update(ctx, func(tx *metadb.Tx) (err error) {
					c, err = tx.Collect(metadb.Collecting{Due: time.Now(), Limit: 100, Hold: time.Minute})
					return err
				})
			})
			wg.Wait()
			must(t, failed)
			if told != nil && !errors.Is(told, errGone) {
				t.Fatalf("%s: %v", name, told)
			}
			claimed := len(c.Garbage) > 0
			if claimed {
				second++
			} else {
				first++
			}
			b, err := db.BlobAnywhere(ctx, d)
			if told == nil && (err != nil || b.State != metadb.Live || claimed) {
				t.Fatalf("%s was promised %s, and collection claimed it (%v): %+v, %v", name, d, claimed, b, err)
			}
			if errors.Is(told, errGone) && !claimed {
				t.Fatalf("%s was told that %s is gone, and it is not: %+v, %v", name, d, b, err)
			}
			update(t, db, func(tx *metadb.Tx) error { return tx.EndClaims(c.Garbage, c.Until) })
		}
	}
	if first == 0 || second == 0 {
		t.Errorf("rivals were first %d times and collection %d times: nothing was tested", first, second)
	}
}

// testReviewRival: who takes away what needs a blob finds that it is kept for long enough; before that is committed, which may
// take longer, the time is over and collection looks. It looks again.
func testReviewRival(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "gc/review")
	tomorrow := time.Now().Add(24 * time.Hour)
	config := putFile(t, db, r.ID, "config of the reviewed", tomorrow)
	m := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "reviewed", tomorrow, layer(config))
	inTheMiddle := func() { collect(t, db, metadb.Collecting{Due: later()}) }
	update(t, db, func(tx *metadb.Tx) error {
		if _, err := tx.DeleteManifest(r.ID, m); err != nil {
			return err
		}
		if !db.Alone() { // else transactions do not overlap
			inTheMiddle()
		}
		return nil
	})
	c := collect(t, db, metadb.Collecting{Due: later()})
	if len(c.Gone) != 1 || !slices.Equal(collectedDigests(c), []oci.Digest{config}) {
		t.Errorf("the image is deleted: %s gone, claimed %s; want both blobs of it", c.Gone, collectedDigests(c))
	}
}

// testPruneRivals: a manifest that collection would put into the trash is tagged, named by an index or restored at the
// same moment: then it stays, or who asked was told.
func testPruneRivals(t *testing.T, db *metadb.DB) {
	ctx := background()
	r := repository(t, db, "gc/prune")
	old := time.Now().Add(-48 * time.Hour)
	kept, taken := 0, 0
	for n := range 60 {
		d := putImage(t, db, metadb.Manifest{RepoID: r.ID, PushedAt: old}, fmt.Sprint("prune ", n), past())
		var wg sync.WaitGroup
		var told, failed error
		done := make(chan struct{})
		wg.Go(func() {
			if n%6 == 5 { // now and then surely too late
				<-done
			}
			time.Sleep(time.Duration(n%6) * 150 * time.Microsecond)
			told = db.Update(ctx, func(tx *metadb.Tx) error {
				missing, err := tx.MissingManifests(r.ID, []oci.Digest{d})
				if err == nil && len(missing) > 0 {
					err = errGone
				}
				if err != nil {
					return err
				}
				if n%2 == 0 {
					_, err = tx.PutTag(r.ID, fmt.Sprint("t", n), d, metadb.Origin{})
					return err
				}
				index := fmt.Sprint("index ", n)
				m := metadb.Manifest{RepoID: r.ID, Digest: digestOf("%s", index), MediaType: "m"}
				if err := tx.PutBlob(metadb.Blob{Digest: m.Digest, Size: int64(len(index)), LeaseUntil: time.Now().Add(time.Hour)}, []byte(index)); err != nil {
					return err
				}
				_, err = tx.PutManifest(m, []metadb.Edge{{Child: d, Kind: metadb.ManifestEdge}})
				return err
			})
		})
		wg.Go(func() {
			defer close(done)
			time.Sleep(time.Duration(n%4) * 200 * time.Microsecond)
			failed = db.Update(ctx, func(tx *metadb.Tx) error {
				_, _, err := tx.TrashUntagged(0, time.Now(), 24*time.Hour, time.Hour, 1000)
				return err
			})
		})
		wg.Wait()
		must(t, failed)
		_, err := db.Manifest(ctx, r.ID, d)
		switch {
		case told == nil && err != nil:
			t.Fatalf("manifest %d was named and is in the trash: %v", n, err)
		case told == nil:
			kept++
		case errors.Is(told, errGone):
			wantErr(t, "manifest", err, metadb.ErrNotFound)
			taken++
		default:
			t.Fatal(told)
		}
	}
	if kept == 0 || taken == 0 {
		t.Errorf("%d were kept, %d taken: nothing was tested", kept, taken)
	}
}
