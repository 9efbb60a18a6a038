package interop_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// cosigns are the two that are in use: cosign 3, and cosign 2 as "cosign2".
func cosigns() []string { return []string{"cosign", "cosign2"} }

// newCosign returns cosign 3 with a key pair, and with no way to the public transparency log.
func newCosign(t testing.TB, r *registry) *client {
	t.Helper()
	return newCosignOf(t, "cosign", r)
}

func newCosignOf(t testing.TB, program string, r *registry) *client {
	t.Helper()
	c := newClient(t, program, r)
	c.env = append(c.env, "COSIGN_PASSWORD=", "TUF_ROOT="+filepath.Join(c.home, "tuf"))
	c.run(t, "generate-key-pair")
	writeFile(t, filepath.Join(c.home, "roots.json"), []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	return c
}

// offlineRoots keeps cosign 2 from fetching the roots of certificates and logs, of which it needs none to verify a bundle by a key, and
// without which it does not begin.
func offlineRoots(c *client, bundle string) []string {
	if c.name == "cosign2" && bundle == "--new-bundle-format=true" {
		return []string{"--trusted-root=roots.json"}
	}
	return nil
}

// The two places where a signature can live: the tag sha256-….sig that every registry can hold (cosign 1, and what cosign 2 does
// unless asked), and a bundle that refers to the image (cosign 3).
func TestCosign(t *testing.T) {
	t.Parallel()
	for _, program := range cosigns() {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			testCosign(t, program)
		})
	}
}

func testCosign(t *testing.T, program string) {
	for _, scheme := range []struct {
		name   string
		bundle string
	}{
		{"tag", "--new-bundle-format=false"},
		{"referrer", "--new-bundle-format=true"},
	} {
		t.Run(scheme.name, func(t *testing.T) {
			t.Parallel()
			r := openRegistry(t)
			cosign := newCosignOf(t, program, r)
			img := ociImage(t, "a")
			r.push(t, img, "team/app:1")
			r.push(t, ociImage(t, "unsigned"), "team/app:unsigned")
			app := r.host + "/team/app"
			image := app + "@" + digestOf(t, img)
			roots := offlineRoots(cosign, scheme.bundle)
			verify := slices.Concat([]string{"verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", scheme.bundle}, roots)

			cosign.refused(t, append(verify, image)...)
			cosign.run(t, "sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false",
				scheme.bundle, image)
			mustContain(t, cosign.run(t, append(verify, image)...), digestOf(t, img))
			mustContain(t, cosign.run(t, append(verify, app+":1")...), digestOf(t, img))
			cosign.refused(t, append(verify, app+":unsigned")...)

			tag := strings.Replace(digestOf(t, img), ":", "-", 1) + ".sig"
			status, _, referrers := r.get(t, "/v2/team/app/referrers/"+digestOf(t, img))
			if status != 200 {
				t.Fatalf("GET referrers: %d\n%s", status, referrers)
			}
			if scheme.name == "tag" {
				r.manifest(t, "team/app", tag)
			} else {
				r.absent(t, "team/app", tag)
				mustContain(t, string(referrers), "application/vnd.dev.sigstore.bundle")
			}

			// An attestation goes the same way and is found again.
			predicate := writeFile(t, filepath.Join(cosign.home, "predicate.json"), []byte(`{"tested":"yes"}`))
			cosign.run(t, "attest", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--use-signing-config=false",
				scheme.bundle, "--type", "https://example.com/tested", "--predicate", predicate, image)
			cosign.run(t, slices.Concat([]string{"verify-attestation", "--key", "cosign.pub", "--insecure-ignore-tlog=true", scheme.bundle,
				"--type", "https://example.com/tested"}, roots, []string{image})...)
			cosign.run(t, "tree", image)

			// Signatures travel with the image: those at tags by cosign's own copy, the others as referrers.
			other := r.host + "/other/app:1"
			if scheme.name == "tag" {
				cosign.run(t, "copy", app+":1", other)
			} else {
				newRegctl(t, r, true).run(t, "image", "copy", "--referrers", app+":1", other)
			}
			mustContain(t, cosign.run(t, append(verify, other)...), digestOf(t, img))
		})
	}
}
