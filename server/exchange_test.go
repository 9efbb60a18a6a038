package server_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
)

type object = map[string]any

// signer is a key of somebody else.
type signer struct {
	id      string
	private ed25519.PrivateKey
}

func newSigner(t *testing.T, id string) signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, private}
}

func (s signer) jwk() object {
	public, _ := s.private.Public().(ed25519.PublicKey)
	return object{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": s.id, "x": base64.RawURLEncoding.EncodeToString(public)}
}

// sign makes a token of claims that hold now, with changes.
func (s signer) sign(t *testing.T, claims, change object) string {
	t.Helper()
	now := time.Now()
	all := jwt.MapClaims{"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	maps.Copy(all, claims)
	maps.Copy(all, change)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, all)
	token.Header["kid"] = s.id
	text, err := token.SignedString(s.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// issuing is a system whose tokens are exchanged: discovery and keys, as GitHub, GitLab and Kubernetes have them.
func issuing(t *testing.T, keys *[]object) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(object{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(object{"keys": *keys}) })
	return s
}

const tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

// exchange asks the token service for a token of ours.
func (d *daemon) exchange(t *testing.T, token string, change url.Values) answer {
	t.Helper()
	form := url.Values{
		"grant_type": {tokenExchange}, "subject_token": {token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "service": {"berth"},
		"scope": {"repository:team/app:pull,push,delete repository:other/app:pull registry:catalog:*"},
	}
	maps.Copy(form, change)
	return d.do(t, "", "POST", "/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// TestTokenExchange goes the way of a job of a build system: its token, which it was given without any secret of ours, for one of
// ours that reaches what a rule says; and back, when the trust is taken away.
func TestTokenExchange(t *testing.T) {
	d := start(t, "REGISTRY_AUTH_USERS=none", "BERTH_ANONYMOUS=pull")
	d.push(t, "team/app", blobContent)
	d.push(t, "other/app", blobContent)
	admin := basic("admin", adminPassword)
	theirs, stranger := newSigner(t, "theirs"), newSigner(t, "theirs")
	keys := []object{theirs.jwk()}
	system := issuing(t, &keys)
	apply := func(prune bool, issuers ...object) {
		t.Helper()
		var doc object
		if err := json.Unmarshal([]byte(d.do(t, admin, "GET", "/api/v1/export", "").body), &doc); err != nil {
			t.Fatal(err)
		}
		doc["issuers"] = issuers
		body, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if a := d.do(t, admin, "PUT", fmt.Sprintf("/api/v1/apply?prune=%t", prune), string(body), "Content-Type", "application/json"); a.status != http.StatusOK {
			t.Fatalf("apply: %d %s", a.status, a.body)
		}
	}
	apply(false, object{"name": "builds", "enabled": true, "config": object{"issuer": system.URL, "audiences": []string{"berth"}, "rules": []object{{
		"name": "main", "claims": object{"repository": "octo/app", "ref": "refs/heads/*"}, "grants": []object{{"repositories": "team/app", "verbs": []string{"pull", "push"}}}, "lifetimeSeconds": 120,
	}}}})

	claims := object{"iss": system.URL, "aud": "berth", "sub": "repo:octo/app:ref:refs/heads/main", "repository": "octo/app", "ref": "refs/heads/main"}
	a := d.exchange(t, theirs.sign(t, claims, nil), nil)
	var got struct {
		Access  string `json:"access_token"`
		Type    string `json:"token_type"`
		Issued  string `json:"issued_token_type"`
		Scope   string
		Expires int    `json:"expires_in"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); a.status != http.StatusOK || err != nil {
		t.Fatalf("exchange: %d %s", a.status, a.body)
	}
	if got.Type != "Bearer" || got.Issued != "urn:ietf:params:oauth:token-type:access_token" || got.Scope != "repository:team/app:pull,push" || got.Expires > 120 || got.Expires < 60 || got.Refresh != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("exchange: %+v %v", got, a.header)
	}
	ours := caller("Bearer " + got.Access)
	reach := func(want map[string]int) {
		t.Helper()
		for request, status := range want {
			method, path, _ := strings.Cut(request, " ")
			if a := d.do(t, ours, method, path, ""); a.status != status {
				t.Errorf("%s: %d %s; want %d", request, a.status, a.body, status)
			}
		}
	}
	reach(map[string]int{
		"GET /v2/team/app/manifests/1": 200, "POST /v2/team/app/blobs/uploads/": 202, "DELETE /v2/team/app/manifests/1": 403, "GET /v2/other/app/manifests/1": 404,
		"POST /v2/other/app/blobs/uploads/": 403, "POST /v2/new/app/blobs/uploads/": 403, "GET /api/v1/jobs": 403, "POST /api/v1/me/tokens": 400, "GET /token": 401,
	})
	// The token itself in the place of a password, as docker login sends it.
	if token := d.token(t, basic("anything", theirs.sign(t, claims, nil)), "repository:team/app:pull"); token == "" {
		t.Error("the token is no password")
	}

	for what, token := range map[string]string{
		"another branch's tag": theirs.sign(t, claims, object{"ref": "refs/tags/v1"}), "another repository": theirs.sign(t, claims, object{"repository": "octo/app2"}),
		"another audience": theirs.sign(t, claims, object{"aud": "other"}), "another issuer": theirs.sign(t, claims, object{"iss": system.URL + "/"}),
		"an issuer that is longer": theirs.sign(t, claims, object{"iss": system.URL + ".evil.example"}), "over": theirs.sign(t, claims, object{"exp": time.Now().Add(-5 * time.Minute).Unix()}),
		"not yet": theirs.sign(t, claims, object{"nbf": time.Now().Add(5 * time.Minute).Unix()}), "without an end": theirs.sign(t, claims, object{"exp": nil}),
		"another's key of that name": stranger.sign(t, claims, nil), "our own token": got.Access, "no token": "x", "a password": adminPassword,
	} {
		if a := d.exchange(t, token, nil); a.status != http.StatusUnauthorized || strings.Contains(a.body, "access_token") || a.code == "" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	for what, change := range map[string]url.Values{
		"acting for another": {"actor_token": {"x"}}, "a token of another kind": {"subject_token_type": {"urn:ietf:params:oauth:token-type:saml2"}},
		"no token at all": {"subject_token": nil}, "another kind wanted": {"requested_token_type": {"urn:ietf:params:oauth:token-type:refresh_token"}},
	} {
		if a := d.exchange(t, theirs.sign(t, claims, nil), change); a.status != http.StatusBadRequest || a.code == "" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}

	// What was trusted is not any more: neither is what was had by it.
	apply(true)
	if a := d.exchange(t, theirs.sign(t, claims, nil), nil); a.status != http.StatusUnauthorized {
		t.Errorf("of an issuer that is gone: %d %s", a.status, a.body)
	}
	reach(map[string]int{"GET /v2/team/app/manifests/1": 401, "POST /v2/team/app/blobs/uploads/": 401})
}

// keySet is what /token/jwks says.
func (d *daemon) keySet(t *testing.T) map[string]ed25519.PublicKey {
	t.Helper()
	a := d.do(t, "", "GET", "/token/jwks", "")
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal([]byte(a.body), &set); a.status != http.StatusOK || err != nil || a.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatalf("keys: %d %s %v", a.status, a.body, a.header)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k["x"])
		if err != nil || len(x) != ed25519.PublicKeySize || k["kty"] != "OKP" || k["crv"] != "Ed25519" || k["d"] != "" {
			t.Fatalf("a key is %v", k)
		}
		keys[k["kid"]] = x
	}
	return keys
}

// verified reads a token of ours as any service would, by the key set alone, and returns the key that signed it.
func verified(t *testing.T, keys map[string]ed25519.PublicKey, who caller) (kid string, err error) {
	t.Helper()
	_, err = jwt.Parse(strings.TrimPrefix(string(who), "Bearer "), func(token *jwt.Token) (any, error) {
		kid, _ = token.Header["kid"].(string)
		if k, ok := keys[kid]; ok {
			return k, nil
		}
		return nil, fmt.Errorf("key %q is not in the set", kid)
	}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer("berth"), jwt.WithAudience("berth"), jwt.WithExpirationRequired())
	return kid, err
}

// TestSigningKeysRotate: what others read in the key set verifies our tokens, before and after a rotation, those of both keys
// while they overlap; after a rotation at once, those of the old keys verify nowhere.
func TestSigningKeysRotate(t *testing.T) {
	data := t.TempDir()
	d := start(t, "BERTH_DATA="+data, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=pull")
	d.fill(t)
	alice := basic("alice", alicePassword)
	pull := func(who caller) int { t.Helper(); return d.do(t, who, "GET", "/v2/team/app/manifests/1", "").status }
	token := func() caller {
		t.Helper()
		got := d.token(t, alice, "repository:team/app:pull")
		if got == "" {
			t.Fatal("no token")
		}
		return got
	}
	old := token()
	oldKey, err := verified(t, d.keySet(t), old)
	if err != nil || pull(old) != http.StatusOK {
		t.Fatalf("token of key %s: %v", oldKey, err)
	}
	rotate := func(now bool) {
		t.Helper()
		loaded, err := config.Load(config.LoadOptions{Search: []string{}, Fallback: []string{}, Env: []string{"BERTH_DATA=" + data}})
		if err != nil {
			t.Fatal(err)
		}
		o, err := server.OpenOperator(t.Context(), loaded.Config) // as berthd token rotate-keys does, beside berthd
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := o.RotateKeys(o.Context(t.Context()), now); err != nil {
			t.Fatal(err)
		}
	}
	rotate(false)
	// berthd hears of a key that somebody else has made within half a minute.
	newKey := ""
	eventually(t, "the new key signs", func() bool {
		kid, err := verified(t, d.keySet(t), token())
		newKey = kid
		return err == nil && kid != oldKey
	})
	keys := d.keySet(t)
	if kid, err := verified(t, keys, old); err != nil || kid != oldKey || pull(old) != http.StatusOK {
		t.Errorf("in the overlap, a token of the old key: %s, %v, %d", kid, err, pull(old))
	}
	young := token()
	if kid, err := verified(t, keys, young); err != nil || kid != newKey || pull(young) != http.StatusOK || len(keys) != 2 {
		t.Errorf("a token of the new key: %s, %v, %d of %d keys", kid, err, pull(young), len(keys))
	}
	rotate(true)
	eventually(t, "tokens of the old keys end", func() bool { return pull(old) == http.StatusUnauthorized && pull(young) == http.StatusUnauthorized })
	last := token()
	keys = d.keySet(t)
	if kid, err := verified(t, keys, last); err != nil || kid == oldKey || kid == newKey || len(keys) != 1 || pull(last) != http.StatusOK {
		t.Errorf("after a rotation at once: %s of %d keys, %v, %d", kid, len(keys), err, pull(last))
	}
}

// eventually waits for something that is said to come, for as long as a busy machine may take.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after two minutes: %s", what)
		}
	}
}

var challenged = regexp.MustCompile(`^Bearer realm="([^"]+)",service="([^"]+)"(?:,scope="([^"]+)")?`)

// docker goes the way of every client: it asks, follows the challenge with its name and password, and asks again. It returns the
// realm, and the status that it ends with.
func docker(t *testing.T, d *daemon, method, path, name, password string) (realm string, a answer) {
	t.Helper()
	a = d.do(t, "", method, path, "")
	m := challenged.FindStringSubmatch(a.header.Get("Www-Authenticate"))
	if a.status != http.StatusUnauthorized || m == nil {
		t.Fatalf("%s %s: %d %q", method, path, a.status, a.header.Get("Www-Authenticate"))
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m[1]+"?"+url.Values{"service": {m[2]}, "scope": {m[3]}, "account": {name}}.Encode(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(name, password)
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct{ Token string }
	if resp.StatusCode != http.StatusOK {
		return m[1], answer{status: resp.StatusCode}
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return m[1], d.do(t, caller("Bearer "+got.Token), method, path, "")
}

// tokenServer is one as registries of CNCF distribution are used with: it knows who may what, and this registry believes it.
func tokenServer(t *testing.T, s signer, service string) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		if password != "of "+name || r.URL.Query().Get("service") != service {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		access := []object{}
		for _, scope := range r.URL.Query()["scope"] {
			kind, rest, _ := strings.Cut(scope, ":")
			i := strings.LastIndexByte(rest, ':')
			if i < 0 || kind != "repository" {
				continue
			}
			actions := slices.DeleteFunc(strings.Split(rest[i+1:], ","), func(a string) bool { return a != "pull" && name != "builder" })
			access = append(access, object{"type": kind, "name": rest[:i], "actions": actions})
		}
		_ = json.NewEncoder(w).Encode(object{"token": s.sign(t, object{"iss": "their server", "aud": service, "sub": name, "jti": rand.Text(), "access": access}, nil)})
	})
}

// TestExternalTokenServer: distribution's auth.token. The challenge sends clients to the other server, and with autoredirect to the
// address under which they have reached this one; what that server has signed is believed, and nothing else.
func TestExternalTokenServer(t *testing.T) {
	theirs, stranger := newSigner(t, "theirs"), newSigner(t, "theirs")
	dir := t.TempDir()
	keys, err := json.Marshal(object{"keys": []object{theirs.jwk()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.json"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	behind := httptest.NewServer(tokenServer(t, theirs, "our registry"))
	t.Cleanup(behind.Close)
	configured := func(how string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "config.yml")
		text := fmt.Sprintf("auth:\n  anonymous: none\n  token:\n    service: our registry\n    issuer: their server\n    jwks: %q\n%s", filepath.Join(dir, "keys.json"), how)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	fill := func(d *daemon) {
		t.Helper()
		d.push(t, "team/app", blobContent)
		d.push(t, "other/app", blobContent)
	}
	check := func(d *daemon, realm string) {
		t.Helper()
		for _, test := range []struct {
			method, path, name string
			status             int
		}{
			{"GET", "/v2/", "reader", 200},
			{"GET", "/v2/team/app/manifests/1", "reader", 200},
			{"POST", "/v2/team/app/blobs/uploads/", "reader", 403},
			{"POST", "/v2/team/app/blobs/uploads/", "builder", 202},
			{"GET", "/v2/team/app/manifests/absent", "builder", 404},
		} {
			at, a := docker(t, d, test.method, test.path, test.name, "of "+test.name)
			if at != realm || a.status != test.status {
				t.Errorf("%s %s as %s: sent to %s, then %d %s; want %s and %d", test.method, test.path, test.name, at, a.status, a.body, realm, test.status)
			}
		}
		if _, a := docker(t, d, "GET", "/v2/team/app/manifests/1", "reader", "wrong"); a.status != http.StatusUnauthorized {
			t.Errorf("a wrong password at the token server: %d", a.status)
		}
		claims := object{"iss": "their server", "aud": "our registry", "sub": "builder", "access": []object{{"type": "repository", "name": "team/app", "actions": []string{"pull"}}}}
		use := func(token, repository string) int {
			return d.do(t, caller("Bearer "+token), "GET", "/v2/"+repository+"/manifests/1", "").status
		}
		if got := use(theirs.sign(t, claims, nil), "team/app"); got != http.StatusOK {
			t.Errorf("their token: %d", got)
		}
		if got := use(theirs.sign(t, claims, nil), "other/app"); got == http.StatusOK {
			t.Errorf("their token, elsewhere: %d", got)
		}
		for what, token := range map[string]string{
			"another key": stranger.sign(t, claims, nil), "another issuer": theirs.sign(t, claims, object{"iss": "their server."}), "another service": theirs.sign(t, claims, object{"aud": "registry"}),
			"over": theirs.sign(t, claims, object{"exp": time.Now().Add(-5 * time.Minute).Unix()}), "without an end": theirs.sign(t, claims, object{"exp": nil}),
		} {
			if got := use(token, "team/app"); got != http.StatusUnauthorized {
				t.Errorf("%s: %d", what, got)
			}
		}
	}
	d := startBare(t, configured("    realm: "+behind.URL+"/auth\n"))
	fill(d)
	check(d, behind.URL+"/auth")

	// Behind one proxy with the token server, under a name that only clients know.
	d = startBare(t, configured("    autoredirect: true\nhttp:\n  trustedproxies: [127.0.0.1]\n"))
	fill(d)
	at, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	registry, tokens := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at); r.SetXForwarded() }}, behind.Config.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/auth/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		registry.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	check(&daemon{front.URL, d.client}, front.URL+"/auth/token")
}
