package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Who may push and has no key can change what is at a signature's tag, or put it at the tag of another image. berth finds it out of
// what cosign 2 and 3 signed, and they of what berth signed; signatures and attestations.
func TestTamperedSignature(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	clients := map[string]*client{"berth": newBerth(t, r)}
	for _, program := range cosigns() {
		clients[program] = newCosignOf(t, program, r)
	}
	keys := clients["cosign"].home
	predicate := writeFile(t, filepath.Join(keys, "predicate.json"), []byte(`{"tested":"yes"}`))
	flags := []string{"--new-bundle-format=false", "--key"}
	offline := append([]string{"--yes", "--tlog-upload=false", "--use-signing-config=false"}, flags...)
	statement := []string{"--type", "https://example.com/tested"}
	for _, c := range clients {
		c.env = append(c.env, "COSIGN_PASSWORD=")
	}
	other := ociImage(t, "other")
	for signer, c := range clients {
		t.Run(signer, func(t *testing.T) {
			t.Parallel()
			img, repository := ociImage(t, signer), "team/"+signer
			at := r.host + "/" + repository + "@" + digestOf(t, img)
			r.push(t, img, repository+":1")
			c.run(t, append(append([]string{"sign"}, offline...), filepath.Join(keys, "cosign.key"), at)...)
			c.run(t, append(append(append([]string{"attest"}, statement...), offline...), filepath.Join(keys, "cosign.key"), "--predicate", predicate, at)...)
			for _, spoiled := range []struct {
				name, suffix string
				good         bool
				of           v1.Image
				change       func(t *testing.T, body []byte, notes map[string]any) []byte
			}{
				{"signature", ".sig", true, img, unchanged},
				{"signature-bytes", ".sig", false, img, otherSignature},
				{"signature-payload", ".sig", false, img, replaced("cosign container image signature", "cosign container image signatura")},
				{"signature-image", ".sig", false, other, unchanged},
				{"signature-digest", ".sig", false, other, replaced(digestOf(t, img), digestOf(t, other))},
				{"statement", ".att", true, img, unchanged},
				{"statement-payload", ".att", false, img, otherStatement(`"yes"`, `"no!"`)},
				{"statement-image", ".att", false, other, unchanged},
				{"statement-digest", ".att", false, other, otherStatement(strings.TrimPrefix(digestOf(t, img), "sha256:"), strings.TrimPrefix(digestOf(t, other), "sha256:"))},
			} {
				place := repository + "/" + spoiled.name
				r.push(t, spoiled.of, place+":1")
				r.transplant(t, repository, tagOf(t, img)+spoiled.suffix, place, tagOf(t, spoiled.of)+spoiled.suffix, spoiled.change)
				verify := []string{"verify"}
				if spoiled.suffix == ".att" {
					verify = append([]string{"verify-attestation"}, statement...)
				}
				verify = append(append(verify, "--insecure-ignore-tlog=true"), flags...)
				for name, verifier := range clients {
					if name != "berth" && signer != "berth" { // of what cosign makes of cosign's we promise nothing
						continue
					}
					got := verifier.exec(t, nil, append(verify, filepath.Join(keys, "cosign.pub"), r.host+"/"+place+"@"+digestOf(t, spoiled.of))...)
					if (got.code == 0) != spoiled.good {
						t.Errorf("%s: exit code %d\n%s", spoiled.name, got.code, got)
					}
				}
			}
		})
	}
}

func tagOf(t testing.TB, img v1.Image) string {
	t.Helper()
	return strings.Replace(digestOf(t, img), ":", "-", 1)
}

func unchanged(_ *testing.T, body []byte, _ map[string]any) []byte { return body }

// replaced changes bytes of the payload into as many others.
func replaced(old, new string) func(*testing.T, []byte, map[string]any) []byte {
	return func(t *testing.T, body []byte, _ map[string]any) []byte {
		t.Helper()
		if !bytes.Contains(body, []byte(old)) {
			t.Fatalf("no %q in %s", old, body)
		}
		return bytes.ReplaceAll(body, []byte(old), []byte(new))
	}
}

// otherSignature changes the last byte of the signature, which stands in an annotation.
func otherSignature(t *testing.T, body []byte, notes map[string]any) []byte {
	t.Helper()
	text, _ := notes["dev.cosignproject.cosign/signature"].(string)
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sig) == 0 {
		t.Fatalf("signature %q: %v", text, err)
	}
	sig[len(sig)-1] ^= 1
	notes["dev.cosignproject.cosign/signature"] = base64.StdEncoding.EncodeToString(sig)
	return body
}

// otherStatement changes bytes of what an envelope says.
func otherStatement(old, new string) func(*testing.T, []byte, map[string]any) []byte {
	return func(t *testing.T, body []byte, notes map[string]any) []byte {
		t.Helper()
		var envelope map[string]any
		if err := json.Unmarshal(body, &envelope); err != nil {
			t.Fatal(err)
		}
		text, _ := envelope["payload"].(string)
		payload, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		envelope["payload"] = replaced(old, new)(t, payload, notes)
		return marshal(t, envelope)
	}
}

// transplant copies the manifest of a signature and what it needs to another repository and tag, its layer changed on the way.
func (r *registry) transplant(t *testing.T, from, tag, to, as string, change func(t *testing.T, body []byte, notes map[string]any) []byte) {
	t.Helper()
	body, mediaType, _ := r.manifest(t, from, tag)
	var m struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType,omitempty"`
		Config        map[string]any   `json:"config"`
		Layers        []map[string]any `json:"layers"`
	}
	if err := json.Unmarshal(body, &m); err != nil || len(m.Layers) != 1 {
		t.Fatalf("%v in %s", err, body)
	}
	for i, d := range []map[string]any{m.Config, m.Layers[0]} {
		status, _, content := r.get(t, "/v2/"+from+"/blobs/"+d["digest"].(string))
		if status != http.StatusOK {
			t.Fatalf("GET blob %s: %d", d["digest"], status)
		}
		if i == 1 {
			notes, _ := d["annotations"].(map[string]any)
			content = change(t, content, notes)
		}
		sum := sha256.Sum256(content)
		d["digest"], d["size"] = "sha256:"+hex.EncodeToString(sum[:]), len(content)
		if status, _, said := r.do(t, http.MethodPost, "/v2/"+to+"/blobs/uploads/?digest="+d["digest"].(string), bytes.NewReader(content), nil); status != http.StatusCreated {
			t.Fatalf("POST blob: %d\n%s", status, said)
		}
	}
	if status, _, said := r.do(t, http.MethodPut, "/v2/"+to+"/manifests/"+as, bytes.NewReader(marshal(t, m)), http.Header{"Content-Type": {mediaType}}); status != http.StatusCreated {
		t.Fatalf("PUT manifest: %d\n%s", status, said)
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
