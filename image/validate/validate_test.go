package validate_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/validate"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// memory is a place in memory that can be damaged.
type memory struct {
	manifests map[oci.Digest][]byte
	types     map[oci.Digest]string
	blobs     map[oci.Digest][]byte
}

func newMemory() *memory {
	return &memory{map[oci.Digest][]byte{}, map[oci.Digest]string{}, map[oci.Digest][]byte{}}
}

func (m *memory) Manifest(_ context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	b, ok := m.manifests[at.Digest]
	if !ok {
		return oci.Descriptor{}, nil, fault.New(fault.NotFound, fault.ManifestUnknown, "no manifest %s", at)
	}
	return oci.Descriptor{MediaType: m.types[at.Digest], Digest: at.Digest, Size: int64(len(b))}, b, nil
}

func (m *memory) Blob(_ context.Context, d oci.Descriptor, _ int64) (io.ReadCloser, error) {
	b, ok := m.blobs[d.Digest]
	if !ok {
		return nil, fault.New(fault.NotFound, fault.BlobUnknown, "no blob %s", d.Digest)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) HasBlob(_ context.Context, d oci.Descriptor) (bool, error) {
	_, ok := m.blobs[d.Digest]
	return ok, nil
}

func (m *memory) PutBlob(ctx context.Context, d oci.Descriptor, _ []ref.Name, open remote.Open) (remote.Outcome, error) {
	r, err := open(ctx, 0)
	if err != nil {
		return 0, err
	}
	m.blobs[d.Digest], err = io.ReadAll(r)
	return remote.Sent, err
}

func (m *memory) PutManifest(_ context.Context, _ ref.Reference, d oci.Descriptor, body []byte) error {
	m.manifests[d.Digest], m.types[d.Digest] = body, d.MediaType
	return nil
}

// index has one image for linux/amd64, whose configuration says said.
func index(t *testing.T, m *memory, said v1.Platform) *view.Node {
	t.Helper()
	img, err := random.Image(256, 3)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = said.OS, said.Architecture
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	d, err := view.Push(t.Context(), m, ref.Reference{}, idx, view.Options{Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	n, err := view.Open(t.Context(), m, ref.Reference{Digest: d.Digest})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCheck(t *testing.T) {
	amd64 := v1.Platform{OS: "linux", Architecture: "amd64"}
	for name, c := range map[string]struct {
		said   v1.Platform
		damage func(m *memory, img *oci.Manifest)
		fast   bool
		says   string
	}{
		"whole":          {said: amd64},
		"whole, fast":    {said: amd64, fast: true},
		"layer missing":  {said: amd64, damage: func(m *memory, i *oci.Manifest) { delete(m.blobs, i.Layers[1].Digest) }, says: "no blob"},
		"missing, fast":  {said: amd64, fast: true, damage: func(m *memory, i *oci.Manifest) { delete(m.blobs, i.Layers[1].Digest) }, says: "is not there"},
		"config missing": {said: amd64, damage: func(m *memory, i *oci.Manifest) { delete(m.blobs, i.Config.Digest) }, says: "configuration"},
		"layer swapped":  {said: amd64, damage: func(m *memory, i *oci.Manifest) { m.blobs[i.Layers[1].Digest] = m.blobs[i.Layers[0].Digest] }, says: "has the digest"},
		"layer cut": {said: amd64, damage: func(m *memory, i *oci.Manifest) {
			b := m.blobs[i.Layers[1].Digest]
			m.blobs[i.Layers[1].Digest] = b[:len(b)/2]
		}, says: "layer 2"},
		"other platform":  {said: v1.Platform{OS: "linux", Architecture: "arm64"}, says: "linux/arm64"},
		"manifest gone":   {said: amd64, damage: func(m *memory, _ *oci.Manifest) { dropImages(m) }, says: "no manifest"},
		"config no JSON":  {said: amd64, damage: func(m *memory, i *oci.Manifest) { m.blobs[i.Config.Digest] = []byte("<html>") }, says: "configuration"},
		"layers no image": {said: amd64, damage: func(m *memory, i *oci.Manifest) { m.blobs[i.Layers[0].Digest] = []byte(strings.Repeat("x", 9000)) }, says: "archive"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			n := index(t, m, c.said)
			child, err := n.Child(t.Context(), n.Manifest.Manifests[0].Digest)
			if err != nil {
				t.Fatal(err)
			}
			if c.damage != nil {
				c.damage(m, child.Manifest)
			}
			r, err := validate.Check(t.Context(), n, validate.Options{Fast: c.fast})
			if err != nil {
				t.Fatal(err)
			}
			all := ""
			for _, f := range r.Findings {
				all += f.Text + "\n"
			}
			if c.says == "" && (all != "" || r.Manifests != 2 || r.Blobs != 4) || !strings.Contains(all, c.says) {
				t.Errorf("%+v; want %q", r, c.says)
			}
		})
	}
}

func dropImages(m *memory) {
	for d, kind := range m.types {
		if !strings.Contains(kind, "index") && !strings.Contains(kind, "list") {
			delete(m.manifests, d)
		}
	}
}
