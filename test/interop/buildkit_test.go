package interop_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	cacheConfig = "application/vnd.buildkit.cacheconfig.v0"
	cacheLayer  = ocispec.MediaTypeImageLayerGzip
)

// BuildKit's registry cache (--cache-to type=registry) comes in two shapes. The older and still default one for mode
// "image-manifest=false" is an index whose manifests are no manifests at all, but layers and a config blob: a registry
// that looks for them among its manifests refuses the cache. No buildkitd can be had here, so the documents are made
// as BuildKit makes them, and read by a real client.
func TestBuildKitCache(t *testing.T) {
	t.Parallel()
	for _, shape := range []struct {
		name      string
		mediaType string
		document  func(config ocispec.Descriptor, layers []ocispec.Descriptor) any
	}{
		{"index", ocispec.MediaTypeImageIndex, func(config ocispec.Descriptor, layers []ocispec.Descriptor) any {
			return map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex,
				"manifests": append(layers, config)}
		}},
		{"manifest", ocispec.MediaTypeImageManifest, func(config ocispec.Descriptor, layers []ocispec.Descriptor) any {
			return map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
				"config": config, "layers": layers}
		}},
	} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			r := openRegistry(t)
			crane := newClient(t, "crane", r)
			// Exported twice under the same tag: every build overwrites the cache of the build before.
			for _, round := range []string{"first", "second"} {
				layers := []ocispec.Descriptor{
					r.pushBlob(t, "cache/app", cacheLayer, compressedTar(t, "base", "the same each time")),
					r.pushBlob(t, "cache/app", cacheLayer, compressedTar(t, "step", round)),
				}
				config, err := json.Marshal(map[string]any{
					"layers":  []map[string]any{{"blob": layers[0].Digest, "parent": -1}, {"blob": layers[1].Digest}},
					"records": []map[string]any{{"digest": layers[0].Digest, "layers": []map[string]any{{"layer": 0}}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				document, err := json.Marshal(shape.document(r.pushBlob(t, "cache/app", cacheConfig, config), layers))
				if err != nil {
					t.Fatal(err)
				}
				status, _, body := r.do(t, http.MethodPut, "/v2/cache/app/manifests/buildcache", bytes.NewReader(document),
					http.Header{"Content-Type": {shape.mediaType}})
				if status != http.StatusCreated {
					t.Fatalf("PUT of the cache %s: %d\n%s\n%s", shape.name, status, body, document)
				}

				mustEqual(t, "cache", crane.run(t, "manifest", r.host+"/cache/app:buildcache"), string(document))
				got := crane.run(t, "blob", r.host+"/cache/app@"+layers[1].Digest.String())
				mustEqual(t, "layer", got, strings.TrimSuffix(string(compressedTar(t, "step", round)), "\n"))
			}
			mustEqual(t, "tags", crane.run(t, "ls", r.host+"/cache/app"), "buildcache")
		})
	}
}

// pushBlob uploads content in one request after the POST, as BuildKit does, and returns its descriptor.
func (r *registry) pushBlob(t testing.TB, repository, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: digest.FromBytes(content)}
	status, header, body := r.do(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, nil)
	if status != http.StatusAccepted {
		t.Fatalf("POST upload: %d\n%s", status, body)
	}
	location := strings.TrimPrefix(header.Get("Location"), r.URL)
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	status, _, body = r.do(t, http.MethodPut, location+separator+"digest="+desc.Digest.String(), bytes.NewReader(content), nil)
	if status != http.StatusCreated {
		t.Fatalf("PUT upload: %d\n%s", status, body)
	}
	return desc
}
