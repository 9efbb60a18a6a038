package interop_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// newDocker returns a docker client with a home of its own, talking to the dockerd of this test run.
func newDocker(t testing.TB) *client {
	t.Helper()
	socket := shared.dockerd(t)
	c := newClient(t, "docker")
	// The classic builder: buildkit is not part of Debian's docker.
	c.env = append(c.env, "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+filepath.Join(c.home, ".docker"),
		"DOCKER_BUILDKIT=0", "DOCKER_CLI_EXPERIMENTAL=enabled")
	return c
}

// load puts an image into dockerd under reference, returns its id, and removes both at the end of the test.
func loadDocker(t testing.TB, docker *client, seed, reference string) (id string) {
	t.Helper()
	archive, id := dockerArchive(t, makeImage(t, seed), reference)
	docker.run(t, "load", "--quiet", "--input", archive)
	t.Cleanup(func() { docker.exec(t, nil, "image", "rm", "--force", id) })
	return id
}

func TestDockerPushPull(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	docker := newDocker(t)
	app := r.host + "/team/app"
	id := loadDocker(t, docker, "a", app+":1")

	pushed := docker.run(t, "push", app+":1")
	body, mediaType, digest := r.manifest(t, "team/app", "1")
	mustContain(t, pushed, digest)
	mustEqual(t, "media type", mediaType, "application/vnd.docker.distribution.manifest.v2+json")
	if !json.Valid(body) {
		t.Errorf("manifest is not JSON:\n%s", body)
	}

	docker.run(t, "image", "rm", app+":1")
	docker.run(t, "pull", app+":1")
	mustEqual(t, "image id after pull by tag", docker.run(t, "image", "inspect", "--format", "{{.Id}}", app+":1"), id)

	docker.run(t, "image", "rm", app+":1")
	docker.run(t, "pull", app+"@"+digest)
	mustEqual(t, "image id after pull by digest", docker.run(t, "image", "inspect", "--format", "{{.Id}}", app+"@"+digest), id)

	// The address of a registry is often written as a number.
	docker.run(t, "pull", strings.Replace(app, "localhost", "127.0.0.1", 1)+":1")
}

func TestDockerPushAllTagsAndMount(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	docker := newDocker(t)
	app := r.host + "/team/app"
	loadDocker(t, docker, "a", app+":1")
	docker.run(t, "tag", app+":1", app+":2")
	docker.run(t, "tag", app+":1", r.host+"/other/app:1")

	docker.run(t, "push", "--all-tags", app)
	_, _, first := r.manifest(t, "team/app", "1")
	_, _, second := r.manifest(t, "team/app", "2")
	mustEqual(t, "digest of the second tag", second, first)

	// dockerd knows where it pushed the layers and asks to mount them.
	out := docker.run(t, "push", r.host+"/other/app:1")
	if n := strings.Count(out, "Mounted from team/app"); n != 3 {
		t.Errorf("%d of 3 layers were mounted:\n%s", n, out)
	}
	mustContain(t, docker.run(t, "push", app+":1"), "Layer already exists")
}

func TestDockerBuildFromRegistry(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	docker := newDocker(t)
	base := r.host + "/library/base:1"
	loadDocker(t, docker, "base", base)
	docker.run(t, "push", base)
	docker.run(t, "image", "rm", base)

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Dockerfile"), []byte("FROM "+base+"\nCOPY hello.txt /\nLABEL built=yes\n"))
	writeFile(t, filepath.Join(dir, "hello.txt"), []byte(t.Name()))
	app := r.host + "/team/app:built"
	docker.run(t, "build", "--pull", "--tag", app, dir)
	t.Cleanup(func() { docker.exec(t, nil, "image", "rm", "--force", app, base) })
	docker.run(t, "push", app)

	body, _, _ := r.manifest(t, "team/app", "built")
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 4 {
		t.Errorf("%d layers, want the 3 of the base and 1 more:\n%s", len(manifest.Layers), body)
	}
}

// docker manifest makes and reads Docker's manifest lists, which must come back byte for byte.
func TestDockerManifestList(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	docker := newDocker(t)
	app := r.host + "/team/app"
	for _, seed := range []string{"one", "two"} {
		loadDocker(t, docker, seed, app+":"+seed)
		docker.run(t, "push", app+":"+seed)
	}
	docker.run(t, "manifest", "create", "--insecure", app+":all", app+":one", app+":two")
	docker.run(t, "manifest", "annotate", "--arch", "arm64", app+":all", app+":two")
	digest := docker.run(t, "manifest", "push", "--insecure", app+":all")

	_, mediaType, stored := r.manifest(t, "team/app", "all")
	mustEqual(t, "digest", stored, digest)
	mustEqual(t, "media type", mediaType, "application/vnd.docker.distribution.manifest.list.v2+json")
	mustContain(t, docker.run(t, "manifest", "inspect", "--insecure", app+":all"), `"architecture": "arm64"`)
	docker.run(t, "pull", app+":all")
}

func TestDockerSearch(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	docker := newDocker(t)
	app := r.host + "/team/searchable-app"
	loadDocker(t, docker, "a", app+":1")
	docker.run(t, "push", app+":1")

	mustContain(t, docker.run(t, "search", r.host+"/searchable"), "team/searchable-app")
	none := docker.run(t, "search", "--format", "{{.Name}}", r.host+"/nothing-of-that-name")
	mustEqual(t, "repositories found", none, "")
	if status, _, body := r.get(t, "/v1/search?q=searchable"); status != http.StatusOK || !json.Valid(body) {
		t.Errorf("GET /v1/search: %d\n%s", status, body)
	}
}
