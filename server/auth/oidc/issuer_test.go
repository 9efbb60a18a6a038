package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/server/auth/oidc"
)

const client = "berth"

// issuer is a provider that says whatever a test wants it to say, and keeps what it was asked.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu       sync.Mutex
	describe func(map[string]any)                          // changes the discovery document
	keys     func() []map[string]any                       // the key set; nil: the one key
	token    func(form url.Values) (int, any)              // answer of the token endpoint
	handle   func(http.ResponseWriter, *http.Request) bool // instead of everything else
	asked    map[string]int                                // requests by path
	auths    []string                                      // Authorization headers of the token endpoint
	now      func() time.Time
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, asked: map[string]int{}, now: time.Now}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[r.URL.Path]++
	if i.handle != nil && i.handle(w, r) {
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		d := map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"device_authorization_endpoint": i.URL + "/device", "userinfo_endpoint": i.URL + "/me",
			"id_token_signing_alg_values_supported": []string{"ES256", "RS256", "HS256", "none"},
		}
		if i.describe != nil {
			i.describe(d)
		}
		reply(w, 200, d)
	case "/keys":
		keys := []map[string]any{jwk(&i.key.PublicKey, "k1")}
		if i.keys != nil {
			keys = i.keys()
		}
		reply(w, 200, map[string]any{"keys": keys})
	case "/token", "/device":
		_ = r.ParseForm()
		i.auths = append(i.auths, r.Header.Get("Authorization"))
		status, body := i.token(r.PostForm)
		reply(w, status, body)
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) count(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func jwk(k *ecdsa.PublicKey, kid string) map[string]any {
	point, _ := k.Bytes() // 4, x, y
	b64 := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
}

// claims are those of a good ID token for alice.
func (i *issuer) claims() jwt.MapClaims {
	now := i.now()
	return jwt.MapClaims{
		"iss": i.URL, "aud": client, "sub": "sub-alice", "exp": now.Add(5 * time.Minute).Unix(), "iat": now.Unix(), "nonce": "n1",
		"preferred_username": "alice", "name": "Alice A", "email": "alice@example.com", "email_verified": true, "sid": "s1",
		"groups": []string{"devs"},
	}
}

// sign makes a token; header entries come on top of kid and alg.
func (i *issuer) sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = "k1"
	for k, v := range header {
		token.Header[k] = v
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) good(t *testing.T, change func(jwt.MapClaims)) string {
	t.Helper()
	c := i.claims()
	if change != nil {
		change(c)
	}
	return i.sign(t, jwt.SigningMethodES256, i.key, c, nil)
}

// gives makes the token endpoint answer with the ID token.
func (i *issuer) gives(token string) {
	i.set(func() {
		i.token = func(url.Values) (int, any) {
			return 200, map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": token}
		}
	})
}

func (i *issuer) options() oidc.Options {
	return oidc.Options{Name: "idp", Issuer: i.URL, ClientID: client, ClientSecret: "s3cret/+ %", Groups: oidc.Groups{Claim: "groups"}}
}

func (i *issuer) provider(t *testing.T, change func(*oidc.Options)) *oidc.Provider {
	t.Helper()
	o := i.options()
	if change != nil {
		change(&o)
	}
	p, err := oidc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// halfHash is at_hash (Core section 3.1.3.6) for ES256.
func halfHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
