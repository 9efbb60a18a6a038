package metadbtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

func testBlobs(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	a, b := repository(t, db, "x/a"), repository(t, db, "x/b")
	file, inline := digestOf("file"), oci.FromBytes(oci.SHA512, []byte("inline"))
	update(t, db, func(tx *metadb.Tx) error {
		if _, err := tx.LinkBlob(a.ID, file); err != metadb.ErrNotFound {
			t.Errorf("link of no blob: %v", err)
		}
		must(t, tx.PutBlob(metadb.Blob{Digest: file, Size: 5 << 30}, nil))
		must(t, tx.PutBlob(metadb.Blob{Digest: inline, Size: 6}, []byte("inline")))
		for i, want := range []bool{true, false} {
			if created, err := tx.LinkBlob(a.ID, file); err != nil || created != want {
				t.Errorf("link %d: created=%v, %v", i, created, err)
			}
		}
		_, err := tx.LinkBlob(b.ID, inline)
		return err
	})
	got := get[metadb.Blob](t)(db.Blob(ctx, a.ID, file))
	if got.Digest != file || got.Size != 5<<30 || got.Inline || got.State != metadb.Live || got.CreatedAt.IsZero() || !got.LeaseUntil.IsZero() {
		t.Fatalf("blob: %+v", got)
	}
	_, err := db.Blob(ctx, b.ID, file)
	wantErr(t, "blob of another repository", err, metadb.ErrNotFound)
	equal(t, "anywhere", get[metadb.Blob](t)(db.BlobAnywhere(ctx, inline)).Inline, true)
	equal(t, "content", string(get[[]byte](t)(db.Content(ctx, inline))), "inline")
	_, err = db.Content(ctx, file)
	wantErr(t, "content of a file", err, metadb.ErrNotFound)
	_, err = db.BlobAnywhere(ctx, digestOf("nothing"))
	wantErr(t, "no blob", err, metadb.ErrNotFound)

	update(t, db, func(tx *metadb.Tx) error { _, err := tx.LinkBlob(b.ID, file); return err })
	rs := get[[]metadb.Repository](t)(db.BlobRepositories(ctx, file, 10))
	if len(rs) != 2 || rs[0].Name != "x/a" || rs[1].Name != "x/b" || !rs[1].Public {
		t.Fatalf("repositories of the blob: %+v", rs)
	}
	equal(t, "limited", len(get[[]metadb.Repository](t)(db.BlobRepositories(ctx, file, 1))), 1)
	update(t, db, func(tx *metadb.Tx) error {
		for i, want := range []bool{true, false} {
			if existed, err := tx.UnlinkBlob(a.ID, file); err != nil || existed != want {
				t.Errorf("unlink %d: existed=%v, %v", i, existed, err)
			}
		}
		return nil
	})
	_, err = db.Blob(ctx, a.ID, file)
	wantErr(t, "unlinked", err, metadb.ErrNotFound)
	get[metadb.Blob](t)(db.Blob(ctx, b.ID, file))
}

func testBlobKept(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	d := digestOf("12345")
	lease := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	put := func(b metadb.Blob, content []byte) error {
		return db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutBlob(b, content) })
	}
	must(t, put(metadb.Blob{Digest: d, Size: 5, LeaseUntil: lease}, []byte("12345")))
	must(t, put(metadb.Blob{Digest: d, Size: 5}, nil))
	got := get[metadb.Blob](t)(db.BlobAnywhere(ctx, d))
	if !got.Inline || !got.LeaseUntil.Equal(lease) {
		t.Fatalf("a second put moved the bytes or shortened the lease: %+v", got)
	}
	must(t, put(metadb.Blob{Digest: d, Size: 5, LeaseUntil: lease.Add(time.Minute)}, nil))
	equal(t, "lease with more than half left", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).LeaseUntil, lease)
	must(t, put(metadb.Blob{Digest: d, Size: 5, LeaseUntil: lease.Add(2 * time.Hour)}, nil))
	equal(t, "lease", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).LeaseUntil, lease.Add(2*time.Hour))
	update(t, db, func(tx *metadb.Tx) error { return tx.LeaseBlob(d, lease) })
	equal(t, "lease not shortened", get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)).LeaseUntil, lease.Add(2*time.Hour))
	if err := put(metadb.Blob{Digest: d, Size: 6}, nil); err == nil {
		t.Fatal("one digest has two sizes")
	}
	file := digestOf("in the store")
	must(t, put(metadb.Blob{Digest: file, Size: 12}, nil))
	for range 2 { // a manifest that was pushed as a blob before, or content that is sent again to repair it
		must(t, put(metadb.Blob{Digest: file, Size: 12}, []byte("in the store")))
		equal(t, "put with content", get[metadb.Blob](t)(db.BlobAnywhere(ctx, file)).Inline, true)
		equal(t, "content of what was a file", string(get[[]byte](t)(db.Content(ctx, file))), "in the store")
	}
	empty := digestOf("")
	must(t, put(metadb.Blob{Digest: empty}, []byte{}))
	equal(t, "empty content", len(get[[]byte](t)(db.Content(ctx, empty))), 0)
	equal(t, "empty is inline", get[metadb.Blob](t)(db.BlobAnywhere(ctx, empty)).Inline, true)
}

func testMissingBlobs(t *testing.T, db *metadb.DB) {
	r, other := repository(t, db, "x/a"), repository(t, db, "x/b")
	var all, want []oci.Digest
	update(t, db, func(tx *metadb.Tx) error {
		all, want = nil, nil
		for i := range 700 { // more than one statement's list
			d := digestOf("%d", i)
			all = append(all, d)
			if i%3 == 0 {
				want = append(want, d)
				continue
			}
			must(t, tx.PutBlob(metadb.Blob{Digest: d}, nil))
			if _, err := tx.LinkBlob(r.ID, d); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, db, func(tx *metadb.Tx) error {
		equal(t, "missing", get[[]oci.Digest](t)(tx.MissingBlobs(r.ID, append(all, all...))), want)
		equal(t, "missing elsewhere", len(get[[]oci.Digest](t)(tx.MissingBlobs(other.ID, all))), len(all))
		equal(t, "none asked", len(get[[]oci.Digest](t)(tx.MissingBlobs(r.ID, nil))), 0)
		for n := range 9 { // every padding
			equal(t, fmt.Sprint("first ", n), len(get[[]oci.Digest](t)(tx.MissingBlobs(r.ID, all[:n]))), (n+2)/3)
		}
		return nil
	})
}

func testManifests(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r, other := repository(t, db, "x/a"), repository(t, db, "x/b")
	content := `{"schemaVersion":2}`
	d := digestOf("%s", content)
	want := metadb.Manifest{RepoID: r.ID, Digest: d, MediaType: "application/x", ArtifactType: "a/t", Size: int64(len(content)),
		Subject: digestOf("subject"), Descriptor: `{"x":1}`, PushedBy: "alice", PushedAt: time.UnixMicro(1234567).UTC()}
	update(t, db, func(tx *metadb.Tx) error {
		has, err := tx.HasManifests(ctx, r.ID)
		equal(t, "has manifests", has, false)
		must(t, err)
		for i, first := range []bool{true, false} {
			if created, err := putManifest(tx, want, content); err != nil || created != first {
				t.Errorf("put %d: created=%v, %v", i, created, err)
			}
		}
		equal(t, "missing", get[[]oci.Digest](t)(tx.MissingManifests(r.ID, []oci.Digest{d, want.Subject})), []oci.Digest{want.Subject})
		_, err = tx.PutTag(r.ID, "v1", d, metadb.Origin{})
		return err
	})
	equal(t, "has manifests", get[bool](t)(db.HasManifests(ctx, r.ID)), true)
	equal(t, "manifest", get[metadb.Manifest](t)(db.Manifest(ctx, r.ID, d)), want)
	equal(t, "manifests", get[[]metadb.Manifest](t)(db.Manifests(ctx, r.ID, oci.Digest{}, 10)), []metadb.Manifest{want})
	equal(t, "manifests behind it", len(get[[]metadb.Manifest](t)(db.Manifests(ctx, r.ID, d, 10))), 0)
	equal(t, "manifests of another", len(get[[]metadb.Manifest](t)(db.Manifests(ctx, other.ID, oci.Digest{}, 10))), 0)
	m, b, err := db.ManifestContent(ctx, r.ID, d)
	must(t, err)
	equal(t, "manifest with content", m, want)
	equal(t, "its bytes", string(b), content)
	m, b, err = db.ManifestByTag(ctx, r.ID, "v1")
	must(t, err)
	equal(t, "manifest by tag", m, want)
	equal(t, "its bytes", string(b), content)
	_, err = db.Manifest(ctx, other.ID, d)
	wantErr(t, "manifest elsewhere", err, metadb.ErrNotFound)
	_, _, err = db.ManifestByTag(ctx, r.ID, "v2")
	wantErr(t, "no tag", err, metadb.ErrNotFound)

	big := digestOf("big")
	update(t, db, func(tx *metadb.Tx) error {
		must(t, tx.PutBlob(metadb.Blob{Digest: big, Size: 9}, nil))
		_, err := tx.PutManifest(metadb.Manifest{RepoID: other.ID, Digest: big, MediaType: "m", Size: 9}, nil)
		return err
	})
	m, b, err = db.ManifestContent(ctx, other.ID, big)
	must(t, err)
	if b != nil || m.Size != 9 || m.PushedAt.IsZero() {
		t.Fatalf("manifest in the store: %+v with %q", m, b)
	}
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.PutManifest(metadb.Manifest{RepoID: r.ID, Digest: digestOf("no blob")}, nil)
		return err
	}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("manifest without a blob: %v", err)
	}
}

func testEdges(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r, other := repository(t, db, "x/a"), repository(t, db, "x/b")
	parent := digestOf("parent")
	var edges []metadb.Edge
	for i := range 600 {
		edges = append(edges, metadb.Edge{Parent: parent, Child: digestOf("%d", i), Kind: metadb.LayerEdge})
	}
	edges = append(edges, edges[0], // a layer twice
		metadb.Edge{Parent: parent, Child: digestOf("0"), Kind: metadb.ConfigEdge})
	update(t, db, func(tx *metadb.Tx) error {
		_, err := putManifest(tx, metadb.Manifest{RepoID: r.ID, Digest: parent}, "parent", edges...)
		return err
	})
	got := get[[]metadb.Edge](t)(db.Children(ctx, r.ID, parent))
	equal(t, "children", len(got), 601)
	if !slices.IsSortedFunc(got, func(a, b metadb.Edge) int { return strings.Compare(a.Child.String(), b.Child.String()) }) {
		t.Fatal("children are not in the order of their digests")
	}
	equal(t, "parents", get[[]metadb.Edge](t)(db.Parents(ctx, r.ID, digestOf("0"), 10)), []metadb.Edge{
		{Parent: parent, Child: digestOf("0"), Kind: metadb.ConfigEdge}, {Parent: parent, Child: digestOf("0"), Kind: metadb.LayerEdge}})
	equal(t, "parents elsewhere", len(get[[]metadb.Edge](t)(db.Parents(ctx, other.ID, digestOf("0"), 10))), 0)
	update(t, db, func(tx *metadb.Tx) error {
		for i, want := range []bool{true, false} {
			if existed, err := tx.DeleteManifest(r.ID, parent); err != nil || existed != want {
				t.Errorf("delete %d: existed=%v, %v", i, existed, err)
			}
		}
		return nil
	})
	equal(t, "edges of a deleted manifest", len(get[[]metadb.Edge](t)(db.Children(ctx, r.ID, parent))), 0)
	get[metadb.Blob](t)(db.BlobAnywhere(ctx, parent)) // the blob stays
}

func testReferrers(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r, other := repository(t, db, "x/a"), repository(t, db, "x/b")
	subject := digestOf("subject")
	byType := map[string][]oci.Digest{}
	update(t, db, func(tx *metadb.Tx) error {
		clear(byType)
		for i := range 25 {
			d, kind := digestOf("%d", i), []string{"t/sbom", "t/signature"}[i%2]
			byType[kind], byType[""] = append(byType[kind], d), append(byType[""], d)
			m := metadb.Manifest{RepoID: r.ID, Digest: d, ArtifactType: kind, Subject: subject, Descriptor: fmt.Sprintf(`{"digest":%q}`, d)}
			if _, err := putManifest(tx, m, fmt.Sprint(i)); err != nil {
				return err
			}
		}
		_, err := putManifest(tx, metadb.Manifest{RepoID: r.ID, Digest: digestOf("plain")}, "plain")
		return err
	})
	for kind, want := range byType {
		slices.SortFunc(want, func(a, b oci.Digest) int { return strings.Compare(a.String(), b.String()) })
		for _, limit := range []int{1, 4, 5, 24, 25, 26} {
			var got []oci.Digest
			for after, more := (oci.Digest{}), true; more; {
				p := get[metadb.ReferrerPage](t)(db.Referrers(ctx, r.ID, subject, kind, after, limit))
				var page []struct{ Digest oci.Digest }
				must(t, json.Unmarshal(fmt.Appendf(nil, "[%s]", p.Descriptors), &page))
				if len(page) != p.Count || p.Count > limit || p.Count == 0 || page[p.Count-1].Digest != p.Last {
					t.Fatalf("%q by %d: page %+v", kind, limit, p)
				}
				for _, e := range page {
					got = append(got, e.Digest)
				}
				after, more = p.Last, p.More
			}
			equal(t, fmt.Sprintf("%q by %d", kind, limit), got, want)
		}
	}
	for what, repoID := range map[string]int64{"elsewhere": other.ID, "of the empty digest": r.ID} {
		s := subject
		if repoID == r.ID {
			s = oci.Digest{}
		}
		p := get[metadb.ReferrerPage](t)(db.Referrers(ctx, repoID, s, "", oci.Digest{}, 10))
		if p.Count != 0 || len(p.Descriptors) != 0 || p.More {
			t.Fatalf("referrers %s: %+v", what, p)
		}
	}
}

func testTags(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "x/a")
	one, two := putTagged(t, db, r.ID, "v1", "one"), putTagged(t, db, r.ID, "v2", "two")
	update(t, db, func(tx *metadb.Tx) error {
		for _, step := range []struct {
			name       string
			to, before oci.Digest
		}{{"latest", one, oci.Digest{}}, {"latest", two, one}, {"latest", two, two}} {
			before, err := tx.PutTag(r.ID, step.name, step.to, metadb.Origin{})
			must(t, err)
			equal(t, "before", before, step.before)
		}
		return nil
	})
	tag := get[metadb.Tag](t)(db.Tag(ctx, r.ID, "latest"))
	if tag.Digest != two || tag.RepoID != r.ID || tag.Name != "latest" || tag.UpdatedAt.IsZero() {
		t.Fatalf("tag: %+v", tag)
	}
	equal(t, "newest", get[[]metadb.Tag](t)(db.NewestTags(ctx, r.ID, 1))[0].Name, "latest")
	equal(t, "tags of two", get[[]string](t)(db.TagsOf(ctx, r.ID, two)), []string{"latest", "v2"})
	update(t, db, func(tx *metadb.Tx) error {
		before, existed, err := tx.DeleteTag(r.ID, "latest", metadb.Origin{})
		equal(t, "deleted", []any{before, existed, err}, []any{two, true, nil})
		before, existed, err = tx.DeleteTag(r.ID, "latest", metadb.Origin{})
		equal(t, "deleted twice", []any{before, existed, err}, []any{oci.Digest{}, false, nil})
		return nil
	})
	_, err := db.Tag(ctx, r.ID, "latest")
	wantErr(t, "deleted tag", err, metadb.ErrNotFound)
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.PutTag(r.ID, "v3", digestOf("nothing"), metadb.Origin{})
		return err
	}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("tag of no manifest: %v", err)
	}
}

func testTagsProtect(t *testing.T, db *metadb.DB) {
	r := repository(t, db, "x/a")
	d := putTagged(t, db, r.ID, "v1", "one")
	putTagged(t, db, r.ID, "V1", "one")
	remove := func(tx *metadb.Tx) error { _, err := tx.DeleteManifest(r.ID, d); return err }
	if err := db.Update(t.Context(), remove); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a tagged manifest was deleted: %v", err)
	}
	update(t, db, func(tx *metadb.Tx) error {
		equal(t, "tags", get[[]string](t)(tx.DeleteTagsOf(r.ID, d, metadb.Origin{})), []string{"V1", "v1"})
		equal(t, "tags again", get[[]string](t)(tx.DeleteTagsOf(r.ID, d, metadb.Origin{})), []string(nil))
		return remove(tx)
	})
}
