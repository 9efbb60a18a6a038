package interop_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// crane speaks plain HTTP to localhost unless it is refused; over the number it must be told the CA.
func TestCranePushPull(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	crane := newClient(t, "crane", r)
	img := makeImage(t, "a")
	for _, host := range []string{r.host, r.Addr} {
		app := host + "/team/app"
		archive, _ := dockerArchive(t, img, app+":1")
		crane.run(t, "push", archive, app+":1")
		_, _, digest := r.manifest(t, "team/app", "1")
		mustEqual(t, "digest", crane.run(t, "digest", app+":1"), digest)
		mustEqual(t, "digest of what was pushed", digest, digestOf(t, img))

		crane.run(t, "pull", "--format", "oci", app+":1", filepath.Join(t.TempDir(), "layout"))
		crane.run(t, "pull", app+"@"+digest, filepath.Join(t.TempDir(), "image.tar"))
		// Reads the layers back and compares every digest, size and diff id.
		mustContain(t, crane.run(t, "validate", "--remote", app+":1"), "PASS")
	}
}

func TestCraneTagsCatalogDelete(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	crane := newClient(t, "crane", r)
	app := r.host + "/team/app"
	archive, _ := dockerArchive(t, makeImage(t, "a"), app+":1")
	crane.run(t, "push", archive, app+":1")
	crane.run(t, "tag", app+":1", "2")
	crane.run(t, "tag", app+":1", "3")
	mustEqual(t, "tags", crane.run(t, "ls", app), "1\n2\n3")

	crane.run(t, "copy", "--all-tags", app, r.host+"/copies/app")
	mustEqual(t, "tags of the copy", crane.run(t, "ls", r.host+"/copies/app"), "1\n2\n3")
	mustEqual(t, "catalog", crane.run(t, "catalog", r.host), "copies/app\nteam/app")

	// Changing an image is GET, mount, PUT.
	crane.run(t, "mutate", app+":1", "--label", "changed=yes", "--tag", app+":changed")
	mustContain(t, crane.run(t, "config", app+":changed"), `"changed":"yes"`)
	layer := filepath.Join(t.TempDir(), "layer.tar.gz")
	writeFile(t, layer, compressedTar(t, "hello.txt", t.Name()))
	crane.run(t, "append", "--base", app+":1", "--new_layer", layer, "--new_tag", app+":appended")
	mustContain(t, crane.run(t, "validate", "--remote", app+":appended"), "PASS")

	crane.run(t, "delete", app+"@"+crane.run(t, "digest", app+":changed"))
	r.absent(t, "team/app", "changed")
	mustEqual(t, "tags", crane.run(t, "ls", app), "1\n2\n3\nappended")
}

// An index is pushed children first, pulled whole, and pulled for one platform.
func TestCraneMultiArch(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	crane := newClient(t, "crane", r)
	app := r.host + "/team/app"
	index := multiArch(t, "a")
	crane.run(t, "push", "--index", ociLayout(t, index), app+":layout")
	// The layout's own index.json holds our index as its one child: unwrap it.
	body, _, _ := r.manifest(t, "team/app", "layout")
	var wrapper v1.IndexManifest
	if err := json.Unmarshal(body, &wrapper); err != nil {
		t.Fatal(err)
	}
	crane.run(t, "tag", app+"@"+wrapper.Manifests[0].Digest.String(), "multi")
	mustEqual(t, "digest", crane.run(t, "digest", app+":multi"), digestOf(t, index))
	mustContain(t, crane.run(t, "validate", "--remote", app+":multi"), "PASS")

	for _, child := range childrenOf(t, index) {
		got := crane.run(t, "digest", "--platform", child.Platform.String(), app+":multi")
		mustEqual(t, "digest for "+child.Platform.String(), got, child.Digest.String())
		mustContain(t, crane.run(t, "config", "--platform", child.Platform.String(), app+":multi"),
			`"architecture":"`+child.Platform.Architecture+`"`)
	}

	// A new index out of what is stored, and the whole index into another repository.
	crane.run(t, "index", "filter", app+":multi", "--platform", "linux/amd64", "--platform", "linux/riscv64", "--tag", app+":two")
	two, _, _ := r.manifest(t, "team/app", "two")
	if n := strings.Count(string(two), `"digest"`); n != 2 {
		t.Errorf("%d manifests in the filtered index, want 2:\n%s", n, two)
	}
	crane.run(t, "copy", app+":multi", r.host+"/other/app:multi")
	mustEqual(t, "digest of the copy", crane.run(t, "digest", r.host+"/other/app:multi"), digestOf(t, index))
}
