package registry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/registry"
)

// Every size by every way is readable, leaves nothing of its upload, and lies where its size says.
func TestCommit(t *testing.T) {
	onBoth(t, func(p *plant) {
		name := named(p, "library/app")
		for i, size := range []int{0, 1, inlineLimit - 1, inlineLimit, inlineLimit + 1, 70_000, 1 << 20} {
			for _, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
				for how, push := range ways {
					data := blobtest.Random(byte(i), size)
					if size > 0 {
						data[0] = byte(len(how)) // its own content, not one that is there already
					}
					d := oci.FromBytes(a, data)
					what := fmt.Sprintf("%d bytes %s, %s", size, how, a)
					for range 2 { // the second time it is there
						if err := push(p.ctx, p.Service, name, d, data); err != nil {
							p.Errorf("%s: %v", what, err)
						}
					}
					p.wantBlob(name, d, data)
					if row, err := p.db.BlobAnywhere(p.ctx, d); err != nil || row.Inline != (size <= inlineLimit) || row.Size != int64(size) {
						p.Errorf("%s: row %+v, %v", what, row, err)
					}
				}
			}
		}
		p.wantClean()
	})
}

// Content that is not what its digest says is refused by every way, and gone.
func TestMismatch(t *testing.T) {
	p := newPlant(t, "")
	name := named(t, "library/app")
	for _, size := range []int{1, 500, 100_000} {
		for how, push := range ways {
			data := blobtest.Random(1, size)
			said := oci.FromBytes(oci.SHA256, append([]byte("not"), data...))
			wantFault(t, how, push(p.ctx, p.Service, name, said, data), fault.Invalid, fault.DigestInvalid)
			p.wantNoBlob(name, said)
			p.wantNoBlob(name, oci.FromBytes(oci.SHA256, data))
		}
	}
	p.wantClean()
	if names := p.files("blobs"); len(names) > 0 {
		t.Errorf("files %q in the store", names)
	}
}

// manifestOf is an image manifest of a size, with nothing in it that must be pushed first.
func manifestOf(size int) registry.PutManifest {
	pad := strings.Repeat("x", size)
	return registry.PutManifest{MediaType: "application/vnd.oci.image.index.v1+json", Body: []byte(
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"pad":"` + pad + `"}}`)}
}

// A manifest whose bytes were pushed as a blob before is as readable as any other, and the other way round.
func TestManifestThatIsABlob(t *testing.T) {
	p := newPlant(t, "")
	name := named(t, "library/app")
	for i, size := range []int{10, 5000} {
		for _, blobFirst := range []bool{true, false} {
			m := manifestOf(size + i*10)
			if blobFirst {
				m.Body = append(m.Body, ' ')
			}
			d := oci.FromBytes(oci.SHA256, m.Body)
			m.Reference = ref.Reference{Tag: "latest"}
			push := []func() error{
				func() error { return p.PutBlob(p.ctx, name, d, all(m.Body)) },
				func() error { _, err := p.PutManifest(p.ctx, name, m); return err },
			}
			if !blobFirst {
				push[0], push[1] = push[1], push[0]
			}
			for _, f := range push {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				got, err := p.Manifest(p.ctx, name, m.Reference)
				if err != nil || got.Digest != d || string(got.Body) != string(m.Body) {
					t.Errorf("%d bytes, blob first: %t: manifest %+v, %v", len(m.Body), blobFirst, got, err)
				}
				p.wantBlob(name, d, m.Body)
				p.restart()
			}
		}
	}
}

// A blob whose file is gone, or short, is no clean answer, and a push of it, in whatever way and to whatever repository,
// repairs it for all.
func TestRepair(t *testing.T) {
	p := newPlant(t, "")
	name, other := named(t, "library/app"), named(t, "library/other")
	for _, size := range []int{100, 100_000} { // the small one was put there while the limit was another
		for how, push := range ways {
			data := append(blobtest.Random(2, size), how...)
			d := oci.FromBytes(oci.SHA256, data)
			p.SetLimits(registry.Limits{Inline: -1})
			if err := p.PutBlob(p.ctx, name, d, all(data)); err != nil {
				t.Fatal(err)
			}
			if ok, err := p.Mount(p.ctx, other, d, name); !ok || err != nil {
				t.Fatal(ok, err)
			}
			p.wantBlob(name, d, data)
			p.wantBlob(other, d, data)
			p.SetLimits(registry.Limits{Inline: inlineLimit})
			file := filepath.Join(p.dir, "store", "blobs", "sha256", d.Hex()[:2], d.Hex())
			for what, damage := range map[string]func() error{
				"gone":  func() error { return os.Remove(file) },
				"short": func() error { return os.Truncate(file, 10) },
			} {
				if err := damage(); err != nil {
					break // it was repaired into the database
				}
				if row, err := p.db.BlobAnywhere(p.ctx, d); err != nil || row.Inline {
					break
				}
				if _, err := p.read(p.Service, name, d); err == nil {
					t.Errorf("%s %s file: clean answer", how, what)
				}
				if err := push(p.ctx, p.Service, name, d, data); err != nil {
					t.Error(err)
				}
				p.wantBlob(name, d, data)
				p.wantBlob(other, d, data)
			}
		}
	}
}

// While the disk is nearly full what needs room is refused, and everything else works.
func TestFull(t *testing.T) {
	p := newPlant(t, "")
	name, other := named(t, "library/app"), named(t, "library/other")
	here, large := []byte("small"), blobtest.Random(3, 100_000)
	d := oci.FromBytes(oci.SHA256, here)
	for _, data := range [][]byte{here, large} {
		if err := p.PutBlob(p.ctx, name, oci.FromBytes(oci.SHA256, data), all(data)); err != nil {
			t.Fatal(err)
		}
	}
	m := manifestOf(10)
	m.Reference = ref.Reference{Tag: "v1"}
	pushed, err := p.PutManifest(p.ctx, name, m)
	if err != nil {
		t.Fatal(err)
	}
	rest := blobtest.Random(4, 100_000)
	complete, begun, empty := p.start(name, oci.SHA256), p.start(name, oci.SHA256), p.start(name, oci.SHA256)
	p.append(name, complete, all(rest), len(rest))
	p.append(name, begun, all(rest[:10_000]), 10_000)

	p.full.Store(true)
	fresh := []byte("fresh")
	_, start := p.StartUpload(p.ctx, name, oci.SHA256)
	_, chunk := p.Append(p.ctx, name, begun, all(rest[10_000:]))
	_, manifest := p.PutManifest(p.ctx, name, registry.PutManifest{Reference: ref.Reference{Tag: "v2"}, MediaType: m.MediaType, Body: manifestOf(20).Body})
	for what, err := range map[string]error{
		"start": start, "chunk": chunk, "manifest": manifest,
		"blob":   p.PutBlob(p.ctx, name, oci.FromBytes(oci.SHA256, fresh), all(fresh)),
		"commit": p.Commit(p.ctx, name, empty, oci.FromBytes(oci.SHA256, fresh), all(fresh)),
	} {
		wantFault(t, what, err, fault.Full, fault.StorageFull)
	}
	p.wantNoBlob(name, oci.FromBytes(oci.SHA256, fresh))
	if n := p.uploadBytes(); n != int64(len(rest)) {
		t.Errorf("%d bytes are held for an upload of %d", n, len(rest))
	}

	p.wantBlob(name, d, here)
	m.Reference.Tag = "v3"
	_, retag := p.PutManifest(p.ctx, name, m)
	_, mount := p.Mount(p.ctx, other, d, name)
	for what, err := range map[string]error{
		"last step of what has come": p.Commit(p.ctx, name, complete, oci.FromBytes(oci.SHA256, rest), all(nil)),
		"tag of what is there":       retag, "mount": mount,
		"delete of a tag":      second(p.DeleteManifest(p.ctx, name, ref.Reference{Tag: "v1"})),
		"delete of a manifest": second(p.DeleteManifest(p.ctx, name, ref.Reference{Digest: pushed.Digest})),
		"delete of a blob":     p.DeleteBlob(p.ctx, name, d),
		"sweep":                p.Sweep(p.ctx),
	} {
		if err != nil {
			t.Errorf("%s on a full disk: %v", what, err)
		}
	}
	p.wantBlob(name, oci.FromBytes(oci.SHA256, rest), rest)

	p.full.Store(false)
	if err := p.PutBlob(p.ctx, name, oci.FromBytes(oci.SHA256, fresh), all(fresh)); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
	p.wantClean()
}
