package interop_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func TestSkopeoCopyInspectList(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	skopeo := newClient(t, "skopeo", r)
	app := "docker://" + r.host + "/team/app"
	img := ociImage(t, "a")
	layout := "oci:" + ociLayout(t, img) + ":v1"

	skopeo.run(t, "copy", layout, app+":1")
	_, _, digest := r.manifest(t, "team/app", "1")
	mustEqual(t, "digest", digest, digestOf(t, img))

	var inspected struct {
		Digest   string
		RepoTags []string
		Labels   map[string]string
		Layers   []string
	}
	if err := json.Unmarshal([]byte(skopeo.run(t, "inspect", app+":1")), &inspected); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "inspected digest", inspected.Digest, digest)
	mustEqual(t, "inspected label", inspected.Labels["seed"], "a")
	mustEqual(t, "inspected tags", strings.Join(inspected.RepoTags, " "), "1")
	raw := skopeo.run(t, "inspect", "--raw", app+":1")
	body, _, _ := r.manifest(t, "team/app", "1")
	mustEqual(t, "raw manifest", raw, strings.TrimSuffix(string(body), "\n"))
	mustContain(t, skopeo.run(t, "inspect", "--config", app+":1"), `"seed": "a"`)

	// Within the registry the layers are mounted; skopeo always uploads the config again.
	skopeo.run(t, "copy", app+":1", "docker://"+r.host+"/other/copy:2")
	if n := r.requests(t, "method=POST", "path=/v2/other/copy/blobs/uploads/ ", "status=201"); n != 3 {
		t.Errorf("%d of 3 layers were mounted for a copy within the registry", n)
	}

	// Converted to docker's format on the way, and back to a folder.
	skopeo.run(t, "copy", "--format", "v2s2", app+":1", app+":docker")
	_, mediaType, _ := r.manifest(t, "team/app", "docker")
	mustEqual(t, "media type", mediaType, "application/vnd.docker.distribution.manifest.v2+json")
	dir := filepath.Join(t.TempDir(), "image")
	skopeo.run(t, "copy", app+"@"+digest, "dir:"+dir)
	mustEqual(t, "copied manifest", string(readFile(t, filepath.Join(dir, "manifest.json"))), string(body))

	var listed struct{ Tags []string }
	if err := json.Unmarshal([]byte(skopeo.run(t, "list-tags", app)), &listed); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "tags", strings.Join(listed.Tags, " "), "1 docker")
}

func TestSkopeoCopyAll(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	skopeo := newClient(t, "skopeo", r)
	index := multiArch(t, "a")
	layout := "oci:" + ociLayout(t, index) + ":v1"

	// skopeo writes the index in its own order of keys; the images of it stay what they are.
	skopeo.run(t, "copy", "--all", layout, "docker://"+r.host+"/team/app:multi")
	_, mediaType, digest := r.manifest(t, "team/app", "multi")
	for _, child := range childrenOf(t, index) {
		r.manifest(t, "team/app", child.Digest.String())
	}
	mustEqual(t, "media type", mediaType, "application/vnd.oci.image.index.v1+json")

	skopeo.run(t, "copy", "--all", "docker://"+r.host+"/team/app:multi", "docker://"+r.host+"/other/app:multi")
	_, _, copied := r.manifest(t, "other/app", "multi")
	mustEqual(t, "digest of the copy", copied, digest)
	arm := skopeo.run(t, "inspect", "--override-arch", "arm64", "--override-variant", "v8", "docker://"+r.host+"/team/app:multi")
	mustContain(t, arm, `"Architecture": "arm64"`)
}

func TestSkopeoSync(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	skopeo := newClient(t, "skopeo", r)
	for _, tag := range []string{"1", "2", "3"} {
		skopeo.run(t, "copy", "oci:"+ociLayout(t, ociImage(t, tag))+":v1", "docker://"+r.host+"/team/app:"+tag)
	}
	dir := filepath.Join(t.TempDir(), "mirror")
	skopeo.run(t, "sync", "--src", "docker", "--dest", "dir", r.host+"/team/app", dir)
	skopeo.run(t, "sync", "--src", "dir", "--dest", "docker", dir, r.host+"/mirror")
	for _, tag := range []string{"1", "2", "3"} {
		_, _, want := r.manifest(t, "team/app", tag)
		_, _, got := r.manifest(t, "mirror/app", tag)
		mustEqual(t, "digest of the synced tag "+tag, got, want)
	}
}

// skopeo delete resolves the tag and deletes the digest, so that every tag of it goes.
func TestSkopeoDelete(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	skopeo := newClient(t, "skopeo", r)
	app := "docker://" + r.host + "/team/app"
	layout := "oci:" + ociLayout(t, ociImage(t, "a")) + ":v1"
	skopeo.run(t, "copy", layout, app+":1")
	skopeo.run(t, "copy", layout, app+":2")
	skopeo.run(t, "copy", "oci:"+ociLayout(t, ociImage(t, "b"))+":v1", app+":other")

	skopeo.run(t, "delete", app+":1")
	r.absent(t, "team/app", "1")
	r.absent(t, "team/app", "2")
	r.manifest(t, "team/app", "other")
	// What was deleted can be pushed again.
	skopeo.run(t, "copy", layout, app+":1")
	r.manifest(t, "team/app", "1")
}
