package interop_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// newRegctl returns regctl, told that the registry is spoken to over plain HTTP, or over TLS with the CA.
func newRegctl(t testing.TB, r *registry, tls bool) *client {
	t.Helper()
	c := newClient(t, "regctl")
	if tls {
		c.run(t, "registry", "set", "--skip-check", "--cacert", string(r.ca), r.host)
	} else {
		c.run(t, "registry", "set", "--skip-check", "--tls", "disabled", r.host)
	}
	return c
}

func TestRegctlImage(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		r := openRegistry(t)
		regctl := newRegctl(t, r, tls)
		app := r.host + "/team/app"
		index := multiArch(t, "a")
		regctl.run(t, "image", "copy", "ocidir://"+ociLayout(t, index)+":v1", app+":multi")
		_, _, digest := r.manifest(t, "team/app", "multi")
		mustEqual(t, "digest", digest, digestOf(t, index))
		mustEqual(t, "head", regctl.run(t, "image", "digest", app+":multi"), digest)
		mustContain(t, regctl.run(t, "image", "config", "--platform", "linux/arm64/v8", app+":multi"), `"arm64"`)

		regctl.run(t, "image", "copy", app+":multi", r.host+"/other/app:multi")
		_, _, copied := r.manifest(t, "other/app", "multi")
		mustEqual(t, "digest of the copy", copied, digest)
		regctl.run(t, "image", "export", app+":multi", filepath.Join(t.TempDir(), "image.tar"))

		regctl.run(t, "image", "copy", app+":multi", app+":second")
		mustEqual(t, "tags", regctl.run(t, "tag", "ls", app), "multi\nsecond")
		mustEqual(t, "repositories", regctl.run(t, "repo", "ls", r.host), "other/app\nteam/app")
	}
}

// regctl deletes a tag by its name, as the specification has it; the image and its other tags stay.
func TestRegctlTagDelete(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	regctl := newRegctl(t, r, true)
	app := r.host + "/team/app"
	r.push(t, ociImage(t, "a"), "team/app:1")
	regctl.run(t, "image", "copy", app+":1", app+":2")

	regctl.run(t, "tag", "delete", app+":1")
	r.absent(t, "team/app", "1")
	_, _, digest := r.manifest(t, "team/app", "2")
	if n := r.requests(t, "method=DELETE", "path=/v2/team/app/manifests/1 "); n != 1 {
		t.Errorf("%d requests DELETE …/manifests/1, want 1", n)
	}
	if n := r.requests(t, "method=PUT", "path=/v2/team/app/manifests/1 "); n != 1 {
		t.Errorf("the tag was overwritten before it was deleted: regctl does that when a registry cannot delete tags")
	}

	regctl.run(t, "manifest", "delete", app+"@"+digest)
	r.absent(t, "team/app", "2")
}

// Artifacts that refer to an image: SBOMs, reports, attestations.
func TestRegctlReferrers(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	regctl := newRegctl(t, r, true)
	app := r.host + "/team/app"
	img := ociImage(t, "a")
	r.push(t, img, "team/app:1")

	for kind, content := range map[string]string{
		"application/spdx+json":          `{"spdxVersion":"SPDX-2.3"}`,
		"application/vnd.test.scan+json": `{"findings":[]}`,
	} {
		regctl.pipe(t, strings.NewReader(content), "artifact", "put", "--subject", app+":1",
			"--artifact-type", kind, "--file-media-type", kind, "--annotation", "org.example.made=by-test")
	}
	var list struct {
		Descriptors []struct {
			ArtifactType string `json:"artifactType"`
			Annotations  map[string]string
		} `json:"manifests"`
	}
	raw := regctl.run(t, "artifact", "list", app+":1", "--format", "raw-body")
	if err := json.Unmarshal([]byte(raw), &list); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var kinds []string
	for _, d := range list.Descriptors {
		kinds = append(kinds, d.ArtifactType)
		mustEqual(t, "annotation of "+d.ArtifactType, d.Annotations["org.example.made"], "by-test")
	}
	slices.Sort(kinds)
	mustEqual(t, "artifact types", strings.Join(kinds, " "), "application/spdx+json application/vnd.test.scan+json")

	filtered := regctl.run(t, "artifact", "list", app+":1", "--filter-artifact-type", "application/spdx+json", "--format", "raw-body")
	if n := strings.Count(filtered, `"artifactType"`); n != 1 {
		t.Errorf("%d referrers after the filter, want 1:\n%s", n, filtered)
	}
	got := regctl.run(t, "artifact", "get", "--subject", app+":1", "--filter-artifact-type", "application/spdx+json")
	mustEqual(t, "artifact", got, `{"spdxVersion":"SPDX-2.3"}`)

	// With the referrers the tag of the fallback scheme is not needed, and regctl, which knows, must not have made one.
	mustEqual(t, "tags", regctl.run(t, "tag", "ls", app), "1")
	regctl.run(t, "image", "copy", "--referrers", app+":1", r.host+"/other/app:1")
	mustContain(t, regctl.run(t, "artifact", "tree", r.host+"/other/app:1"), "application/spdx+json")

	// A referrer that is deleted is no longer listed.
	var first struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal([]byte(filtered), &first); err != nil {
		t.Fatal(err)
	}
	regctl.run(t, "manifest", "delete", app+"@"+first.Manifests[0].Digest)
	left := regctl.run(t, "artifact", "list", app+":1", "--format", "raw-body")
	if strings.Contains(left, "application/spdx+json") {
		t.Errorf("a deleted referrer is still listed:\n%s", left)
	}
}

// Everything named by sha512: the blobs, the manifest, and the pull by that digest.
func TestRegctlSHA512(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	regctl := newRegctl(t, r, true)
	app := r.host + "/team/app"
	layout := "ocidir://" + filepath.Join(t.TempDir(), "strong") + ":1"
	regctl.run(t, "image", "mod", "ocidir://"+ociLayout(t, ociImage(t, "a"))+":v1", "--digest-algo", "sha512", "--create", layout)
	regctl.run(t, "image", "copy", layout, app+":1")

	digest := regctl.run(t, "image", "digest", app+":1")
	t.Log(digest)
	body, _, _ := r.manifest(t, "team/app", "1")
	if n := strings.Count(string(body), "sha512:"); n != 4 {
		t.Errorf("%d sha512 digests in the manifest, want 4 (config, 3 layers):\n%s", n, body)
	}
	back := "ocidir://" + filepath.Join(t.TempDir(), "back") + ":1"
	regctl.run(t, "image", "copy", app+":1", back)
	regctl.run(t, "image", "copy", app+":1", r.host+"/other/app:1")
	sha512 := regctl.run(t, "image", "digest", layout)
	if !strings.HasPrefix(sha512, "sha512:") {
		t.Fatalf("the layout has digest %s, want sha512", sha512)
	}
	regctl.run(t, "image", "copy", layout, app+"@"+sha512)
	regctl.run(t, "manifest", "get", app+"@"+sha512)
}
