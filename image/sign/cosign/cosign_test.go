package cosign_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/signtest"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

const testType = "https://example.com/tested"

func now() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }

func newKey(t *testing.T, a key.Algorithm) *key.Private {
	t.Helper()
	k, err := key.New(a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func trust(keys ...*key.Private) cosign.Trust {
	var tr cosign.Trust
	for _, k := range keys {
		tr.Keys = append(tr.Keys, k.Public())
	}
	return tr
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused fails the test unless err is a refusal for the reason, whose text says so.
func refused(t *testing.T, err error, why sign.Why, says string) {
	t.Helper()
	var r *sign.Refusal
	if !errors.As(err, &r) || r.Why != why || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want a refusal %d that says %q", err, why, says)
	}
}

func formats() []cosign.Format { return []cosign.Format{cosign.Bundle, cosign.Legacy} }

// What one signer signed is verified with its key, by either scheme and every kind of key, and by no other.
func TestSignVerify(t *testing.T) {
	for _, format := range formats() {
		for _, a := range []key.Algorithm{key.P256, key.P384, key.P521, key.RSA2048, key.Ed25519} {
			t.Run(string(format)+"/"+string(a), func(t *testing.T) {
				t.Parallel()
				s := signtest.New()
				image, k := s.Image("a"), newKey(t, a)
				g := cosign.Signer{Key: k, Format: format, Now: now}

				_, err := cosign.Verify(t.Context(), s, image.Digest, trust(k), nil)
				refused(t, err, sign.NoSignature, "has no signature")
				where := must[string](t)(g.Sign(t.Context(), s, image, "registry.example.com/app", map[string]any{"env": "prod"}))
				got := must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, trust(k), map[string]string{"env": "prod"}))
				if len(got) != 1 || got[0].Where != where || got[0].Key != k.Public().ID() || got[0].Optional["env"] != "prod" {
					t.Fatalf("verified %+v, signed at %s", got, where)
				}
				_, err = cosign.Verify(t.Context(), s, image.Digest, trust(newKey(t, a)), nil)
				refused(t, err, sign.NoMatch, "of 1 looked at")
				_, err = cosign.Verify(t.Context(), s, image.Digest, trust(k), map[string]string{"env": "test"})
				refused(t, err, sign.NoMatch, "env=test was not signed")
				_, err = cosign.Verify(t.Context(), s, s.Image("b").Digest, trust(k), nil)
				refused(t, err, sign.NoSignature, "has no signature")
				// Any of several keys is enough.
				must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, trust(newKey(t, key.P256), k), nil))
			})
		}
	}
}

func TestAttest(t *testing.T) {
	for _, format := range formats() {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			s := signtest.New()
			image, k := s.Image("a"), newKey(t, key.P256)
			g := cosign.Signer{Key: k, Format: format, Now: now}
			must[string](t)(g.Attest(t.Context(), s, image, "registry.example.com/app", testType, []byte(`{"tested":"yes"}`)))

			got := must[[]sign.Verified](t)(cosign.VerifyAttestations(t.Context(), s, image.Digest, trust(k), testType))
			if len(got) != 1 || got[0].Predicate != testType || !bytes.Contains(got[0].Payload, []byte(`{"tested":"yes"}`)) {
				t.Fatalf("verified %+v", got)
			}
			must[[]sign.Verified](t)(cosign.VerifyAttestations(t.Context(), s, image.Digest, trust(k), ""))
			_, err := cosign.VerifyAttestations(t.Context(), s, image.Digest, trust(k), "https://example.com/other")
			refused(t, err, sign.NoSignature, "https://example.com/other")
			_, err = cosign.VerifyAttestations(t.Context(), s, image.Digest, trust(newKey(t, key.P256)), testType)
			refused(t, err, sign.NoMatch, "")

			// An attestation says something of an image; that the image is fit to run it does not say.
			_, err = cosign.Verify(t.Context(), s, image.Digest, trust(k), nil)
			refused(t, err, sign.NoSignature, "has no signature")

			// A signature is no attestation, either.
			must[string](t)(g.Sign(t.Context(), s, image, "registry.example.com/app", nil))
			if n := len(must[[]sign.Verified](t)(cosign.VerifyAttestations(t.Context(), s, image.Digest, trust(k), ""))); n != 1 {
				t.Fatalf("%d attestations, want 1", n)
			}
			if _, err := g.Attest(t.Context(), s, image, "", testType, []byte("{")); !fault.Is(err, fault.Invalid) {
				t.Fatalf("a predicate that is not JSON: %v", err)
			}
		})
	}
}

// Signatures of others stay, and a tag that is something else is not replaced.
func TestAppend(t *testing.T) {
	s := signtest.New()
	image := s.Image("a")
	keys := []*key.Private{newKey(t, key.P256), newKey(t, key.P256), newKey(t, key.Ed25519)}
	for _, k := range keys {
		must[string](t)(cosign.Signer{Key: k, Format: cosign.Legacy, Now: now}.Sign(t.Context(), s, image, "app", nil))
	}
	for _, k := range keys {
		must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, trust(k), nil))
	}

	other := s.Image("b")
	index := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`)
	_ = s.PutManifest(t.Context(), ref.Reference{Tag: cosign.Tag(other.Digest, ".sig")}, oci.MediaTypeIndex, index)
	_, err := cosign.Signer{Key: keys[0], Format: cosign.Legacy, Now: now}.Sign(t.Context(), s, other, "app", nil)
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("signing over an index: %v", err)
	}
}

// spoiled is a repository with one signed image, and what a case does to it before the verification.
type spoiled struct {
	*signtest.Store
	t     *testing.T
	image sign.Content
	key   *key.Private
}

// edit replaces the manifest of the signature by what change makes of it, under the same tag or as another referrer.
func (s *spoiled) edit(change func(m map[string]any, layers []any)) {
	s.t.Helper()
	for name, c := range maps.Clone(s.Manifests) {
		if c.Digest == s.image.Digest {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal(c.Body, &m); err != nil {
			s.t.Fatal(err)
		}
		change(m, m["layers"].([]any))
		body, _ := json.Marshal(m)
		delete(s.Manifests, name)
		r := ref.Reference{Digest: oci.FromBytes(oci.SHA256, body)}
		if !strings.Contains(name, ":") {
			r = ref.Reference{Tag: name}
		}
		_ = s.PutManifest(s.t.Context(), r, c.MediaType, body)
	}
}

// content replaces the bytes of the signature's layer, and its descriptor with them.
func (s *spoiled) content(change func([]byte) []byte) {
	s.edit(func(_ map[string]any, layers []any) {
		layer := layers[0].(map[string]any)
		d, err := oci.ParseDigest(layer["digest"].(string))
		if err != nil {
			s.t.Fatal(err)
		}
		body := change(bytes.Clone(s.Blobs[d]))
		now := oci.FromBytes(oci.SHA256, body)
		s.Blobs[now] = body
		layer["digest"], layer["size"] = now.String(), len(body)
	})
}

func replace(from, to string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, []byte(from)) {
			panic(fmt.Sprintf("no %q in %s", from, b))
		}
		return bytes.ReplaceAll(b, []byte(from), []byte(to))
	}
}

// Each case spoils one thing of a good signature. None may be verified, none may fail in another way than by a refusal.
func TestNegative(t *testing.T) {
	other := oci.FromBytes(oci.SHA256, []byte("another image"))
	cases := []struct {
		name   string
		format cosign.Format
		spoil  func(*spoiled)
	}{
		{"payload names another image", cosign.Legacy, func(s *spoiled) { s.content(replace(s.image.Digest.String(), other.String())) }},
		{"payload of another kind", cosign.Legacy, func(s *spoiled) { s.content(replace("cosign container", "other container")) }},
		{"payload is not JSON", cosign.Legacy, func(s *spoiled) { s.content(func([]byte) []byte { return []byte("{") }) }},
		{"payload is empty", cosign.Legacy, func(s *spoiled) { s.content(func([]byte) []byte { return nil }) }},
		{"no annotations", cosign.Legacy, func(s *spoiled) {
			s.edit(func(_ map[string]any, l []any) { delete(l[0].(map[string]any), "annotations") })
		}},
		{"empty signature", cosign.Legacy, annotate("")},
		{"signature not base64", cosign.Legacy, annotate("%%%")},
		{"signature of zeros", cosign.Legacy, annotate(base64.StdEncoding.EncodeToString(make([]byte, 70)))},
		{"layer of an unknown type", cosign.Legacy, func(s *spoiled) {
			s.edit(func(_ map[string]any, l []any) { l[0].(map[string]any)["mediaType"] = "application/x" })
		}},
		{"layer is missing", cosign.Legacy, func(s *spoiled) { clear(s.Blobs) }},
		{"layer has other bytes", cosign.Legacy, func(s *spoiled) {
			for d := range s.Blobs {
				s.Blobs[d] = []byte("rot")
			}
		}},
		{"layer is too large", cosign.Legacy, func(s *spoiled) {
			s.edit(func(_ map[string]any, l []any) { l[0].(map[string]any)["size"] = sign.MaxBytes + 1 })
		}},
		{"tag is an index", cosign.Legacy, func(s *spoiled) {
			body := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`)
			_ = s.PutManifest(t.Context(), ref.Reference{Tag: cosign.Tag(s.image.Digest, ".sig")}, oci.MediaTypeIndex, body)
		}},
		{"a garbage certificate", cosign.Legacy, func(s *spoiled) {
			s.edit(func(_ map[string]any, l []any) {
				l[0].(map[string]any)["annotations"].(map[string]any)["dev.sigstore.cosign/certificate"] = "garbage"
			})
		}},
		{"a garbage log entry", cosign.Legacy, func(s *spoiled) {
			s.edit(func(_ map[string]any, l []any) {
				l[0].(map[string]any)["annotations"].(map[string]any)["dev.sigstore.cosign/bundle"] = `{"SignedEntryTimestamp":"","Payload":{"body":"e30="}}`
			})
		}},
		{"signature moved from another image", cosign.Legacy, func(s *spoiled) {
			from := s.Image("other")
			if _, err := (cosign.Signer{Key: s.key, Format: cosign.Legacy, Now: now}).Sign(t.Context(), s, from, "app", nil); err != nil {
				t.Fatal(err)
			}
			s.Manifests[cosign.Tag(s.image.Digest, ".sig")] = s.Manifests[cosign.Tag(from.Digest, ".sig")]
		}},
		{"bundle is not JSON", cosign.Bundle, func(s *spoiled) { s.content(func([]byte) []byte { return []byte("{") }) }},
		{"bundle of an unknown version", cosign.Bundle, func(s *spoiled) { s.content(replace("bundle.v0.3", "bundle.v0.9")) }},
		{"bundle without an envelope", cosign.Bundle, func(s *spoiled) { s.content(replace("dsseEnvelope", "messageSignature")) }},
		{"bundle without material", cosign.Bundle, func(s *spoiled) { s.content(replace(`"verificationMaterial"`, `"x"`)) }},
		{"two signatures in the envelope", cosign.Bundle, func(s *spoiled) { s.content(replace(`"signatures":[`, `"signatures":[{"sig":"AAAA"},`)) }},
		{"no signature in the envelope", cosign.Bundle, func(s *spoiled) { s.envelope(func(e map[string]any) { e["signatures"] = []any{} }) }},
		{"payload of another type", cosign.Bundle, func(s *spoiled) { s.envelope(func(e map[string]any) { e["payloadType"] = "text/plain" }) }},
		{"statement names another image", cosign.Bundle, func(s *spoiled) {
			s.envelope(func(e map[string]any) {
				b, _ := base64.StdEncoding.DecodeString(e["payload"].(string))
				e["payload"] = base64.StdEncoding.EncodeToString(replace(s.image.Digest.Hex(), other.Hex())(b))
			})
		}},
		{"subject of the manifest is another", cosign.Bundle, func(s *spoiled) {
			s.edit(func(m map[string]any, _ []any) { m["subject"].(map[string]any)["digest"] = other.String() })
		}},
		{"bundle is missing", cosign.Bundle, func(s *spoiled) { clear(s.Blobs) }},
		{"bundle of another image refers to this", cosign.Bundle, func(s *spoiled) {
			from := s.Image("other")
			clear(s.Blobs)
			maps.DeleteFunc(s.Manifests, func(_ string, c sign.Content) bool { return bytes.Contains(c.Body, []byte("subject")) })
			if _, err := (cosign.Signer{Key: s.key, Format: cosign.Bundle, Now: now}).Sign(t.Context(), s, from, "app", nil); err != nil {
				t.Fatal(err)
			}
			s.edit(func(m map[string]any, _ []any) {
				if sub, ok := m["subject"].(map[string]any); ok {
					sub["digest"] = s.image.Digest.String()
				}
			})
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &spoiled{Store: signtest.New(), t: t, key: newKey(t, key.P256)}
			s.image = s.Image("a")
			g := cosign.Signer{Key: s.key, Format: c.format, Now: now}
			must[string](t)(g.Sign(t.Context(), s, s.image, "app", nil))
			must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, s.image.Digest, trust(s.key), nil))
			c.spoil(s)
			got, err := cosign.Verify(t.Context(), s, s.image.Digest, trust(s.key), nil)
			var r *sign.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("verified %+v, error %v; want a refusal", got, err)
			}
			if r.Why != sign.NoMatch && r.Why != sign.NoSignature {
				t.Fatalf("refused for %d: %v", r.Why, err)
			}
			// A good one beside the bad one is found.
			must[string](t)(cosign.Signer{Key: s.key, Format: cosign.Bundle, Now: now}.Sign(t.Context(), s, s.image, "app", nil))
			must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, s.image.Digest, trust(s.key), nil))
		})
	}
}

func annotate(value string) func(*spoiled) {
	return func(s *spoiled) {
		s.edit(func(_ map[string]any, l []any) {
			l[0].(map[string]any)["annotations"].(map[string]any)["dev.cosignproject.cosign/signature"] = value
		})
	}
}

// envelope changes the envelope of a bundle.
func (s *spoiled) envelope(change func(e map[string]any)) {
	s.content(func(b []byte) []byte {
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			s.t.Fatal(err)
		}
		change(m["dsseEnvelope"].(map[string]any))
		b, _ = json.Marshal(m)
		return b
	})
}

// A repository that cannot be read is an error and no refusal; a signature may be there.
func TestRepositoryFails(t *testing.T) {
	for _, what := range []string{"manifest", "blob", "referrers"} {
		s := signtest.New()
		image, k := s.Image("a"), newKey(t, key.P256)
		must[string](t)(cosign.Signer{Key: k, Format: cosign.Legacy, Now: now}.Sign(t.Context(), s, image, "app", nil))
		away := fault.New(fault.Unavailable, fault.UnavailableReason, "away")
		s.Fail = func(w string) error {
			if strings.HasPrefix(w, what) {
				return away
			}
			return nil
		}
		_, err := cosign.Verify(t.Context(), s, image.Digest, trust(k), nil)
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s away: %v", what, err)
		}
	}
}

// Whoever may push can make as many signatures as they like. Only so many are read.
func TestLimits(t *testing.T) {
	s := signtest.New()
	image, k := s.Image("a"), newKey(t, key.P256)
	g := cosign.Signer{Key: newKey(t, key.P256), Format: cosign.Legacy, Now: now}
	must[string](t)(g.Sign(t.Context(), s, image, "app", nil))
	sp := &spoiled{Store: s, t: t, image: image}
	sp.edit(func(m map[string]any, layers []any) {
		for range 5000 {
			layers = append(layers, layers[0])
		}
		m["layers"] = layers
	})
	reads := 0
	s.Fail = func(what string) error {
		if strings.HasPrefix(what, "blob") {
			reads++
		}
		return nil
	}
	_, err := cosign.Verify(t.Context(), s, image.Digest, trust(k), nil)
	refused(t, err, sign.NoMatch, "")
	var r *sign.Refusal
	if errors.As(err, &r); !strings.Contains(r.Message, "only the first 128") || reads != sign.MaxSignatures {
		t.Fatalf("%d blobs read; %v", reads, r.Message)
	}
}

// To believe nobody in particular is not to believe everybody.
func TestNothingToVerifyWith(t *testing.T) {
	s := signtest.New()
	image := s.Image("a")
	for name, tr := range map[string]cosign.Trust{
		"nothing":          {},
		"identity alone":   {Identity: cosign.Identity{Subject: "a@example.com", Issuer: "https://issuer.example.com"}},
		"key and identity": {Keys: trust(newKey(t, key.P256)).Keys, Identity: cosign.Identity{Subject: "a"}},
	} {
		if _, err := cosign.Verify(t.Context(), s, image.Digest, tr, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPredicateType(t *testing.T) {
	for name, want := range map[string]string{
		"slsaprovenance1": "https://slsa.dev/provenance/v1", "cyclonedx": "https://cyclonedx.org/bom", testType: testType,
	} {
		if got := must[string](t)(cosign.PredicateType(name)); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	for _, name := range []string{"", "spdxx", "https://", "a b"} {
		if _, err := cosign.PredicateType(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
