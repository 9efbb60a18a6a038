package copy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// place is what both ends of a copy can do.
type place interface {
	copy.Source
	copy.Target
}

func plainClient(o remote.Options) *remote.Client {
	o.Endpoint = func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	return remote.New(o)
}

func berthd(t testing.TB) string {
	t.Helper()
	return testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}}).Addr
}

func repo(t testing.TB, c *remote.Client, host, name string) *remote.Repository {
	t.Helper()
	n, err := ref.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(host, n)
}

func tag(s string) ref.Reference { return ref.Reference{Tag: s} }

func opened(b []byte) remote.Open {
	return func(_ context.Context, from int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[from:])), nil
	}
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 7})
	_, _ = r.Read(b) // never fails
	return b
}

func putBlob(t testing.TB, to copy.Target, mediaType string, b []byte) oci.Descriptor {
	t.Helper()
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, b), Size: int64(len(b))}
	if _, err := to.PutBlob(t.Context(), d, nil, opened(b)); err != nil {
		t.Fatal(err)
	}
	return d
}

func putJSON(t testing.TB, to copy.Target, at ref.Reference, mediaType string, doc map[string]any) oci.Descriptor {
	t.Helper()
	doc["schemaVersion"], doc["mediaType"] = 2, mediaType
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	if at.Tag == "" {
		at.Digest = d.Digest
	}
	if err := to.PutManifest(t.Context(), at, d, body); err != nil {
		t.Fatal(err)
	}
	return d
}

// putImage writes an image of random layers.
func putImage(t testing.TB, to copy.Target, at ref.Reference, seed uint64, sizes ...int) oci.Descriptor {
	t.Helper()
	config := putBlob(t, to, "application/vnd.oci.image.config.v1+json", fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","seed":%d}`, seed))
	var layers []oci.Descriptor
	for i, n := range sizes {
		layers = append(layers, putBlob(t, to, "application/vnd.oci.image.layer.v1.tar+gzip", randomBytes(seed*100+uint64(i), n)))
	}
	return putJSON(t, to, at, oci.MediaTypeManifest, map[string]any{"config": config, "layers": layers})
}

// putReferrer writes a manifest that refers to a subject.
func putReferrer(t testing.TB, to copy.Target, at ref.Reference, subject oci.Descriptor, artifactType, text string) oci.Descriptor {
	t.Helper()
	empty := putBlob(t, to, oci.MediaTypeEmpty, []byte("{}"))
	layer := putBlob(t, to, "text/plain", []byte(text))
	return putJSON(t, to, at, oci.MediaTypeManifest, map[string]any{"artifactType": artifactType, "config": empty, "layers": []oci.Descriptor{layer}, "subject": subject})
}

// signed is an index of two platforms with everything that may travel beside it: an SBOM that is itself signed, a cosign
// signature under a tag, and an attestation of one of its manifests.
type signed struct {
	index, amd64, arm64, sbom, sbomSig, att, sig oci.Descriptor
}

func putSigned(t testing.TB, to copy.Target, name string, seed uint64) signed {
	t.Helper()
	var s signed
	s.amd64 = putImage(t, to, ref.Reference{}, seed, 300_000, 1000)
	s.arm64 = putImage(t, to, ref.Reference{}, seed+1, 200_000, 10)
	entry := func(d oci.Descriptor, arch string) map[string]any {
		return map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size, "platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	s.index = putJSON(t, to, tag(name), oci.MediaTypeIndex, map[string]any{"manifests": []any{entry(s.amd64, "amd64"), entry(s.arm64, "arm64")}})
	s.sbom = putReferrer(t, to, ref.Reference{}, s.index, "application/spdx+json", fmt.Sprint("sbom ", seed))
	s.sbomSig = putReferrer(t, to, ref.Reference{}, s.sbom, "application/vnd.dev.cosign.artifact.sig.v1+json", fmt.Sprint("signature of sbom ", seed))
	s.att = putReferrer(t, to, ref.Reference{}, s.arm64, "application/vnd.in-toto+json", fmt.Sprint("attestation ", seed))
	s.sig = putImage(t, to, tag(remote.FallbackTag(s.index.Digest)+".sig"), seed+2, 500)
	return s
}

func (s signed) all() []oci.Descriptor {
	return []oci.Descriptor{s.index, s.amd64, s.arm64, s.sbom, s.sbomSig, s.att, s.sig}
}

// mustHave fails unless a place has a manifest and all of its blobs, with the right bytes.
func mustHave(t testing.TB, p place, at ref.Reference, want oci.Digest) {
	t.Helper()
	d, body, err := p.Manifest(t.Context(), at)
	if err != nil || d.Digest != want {
		t.Fatalf("%s: %s is %s, %v; want %s", p, at, d.Digest, err, want)
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range m.Manifests {
		mustHave(t, p, ref.Reference{Digest: k.Digest}, k.Digest)
	}
	blobs := m.Layers
	if m.Config != nil {
		blobs = append(blobs, *m.Config)
	}
	for _, b := range blobs {
		rc, err := p.Blob(t.Context(), b, 0)
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
		}
		if err != nil {
			t.Fatalf("%s: blob %s: %v", p, b.Digest, err)
		}
	}
}

func mustLack(t testing.TB, p place, at ref.Reference) {
	t.Helper()
	if d, err := p.Head(t.Context(), at); err == nil {
		t.Errorf("%s has %s: %s", p, at, d.Digest)
	}
}

// events gathers what an engine tells.
type events struct {
	mu  sync.Mutex
	all []copy.Event
}

func (e *events) add(ev copy.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) blobs(how copy.How) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == copy.BlobDone && ev.How == how {
			n++
		}
	}
	return n
}

func contains(err error, texts ...string) bool {
	for _, s := range texts {
		if err == nil || !strings.Contains(err.Error(), s) {
			return false
		}
	}
	return true
}
