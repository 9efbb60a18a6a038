package metadbtest

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// testDamage puts blobs aside and has them back in each way that there is.
func testDamage(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	a, b := repository(t, db, "x/a"), repository(t, db, "x/b")
	file, small := digestOf("file"), digestOf("small")
	lease := time.Now().Add(time.Hour)
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: file, Size: 4, LeaseUntil: lease}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(a.ID, file)
		return err
	})
	must(t, db.KeepBlob(ctx, a.ID, metadb.Blob{Digest: small, Size: 5, Inline: true, LeaseUntil: lease}, []byte("wrong")))
	quarantine := func(d oci.Digest) (repos []int64, done bool) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) {
			repos, done, err = tx.Quarantine(metadb.Damage{Digest: d, FoundBy: "test", Missing: d == file, Detail: "it rotted"})
			return err
		})
		return repos, done
	}
	if _, done := quarantine(digestOf("nothing")); done {
		t.Error("what is not there was put aside")
	}
	for _, d := range []oci.Digest{file, small} {
		if repos, done := quarantine(d); !done || !slices.Equal(repos, []int64{a.ID}) {
			t.Fatalf("%s was put aside: %v, in %v", d, done, repos)
		}
		if _, done := quarantine(d); done {
			t.Errorf("%s was put aside twice", d)
		}
		got := get[metadb.Damage](t)(db.Damage(ctx, d))
		if got.Missing != (d == file) || got.Detail != "it rotted" || got.FoundBy != "test" || got.FoundAt.IsZero() {
			t.Errorf("damage: %+v", got)
		}
		equal(t, "state", get[metadb.Blob](t)(db.Blob(ctx, a.ID, d)).State, metadb.Damaged)
		if repos := get[[]metadb.Repository](t)(db.BlobRepositories(ctx, d, 10)); len(repos) != 0 {
			t.Errorf("it can be mounted from %v", repos)
		}
		err := db.KeepLink(ctx, b.ID, d, lease, db.Mark())
		if err == nil { // the log of the intake is believed, and the row is not made
			_, err = db.Blob(ctx, b.ID, d)
		}
		wantErr(t, "a link to a damaged blob", err, metadb.ErrNotFound)
		update(t, db, func(tx *metadb.Tx) error {
			_, err := tx.LinkBlob(b.ID, d)
			wantErr(t, "link", err, metadb.ErrNotFound)
			missing, err := tx.MissingBlobs(a.ID, []oci.Digest{d})
			equal(t, "missing", missing, []oci.Digest{d})
			return err
		})
	}
	all := get[[]metadb.Damage](t)(db.Damages(ctx, oci.Digest{}, 10))
	if len(all) != 2 || all[0].Digest.String() > all[1].Digest.String() {
		t.Errorf("all damage: %+v", all)
	}
	equal(t, "behind the last", len(get[[]metadb.Damage](t)(db.Damages(ctx, all[1].Digest, 10))), 0)
	damaged, gone, err := db.CountDamage(ctx)
	if err != nil || damaged != 2 || gone != 1 {
		t.Errorf("%d damaged, %d gone, %v", damaged, gone, err)
	}

	homes := get[[]metadb.Home](t)(db.Homes(ctx, file, 10))
	equal(t, "homes", homes, []metadb.Home{{Repository: "x/a"}})
	equal(t, "homes of nothing", len(get[[]metadb.Home](t)(db.Homes(ctx, digestOf("nothing"), 10))), 0)

	// A push repairs, by a transaction and by the log of small blobs, whichever repository it is to.
	must(t, db.KeepBlob(ctx, b.ID, metadb.Blob{Digest: small, Size: 5, Inline: true, LeaseUntil: lease}, []byte("small")))
	equal(t, "content", string(get[[]byte](t)(db.Content(ctx, small))), "small")
	update(t, db, func(tx *metadb.Tx) error {
		return tx.PutBlob(metadb.Blob{Digest: file, Size: 4, LeaseUntil: lease}, []byte("file"))
	})
	for _, d := range []oci.Digest{file, small} {
		_, err := db.Damage(ctx, d)
		wantErr(t, "damage of what was repaired", err, metadb.ErrNotFound)
		equal(t, "state", get[metadb.Blob](t)(db.Blob(ctx, a.ID, d)).State, metadb.Live)
		if _, done := quarantine(d); done {
			t.Errorf("%s is right and was put aside", d)
		}
	}
	events := map[string]int{}
	for _, e := range get[[]event.Event](t)(db.Events(ctx, event.Cursor{}, 100)) {
		events[e.Kind]++
	}
	if events[event.KindBlobDamaged] != 2 || events[event.KindBlobRepaired] != 2 {
		t.Errorf("events: %v", events)
	}

	// What was right all the time comes back as it is.
	other := digestOf("other")
	update(t, db, func(tx *metadb.Tx) error {
		return tx.PutBlob(metadb.Blob{Digest: other, Size: 5, LeaseUntil: lease}, nil)
	})
	quarantine(other)
	for _, want := range []bool{true, false} {
		update(t, db, func(tx *metadb.Tx) error {
			done, err := tx.Release(other)
			equal(t, "released", done, want)
			return err
		})
	}
	equal(t, "state", get[metadb.Blob](t)(db.BlobAnywhere(ctx, other)).State, metadb.Live)
}

// testNeeds follows what needs a blob up to the tags.
func testNeeds(t *testing.T, db *metadb.DB) {
	a, b := repository(t, db, "x/a"), repository(t, db, "x/b")
	layer := digestOf("layer")
	put := func(repo int64, content string, kind metadb.EdgeKind, child oci.Digest, tags ...string) oci.Digest {
		d := digestOf("%s", content)
		update(t, db, func(tx *metadb.Tx) error {
			_, err := putManifest(tx, metadb.Manifest{RepoID: repo, Digest: d, MediaType: "m"}, content, metadb.Edge{Child: child, Kind: kind})
			for _, name := range tags {
				if err == nil {
					_, err = tx.PutTag(repo, name, d, metadb.Origin{})
				}
			}
			return err
		})
		return d
	}
	image := put(a.ID, "image", metadb.LayerEdge, layer)
	index := put(a.ID, "index", metadb.ManifestEdge, image, "v1", "latest")
	put(a.ID, "signature", metadb.SubjectEdge, image, "sig")
	bare := put(b.ID, "bare", metadb.LayerEdge, layer)
	want := []metadb.Need{
		{Repository: "x/a", Tag: "latest", Manifest: index}, {Repository: "x/a", Tag: "v1", Manifest: index}, {Repository: "x/b", Manifest: bare},
	}
	equal(t, "needs of the layer", get[[]metadb.Need](t)(db.Needs(t.Context(), layer, 10)), want)
	equal(t, "needs of the image", get[[]metadb.Need](t)(db.Needs(t.Context(), image, 10)), want[:2])
	equal(t, "needs of the index", get[[]metadb.Need](t)(db.Needs(t.Context(), index, 10)), want[:2])
	equal(t, "two of them", get[[]metadb.Need](t)(db.Needs(t.Context(), layer, 2)), want[:2])
	equal(t, "needs of nothing", len(get[[]metadb.Need](t)(db.Needs(t.Context(), digestOf("nothing"), 10))), 0)
}
