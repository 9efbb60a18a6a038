package cosign_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/signtest"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// written is what cosign left of an image that it signed and attested by a key: testdata/cosign2-tag.json and others, whose names say
// the version and where it put it. The image itself is not in it.
type written struct {
	Key       string     `json:"key"`
	Image     oci.Digest `json:"image"`
	Manifests []struct {
		Reference string `json:"reference"`
		MediaType string `json:"mediaType"`
		Body      []byte `json:"body"`
	} `json:"manifests"`
	Blobs [][]byte `json:"blobs"`
}

func (w written) store(t *testing.T) *signtest.Store {
	t.Helper()
	s := signtest.New()
	for _, m := range w.Manifests {
		at := ref.Reference{Tag: m.Reference}
		if strings.Contains(m.Reference, ":") {
			at = ref.Reference{Digest: must[oci.Digest](t)(oci.ParseDigest(m.Reference))}
		}
		_ = s.PutManifest(t.Context(), at, m.MediaType, m.Body) // it cannot fail
	}
	for _, b := range w.Blobs {
		s.Blobs[oci.FromBytes(oci.SHA256, b)] = b
	}
	return s
}

// What cosign 2 and 3 wrote is verified, by its key and no other, and not when it is about another image. The payloads differ between
// them: statements of in-toto v0.1 and v1, signatures as simple signing and as statements.
func TestWrittenByCosign(t *testing.T) {
	files, err := filepath.Glob("testdata/cosign*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			var w written
			if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(file)), &w); err != nil {
				t.Fatal(err)
			}
			believed := cosign.Trust{Keys: []*key.Public{must[*key.Public](t)(key.ParsePublic([]byte(w.Key)))}}
			notes := map[string]string{"env": "prod"}
			if name == "cosign2-bundle" { // it signs no annotations there
				notes = nil
			}
			s := w.store(t)
			if got := must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, w.Image, believed, notes)); len(got) != 1 {
				t.Errorf("%d signatures, want 1", len(got))
			}
			if got := must[[]sign.Verified](t)(cosign.VerifyAttestations(t.Context(), s, w.Image, believed, testType)); len(got) != 1 {
				t.Errorf("%d attestations, want 1", len(got))
			}
			_, err := cosign.Verify(t.Context(), s, w.Image, believed, map[string]string{"env": "test"})
			refused(t, err, sign.NoMatch, "env=test was not signed")
			stranger := trust(newKey(t, key.P256))
			_, err = cosign.Verify(t.Context(), s, w.Image, stranger, nil)
			refused(t, err, sign.NoMatch, "")
			_, err = cosign.VerifyAttestations(t.Context(), s, w.Image, stranger, testType)
			refused(t, err, sign.NoMatch, "")

			// The same under the name of another image: at its tags, and among its referrers.
			other := s.Image("another")
			for _, m := range w.Manifests {
				body := []byte(strings.ReplaceAll(string(m.Body), w.Image.String(), other.Digest.String()))
				at := ref.Reference{Digest: oci.FromBytes(oci.SHA256, body)}
				if tag := strings.Replace(m.Reference, w.Image.Hex(), other.Digest.Hex(), 1); tag != m.Reference {
					at = ref.Reference{Tag: tag}
				}
				_ = s.PutManifest(t.Context(), at, m.MediaType, body)
			}
			_, err = cosign.Verify(t.Context(), s, other.Digest, believed, nil)
			refused(t, err, sign.NoMatch, "")
			_, err = cosign.VerifyAttestations(t.Context(), s, other.Digest, believed, testType)
			refused(t, err, sign.NoMatch, "")
		})
	}
}
