package metadbtest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// keep keeps a small blob of that content in the repository.
func keep(db *metadb.DB, repoID int64, content string, lease time.Time) (oci.Digest, error) {
	d := digestOf("%s", content)
	return d, db.KeepBlob(background(), repoID, metadb.Blob{Digest: d, Size: int64(len(content)), Inline: true, LeaseUntil: lease}, []byte(content))
}

// testKeepBlob: what was kept is seen by every read and every transaction that begins afterwards, whatever they ask.
func testKeepBlob(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	a, b := repository(t, db, "keep/a"), repository(t, db, "keep/b")
	lease := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	reads := map[string]func(d oci.Digest) error{
		"blob":         func(d oci.Digest) error { _, err := db.Blob(ctx, a.ID, d); return err },
		"anywhere":     func(d oci.Digest) error { _, err := db.BlobAnywhere(ctx, d); return err },
		"content":      func(d oci.Digest) error { _, err := db.Content(ctx, d); return err },
		"repositories": func(d oci.Digest) error { return found(db.BlobRepositories(ctx, d, 5)) },
		"transaction": func(d oci.Digest) error {
			return db.Update(ctx, func(tx *metadb.Tx) error { return none(tx.MissingBlobs(a.ID, []oci.Digest{d})) })
		},
		"link": func(d oci.Digest) error {
			return db.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.LinkBlob(b.ID, d); return err })
		},
		"unlink": func(d oci.Digest) error { return unlink(db, a.ID, d) },
	}
	for name, read := range reads {
		d := get[oci.Digest](t)(keep(db, a.ID, "content for "+name, lease))
		if err := read(d); err != nil {
			t.Errorf("%s right after: %v", name, err)
		}
	}
	d := get[oci.Digest](t)(keep(db, a.ID, "twice", lease))
	must(t, unlink(db, a.ID, d))
	_, err := db.Blob(ctx, a.ID, d)
	wantErr(t, "unlinked", err, metadb.ErrNotFound)
	get[oci.Digest](t)(keep(db, a.ID, "twice", lease.Add(72*time.Hour)))
	row := get[metadb.Blob](t)(db.Blob(ctx, a.ID, d))
	if !row.Inline || row.Size != 5 || !row.LeaseUntil.Equal(lease.Add(72*time.Hour)) {
		t.Fatalf("kept again: %+v", row)
	}
	get[oci.Digest](t)(keep(db, a.ID, "twice", lease.Add(72*time.Hour+time.Minute)))
	equal(t, "lease with more than half left", get[metadb.Blob](t)(db.Blob(ctx, a.ID, d)).LeaseUntil, lease.Add(72*time.Hour))

	file := digestOf("in the store")
	update(t, db, func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: file, Size: 12}, nil) })
	get[oci.Digest](t)(keep(db, a.ID, "in the store", lease))
	equal(t, "content of what was a file", string(get[[]byte](t)(db.Content(ctx, file))), "in the store")
}

// testKeepClaimed: a digest that is being deleted is refused, or lives again and survives the end of the deletion.
func testKeepClaimed(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "keep/claimed")
	d := digestOf("claimed")
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.ClaimOrphan(d, "", time.Minute); return err })
	_, err := keep(db, r.ID, "claimed", time.Now().Add(time.Hour))
	if errors.Is(err, metadb.ErrClaimed) {
		return
	}
	must(t, err)
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteClaimed(d) })
	equal(t, "content", string(get[[]byte](t)(db.Content(t.Context(), d))), "claimed")
	equal(t, "size", get[metadb.Blob](t)(db.Blob(t.Context(), r.ID, d)).Size, int64(7))
}

// testKeepMany: from many callers, beside transactions, nothing is missed.
func testKeepMany(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "keep/many")
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			var ds []oci.Digest
			for i := range 40 {
				d, err := keep(db, r.ID, fmt.Sprint("many ", c, i), time.Now().Add(time.Hour))
				if err != nil {
					t.Error(err)
					return
				}
				if ds = append(ds, d); i%8 != 7 {
					continue
				}
				if err := db.Update(background(), func(tx *metadb.Tx) error { return none(tx.MissingBlobs(r.ID, ds)) }); err != nil {
					t.Errorf("caller %d after %d: %v", c, i, err)
				}
			}
		})
	}
	wg.Wait()
}

func unlink(db *metadb.DB, repoID int64, d oci.Digest) error {
	return db.Update(background(), func(tx *metadb.Tx) error {
		existed, err := tx.UnlinkBlob(repoID, d)
		if err == nil && !existed {
			err = errors.New("was not linked")
		}
		return err
	})
}

func none(missing []oci.Digest, err error) error {
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%d are missing", len(missing))
	}
	return err
}

func found(rs []metadb.Repository, err error) error {
	if err == nil && len(rs) == 0 {
		err = errors.New("no repository")
	}
	return err
}

// testKeepLink: a link that was kept is seen by everything that follows, a claim included.
func testKeepLink(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	a, b := repository(t, db, "link/a"), repository(t, db, "link/b")
	lease := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	d := get[oci.Digest](t)(keep(db, a.ID, "linked", lease))
	must(t, db.KeepLink(ctx, b.ID, d, lease.Add(3*time.Hour), db.Mark()))
	row := get[metadb.Blob](t)(db.Blob(ctx, b.ID, d))
	equal(t, "lease", row.LeaseUntil, lease.Add(3*time.Hour))
	must(t, db.KeepLink(ctx, b.ID, d, lease, db.Mark())) // again
	equal(t, "repositories", len(get[[]metadb.Repository](t)(db.BlobRepositories(ctx, d, 5))), 2)

	update(t, db, func(tx *metadb.Tx) error {
		claimed, err := tx.ClaimOrphan(d, "", time.Minute)
		if err == nil && claimed {
			err = errors.New("a linked blob was claimed")
		}
		return err
	})

	// What was claimed since the mark is looked at again.
	orphan := digestOf("orphan")
	mark := db.Mark()
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.ClaimOrphan(orphan, "", time.Minute); return err })
	wantErr(t, "link to what is claimed", db.KeepLink(ctx, b.ID, orphan, lease, mark), metadb.ErrClaimed)
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteClaimed(orphan) })
	wantErr(t, "link to what is gone", db.KeepLink(ctx, b.ID, orphan, lease, mark), metadb.ErrNotFound)
	_, err := db.Blob(ctx, b.ID, orphan)
	wantErr(t, "blob", err, metadb.ErrNotFound)
}
