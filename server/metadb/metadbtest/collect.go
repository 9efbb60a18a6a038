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

// past is a lease that is over, and by which Review has something to do.
func past() time.Time { return time.Now().Add(-time.Hour) }

// later is when everything is due.
func later() time.Time { return time.Now().Add(365 * 24 * time.Hour) }

// putFile puts a blob whose bytes are in the store, linked to the repository.
func putFile(t testing.TB, db *metadb.DB, repoID int64, content string, lease time.Time) oci.Digest {
	t.Helper()
	d := digestOf("%s", content)
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(content)), LeaseUntil: lease}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(repoID, d)
		return err
	})
	return d
}

// putImage puts a manifest over blobs, with its own lease.
func putImage(t testing.TB, db *metadb.DB, m metadb.Manifest, content string, lease time.Time, edges ...metadb.Edge) oci.Digest {
	t.Helper()
	m.Digest, m.MediaType, m.Size = digestOf("%s", content), "m", int64(len(content))
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: m.Digest, Size: m.Size, LeaseUntil: lease}, []byte(content)); err != nil {
			return err
		}
		_, err := tx.PutManifest(m, edges)
		return err
	})
	return m.Digest
}

func collect(t testing.TB, db *metadb.DB, o metadb.Collecting) (c metadb.Collected) {
	t.Helper()
	if o.Due.IsZero() {
		o.Due = time.Now()
	}
	if o.Limit == 0 {
		o.Limit = 1000
	}
	if o.Hold == 0 {
		o.Hold = time.Minute
	}
	update(t, db, func(tx *metadb.Tx) (err error) { c, err = tx.Collect(o); return err })
	return c
}

func collectedDigests(c metadb.Collected) (ds []oci.Digest) {
	for _, g := range c.Garbage {
		ds = append(ds, g.Digest)
	}
	return ds
}

func layer(d oci.Digest) metadb.Edge { return metadb.Edge{Child: d, Kind: metadb.LayerEdge} }

// testCollect: what is due and not needed is claimed or gone, what is needed is not asked about again.
func testCollect(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r, other := repository(t, db, "gc/a"), repository(t, db, "gc/b")
	kept, loose, fresh := putFile(t, db, r.ID, "kept", past()), putFile(t, db, r.ID, "loose!", past()), putFile(t, db, r.ID, "fresh", time.Now().Add(time.Hour))
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.LinkBlob(other.ID, kept); return err })
	m := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "manifest", past(), layer(kept))
	inline := get[oci.Digest](t)(keep(db, r.ID, "inline", past()))
	both := putFile(t, db, r.ID, "both", past()) // in the store, and then here
	get[oci.Digest](t)(keep(db, r.ID, "both", past()))

	c := collect(t, db, metadb.Collecting{})
	equal(t, "examined", c.Examined, 5)
	equal(t, "gone", []int64{int64(len(c.Gone)), c.GoneBytes}, []int64{1, 6})
	got := map[oci.Digest]int64{}
	for _, g := range c.Garbage {
		got[g.Digest] = g.Size
	}
	equal(t, "claimed", got, map[oci.Digest]int64{loose: 6, both: 4})
	equal(t, "unlinked", c.Unlinked, []metadb.Unlinked{{RepoID: other.ID, Digest: kept}})
	for _, d := range []oci.Digest{kept, m} {
		if b := get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)); !b.LeaseUntil.IsZero() || b.State != metadb.Live {
			t.Fatalf("needed blob %+v", b)
		}
	}
	_, err := db.BlobAnywhere(ctx, inline)
	wantErr(t, "inline", err, metadb.ErrNotFound)
	_, err = db.Blob(ctx, r.ID, loose)
	wantErr(t, "claimed", err, metadb.ErrNotFound)
	get[metadb.Blob](t)(db.Blob(ctx, r.ID, fresh))
	equal(t, "again", collect(t, db, metadb.Collecting{}).Examined, 0)

	// A claim is nobody else's, a push meets it, and its end frees the digest.
	_, err = keepFile(db, r.ID, "loose!")
	wantErr(t, "push of what is claimed", err, metadb.ErrClaimed)
	update(t, db, func(tx *metadb.Tx) error { return tx.EndClaims(c.Garbage, c.Until.Add(time.Second)) })
	equal(t, "ended by who does not hold it", get[metadb.Blob](t)(db.BlobAnywhere(ctx, loose)).State, metadb.Claimed)
	update(t, db, func(tx *metadb.Tx) error { return tx.EndClaims(c.Garbage, c.Until) })
	_, err = db.BlobAnywhere(ctx, loose)
	wantErr(t, "ended", err, metadb.ErrNotFound)
	get[oci.Digest](t)(keepFile(db, r.ID, "loose!"))
}

func keepFile(db *metadb.DB, repoID int64, content string) (oci.Digest, error) {
	d := digestOf("%s", content)
	return d, db.Update(background(), func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(content)), LeaseUntil: time.Now().Add(time.Hour)}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(repoID, d)
		return err
	})
}

// testCollectTakeover: a claim whose worker died is due again; one that failed is free for pushes, and due later.
func testCollectTakeover(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "gc/takeover")
	d := putFile(t, db, r.ID, "content", past())
	dead := collect(t, db, metadb.Collecting{Hold: time.Millisecond})
	equal(t, "claimed", collectedDigests(dead), []oci.Digest{d})
	time.Sleep(5 * time.Millisecond)
	c := collect(t, db, metadb.Collecting{Due: later()})
	equal(t, "claimed again", collectedDigests(c), []oci.Digest{d})
	equal(t, "not a third time", collect(t, db, metadb.Collecting{Due: later()}).Examined, 0)
	update(t, db, func(tx *metadb.Tx) error { return tx.EndClaims(dead.Garbage, dead.Until) })
	equal(t, "the dead worker's end", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).State, metadb.Claimed)

	update(t, db, func(tx *metadb.Tx) error { return tx.ReleaseClaims(c.Garbage, c.Until, time.Hour) })
	equal(t, "before the pause is over", collect(t, db, metadb.Collecting{}).Examined, 0)
	equal(t, "released", collectedDigests(collect(t, db, metadb.Collecting{Due: later(), Hold: time.Millisecond})), []oci.Digest{d})
	time.Sleep(5 * time.Millisecond)
	c = collect(t, db, metadb.Collecting{})
	update(t, db, func(tx *metadb.Tx) error { return tx.ReleaseClaims(c.Garbage, c.Until, time.Hour) })
	get[oci.Digest](t)(keepFile(db, r.ID, "content"))
	b := get[metadb.Blob](t)(db.Blob(ctx, r.ID, d))
	if b.State != metadb.Live || b.Inline || !b.Stored {
		t.Fatalf("pushed again: %+v", b)
	}

	// A push does not wait for a worker that died.
	lost := putFile(t, db, r.ID, "lost", past())
	collect(t, db, metadb.Collecting{Hold: 100 * time.Millisecond})
	announce := func() error {
		return db.Update(ctx, func(tx *metadb.Tx) error {
			if err := tx.CreateUpload(metadb.Upload{ID: "lost", Repository: r.Name, Algorithm: oci.SHA256}); err != nil {
				return err
			}
			return tx.SetCommitting("lost", lost)
		})
	}
	wantErr(t, "while the claim holds", announce(), metadb.ErrClaimed)
	time.Sleep(120 * time.Millisecond)
	must(t, announce())
	get[oci.Digest](t)(keepFile(db, r.ID, "lost"))
	equal(t, "pushed over a dead claim", get[metadb.Blob](t)(db.Blob(ctx, r.ID, lost)).State, metadb.Live)
}

// testCollectUploads: what only an upload needs is kept for as long as that is there, and found when it has ended, of which
// nobody is told: also when the upload ends at the very moment at which collection looks.
func testCollectUploads(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "gc/uploads")
	announce := func(content string) (oci.Digest, metadb.Upload) {
		d := putFile(t, db, r.ID, content, past())
		update(t, db, func(tx *metadb.Tx) error {
			if err := tx.CreateUpload(metadb.Upload{ID: content, Repository: r.Name, Algorithm: oci.SHA256}); err != nil {
				return err
			}
			return tx.SetCommitting(content, d)
		})
		return d, get[metadb.Upload](t)(db.Upload(ctx, content))
	}
	end := func(u metadb.Upload) error {
		return db.Update(ctx, func(tx *metadb.Tx) error {
			if claimed, err := tx.ClaimOrphan(u.Committing, u.ID, time.Minute); err != nil || claimed {
				return fmt.Errorf("claimed %v: %w", claimed, err)
			}
			_, err := tx.EndUpload(u)
			return err
		})
	}
	d, u := announce("abandoned")
	kept, keeping := announce("abandoned, and in an image")
	m := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "image of what is announced", past(), layer(kept))
	equal(t, "claimed while an upload needs it", len(collect(t, db, metadb.Collecting{}).Garbage), 0)
	if b := get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)); !b.LeaseUntil.After(time.Now()) {
		t.Fatalf("what only an upload needs is looked at again when a grace is over; it is %+v", b)
	}
	for _, d := range []oci.Digest{kept, m} {
		equal(t, "lease of what an image needs, too", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).LeaseUntil.IsZero(), true)
	}
	equal(t, "not a second time", collect(t, db, metadb.Collecting{}).Examined, 0)
	must(t, errors.Join(end(u), end(keeping)))
	equal(t, "found after the upload", collectedDigests(collect(t, db, metadb.Collecting{Due: later()})), []oci.Digest{d})

	// Who takes every lease for over comes to an end, too.
	_, u = announce("announced when every lease is over")
	after := metadb.DueCursor{}
	for n := 0; ; n++ {
		c := collect(t, db, metadb.Collecting{Due: later(), After: after, Limit: 1})
		if after = c.Next; c.Examined == 0 {
			break
		}
		if n > 10 {
			t.Fatal("one blob is looked at again and again")
		}
	}
	must(t, end(u))

	for n := range 60 {
		d, u := announce(fmt.Sprint("ends now ", n))
		var wg sync.WaitGroup
		var ended, failed error
		wg.Go(func() {
			time.Sleep(time.Duration(n%6) * 100 * time.Microsecond)
			ended = end(u)
		})
		wg.Go(func() {
			failed = db.Update(ctx, func(tx *metadb.Tx) error {
				_, err := tx.Collect(metadb.Collecting{Due: time.Now(), Limit: 1000, Hold: time.Minute})
				return err
			})
		})
		wg.Wait()
		if errors.Is(ended, metadb.ErrClaimed) { // it is the next sweep's
			ended = nil
		}
		must(t, errors.Join(ended, failed))
		b, err := db.BlobAnywhere(ctx, d)
		if err == nil && b.LeaseUntil.IsZero() {
			t.Fatalf("blob %d was left by its upload, and nobody will look at it: %+v", n, b)
		}
	}
}

// testCollectPages: batches go through the queue in its order, each blob once.
func testCollectPages(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "gc/pages")
	want := map[oci.Digest]bool{}
	for i := range 25 {
		want[putFile(t, db, r.ID, fmt.Sprint("page ", i), past().Add(-time.Duration(i%5)*time.Minute))] = true
	}
	var o metadb.Collecting
	seen := 0
	for o.Limit = 4; ; {
		c := collect(t, db, o)
		for _, d := range collectedDigests(c) {
			if !want[d] {
				t.Fatalf("%s is claimed twice", d)
			}
			delete(want, d)
		}
		seen += c.Examined
		if !c.More {
			break
		}
		o.After = c.Next
	}
	equal(t, "examined", seen, 25)
	equal(t, "left", len(want), 0)
}

// testReview: what loses what needed it is looked at after the grace, and goes.
func testReview(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "gc/review")
	config, shared := putFile(t, db, r.ID, "config", past()), putFile(t, db, r.ID, "shared", past())
	m := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "image", past(), layer(config), layer(shared))
	signature := putImage(t, db, metadb.Manifest{RepoID: r.ID, Subject: m}, "signature", past(), metadb.Edge{Child: m, Kind: metadb.SubjectEdge})
	putImage(t, db, metadb.Manifest{RepoID: r.ID}, "other", past(), layer(shared))
	collect(t, db, metadb.Collecting{})
	equal(t, "all needed", collect(t, db, metadb.Collecting{Due: later()}).Examined, 0)

	id := get[int64](t)(db.ImageID(ctx, r.ID, m))
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.ReviewEdges(id); err != nil {
			return err
		}
		return tx.Review() // of nothing
	})
	for _, d := range []oci.Digest{m, config, shared, signature} {
		left := time.Until(get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).LeaseUntil)
		if left < 23*time.Hour || left > 25*time.Hour {
			t.Fatalf("%s is looked at in %s", d, left)
		}
	}
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.DeleteManifest(r.ID, m); return err })
	equal(t, "in the grace", collect(t, db, metadb.Collecting{}).Examined, 0)
	c := collect(t, db, metadb.Collecting{Due: later()})
	ds := collectedDigests(c)
	if len(c.Gone) != 1 || !slices.Equal(ds, []oci.Digest{config}) {
		t.Fatalf("after the grace %s gone, claimed %s", c.Gone, ds)
	}
	update(t, db, func(tx *metadb.Tx) error { // a blob of no manifest
		_, err := tx.UnlinkBlob(r.ID, putFileIn(t, tx, r.ID, "unlinked"))
		return err
	})
	equal(t, "unlinked", len(collect(t, db, metadb.Collecting{Due: later()}).Garbage), 1)
}

func putFileIn(t testing.TB, tx *metadb.Tx, repoID int64, content string) oci.Digest {
	t.Helper()
	d := digestOf("%s", content)
	must(t, tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(content))}, nil))
	_, err := tx.LinkBlob(repoID, d)
	must(t, err)
	return d
}

// testFollow: children and referrers of what is in the trash follow it, come back with it, and its content goes when the
// hold is over.
func testFollow(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "gc/follow")
	config := putFile(t, db, r.ID, "config", past())
	child := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "child", past(), layer(config))
	tagged := putTagged(t, db, r.ID, "mine", "tagged child")
	index := putImage(t, db, metadb.Manifest{RepoID: r.ID}, "index", past(),
		metadb.Edge{Child: child, Kind: metadb.ManifestEdge}, metadb.Edge{Child: tagged, Kind: metadb.ManifestEdge})
	signature := putImage(t, db, metadb.Manifest{RepoID: r.ID, Subject: index}, "signature", past(), metadb.Edge{Child: index, Kind: metadb.SubjectEdge})
	collect(t, db, metadb.Collecting{})
	hold := metadb.Discard{Hold: time.Hour}
	trash := func(d oci.Digest) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error { _, err := tx.TrashManifest(r.ID, d, hold); return err })
	}
	trash(index)
	equal(t, "in the grace", len(collect(t, db, metadb.Collecting{}).Trashed), 0)
	purged := func() (n int) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) { n, _, err = tx.PurgeDue(metadb.PurgeCursor{}, 100); return err })
		return n
	}
	c := collect(t, db, metadb.Collecting{Due: later(), TrashHold: time.Hour})
	if len(c.Trashed) != 2 || len(c.Garbage) > 0 || len(c.Gone) > 0 {
		t.Fatalf("followed: %+v", c)
	}
	row := get[metadb.Trashed](t)(db.Trashed(ctx, r.ID, child))
	equal(t, "cause", row.Cause, metadb.CauseParentDeleted)
	get[metadb.Manifest](t)(db.Manifest(ctx, r.ID, tagged))
	equal(t, "before the hold is over", purged(), 0)

	// Back again.
	for _, d := range []oci.Digest{index, child, signature} {
		row := get[metadb.Trashed](t)(db.Trashed(ctx, r.ID, d))
		update(t, db, func(tx *metadb.Tx) error { _, err := tx.RestoreManifest(row); return err })
	}
	collect(t, db, metadb.Collecting{Due: later()})
	equal(t, "restored", get[metadb.Blob](t)(db.Blob(ctx, r.ID, config)).State, metadb.Live)

	// For good, with no hold: the index waits for what depends on it.
	hold.Hold = -time.Second
	trash(index)
	equal(t, "purged while a child lives", purged(), 0)
	equal(t, "followed", len(collect(t, db, metadb.Collecting{Due: later(), TrashHold: -time.Second}).Trashed), 2)
	equal(t, "purged", purged(), 3)
	c = collect(t, db, metadb.Collecting{Due: later()})
	equal(t, "content", collectedDigests(c), []oci.Digest{config})
	equal(t, "manifests", len(c.Gone), 3)
	equal(t, "the tagged one", get[metadb.Blob](t)(db.BlobAnywhere(ctx, tagged)).State, metadb.Live)
}

// testUntagged: the policy for untagged manifests takes what nothing points at and nobody was promised, and no other.
func testUntagged(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "gc/untagged")
	old := time.Now().Add(-48 * time.Hour)
	m := func(content string, m metadb.Manifest, lease time.Time, edges ...metadb.Edge) oci.Digest {
		m.RepoID = r.ID
		if m.PushedAt.IsZero() {
			m.PushedAt = old
		}
		return putImage(t, db, m, content, lease, edges...)
	}
	loose := m("loose", metadb.Manifest{}, past())
	m("young", metadb.Manifest{PushedAt: time.Now()}, past())
	m("promised", metadb.Manifest{}, time.Now().Add(time.Hour))
	child := m("child", metadb.Manifest{}, past())
	index := m("index", metadb.Manifest{}, past(), metadb.Edge{Child: child, Kind: metadb.ManifestEdge})
	m("signature of the index", metadb.Manifest{Subject: index}, past())
	dangling := m("signature of nothing", metadb.Manifest{Subject: digestOf("nothing")}, past())
	moved := m("tag moved on", metadb.Manifest{}, past())
	update(t, db, func(tx *metadb.Tx) error {
		for _, d := range []oci.Digest{moved, index} {
			if _, err := tx.PutTag(r.ID, "latest", d, metadb.Origin{}); err != nil {
				return err
			}
		}
		return nil
	})
	var got []oci.Digest
	for after := int64(0); ; {
		var trashed []metadb.Unlinked
		update(t, db, func(tx *metadb.Tx) (err error) {
			trashed, after, err = tx.TrashUntagged(after, time.Now(), 24*time.Hour, time.Hour, 3)
			return err
		})
		for _, u := range trashed {
			got = append(got, u.Digest)
		}
		if after == 0 {
			break
		}
	}
	equal(t, "trashed", got, []oci.Digest{loose, dangling})
	equal(t, "cause", get[metadb.Trashed](t)(db.Trashed(t.Context(), r.ID, loose)).Cause, metadb.CauseUntagged)
}
