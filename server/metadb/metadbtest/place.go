package metadbtest

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// testPlaces: where a blob is, is what was said last; what is given up is remembered until it is deleted.
func testPlaces(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	d := digestOf("placed")
	put := func(place string) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: 6, Place: place}, nil) })
		equal(t, "place", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).Place, place)
	}
	moved := func(at time.Duration, want ...string) {
		t.Helper()
		got := get[[]string](t)(db.MovedPlaces(ctx, time.Now().Add(at), 10))
		slices.Sort(got) // they come by time, of which the clock of a server has its own idea
		if len(got) != len(want) {
			t.Fatalf("due in %s: %q, want %q", at, got, want)
		}
		for i := range got {
			equal(t, "due", got[i], want[i])
		}
	}
	named := func(place string, want bool) {
		t.Helper()
		equal(t, "named "+place, get[bool](t)(db.PlaceNamed(ctx, place)), want)
	}
	parked := func(after string, want ...string) {
		t.Helper()
		got := get[[]metadb.Blob](t)(db.ParkedBlobs(ctx, after, 10))
		equal(t, "parked", len(got), len(want))
		for i := range got {
			equal(t, "parked at", got[i].Place, want[i])
		}
	}

	put("u1/a")
	put("u1/a") // the same once more
	moved(10 * time.Hour)
	parked("", "u1/a")
	parked("u1/a")
	named("u1/a", true)
	named("u2/a", false)
	for id, want := range map[string]bool{"u1": true, "u": false, "u10": false, "u2": false} {
		equal(t, "upload "+id+" named", get[bool](t)(db.UploadNamed(ctx, id)), want)
	}
	named("", false)
	put("u2/a")
	moved(0)
	moved(2*time.Hour, "u1/a")
	named("u1/a", true)

	// Content that is kept here leaves the place as it is: the store has it there.
	update(t, db, func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: 6}, []byte("placed")) })
	equal(t, "inline", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).Place, "u2/a")

	settle := func(d oci.Digest, place string, want bool) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			done, err := tx.SettleBlob(d, place)
			if done != want {
				t.Errorf("settle %s: %t", place, done)
			}
			return err
		})
	}
	settle(d, "u1/a", false) // it has moved on
	settle(d, "", false)
	settle(digestOf("no such blob"), "u2/a", false)
	settle(d, "u2/a", true)
	settle(d, "u2/a", false)
	equal(t, "settled", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).Place, "")
	parked("")
	moved(2*time.Hour, "u1/a", "u2/a")
	put("u3/a")
	put("") // pushed with its digest first
	moved(2*time.Hour, "u1/a", "u2/a", "u3/a")
	update(t, db, func(tx *metadb.Tx) error { return tx.ForgetPlaces("u1/a", "u3/a", "never") })
	moved(2*time.Hour, "u2/a")
	named("u1/a", false)

	// Damage that is repaired by a push is repaired where the push has put it.
	d = digestOf("rotten")
	put("u4/a")
	update(t, db, func(tx *metadb.Tx) error {
		_, _, err := tx.Quarantine(metadb.Damage{Digest: d, Detail: "rotten"})
		return err
	})
	parked("")
	settle(d, "u4/a", false)
	put("u5/a")
	equal(t, "state", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).State, metadb.Live)
	moved(2*time.Hour, "u2/a", "u4/a")
}

// testEndingUpload: no commit succeeds from then on, nobody continues it, and the row is there until it is ended.
func testEndingUpload(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	d := digestOf("ending")
	u := metadb.Upload{ID: "ending", Repository: "x/a", Principal: "user:alice", Algorithm: oci.SHA256, HashState: []byte{}, DriverState: []byte("state")}
	update(t, db, func(tx *metadb.Tx) error {
		must(t, tx.CreateUpload(u))
		return tx.SetCommitting(u.ID, d)
	})
	before := get[metadb.Upload](t)(db.Upload(ctx, u.ID))
	end := func(u metadb.Upload, want bool) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			done, err := tx.EndingUpload(u)
			if done != want {
				t.Errorf("ending: %t", done)
			}
			return err
		})
	}
	stale := before
	stale.Received++
	end(stale, false)
	end(before, true)
	end(before, true) // by whoever goes on after a crash
	update(t, db, func(tx *metadb.Tx) error {
		if existed, err := tx.DeleteUpload(u.ID); existed || err != nil {
			t.Errorf("a commit found the upload: %t, %v", existed, err)
		}
		wantErr(t, "announce", tx.SetCommitting(u.ID, d), metadb.ErrNotFound)
		wantErr(t, "go on", tx.UpdateUpload(u.ID, 0, 5, nil, nil), metadb.ErrNotFound)
		return nil
	})
	after := get[metadb.Upload](t)(db.Upload(ctx, u.ID))
	if after.Algorithm != "" || after.Committing != d || string(after.DriverState) != "state" || !after.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("row: %+v", after)
	}
	update(t, db, func(tx *metadb.Tx) error {
		ended, err := tx.EndUpload(after)
		equal(t, "ended", ended, true)
		return err
	})
	_, err := db.Upload(ctx, u.ID)
	wantErr(t, "in the end", err, metadb.ErrNotFound)
}
