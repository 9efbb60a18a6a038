package interop_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// newPodman returns a podman with images, settings and credentials of its own, which trusts the registries' CA.
func newPodman(t testing.TB, trusted ...*registry) *client {
	t.Helper()
	return newContainerTool(t, "podman", trusted...)
}

// newContainerTool is podman or buildah: both keep images in a containers storage, here in the client's home. The vfs
// driver works without overlay mounts, also inside a container.
func newContainerTool(t testing.TB, program string, trusted ...*registry) *client {
	t.Helper()
	c := newClient(t, program, trusted...)
	c.flags = []string{"--root", filepath.Join(c.home, "storage"), "--runroot", filepath.Join(c.home, "run"),
		"--storage-driver", "vfs"}
	if program == "podman" {
		c.flags = append(c.flags, "--tmpdir", filepath.Join(c.home, "libpod"), "--events-backend", "none")
	}
	return c
}

func loadPodman(t testing.TB, podman *client, seed, reference string) {
	t.Helper()
	archive, _ := dockerArchive(t, makeImage(t, seed), reference)
	podman.run(t, "load", "--quiet", "--input", archive)
}

func TestPodmanPushPull(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	podman := newPodman(t, r)
	app := r.host + "/team/app"
	loadPodman(t, podman, "a", app+":1")

	for _, format := range []struct{ flag, mediaType string }{
		{"oci", "application/vnd.oci.image.manifest.v1+json"},
		{"v2s2", "application/vnd.docker.distribution.manifest.v2+json"},
	} {
		podman.run(t, "push", "--format", format.flag, app+":1", app+":"+format.flag)
		body, mediaType, digest := r.manifest(t, "team/app", format.flag)
		mustEqual(t, "media type", mediaType, format.mediaType)
		var manifest struct{ Config struct{ Digest string } }
		if err := json.Unmarshal(body, &manifest); err != nil {
			t.Fatal(err)
		}

		podman.run(t, "rmi", "--all", "--force")
		podman.run(t, "pull", app+":"+format.flag)
		id := podman.run(t, "image", "inspect", "--format", "{{.Id}}", app+":"+format.flag)
		mustEqual(t, "image id", "sha256:"+id, manifest.Config.Digest)
		podman.run(t, "pull", app+"@"+digest)
		podman.run(t, "tag", app+":"+format.flag, app+":1")
	}
}

// A user who has not installed the CA passes --tls-verify=false; podman then still speaks TLS first.
func TestPodmanWithoutCA(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	podman := newPodman(t)
	app := r.host + "/team/app:1"
	loadPodman(t, podman, "a", app)

	mustContain(t, podman.refused(t, "push", app).stderr, "certificate signed by unknown authority")
	podman.run(t, "push", "--tls-verify=false", app)
	podman.run(t, "pull", "--tls-verify=false", app)
}

func TestPodmanManifestList(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	podman := newPodman(t, r)
	app := r.host + "/team/app"
	podman.run(t, "manifest", "create", "list")
	for _, seed := range []string{"one", "two"} {
		loadPodman(t, podman, seed, app+":"+seed)
		podman.run(t, "push", app+":"+seed)
		podman.run(t, "manifest", "add", "list", "docker://"+app+":"+seed)
	}
	podman.run(t, "manifest", "push", "--all", "list", "docker://"+app+":all")
	body, mediaType, _ := r.manifest(t, "team/app", "all")
	mustEqual(t, "media type", mediaType, "application/vnd.oci.image.index.v1+json")
	if n := strings.Count(string(body), `"digest"`); n != 2 {
		t.Errorf("%d manifests in the index, want 2:\n%s", n, body)
	}
	podman.run(t, "pull", app+":all")
}

func TestPodmanSearch(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	podman := newPodman(t, r)
	app := r.host + "/team/searchable-app"
	loadPodman(t, podman, "a", app+":1")
	podman.run(t, "push", app+":1")
	podman.run(t, "push", app+":1", app+":2")

	mustContain(t, podman.run(t, "search", r.host+"/searchable"), "team/searchable-app")
	tags := strings.Fields(podman.run(t, "search", "--list-tags", app))
	mustEqual(t, "tags", strings.Join(tags, " "), "NAME TAG "+app+" 1 "+app+" 2")
}
