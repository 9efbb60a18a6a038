package interop_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// newCosign returns cosign with a key pair, and with no way to the public transparency log.
func newCosign(t testing.TB, r *registry) *client {
	t.Helper()
	c := newClient(t, "cosign", r)
	c.env = append(c.env, "COSIGN_PASSWORD=", "TUF_ROOT="+filepath.Join(c.home, "tuf"))
	c.run(t, "generate-key-pair")
	return c
}

// The two places where a signature can live: the tag sha256-….sig that every registry can hold (cosign 1 and 2), and
// a bundle that refers to the image (cosign 3).
func TestCosign(t *testing.T) {
	t.Parallel()
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
			cosign := newCosign(t, r)
			img := ociImage(t, "a")
			r.push(t, img, "team/app:1")
			r.push(t, ociImage(t, "unsigned"), "team/app:unsigned")
			app := r.host + "/team/app"
			image := app + "@" + digestOf(t, img)
			verify := []string{"verify", "--key", "cosign.pub", "--insecure-ignore-tlog=true", scheme.bundle}

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
			cosign.run(t, "verify-attestation", "--key", "cosign.pub", "--insecure-ignore-tlog=true", scheme.bundle,
				"--type", "https://example.com/tested", image)
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
