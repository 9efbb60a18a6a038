package interop_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

func TestBuildahPush(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	buildah := newContainerTool(t, "buildah", r)
	app := r.host + "/team/app"

	container := buildah.run(t, "from", "scratch")
	file := writeFile(t, filepath.Join(t.TempDir(), "hello.txt"), []byte(t.Name()))
	buildah.run(t, "copy", container, file, "/hello.txt")
	buildah.run(t, "config", "--label", "made=by-hand", container)
	buildah.run(t, "commit", container, app+":1")
	buildah.run(t, "push", app+":1")

	_, mediaType, _ := r.manifest(t, "team/app", "1")
	mustEqual(t, "media type", mediaType, "application/vnd.oci.image.manifest.v1+json")

	// Straight to the registry, never through local storage, and back from it.
	buildah.run(t, "commit", container, "docker://"+app+":direct")
	r.manifest(t, "team/app", "direct")
	buildah.run(t, "rmi", app+":1")
	pulled := buildah.run(t, "from", "--pull-always", app+":1")
	mustContain(t, buildah.run(t, "inspect", "--format", "{{.OCIv1.Config.Labels}}", pulled), "made:by-hand")
}

func TestBuildahBuildFromRegistry(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	buildah := newContainerTool(t, "buildah", r)
	base := r.host + "/library/base:1"
	r.push(t, ociImage(t, "base"), "library/base:1")

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Containerfile"), []byte("FROM "+base+"\nCOPY hello.txt /\n"))
	writeFile(t, filepath.Join(dir, "hello.txt"), []byte(t.Name()))
	app := r.host + "/team/app:built"
	buildah.run(t, "build", "--isolation", "chroot", "--layers", "--tag", app, dir)
	buildah.run(t, "push", app)

	body, _, _ := r.manifest(t, "team/app", "built")
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 4 {
		t.Errorf("%d layers, want the 3 of the base and 1 more:\n%s", len(manifest.Layers), body)
	}
}
