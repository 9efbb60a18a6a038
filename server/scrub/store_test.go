package scrub_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/scrub"
)

// A store that has nothing of what it should have is not mounted, most likely: nothing is put aside. Some blobs that are
// gone while others are there are missing.
func TestStoreThatIsAway(t *testing.T) {
	h := newHouse(t)
	var layers []oci.Digest
	for i := range 60 {
		layers = append(layers, h.put(t, "team/app", random(i, 40<<10)))
	}
	away := h.dir + "-away"
	for _, alg := range []string{"sha256"} {
		must(t, os.Rename(filepath.Join(h.dir, "blobs", alg), away))
		must(t, os.Mkdir(filepath.Join(h.dir, "blobs", alg), 0o750))
	}
	h2 := h.reopen(t)
	_, err := h2.scrub.Check(admin(), scrub.Ask{}, nil)
	if !fault.Is(err, fault.Unavailable) || len(h.findings(t)) != 0 {
		t.Errorf("an empty store: %v, %d put aside", err, len(h.findings(t)))
	}
	must(t, os.Remove(filepath.Join(h.dir, "blobs", "sha256")))
	must(t, os.Rename(away, filepath.Join(h.dir, "blobs", "sha256")))
	h2 = h.reopen(t)
	for _, d := range layers[:50] {
		must(t, os.Remove(h.file(d)))
	}
	if r := h2.check(t, scrub.Ask{}); r.Missing != 50 || r.Damaged != 0 {
		t.Errorf("fifty of sixty are gone: %s", r.String())
	}
}

// A store that fails is not damage: what could not be looked at is counted, and is looked at the next time.
func TestStoreThatFails(t *testing.T) {
	var sick atomic.Bool
	h := newHouse(t, func(o *options) {
		o.wrap = func(s blob.Store) blob.Store { return &failing{s, &sick} }
	})
	for i := range 3 {
		h.put(t, "team/app", random(i, 40<<10))
	}
	sick.Store(true)
	r := h.check(t, scrub.Ask{})
	if r.Unchecked != 3 || r.Damaged+r.Missing != 0 || r.LastUnchecked == "" || len(h.findings(t)) != 0 {
		t.Errorf("a store that fails: %s", r.String())
	}
	sick.Store(false)
	if r := h.check(t, scrub.Ask{}); r.Unchecked != 0 || !r.Clean() {
		t.Errorf("when it is well again: %s", r.String())
	}
}

// failing is a store that cannot be reached for a while.
type failing struct {
	blob.Store
	sick *atomic.Bool
}

func (f *failing) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if f.sick.Load() {
		return nil, 0, fault.New(fault.Unavailable, fault.UnavailableReason, "the store is away").Because(errors.New("connection refused"))
	}
	return f.Store.Open(ctx, d)
}

// Content without a row is found when it is old, and removed when that is asked for; nothing else is.
func TestOrphans(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		img := newImage(1, "team/app", "v1")
		h.push(t, img)
		place := func(content []byte, age time.Duration) oci.Digest {
			d := oci.FromBytes(oci.SHA256, content)
			must(t, os.MkdirAll(filepath.Dir(h.file(d)), 0o750))
			must(t, os.WriteFile(h.file(d), content, 0o600))
			then := time.Now().Add(-age)
			must(t, os.Chtimes(h.file(d), then, then))
			return d
		}
		old, young := place(random(50, 5000), 48*time.Hour), place(random(51, 5000), time.Hour)
		committing := place(random(52, 5000), 48*time.Hour)
		must(t, h.db.Update(t.Context(), func(tx *metadb.Tx) error {
			if err := tx.CreateUpload(metadb.Upload{ID: "upload-1", Repository: "team/app", Algorithm: oci.SHA256}); err != nil {
				return err
			}
			return tx.SetCommitting("upload-1", committing)
		}))
		_, layer, _ := img.digests()
		then := time.Now().Add(-48 * time.Hour)
		must(t, os.Chtimes(h.file(layer), then, then))

		r := h.check(t, scrub.Ask{Orphans: true})
		if r.Orphans != 1 || r.OrphanBytes != 5000 || len(r.OrphansNamed) != 1 || r.OrphansNamed[0] != old.String() || r.OrphansGone != 0 || !r.Clean() {
			t.Errorf("without removing: %s %v", r.String(), r.OrphansNamed)
		}
		if r := h.check(t, scrub.Ask{Orphans: true, Remove: true}); r.OrphansGone != 1 {
			t.Errorf("with removing: %s", r.String())
		}
		for d, want := range map[oci.Digest]bool{old: false, young: true, committing: true, layer: true} {
			if _, err := os.Stat(h.file(d)); (err == nil) != want {
				t.Errorf("%s: %v, want it there: %v", d, err, want)
			}
		}
		if got := h.put(t, "team/app", random(50, 5000)); got != old {
			t.Error("another digest")
		}
		if r := h.check(t, scrub.Ask{Orphans: true}); r.Orphans != 0 || !r.Clean() {
			t.Errorf("in the end: %s", r.String())
		}
	})
}

// Other copies repair what they have, in the layouts of berth and of distribution, and a wrong copy repairs nothing.
func TestRepairFrom(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		var images []*image
		for i := range 4 {
			images = append(images, newImage(i, fmt.Sprintf("team/app%d", i), "v1"))
			h.push(t, images[i])
		}
		copies := t.TempDir()
		put := func(path string, content []byte) {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(copies, path)), 0o750))
			must(t, os.WriteFile(filepath.Join(copies, path), content, 0o600))
		}
		for i, img := range images {
			config, layer, manifest := img.digests()
			h.flip(t, layer, 3)
			h.spoil(t, config, true)
			h.spoil(t, manifest, false)
			for d, content := range map[oci.Digest][]byte{config: img.config, layer: img.layer, manifest: img.manifest} {
				hex := d.Hex()
				switch i {
				case 0:
					put("blobs/sha256/"+hex[:2]+"/"+hex, content)
				case 1:
					put("docker/registry/v2/blobs/sha256/"+hex[:2]+"/"+hex+"/data", content)
				case 2:
					put("blobs/sha256/"+hex[:2]+"/"+hex, append([]byte{1}, content[1:]...))
				}
			}
		}
		r := h.check(t, scrub.Ask{RepairFrom: copies})
		if r.Repaired != 6 || r.Damaged+r.Missing != 6 {
			t.Errorf("repaired from copies: %s", r.String())
		}
		for i, img := range images {
			if err := h.pull(t, img); (err == nil) != (i < 2) {
				t.Errorf("image %d: %v", i, err)
			}
		}
		uploads, err := h.db.ExpiredUploads(t.Context(), time.Now().Add(time.Hour), metadb.Upload{}, 10)
		if err != nil || len(uploads) != 0 {
			t.Errorf("uploads that repairs have left: %v, %v", uploads, err)
		}
		if _, err := h.scrub.Check(admin(), scrub.Ask{RepairFrom: t.TempDir()}, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("repairs from an empty directory: %v", err)
		}
	})
}

// Rows that refer to what is not there are named, each with what it is.
func TestReferences(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		whole, torn := newImage(1, "team/whole", "v1"), newImage(2, "team/torn", "v1")
		h.push(t, whole)
		h.push(t, torn)
		_, layer, _ := torn.digests()
		must(t, h.db.Update(t.Context(), func(tx *metadb.Tx) error {
			_, err := tx.UnlinkBlob(h.repoID(t, "team/torn"), layer)
			return err
		}))
		r := h.check(t, scrub.Ask{References: true})
		if r.Broken != 1 || len(r.References) != 1 || r.Clean() {
			t.Fatalf("%s %v", r.String(), r.References)
		}
		if got := r.References[0]; got.Kind != "blob" || got.Repository != "team/torn" || got.Digest != layer.String() {
			t.Errorf("%+v", got)
		}
		h.push(t, torn)
		if r := h.check(t, scrub.Ask{References: true}); !r.Clean() {
			t.Errorf("after a push: %s", r.String())
		}
	})
}

// What one replica puts aside, the others do not vouch for any more, although they remember it.
func TestReplicasForget(t *testing.T) {
	if testing.Short() {
		t.Skip("PostgreSQL takes seconds to start")
	}
	dsn := metadbtest.Postgres(t)
	one := newHouse(t, func(o *options) { o.database = dsn })
	two := one.reopen(t)
	img := newImage(1, "team/app", "v1")
	one.push(t, img)
	must(t, two.pull(t, img))
	config, layer, manifest := img.digests()
	one.flip(t, layer, 9)
	one.spoil(t, config, true)
	one.spoil(t, manifest, true)
	must(t, two.pullMemory(t, img)) // it still believes
	if r := one.check(t, scrub.Ask{}); r.Damaged != 3 {
		t.Fatal(r.String())
	}
	deadline := time.Now().Add(metadb.TrustFor + time.Second)
	for {
		_, a := two.StatBlob(admin(), name(t, img.repo), layer)
		_, b := two.StatBlob(admin(), name(t, img.repo), config)
		_, c := two.Manifest(admin(), name(t, img.repo), byDigest(manifest))
		if a != nil && b != nil && c != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other replica still vouches: %v, %v, %v", a, b, c)
		}
		time.Sleep(20 * time.Millisecond)
	}
	two.push(t, img)
	must(t, one.pull(t, img))
}
