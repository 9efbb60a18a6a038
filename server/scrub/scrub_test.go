package scrub_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// Ten images, each damaged in its own way: nothing wrong is answered as right, one check finds all of it, HEAD does not
// vouch for any, and an ordinary push repairs every one.
func TestRotIsFoundAndRepaired(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database, func(o *options) { o.registry.Verify = registry.VerifyNever })
		var images []*image
		for i := range 12 {
			images = append(images, newImage(i, fmt.Sprintf("team/app%d", i), "v1"))
			h.push(t, images[i])
		}
		want := map[oci.Digest]bool{} // and whether it is missing
		for i, img := range images[:10] {
			config, layer, manifest := img.digests()
			switch i {
			case 0, 1, 2:
				h.flip(t, layer, []int64{0, 100 << 10, 200<<10 - 1}[i])
				want[layer] = false
			case 3:
				must(t, os.Truncate(h.file(layer), 1000))
				want[layer] = false
			case 4:
				must(t, os.Remove(h.file(layer)))
				want[layer] = true
			case 5:
				must(t, os.WriteFile(h.file(layer), make([]byte, 300<<10), 0o600))
				want[layer] = false
			case 6, 7:
				h.spoil(t, manifest, i == 6)
				want[manifest] = i == 7
			case 8, 9:
				h.spoil(t, config, i == 8)
				want[config] = i == 9
			}
		}
		r := h.check(t, scrub.Ask{})
		if r.Damaged != 7 || r.Missing != 3 || r.Blobs != 36 || r.Unchecked != 0 || r.Total != 36 {
			t.Errorf("the check says: %s (of %d)", r.String(), r.Total)
		}
		found := h.findings(t)
		for d, missing := range want {
			f, ok := found[d]
			if !ok || f.Missing != missing || f.FoundBy != "fsck" || f.Detail == "" {
				t.Errorf("%s: found %v: %+v; want missing %v", d, ok, f, missing)
			}
		}
		if len(found) != len(want) {
			t.Errorf("%d were found, want %d", len(found), len(want))
		}
		for i, img := range images {
			config, layer, manifest := img.digests()
			for _, d := range []oci.Digest{config, layer, manifest} {
				if f, ok := found[d]; ok && tagsOf(f) != img.repo+":v1" {
					t.Errorf("%s is said to be needed by %q, want %s:v1", d, tagsOf(f), img.repo)
				}
			}
			_, errConfig := h.StatBlob(admin(), name(t, img.repo), config)
			_, errLayer := h.StatBlob(admin(), name(t, img.repo), layer)
			_, errManifest := h.Manifest(admin(), name(t, img.repo), ref.Reference{Digest: manifest})
			bad := 0
			for d, err := range map[oci.Digest]error{config: errConfig, layer: errLayer, manifest: errManifest} {
				if _, is := want[d]; is != fault.Is(err, fault.NotFound) {
					t.Errorf("image %d, %s: %v", i, d, err)
				}
				if err != nil {
					bad++
				}
			}
			if (bad > 0) != (i < 10) {
				t.Errorf("image %d: %d of its blobs are refused", i, bad)
			}
			if err := h.pull(t, img); (err != nil) != (i < 10) {
				t.Errorf("pull of image %d: %v", i, err)
			}
		}
		for i, img := range images {
			h.push(t, img)
			if err := h.pull(t, img); err != nil {
				t.Errorf("image %d after it was pushed again: %v", i, err)
			}
		}
		if r := h.check(t, scrub.Ask{}); !r.Clean() || r.Released != 0 || r.Blobs != 36 || len(h.findings(t)) != 0 {
			t.Errorf("after all were pushed again the check says: %s", r.String())
		}
		h.wantEvents(t, map[string]int{"blob.damaged": 10, "blob.repaired": 10})
	})
}

// A mount of a damaged blob is declined, and a manifest that needs it is refused: so clients upload it.
func TestDamagedIsAskedFor(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		img := newImage(1, "team/app", "v1")
		h.push(t, img)
		_, layer, _ := img.digests()
		h.flip(t, layer, 5)
		h.check(t, scrub.Ask{})
		for _, from := range []ref.Name{name(t, "team/app"), {}} {
			if ok, err := h.Mount(admin(), name(t, "team/other"), layer, from); ok || err != nil {
				t.Errorf("a damaged blob was mounted from %q: %v, %v", from, ok, err)
			}
		}
		_, err := h.PutManifest(admin(), name(t, "team/app"), registry.PutManifest{
			Reference: ref.Reference{Tag: "v2"}, MediaType: "application/vnd.oci.image.manifest.v1+json", Body: img.manifest,
		})
		if !fault.Has(err, fault.ManifestBlobUnknown) {
			t.Errorf("a manifest that needs a damaged blob: %v", err)
		}
		h.put(t, "team/other", img.layer) // through another repository
		if err := h.pull(t, img); err != nil {
			t.Errorf("after a push of the blob elsewhere: %v", err)
		}
	})
}

// What a pull finds is put aside at once: the next HEAD does not vouch for it. Manifests and small blobs at every read
// from storage, blobs of the store as the setting says.
func TestPullFindsRot(t *testing.T) {
	for what, verify := range map[string]registry.Verify{"always": registry.VerifyAlways, "never": registry.VerifyNever} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t, func(o *options) { o.registry.Verify = verify })
			img := newImage(1, "team/app", "v1")
			h.push(t, img)
			n := name(t, img.repo)
			config, layer, manifest := img.digests()
			h.flip(t, layer, 150<<10)
			got, err := h.read(n, layer)
			_, stat := h.StatBlob(admin(), n, layer)
			if verify == registry.VerifyAlways {
				if err == nil || len(got) >= len(img.layer) || !fault.Has(stat, fault.BlobUnknown) {
					t.Errorf("flipped: %d of %d bytes, %v, then HEAD %v", len(got), len(img.layer), err, stat)
				}
			} else if err != nil || stat != nil {
				t.Errorf("nobody verifies, and yet: %v, %v", err, stat)
			}
			h.put(t, img.repo, img.layer)
			must(t, os.Truncate(h.file(layer), 100))
			if got, err := h.read(n, layer); !fault.Has(err, fault.BlobUnknown) {
				t.Errorf("a short file: %d bytes, %v", len(got), err)
			}
			if _, err := h.StatBlob(admin(), n, layer); !fault.Has(err, fault.BlobUnknown) {
				t.Errorf("HEAD after it was read: %v", err)
			}
			h.push(t, img)
			for _, d := range []oci.Digest{config, manifest} {
				h.spoil(t, d, true)
				h.Forget(d, h.repoID(t, img.repo)) // as a restart does
			}
			if err := h.pull(t, img); !fault.Has(err, fault.ManifestUnknown) {
				t.Errorf("a spoiled manifest: %v", err)
			}
			if _, err := h.read(n, config); !fault.Has(err, fault.BlobUnknown) {
				t.Errorf("a spoiled config: %v", err)
			}
			if len(h.findings(t)) != 2 {
				t.Errorf("put aside: %v", h.findings(t))
			}
			h.push(t, img)
			must(t, h.pull(t, img))
		})
	}
}

// Bytes that come back by themselves, as from a disk that was mended, are used again after a check.
func TestReleased(t *testing.T) {
	h := newHouse(t)
	img := newImage(1, "team/app", "v1")
	h.push(t, img)
	_, layer, _ := img.digests()
	h.flip(t, layer, 7)
	if r := h.check(t, scrub.Ask{}); r.Damaged != 1 {
		t.Fatal(r.String())
	}
	h.flip(t, layer, 7)
	if r := h.check(t, scrub.Ask{}); r.Released != 1 || !r.Clean() {
		t.Error(r.String())
	}
	must(t, h.pull(t, img))
	h.wantEvents(t, map[string]int{"blob.damaged": 1, "blob.repaired": 1})
}

// Who does not administer the registry is told nothing and can begin nothing.
func TestAsksWho(t *testing.T) {
	h := newHouse(t)
	ctx := identity.With(t.Context(), identity.Principal{Kind: identity.User, Name: "alice"})
	calls := map[string]func() error{
		"Damaged": func() error { _, err := h.scrub.Damaged(ctx, oci.Digest{}, 1); return err },
		"Start":   func() error { _, err := h.scrub.Start(ctx, scrub.Ask{}); return err },
		"Report":  func() error { _, err := h.scrub.Report(ctx, 0); return err },
		"Check":   func() error { _, err := h.scrub.Check(ctx, scrub.Ask{}, nil); return err },
	}
	for what, call := range calls {
		if err := call(); !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) repoID(t testing.TB, name string) int64 {
	t.Helper()
	r, err := h.db.Repository(t.Context(), name)
	must(t, err)
	return r.ID
}
