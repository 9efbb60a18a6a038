package interop_test

import (
	"fmt"
	"hash/fnv"
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

var linuxAMD64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// makeImage makes an image of three layers of 64 KiB for linux/amd64 in docker's format, the same at each call with
// the same seed.
func makeImage(t testing.TB, seed string) v1.Image {
	t.Helper()
	return buildImage(t, seed, linuxAMD64, types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer)
}

// ociImage is makeImage in OCI format.
func ociImage(t testing.TB, seed string) v1.Image {
	t.Helper()
	return platformImage(t, seed, linuxAMD64)
}

func platformImage(t testing.TB, seed string, p v1.Platform) v1.Image {
	t.Helper()
	return buildImage(t, seed, p, types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer)
}

func buildImage(t testing.TB, seed string, p v1.Platform, manifest, config, layer types.MediaType) v1.Image {
	t.Helper()
	h := fnv.New64a()
	fmt.Fprint(h, t.Name(), seed, p)
	source := rand.NewSource(int64(h.Sum64()))
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), config)
	for range 3 {
		content, err := random.Layer(64<<10, layer, random.WithSource(source))
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, content); err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = p.OS, p.Architecture, p.Variant
	file.Config.Labels = map[string]string{"test": t.Name(), "seed": seed}
	file.Config.Cmd = []string{"/hello"}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// dockerArchive writes what docker save writes, tagged with reference, and returns the file and the image id.
func dockerArchive(t testing.TB, img v1.Image, reference string) (file, id string) {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return file, config.String()
}

// ociLayout writes an OCI image layout with the image, or index, under the tag "v1" and returns its folder.
func ociLayout(t testing.TB, content mutate.Appendable) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	tagged := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})
	switch content := content.(type) {
	case v1.Image:
		err = path.AppendImage(content, tagged)
	case v1.ImageIndex:
		err = path.AppendIndex(content, tagged)
	default:
		t.Fatalf("%T is neither an image nor an index", content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// multiArch makes an OCI index of three platforms.
func multiArch(t testing.TB, seed string) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []v1.Platform{
		linuxAMD64,
		{OS: "linux", Architecture: "arm64", Variant: "v8"},
		{OS: "linux", Architecture: "riscv64"},
	} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        platformImage(t, seed, p),
			Descriptor: v1.Descriptor{Platform: &p},
		})
	}
	return index
}

// digestOf returns the digest of an image or index.
func digestOf(t testing.TB, content interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	digest, err := content.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func childrenOf(t testing.TB, index v1.ImageIndex) []v1.Descriptor {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests
}

// push puts an image or index into the registry for tests in which pushing is only the preparation.
func (r *registry) push(t testing.TB, content mutate.Appendable, reference string) {
	t.Helper()
	ref, err := name.ParseReference(r.host+"/"+reference, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	options := []remote.Option{remote.WithContext(t.Context())}
	if !r.open {
		options = append(options, remote.WithAuth(&authn.Basic{Username: "admin", Password: password}))
	}
	switch content := content.(type) {
	case v1.Image:
		err = remote.Write(ref, content, options...)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, content, options...)
	default:
		t.Fatalf("%T is neither an image nor an index", content)
	}
	if err != nil {
		t.Fatal(err)
	}
}
