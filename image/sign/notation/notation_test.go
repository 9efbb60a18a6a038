package notation_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/notation"
	"github.com/berth-registry/berth/image/sign/signtest"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// authority is a root certificate that signs signers' certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}, Country: []string{"US"}, Province: []string{"WA"}},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, k}
}

// signer issues a certificate for signing; change varies it.
func (a authority) signer(t *testing.T, change func(*x509.Certificate)) notation.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "signer", Organization: []string{"Example"}, Country: []string{"US"}, Province: []string{"WA"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return notation.Signer{Key: k, Chain: []*x509.Certificate{cert, a.cert}, Agent: "test"}
}

// trust believes the authority: level and identities as a trust policy has them.
func trust(t *testing.T, a authority, level string, identities ...string) *notation.Trust {
	t.Helper()
	dir := t.TempDir()
	store := filepath.Join(dir, "truststore", "x509", "ca", "example")
	if err := os.MkdirAll(store, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(store, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if identities == nil {
		identities = []string{"*"}
	}
	p := map[string]any{"name": "p", "registryScopes": []string{"registry.example.com/app"}, "signatureVerification": map[string]string{"level": level}}
	if level != "skip" {
		p["trustStores"], p["trustedIdentities"] = []string{"ca:example"}, identities
	}
	doc, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": []any{p}})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := notation.ParseTrust(doc, dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func at(c sign.Content) string { return "registry.example.com/app@" + c.Digest.String() }

func TestSignVerify(t *testing.T) {
	a := newAuthority(t, "root")
	s := signtest.New()
	image := s.Image("a")
	where, err := a.signer(t, nil).Sign(t.Context(), s, image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := trust(t, a, "strict").Verify(t.Context(), s, image, at(image))
	if err != nil || len(got) != 1 || got[0].Where != where || !strings.Contains(got[0].Identity, "CN=signer") || !strings.Contains(got[0].Issuer, "CN=root") {
		t.Fatalf("%+v, %v", got, err)
	}
	if !strings.Contains(string(got[0].Payload), image.Digest.String()) {
		t.Errorf("payload %s", got[0].Payload)
	}
	if _, err := trust(t, a, "strict", "x509.subject: C=US, ST=WA, O=Example, CN=signer").Verify(t.Context(), s, image, at(image)); err != nil {
		t.Errorf("by its subject: %v", err)
	}
}

// Each case has one thing wrong with a signature, or with whom the policy believes.
func TestNegative(t *testing.T) {
	a := newAuthority(t, "root")
	edit := func(t *testing.T, s *signtest.Store, change func(m map[string]any)) {
		t.Helper()
		for name, c := range s.Manifests {
			if !strings.Contains(string(c.Body), "subject") {
				continue
			}
			var m map[string]any
			if err := json.Unmarshal(c.Body, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			body, _ := json.Marshal(m)
			delete(s.Manifests, name)
			_ = s.PutManifest(t.Context(), ref.Reference{Digest: oci.FromBytes(oci.SHA256, body)}, c.MediaType, body)
			return
		}
	}
	layer := func(m map[string]any) map[string]any { return m["layers"].([]any)[0].(map[string]any) }
	for name, c := range map[string]struct {
		signer notation.Signer
		trust  func(t *testing.T) *notation.Trust
		spoil  func(t *testing.T, s *signtest.Store, image sign.Content)
		why    sign.Why
		says   string
	}{
		"another authority": {a.signer(t, nil), func(t *testing.T) *notation.Trust { return trust(t, newAuthority(t, "other"), "strict") }, nil, sign.NoMatch, ""},
		"another subject": {a.signer(t, nil), func(t *testing.T) *notation.Trust {
			return trust(t, a, "strict", "x509.subject: C=US, ST=WA, O=Example, CN=other")
		}, nil, sign.NoMatch, ""},
		"policy that skips":          {a.signer(t, nil), func(t *testing.T) *notation.Trust { return trust(t, a, "skip") }, nil, sign.NoMatch, "nothing was verified"},
		"expired certificate":        {a.signer(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil, nil, 0, ""},
		"revocation cannot be known": {a.signer(t, func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1"} }), nil, nil, sign.NoMatch, "revocation"},
		"layer missing":              {a.signer(t, nil), nil, func(_ *testing.T, s *signtest.Store, _ sign.Content) { clear(s.Blobs) }, sign.NoMatch, "not there"},
		"layer has other bytes": {a.signer(t, nil), nil, func(_ *testing.T, s *signtest.Store, _ sign.Content) {
			for d := range s.Blobs {
				s.Blobs[d] = []byte("rot")
			}
		}, sign.NoMatch, "other bytes"},
		"layer of an unknown type": {a.signer(t, nil), nil, func(t *testing.T, s *signtest.Store, _ sign.Content) {
			edit(t, s, func(m map[string]any) { layer(m)["mediaType"] = "text/plain" })
		}, sign.NoMatch, "text/plain"},
		"layer too large": {a.signer(t, nil), nil, func(t *testing.T, s *signtest.Store, _ sign.Content) {
			edit(t, s, func(m map[string]any) { layer(m)["size"] = sign.MaxBytes + 1 })
		}, sign.NoMatch, "more than"},
		"two layers": {a.signer(t, nil), nil, func(t *testing.T, s *signtest.Store, _ sign.Content) {
			edit(t, s, func(m map[string]any) { m["layers"] = append(m["layers"].([]any), layer(m)) })
		}, sign.NoMatch, "2 layers"},
		"not a JWS": {a.signer(t, nil), nil, func(t *testing.T, s *signtest.Store, _ sign.Content) {
			body := []byte("{}")
			d := oci.FromBytes(oci.SHA256, body)
			s.Blobs[d] = body
			edit(t, s, func(m map[string]any) { layer(m)["digest"], layer(m)["size"] = d.String(), len(body) })
		}, sign.NoMatch, ""},
		"signature of another image": {a.signer(t, nil), nil, func(t *testing.T, s *signtest.Store, image sign.Content) {
			other := signtest.New()
			from := other.Image("other")
			if _, err := a.signer(t, nil).Sign(t.Context(), other, from); err != nil {
				t.Fatal(err)
			}
			for _, c := range other.Manifests {
				if strings.Contains(string(c.Body), "subject") {
					edit(t, s, func(m map[string]any) {
						var theirs map[string]any
						_ = json.Unmarshal(c.Body, &theirs)
						m["layers"] = theirs["layers"]
					})
				}
			}
			for d, b := range other.Blobs {
				s.Blobs[d] = b
			}
			_ = image
		}, sign.NoMatch, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := signtest.New()
			image := s.Image("a")
			_, err := c.signer.Sign(t.Context(), s, image)
			if c.why == 0 { // not even made
				if !fault.Is(err, fault.Invalid) {
					t.Fatalf("signing: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				c.spoil(t, s, image)
			}
			tr := trust(t, a, "strict")
			if c.trust != nil {
				tr = c.trust(t)
			}
			got, err := tr.Verify(t.Context(), s, image, at(image))
			var r *sign.Refusal
			if !errors.As(err, &r) || r.Why != c.why || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("verified %+v, %v; want a refusal that says %q", got, err, c.says)
			}
		})
	}
	s := signtest.New()
	image := s.Image("a")
	_, err := trust(t, a, "strict").Verify(t.Context(), s, image, at(image))
	var r *sign.Refusal
	if !errors.As(err, &r) || r.Why != sign.NoSignature {
		t.Errorf("without a signature: %v", err)
	}
	if _, err := trust(t, a, "strict").Verify(t.Context(), s, image, "other.example.com/app@"+image.Digest.String()); !errors.As(err, &r) {
		t.Errorf("a repository without a policy: %v", err)
	}
	s.Fail = func(string) error { return fault.New(fault.Unavailable, fault.UnavailableReason, "away") }
	if _, err := trust(t, a, "strict").Verify(t.Context(), s, image, at(image)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a repository that is away: %v", err)
	}
	for _, doc := range []string{"", "{", "{}", `{"version":"9","trustPolicies":[]}`} {
		if _, err := notation.ParseTrust([]byte(doc), t.TempDir()); !fault.Is(err, fault.Invalid) {
			t.Errorf("policy %q: %v", doc, err)
		}
	}
}
