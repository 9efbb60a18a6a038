package issuer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/issuer"
)

type object = map[string]any

const audience = "https://registry.example.com"

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signer is a private key with its public half as JSON.
type signer struct {
	id, alg string
	private crypto.Signer
}

func newSigner(t *testing.T, id, alg string) *signer {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case "RS256", "PS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, alg, private}
}

func (s *signer) jwk(t *testing.T) object {
	t.Helper()
	k := object{"kid": s.id, "use": "sig", "alg": s.alg}
	switch p := s.private.Public().(type) {
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA", b64(p.N.Bytes()), b64(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		k["kty"], k["crv"], k["x"], k["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case ed25519.PublicKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(p)
	}
	return k
}

// sign makes a token; change is laid over the header, a nil value removes.
func (s *signer) sign(t *testing.T, claims, change object) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(s.alg), jwt.MapClaims(claims))
	tok.Header["kid"] = s.id
	for k, v := range change {
		if tok.Header[k] = v; v == nil {
			delete(tok.Header, k)
		}
	}
	text, err := tok.SignedString(s.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// provider is an issuer on loopback, with discovery and a key set.
type provider struct {
	*httptest.Server
	keys      atomic.Value // []object
	asked     atomic.Int64
	discovery func(w http.ResponseWriter, r *http.Request) // nil for a right one
	down      atomic.Bool
}

func newProvider(t *testing.T, keys ...object) *provider {
	t.Helper()
	p := &provider{}
	p.keys.Store(keys)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		if p.discovery != nil {
			p.discovery(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		if p.down.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"keys": p.keys.Load()})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// shapes are tokens as the three systems make them, without iss, aud and times.
func shapes() map[string]object {
	return map[string]object{
		"github": {
			"sub": "repo:octo/app:ref:refs/heads/main", "repository": "octo/app", "repository_id": "74", "repository_owner": "octo",
			"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "event_name": "push", "runner_environment": "github-hosted",
			"job_workflow_ref": "octo/app/.github/workflows/ci.yml@refs/heads/main", "run_attempt": "1",
		},
		"gitlab": {
			"sub": "project_path:group/app:ref_type:branch:ref:main", "namespace_path": "group", "project_path": "group/app", "project_id": "22",
			"ref": "main", "ref_type": "branch", "ref_protected": "true", "pipeline_source": "push", "user_login": "dev", "groups_direct": []any{"group"},
		},
		"kubernetes": {
			"sub":           "system:serviceaccount:build:pusher",
			"kubernetes.io": object{"namespace": "build", "serviceaccount": object{"name": "pusher", "uid": "8d1c"}, "pod": object{"name": "pusher-1", "uid": "77"}},
		},
	}
}

func claimsOf(shape object, iss string) object {
	c := maps.Clone(shape)
	c["iss"], c["aud"] = iss, audience
	c["iat"], c["nbf"], c["exp"] = noon.Unix(), noon.Unix(), noon.Add(5*time.Minute).Unix()
	return c
}

func verifier(t *testing.T, p *provider, now func() time.Time) *issuer.Verifier {
	t.Helper()
	keys, err := issuer.NewRemote(issuer.RemoteOptions{Issuer: p.URL, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	v, err := issuer.New(issuer.Options{Issuer: p.URL, Audiences: []string{audience}, Keys: keys, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func TestShapes(t *testing.T) {
	for name, shape := range shapes() {
		for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
			s := newSigner(t, "k1", alg)
			p := newProvider(t, s.jwk(t))
			v := verifier(t, p, at(noon))
			c := claimsOf(shape, p.URL)
			if name == "kubernetes" {
				c["aud"] = []string{"https://kubernetes.default.svc", audience}
			}
			got, err := v.Verify(t.Context(), s.sign(t, c, object{"x5t": "dGhpcyBpcyBub3QgbG9va2VkIGF0"}))
			if err != nil {
				t.Errorf("%s with %s: %v", name, alg, err)
				continue
			}
			if got.Subject != shape["sub"] || got.Issuer != p.URL || !got.ExpiresAt.Equal(noon.Add(5*time.Minute)) {
				t.Errorf("%s with %s: %+v", name, alg, got)
			}
		}
	}
}

// TestForgedStatements goes through what has worked against verifiers of foreign tokens, each with claims that would be accepted.
func TestForgedStatements(t *testing.T) {
	real, other, weak := newSigner(t, "k1", "RS256"), newSigner(t, "k1", "RS256"), newSigner(t, "k2", "EdDSA")
	p := newProvider(t, real.jwk(t), weak.jwk(t))
	v := verifier(t, p, at(noon))
	good := claimsOf(shapes()["github"], p.URL)
	but := func(change object) object {
		c := maps.Clone(good)
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		return c
	}
	text := real.sign(t, good, nil)
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Fatalf("control: %v", err)
	}
	parts := strings.Split(text, ".")
	der, err := x509.MarshalPKIXPublicKey(real.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	raw := func(header, claims object, mac []byte) string {
		h, err1 := json.Marshal(header)
		c, err2 := json.Marshal(claims)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		text := b64(h) + "." + b64(c)
		if mac == nil {
			return text + "."
		}
		m := hmac.New(sha256.New, mac)
		m.Write([]byte(text))
		return text + "." + b64(m.Sum(nil))
	}
	cases := map[string]string{
		"own key under the trusted kid":  other.sign(t, good, nil),
		"own key as jwk":                 other.sign(t, good, object{"jwk": other.jwk(t)}),
		"real key and a jwk":             real.sign(t, good, object{"jwk": real.jwk(t)}),
		"own key as jku":                 other.sign(t, good, object{"jku": p.URL + "/keys"}),
		"own key as x5u":                 other.sign(t, good, object{"x5u": p.URL + "/k.pem"}),
		"own key as x5c":                 other.sign(t, good, object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}}),
		"critical extension":             real.sign(t, good, object{"crit": []string{"exp"}}),
		"kid of another kind of key":     real.sign(t, good, object{"kid": "k2"}),
		"kid as a path":                  real.sign(t, good, object{"kid": "../../dev/null"}),
		"kid as a number":                real.sign(t, good, object{"kid": 1}),
		"kid missing among two keys":     real.sign(t, good, object{"kid": nil}),
		"a logout token":                 real.sign(t, good, object{"typ": "logout+jwt"}),
		"typ as a number":                real.sign(t, good, object{"typ": 7}),
		"another algorithm of the kind":  (&signer{"k1", "PS256", real.private}).sign(t, good, nil),
		"HS256 with the public key":      raw(object{"alg": "HS256", "kid": "k1"}, good, der),
		"HS256 with the public key, PEM": raw(object{"alg": "HS256", "kid": "k1"}, good, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 with an empty secret":     raw(object{"alg": "HS256", "kid": "k1"}, good, []byte{}),
		"empty signature":                parts[0] + "." + parts[1] + ".",
		"changed claims":                 parts[0] + "." + b64([]byte(`{"iss":"`+p.URL+`","aud":"`+audience+`","exp":9999999999}`)) + "." + parts[2],
		"four parts":                     text + ".x",
		"too long":                       text + strings.Repeat("A", 20<<10),

		"another issuer":         real.sign(t, but(object{"iss": "https://issuer.example"}), nil),
		"issuer with a slash":    real.sign(t, but(object{"iss": p.URL + "/"}), nil),
		"issuer in capitals":     real.sign(t, but(object{"iss": strings.ToUpper(p.URL)}), nil),
		"issuer as a prefix":     real.sign(t, but(object{"iss": p.URL + ".evil.example"}), nil),
		"without issuer":         real.sign(t, but(object{"iss": nil}), nil),
		"another audience":       real.sign(t, but(object{"aud": "https://other.example.com"}), nil),
		"audience as a prefix":   real.sign(t, but(object{"aud": audience + ".evil.example"}), nil),
		"without audience":       real.sign(t, but(object{"aud": nil}), nil),
		"no audience in a list":  real.sign(t, but(object{"aud": []string{}}), nil),
		"audience is an object":  real.sign(t, but(object{"aud": object{"a": audience}}), nil),
		"expired":                real.sign(t, but(object{"exp": noon.Add(-61 * time.Second).Unix()}), nil),
		"without exp":            real.sign(t, but(object{"exp": nil}), nil),
		"not yet":                real.sign(t, but(object{"nbf": noon.Add(62 * time.Second).Unix()}), nil),
		"issued tomorrow":        real.sign(t, but(object{"iat": noon.Add(24 * time.Hour).Unix()}), nil),
		"subject is a number":    real.sign(t, but(object{"sub": 7}), nil),
		"expiry is out of range": real.sign(t, but(object{"exp": "soon"}), nil),
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		cases[fmt.Sprintf("alg %q", alg)] = raw(object{"alg": alg, "kid": "k1"}, good, nil)
	}
	for name, token := range cases {
		if got, err := v.Verify(t.Context(), token); !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %+v, %v; want ErrRefused", name, got, err)
		}
	}
}

// TestKeysChange moves an issuer to another key, takes it away, and counts what it is asked.
func TestKeysChange(t *testing.T) {
	now := noon
	first, second := newSigner(t, "k1", "ES256"), newSigner(t, "k2", "ES256")
	p := newProvider(t, first.jwk(t))
	v := verifier(t, p, func() time.Time { return now })
	claims := func() object {
		c := claimsOf(shapes()["gitlab"], p.URL)
		c["iat"], c["nbf"], c["exp"] = now.Unix(), now.Unix(), now.Add(time.Hour).Unix()
		return c
	}
	good := func(s *signer) error { _, err := v.Verify(t.Context(), s.sign(t, claims(), nil)); return err }
	for range 50 {
		if err := good(first); err != nil {
			t.Fatal(err)
		}
		_ = good(second)
	}
	if n := p.asked.Load(); n != 1 {
		t.Errorf("100 tokens in one moment asked the issuer %d times, want once", n)
	}
	p.keys.Store([]object{second.jwk(t)})
	now = now.Add(11 * time.Second)
	if err := good(second); err != nil {
		t.Errorf("new key: %v", err)
	}
	if err := good(first); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("key that the issuer took back: %v", err)
	}
	p.down.Store(true)
	now = now.Add(30 * time.Minute)
	if err := good(second); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if err := good(second); err == nil || errors.Is(err, auth.ErrRefused) {
		t.Errorf("long after the issuer went away: %v; want an error that is no refusal", err)
	}
}

// TestDiscoveryStays proves that an issuer's keys come from its own host, whatever a document or redirect says.
func TestDiscoveryStays(t *testing.T) {
	mine := newSigner(t, "k1", "EdDSA")
	evil := newProvider(t, mine.jwk(t))
	for name, answer := range map[string]func(p *provider) http.HandlerFunc{
		"keys at another host": func(p *provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(object{"issuer": p.URL, "jwks_uri": evil.URL + "/keys"})
			}
		},
		"document of another issuer": func(p *provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(object{"issuer": evil.URL, "jwks_uri": p.URL + "/keys"})
			}
		},
		"redirect": func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, evil.URL+"/.well-known/openid-configuration", http.StatusFound)
			}
		},
		"redirect to the keys": func(p *provider) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, p.URL+"/keys", http.StatusFound) }
		},
		"endless document": func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				for range 40 {
					_, _ = w.Write([]byte(strings.Repeat(" ", 64<<10)))
				}
			}
		},
		"no document": func(*provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }
		},
		"file": func(p *provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(object{"issuer": p.URL, "jwks_uri": "file:///etc/passwd"})
			}
		},
	} {
		p := newProvider(t, mine.jwk(t))
		p.discovery = answer(p)
		v := verifier(t, p, at(noon))
		if got, err := v.Verify(t.Context(), mine.sign(t, claimsOf(shapes()["github"], p.URL), nil)); err == nil || errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %+v, %v; want an error about the keys", name, got, err)
		}
		if n := evil.asked.Load(); n != 0 {
			t.Errorf("%s: the other host was asked for keys", name)
		}
	}
	for _, address := range []string{"http://issuer.example.com", "ftp://issuer.example.com", "https://user:pass@issuer.example.com", "issuer", "https://issuer.example.com/#x"} {
		if _, err := issuer.NewRemote(issuer.RemoteOptions{Issuer: address}); err == nil {
			t.Errorf("address %s is accepted", address)
		}
	}
}

// TestBundle is a token server as distribution's auth.token knows it.
func TestBundle(t *testing.T) {
	ca, leaf, stranger := newSigner(t, "", "ES256"), newSigner(t, "", "ES256"), newSigner(t, "", "ES256")
	certificate := func(subject string, key, by *signer, parent *x509.Certificate, isCA bool) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
			IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.private.Public(), by.private)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := certificate("token server", ca, ca, nil, true)
	under := certificate("signer", leaf, ca, root, false)
	alone := certificate("token server", stranger, stranger, nil, true)
	set, err := issuer.ParseKeySet(mustJSON(t, object{"keys": []object{newSigner(t, "other", "EdDSA").jwk(t)}}))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := issuer.Bundle(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), set, at(noon))
	if err != nil {
		t.Fatal(err)
	}
	v, err := issuer.New(issuer.Options{Issuer: "auth.example.com", Audiences: []string{audience}, Keys: keys, Now: at(noon)})
	if err != nil {
		t.Fatal(err)
	}
	claims := claimsOf(object{"sub": "bob", "access": []object{{"type": "repository", "name": "a/b", "actions": []string{"pull"}}}}, "auth.example.com")
	chain := func(certs ...*x509.Certificate) (texts []string) {
		for _, c := range certs {
			texts = append(texts, base64.StdEncoding.EncodeToString(c.Raw))
		}
		return texts
	}
	sum := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	packed := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:30])
	groups := strings.Builder{}
	for i := range 12 {
		if i > 0 {
			groups.WriteByte(':')
		}
		groups.WriteString(packed[4*i : 4*i+4])
	}
	jwk := ca.jwk(t)
	thumb := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, jwk["x"], jwk["y"]))
	for name, token := range map[string]string{
		"libtrust's key id": ca.sign(t, claims, object{"kid": groups.String()}),
		"RFC 7638's key id": ca.sign(t, claims, object{"kid": b64(thumb[:])}),
		"chain":             leaf.sign(t, claims, object{"kid": nil, "x5c": chain(under)}),
		"chain with root":   leaf.sign(t, claims, object{"kid": nil, "x5c": chain(under, root)}),
		"root as its chain": ca.sign(t, claims, object{"kid": nil, "x5c": chain(root)}),
	} {
		if got, err := v.Verify(t.Context(), token); err != nil || got.Subject != "bob" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, token := range map[string]string{
		"own root":                stranger.sign(t, claims, object{"x5c": chain(alone)}),
		"own key, trusted chain":  stranger.sign(t, claims, object{"x5c": chain(under, root)}),
		"own root, trusted above": stranger.sign(t, claims, object{"x5c": chain(alone, root)}),
		"own key, trusted kid":    stranger.sign(t, claims, object{"kid": groups.String()}),
		"empty chain":             ca.sign(t, claims, object{"kid": groups.String(), "x5c": []string{}}),
		"chain is a text":         ca.sign(t, claims, object{"kid": groups.String(), "x5c": "MII"}),
		"without kid":             ca.sign(t, claims, object{"kid": nil}),
	} {
		if got, err := v.Verify(t.Context(), token); !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %+v, %v; want ErrRefused", name, got, err)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeySets(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // a Go that makes no such key cannot be tested with one
	}
	good := newSigner(t, "a", "EdDSA").jwk(t)
	for name, c := range map[string]struct {
		set string
		ok  bool
	}{
		"one":              {string(mustJSON(t, object{"keys": []object{good}})), true},
		"others beside":    {string(mustJSON(t, object{"keys": []object{good, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "EC", "crv": "secp256k1"}, {"kty": "RSA", "use": "enc"}}})), true},
		"secrets only":     {`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"}]}`, false},
		"symmetric by alg": {`{"keys":[{"kty":"RSA","alg":"HS256","kid":"a"}]}`, false},
		"empty":            {`{"keys":[]}`, false},
		"no JSON":          {`<html>`, false},
		"point not on it":  {`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}]}`, false},
		"exponent one":     {`{"keys":[{"kty":"RSA","kid":"a","n":"` + b64(small.N.Bytes()) + `","e":"AQ"}]}`, false},
		"small RSA key":    {`{"keys":[{"kty":"RSA","kid":"a","n":"` + b64(small.N.Bytes()) + `","e":"AQAB"}]}`, false},
		"many":             {`{"keys":[` + strings.Repeat(`{"kty":"x"},`, 300) + `{"kty":"x"}]}`, false},
	} {
		if _, err := issuer.ParseKeySet([]byte(c.set)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
