package interop_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
)

// Indexes that berth makes are read by the others, and those of the others by berth, to the same digests.
func TestBerthIndexes(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	berth, crane, regctl, podman := newClient(t, "berth", r), newClient(t, "crane", r), newRegctl(t, r, true), newPodman(t, r)
	app := r.host + "/team/app"
	for _, arch := range []string{"amd64", "arm64"} {
		r.push(t, platformImage(t, arch, v1.Platform{OS: "linux", Architecture: arch}), "team/app:"+arch)
	}

	// Ours, by list and in one step.
	berth.run(t, "manifest", "create", "ours", "docker://"+app+":amd64")
	berth.run(t, "manifest", "add", "ours", "docker://"+app+":arm64")
	said := berth.run(t, "manifest", "push", "-q", "ours", "docker://"+app+":ours")
	berth.run(t, "index", "create", "-t", app+":once", app+":amd64", app+":arm64")
	for _, tag := range []string{"ours", "once"} {
		mustEqual(t, "digest by crane", crane.run(t, "digest", app+":"+tag), said)
		mustEqual(t, "digest by regctl", regctl.run(t, "image", "digest", app+":"+tag), said)
		mustContain(t, crane.run(t, "validate", "--remote", app+":"+tag), "PASS")
		mustContain(t, crane.run(t, "config", "--platform", "linux/arm64", app+":"+tag), `"arm64"`)
	}
	podman.run(t, "pull", "-q", "--arch", "arm64", app+":ours")
	mustContain(t, podman.run(t, "manifest", "inspect", app+":ours"), `"architecture": "arm64"`)

	// Theirs: podman's list, buildah's, crane's. berth takes each as it is.
	podman.run(t, "manifest", "create", "theirs")
	podman.run(t, "manifest", "add", "theirs", "docker://"+app+":amd64")
	podman.run(t, "manifest", "push", "--all", "theirs", "docker://"+app+":podman")
	crane.run(t, "index", "append", "-m", app+":amd64", "-m", app+":arm64", "-t", app+":crane")
	buildah := newContainerTool(t, "buildah", r)
	buildah.run(t, "manifest", "create", "theirs")
	buildah.run(t, "manifest", "add", "theirs", "docker://"+app+":arm64")
	buildah.run(t, "manifest", "push", "--all", "theirs", "docker://"+app+":buildah")
	for _, tag := range []string{"podman", "crane", "buildah"} {
		_, _, digest := r.manifest(t, "team/app", tag)
		mustEqual(t, "digest of "+tag, berth.run(t, "digest", app+":"+tag), digest)
		mustContain(t, berth.run(t, "validate", app+":"+tag), "PASS")
		berth.run(t, "manifest", "create", "--all", "from-"+tag, "docker://"+app+":"+tag)
		berth.run(t, "manifest", "push", "-q", "from-"+tag, "docker://"+r.host+"/copies/"+tag+":1")
		mustContain(t, crane.run(t, "validate", "--remote", r.host+"/copies/"+tag+":1"), "PASS")
	}
	mustContain(t, berth.run(t, "index", "create", "--append", "-t", app+":podman", app+":arm64"), app+"@sha256:")
	mustContain(t, crane.run(t, "config", "--platform", "linux/arm64", app+":podman"), `"arm64"`)
}

// What crane and regctl say of an image berth says too, and what berth makes of one they find whole.
func TestBerthLowLevel(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	berth, crane, regctl := newClient(t, "berth", r), newClient(t, "crane", r), newRegctl(t, r, true)
	app := r.host + "/team/app"
	r.push(t, ociImage(t, "a"), "team/app:1")
	layer := filepath.Join(t.TempDir(), "layer.tar.gz")
	writeFile(t, layer, compressedTar(t, "hello.txt", "hello from "+t.Name()))

	mustEqual(t, "digest", berth.run(t, "digest", app+":1"), crane.run(t, "digest", app+":1"))
	mustEqual(t, "catalog", berth.run(t, "catalog", r.host), crane.run(t, "catalog", r.host))
	mustEqual(t, "tags", berth.run(t, "tags", "ls", app), crane.run(t, "ls", app))
	mustEqual(t, "manifest", berth.run(t, "manifest", "raw", app+":1"), crane.run(t, "manifest", app+":1"))
	blob := strings.Fields(berth.run(t, "blob", "ls", "--no-heading", app+":1"))[0]
	mustEqual(t, "blob", berth.run(t, "blob", "get", app+"@"+blob), crane.run(t, "blob", app+"@"+blob))
	mustEqual(t, "blob by regctl", berth.run(t, "blob", "get", app, blob), regctl.run(t, "blob", "get", app, blob))

	berth.run(t, "append", "--base", app+":1", "--new_layer", layer, "--new_tag", app+":more")
	mustEqual(t, "file", berth.run(t, "file", "cat", app+":more", "/hello.txt"), "hello from "+t.Name())
	mustEqual(t, "file by regctl", regctl.run(t, "image", "get-file", app+":more", "hello.txt"), "hello from "+t.Name())
	berth.run(t, "mutate", "--label", "by=berth", "--tag", app+":labelled", app+":more")
	mustContain(t, crane.run(t, "config", app+":labelled"), `"by":"berth"`)
	berth.run(t, "flatten", "--tag", app+":flat", app+":more")
	r.push(t, ociImage(t, "b"), "team/app:2")
	berth.run(t, "rebase", "--old_base", app+":1", "--new_base", app+":2", "--tag", app+":rebased", app+":more")
	for _, tag := range []string{"more", "labelled", "flat", "rebased"} {
		mustContain(t, crane.run(t, "validate", "--remote", app+":"+tag), "PASS")
	}

	// The same files, whoever exports, and whoever made the image.
	crane.run(t, "mutate", app+":more", "--label", "by=crane", "--tag", app+":theirs")
	crane.run(t, "flatten", app+":more", "--tag", app+":theirs-flat")
	mustContain(t, berth.run(t, "validate", app+":theirs", app+":theirs-flat"), "PASS")
	want := names(t, crane, app+":more")
	for _, tag := range []string{"more", "flat", "theirs", "theirs-flat"} {
		mustEqual(t, "files of "+tag, names(t, berth, app+":"+tag), want)
	}

	// An archive of berth's is one that crane pushes.
	berth.run(t, "mutate", "--format", "v2s2", "-o", "saved.tar", "--tag", app+":saved", app+":more")
	crane.run(t, "push", filepath.Join(berth.home, "saved.tar"), app+":saved")
	mustContain(t, berth.run(t, "validate", app+":saved"), "PASS")
}

// names are the files of an export.
func names(t *testing.T, c *client, image string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "export.tar")
	c.run(t, "export", image, file)
	tar := newClient(t, "tar")
	list := strings.Split(tar.run(t, "tf", file), "\n")
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// Artifacts and referrers, both ways with regctl and with oras.
func TestBerthArtifacts(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	berth, regctl := newClient(t, "berth", r), newRegctl(t, r, true)
	berth.run(t, "login", "-u", "admin", "-p", password, r.host)
	regctl.run(t, "registry", "login", r.host, "-u", "admin", "-p", password)
	app := r.host + "/team/app"
	r.push(t, ociImage(t, "a"), "team/app:1")

	writeFile(t, filepath.Join(berth.home, "policy.rego"), []byte("package policy"))
	writeFile(t, filepath.Join(berth.home, "data", "a.txt"), []byte("a"))
	berth.run(t, "artifact", "push", "--artifact-type", orasArtifact, app+":policy", "policy.rego:text/plain", "data")
	mustEqual(t, "file by regctl", regctl.run(t, "artifact", "get", "--file", "policy.rego", app+":policy"), "package policy")
	repo := orasRepository(t, r, "team/app")
	if _, err := oras.Copy(t.Context(), repo, "policy", memory.New(), "policy", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}

	regctl.pipe(t, strings.NewReader("from regctl"), "artifact", "put", "--artifact-type", orasArtifact, app+":regctl")
	berth.run(t, "artifact", "pull", "-d", "out", app+":regctl")
	packed(t.Context(), t, repo, orasArtifact, "from oras", nil)

	// What each attaches the other finds.
	digest := berth.run(t, "digest", app+":1")
	berth.run(t, "attach", "--artifact-type", "application/spdx+json", app+":1", "policy.rego:application/spdx+json")
	regctl.pipe(t, strings.NewReader(`{}`), "artifact", "put", "--subject", app+":1", "--artifact-type", "application/vnd.test.scan+json")
	mustContain(t, regctl.run(t, "artifact", "list", app+":1"), "application/spdx+json")
	mustEqual(t, "content by regctl", regctl.run(t, "artifact", "get", "--subject", app+":1", "--filter-artifact-type", "application/spdx+json"), "package policy")
	tree := berth.run(t, "referrers", app+":1")
	mustContain(t, tree, digest)
	mustContain(t, tree, "application/spdx+json")
	mustContain(t, tree, "application/vnd.test.scan+json")
	if bytes.Contains([]byte(berth.run(t, "tags", "ls", app)), []byte("sha256-")) {
		t.Error("the fallback tag was made for a registry that lists referrers")
	}
}
