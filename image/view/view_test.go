package view_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocilayout "go.podman.io/image/v5/oci/layout"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// repository is an empty one of a registry in memory.
func repository(t *testing.T, c *remote.Client, host, name string) *remote.Repository {
	t.Helper()
	n, err := ref.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(host, n)
}

func client(t *testing.T) (*remote.Client, string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	return remote.New(remote.Options{Endpoint: func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }}), host
}

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
)

// multi is an index of two platforms and an attestation.
func multi(t *testing.T) v1.ImageIndex {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []v1.Platform{amd64, arm64, {OS: "unknown", Architecture: "unknown"}} {
		img, err := random.Image(512, 2)
		if err != nil {
			t.Fatal(err)
		}
		img = mutate.MediaType(img, types.OCIManifestSchema1)
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	return idx
}

// An index that leaves out the variant that an architecture has anyway has the image for it, and none for another variant.
func TestChooseVariant(t *testing.T) {
	c, host := client(t)
	repo := repository(t, c, host, "team/variants")
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	if _, err := view.Push(t.Context(), repo, ref.Reference{Tag: "v1"}, idx, view.Options{}); err != nil {
		t.Fatal(err)
	}
	node, err := view.Open(t.Context(), repo, ref.Reference{Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	for variant, there := range map[string]bool{"": true, "v8": true, "v9": false} {
		if _, err := node.Choose(t.Context(), v1.Platform{OS: "linux", Architecture: "arm64", Variant: variant}); (err == nil) != there {
			t.Errorf("variant %q: %v", variant, err)
		}
	}
}

func TestPushAndOpen(t *testing.T) {
	c, host := client(t)
	repo := repository(t, c, host, "team/app")
	idx := multi(t)
	var mu sync.Mutex
	how := map[string]int{}
	count := view.Options{Done: func(_ oci.Descriptor, what string) { mu.Lock(); how[what]++; mu.Unlock() }}
	d, err := view.Push(t.Context(), repo, ref.Reference{Tag: "v1"}, idx, count)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := idx.Digest(); d.Digest != must(view.Digest(want)) || how["sent"] != 9 {
		t.Errorf("pushed %s with %v, want %s and 9 blobs sent", d.Digest, how, want)
	}
	// Again: nothing is sent. Elsewhere: everything is mounted.
	clear(how)
	if _, err := view.Push(t.Context(), repo, ref.Reference{Tag: "v2"}, idx, count); err != nil || how["exists"] != 9 {
		t.Errorf("again: %v, %v", how, err)
	}
	node, err := view.Open(t.Context(), repo, ref.Reference{Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	back, err := node.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := back.IndexManifest(); err != nil || len(m.Manifests) != 3 {
		t.Fatalf("%v, %v", m, err)
	} else if img, err := back.Image(m.Manifests[1].Digest); err != nil || validate.Image(img) != nil {
		t.Errorf("%v, %v", err, validate.Image(img))
	}
	for p, want := range map[string]string{"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64", "linux/amd64/v1": "amd64"} {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		child, err := node.Choose(t.Context(), *platform)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := idx.IndexManifest()
		for _, d := range m.Manifests {
			if d.Platform.Architecture == want && view.Hash(child.Descriptor.Digest) != d.Digest {
				t.Errorf("%s: %s, want %s", p, child.Descriptor.Digest, d.Digest)
			}
		}
	}
	_, err = node.Choose(t.Context(), v1.Platform{OS: "linux", Architecture: "s390x"})
	if !fault.Has(err, view.PlatformUnknown) || !strings.Contains(err.Error(), "linux/arm64/v8") || strings.Contains(err.Error(), "unknown") {
		t.Errorf("no such platform: %v", err)
	}
	if _, err := node.Image(t.Context()); !fault.Has(err, view.NotAnImage) {
		t.Errorf("an index as an image: %v", err)
	}
	// A digest that the content does not have is refused before anything gets the name.
	wrong := ref.Reference{Digest: oci.FromBytes(oci.SHA256, []byte("x"))}
	if _, err := view.Push(t.Context(), repo, wrong, idx, view.Options{}); !fault.Has(err, fault.DigestInvalid) {
		t.Errorf("push by another digest: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTransport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	idx := multi(t)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(idx, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})); err != nil {
		t.Fatal(err)
	}
	open := func() *view.Node {
		t.Helper()
		reference, err := ocilayout.NewReference(dir, "v1")
		if err != nil {
			t.Fatal(err)
		}
		src, err := reference.NewImageSource(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = src.Close() })
		node, err := view.Open(t.Context(), view.NewTransport(src), ref.Reference{})
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	node := open()
	if want, _ := idx.Digest(); view.Hash(node.Descriptor.Digest) != want {
		t.Errorf("%s, want %s", node.Descriptor.Digest, want)
	}
	child, err := node.Choose(t.Context(), amd64)
	if err != nil {
		t.Fatal(err)
	}
	img, err := child.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	c, host := client(t)
	if _, err := view.Push(t.Context(), repository(t, c, host, "a/b"), ref.Reference{Tag: "x"}, img, view.Options{}); err != nil {
		t.Fatal(err)
	}
	// A blob of the layout that was changed is found, and gets no name in the registry.
	layer := child.Manifest.Layers[0]
	file := filepath.Join(dir, "blobs", "sha256", layer.Digest.Hex())
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 1
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := view.ReadBlob(t.Context(), node.Source(), layer, 1<<20); !fault.Has(err, fault.DigestInvalid) {
		t.Errorf("damaged blob: %v", err)
	}
	c, host = client(t) // the one in memory shares its blobs between repositories
	other := repository(t, c, host, "c/d")
	if _, err := view.Push(t.Context(), other, ref.Reference{Tag: "x"}, img, view.Options{}); err == nil {
		t.Error("a damaged image was pushed")
	}
	if _, _, err := other.Manifest(t.Context(), ref.Reference{Tag: "x"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the name of what was not pushed: %v", err)
	}
}
