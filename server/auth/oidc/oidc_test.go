package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/oidc"
)

const redirect = "https://registry.example.com/cb"

func TestBegin(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, nil)
	text, err := p.Begin(t.Context(), redirect, "st", "no", "the-verifier-of-43-characters-at-least-000000")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	want := url.Values{
		"client_id": {client}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid profile email"}, "state": {"st"}, "nonce": {"no"},
		"code_challenge_method": {"S256"}, "code_challenge": q["code_challenge"],
	}
	if q.Encode() != want.Encode() || len(q.Get("code_challenge")) != 43 || strings.Contains(text, "verifier") {
		t.Errorf("the browser is sent to %s", text)
	}
	for _, missing := range [][3]string{{"", "n", "v"}, {"s", "", "v"}, {"s", "n", ""}} {
		if _, err := p.Begin(t.Context(), redirect, missing[0], missing[1], missing[2]); err == nil {
			t.Errorf("a login with %q begins", missing)
		}
	}
}

func TestFinish(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, nil)
	token := i.good(t, func(c jwt.MapClaims) { c["at_hash"] = halfHash("at"); c["azp"] = client })
	var form url.Values
	i.set(func() {
		i.token = func(f url.Values) (int, any) {
			form = f
			return 200, map[string]any{"access_token": "at", "id_token": token}
		}
	})
	e, err := p.Finish(t.Context(), redirect, "the-code", "n1", "the-verifier")
	if err != nil {
		t.Fatal(err)
	}
	if e.Provider != "idp" || e.Subject != "sub-alice" || e.Name != "alice" || e.Email != "alice@example.com" || e.DisplayName != "Alice A" ||
		e.SID != "s1" || e.Admin || !slices.Equal(e.Groups, []string{"devs"}) || time.Until(e.ExpiresAt) < 11*time.Hour {
		t.Errorf("statement: %+v", e)
	}
	if form.Get("code") != "the-code" || form.Get("code_verifier") != "the-verifier" || form.Get("redirect_uri") != redirect || form.Has("client_secret") {
		t.Errorf("form: %v", form)
	}
	// RFC 6749 section 2.3.1: encoded as in a form, then as Basic.
	if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("berth:s3cret%2F%2B+%25")); i.auths[0] != want {
		t.Errorf("authorization %q; want %q", i.auths[0], want)
	}
}

// Every check of an ID token, failed.
func TestForgedTokens(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, nil)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	with := func(change func(jwt.MapClaims)) string { return i.good(t, change) }
	good := with(nil)
	parts := strings.Split(good, ".")
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	payload := parts[1]

	i.gives(good)
	if _, err := p.Finish(t.Context(), redirect, "c", "n1", "v"); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	for name, token := range map[string]string{
		"another issuer":               with(func(c jwt.MapClaims) { c["iss"] = "https://evil.example.com" }),
		"issuer with a slash":          with(func(c jwt.MapClaims) { c["iss"] = i.URL + "/" }),
		"issuer in capitals":           with(func(c jwt.MapClaims) { c["iss"] = strings.ToUpper(i.URL) }),
		"no issuer":                    with(func(c jwt.MapClaims) { delete(c, "iss") }),
		"another audience":             with(func(c jwt.MapClaims) { c["aud"] = "someone" }),
		"no audience":                  with(func(c jwt.MapClaims) { delete(c, "aud") }),
		"audiences without azp":        with(func(c jwt.MapClaims) { c["aud"] = []string{client, "someone"} }),
		"azp of another":               with(func(c jwt.MapClaims) { c["azp"] = "someone" }),
		"azp of another, audiences":    with(func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{client, "someone"}, "someone" }),
		"empty azp":                    with(func(c jwt.MapClaims) { c["azp"] = "" }),
		"another nonce":                with(func(c jwt.MapClaims) { c["nonce"] = "n2" }),
		"no nonce":                     with(func(c jwt.MapClaims) { delete(c, "nonce") }),
		"expired":                      with(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() }),
		"no expiry":                    with(func(c jwt.MapClaims) { delete(c, "exp") }),
		"of the future":                with(func(c jwt.MapClaims) { c["iat"] = time.Now().Add(time.Hour).Unix() }),
		"no time of issue":             with(func(c jwt.MapClaims) { delete(c, "iat") }),
		"not yet valid":                with(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }),
		"no subject":                   with(func(c jwt.MapClaims) { delete(c, "sub") }),
		"endless subject":              with(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("x", 300) }),
		"subject with a line end":      with(func(c jwt.MapClaims) { c["sub"] = "a\nb" }),
		"hash of another access token": with(func(c jwt.MapClaims) { c["at_hash"] = halfHash("other") }),
		"no name":                      with(func(c jwt.MapClaims) { delete(c, "preferred_username") }),
		"name with a colon":            with(func(c jwt.MapClaims) { c["preferred_username"] = "a:b" }),
		"groups that are none":         with(func(c jwt.MapClaims) { c["groups"] = map[string]any{"a": 1} }),
		"groups left out": with(func(c jwt.MapClaims) {
			delete(c, "groups")
			c["_claim_names"] = map[string]any{"groups": "s"}
			c["_claim_sources"] = map[string]any{"s": map[string]any{"endpoint": "https://graph.example.com"}}
		}),

		"another key":                  i.sign(t, jwt.SigningMethodES256, other, i.claims(), nil),
		"another key, unknown id":      i.sign(t, jwt.SigningMethodES256, other, i.claims(), map[string]any{"kid": "../../k2"}),
		"own key in jwk":               i.sign(t, jwt.SigningMethodES256, other, i.claims(), map[string]any{"jwk": jwk(&other.PublicKey, "k1")}),
		"own key in jku":               i.sign(t, jwt.SigningMethodES256, other, i.claims(), map[string]any{"jku": i.URL + "/other"}),
		"own certificate in x5c":       i.sign(t, jwt.SigningMethodRS256, own, i.claims(), map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(public)}}),
		"RS256 with a key of its own":  i.sign(t, jwt.SigningMethodRS256, own, i.claims(), nil),
		"HS256 with the public key":    i.sign(t, jwt.SigningMethodHS256, publicPEM, i.claims(), nil),
		"HS256 with the client secret": i.sign(t, jwt.SigningMethodHS256, []byte("s3cret/+ %"), i.claims(), nil),
		"HS256 with an empty key":      i.sign(t, jwt.SigningMethodHS256, []byte{}, i.claims(), nil),
		"none":                         i.sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.claims(), nil),
		"None":                         b64(`{"alg":"None","kid":"k1"}`) + "." + payload + ".",
		"nOnE with a signature":        b64(`{"alg":"nOnE","kid":"k1"}`) + "." + payload + "." + parts[2],
		"no signature":                 parts[0] + "." + payload + ".",
		"signature of another":         parts[0] + "." + b64(`{"iss":"x"}`) + "." + parts[2],
		"two parts":                    parts[0] + "." + payload,
		"many dots":                    strings.Repeat(".", 50_000),
		"nothing":                      "",
		"endless":                      strings.Repeat("a", 70_000),
		"JSON of several signatures":   `{"payload":"` + payload + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
	} {
		i.gives(token)
		e, err := p.Finish(t.Context(), redirect, "c", "n1", "v")
		if !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %+v, %v; want ErrRefused", name, e, err)
		}
	}
	// A stranger's key ids must not become a stream of requests.
	if n := i.count("/keys"); n > 3 {
		t.Errorf("keys were fetched %d times", n)
	}
}

// An ID token with a claim of our audience in another place of the list, made for us, is good.
func TestSeveralAudiences(t *testing.T) {
	i := newIssuer(t)
	i.gives(i.good(t, func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{"someone", client}, client }))
	if _, err := i.provider(t, nil).Finish(t.Context(), redirect, "c", "n1", "v"); err != nil {
		t.Error(err)
	}
}

func TestTokenEndpointSaysNo(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, nil)
	for code, refused := range map[string]bool{"invalid_grant": true, "access_denied": true, "invalid_client": false, "server_error": false} {
		i.set(func() {
			i.token = func(url.Values) (int, any) { return 400, map[string]any{"error": code, "error_description": "because"} }
		})
		_, err := p.Finish(t.Context(), redirect, "c", "n1", "v")
		if err == nil || errors.Is(err, auth.ErrRefused) != refused || !strings.Contains(err.Error(), code) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v; refused must be %v", code, err, refused)
		}
	}
	if _, err := p.Finish(t.Context(), redirect, "", "n1", "v"); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("no code: %v", err)
	}
}

// Discovery: the issuer is compared letter by letter, no redirect is followed, and requests stay on the issuer's host.
func TestDiscovery(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request went to another host")
	}))
	defer elsewhere.Close()
	for name, spoil := range map[string]func(*issuer){
		"another issuer": func(i *issuer) { i.describe = func(d map[string]any) { d["issuer"] = i.URL + "/" } },
		"redirect of discovery": func(i *issuer) {
			i.handle = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
				return true
			}
		},
		"redirect on the same host": func(i *issuer) {
			i.handle = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/moved" {
					return false
				}
				http.Redirect(w, r, "/moved", http.StatusFound)
				return true
			}
		},
		"keys elsewhere": func(i *issuer) { i.describe = func(d map[string]any) { d["jwks_uri"] = elsewhere.URL + "/keys" } },
		"tokens elsewhere": func(i *issuer) {
			i.describe = func(d map[string]any) { d["token_endpoint"] = elsewhere.URL + "/token" }
		},
		"keys in a file": func(i *issuer) { i.describe = func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" } },
		"endless answer": func(i *issuer) {
			i.handle = func(w http.ResponseWriter, r *http.Request) bool {
				for range 3 << 10 {
					if _, err := w.Write(make([]byte, 1<<10)); err != nil {
						break
					}
				}
				return true
			}
		},
		"no keys": func(i *issuer) { i.describe = func(d map[string]any) { delete(d, "jwks_uri") } },
		"only HS256": func(i *issuer) {
			i.describe = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} }
		},
		"error of a server": func(i *issuer) {
			i.handle = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
		},
	} {
		i := newIssuer(t)
		i.gives(i.good(t, nil))
		i.set(func() { spoil(i) })
		if e, err := i.provider(t, nil).Finish(t.Context(), redirect, "c", "n1", "v"); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// A host that the configuration names may serve keys.
func TestNamedHost(t *testing.T) {
	i := newIssuer(t)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"keys": []any{jwk(&i.key.PublicKey, "k1")}})
	}))
	defer keys.Close()
	i.set(func() { i.describe = func(d map[string]any) { d["jwks_uri"] = keys.URL } })
	i.gives(i.good(t, nil))
	p := i.provider(t, func(o *oidc.Options) { o.Hosts = []string{strings.TrimPrefix(keys.URL, "http://")} })
	if _, err := p.Finish(t.Context(), redirect, "c", "n1", "v"); err != nil {
		t.Error(err)
	}
}

// A provider that was away is found when it is back; a key that it rotates is found, and one that it took back is
// forgotten.
func TestProviderAwayAndKeysRotate(t *testing.T) {
	i := newIssuer(t)
	now := time.Now()
	i.now = func() time.Time { return now }
	p := i.provider(t, func(o *oidc.Options) { o.Now = i.now })
	i.set(func() {
		i.handle = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	})
	if _, err := p.Begin(t.Context(), redirect, "s", "n", "v"); err == nil || errors.Is(err, auth.ErrRefused) {
		t.Errorf("provider away: %v; want an error that is no refusal", err)
	}
	i.set(func() { i.handle = nil })
	now = now.Add(3 * time.Second)
	finish := func(token string) error {
		i.gives(token)
		_, err := p.Finish(t.Context(), redirect, "c", "n1", "v")
		return err
	}
	if err := finish(i.good(t, nil)); err != nil {
		t.Fatalf("provider back: %v", err)
	}
	old, next := i.key, new(ecdsa.PrivateKey)
	*next = *mustKey(t)
	i.set(func() { i.keys = func() []map[string]any { return []map[string]any{jwk(&next.PublicKey, "k2")} } })
	now = now.Add(10 * time.Second)
	if err := finish(i.sign(t, jwt.SigningMethodES256, next, i.claims(), map[string]any{"kid": "k2"})); err != nil {
		t.Errorf("new key: %v", err)
	}
	now = now.Add(2 * time.Hour)
	if err := finish(i.sign(t, jwt.SigningMethodES256, old, i.claims(), nil)); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("key that the provider took back: %v; want ErrRefused", err)
	}
	// It stays as it was known while it does not describe itself.
	i.set(func() {
		i.handle = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				w.WriteHeader(503)
			}
			return r.URL.Path != "/token"
		}
	})
	now = now.Add(2 * time.Hour)
	if _, err := p.Begin(t.Context(), redirect, "s", "n", "v"); err != nil {
		t.Errorf("known provider away: %v", err)
	}
}

func mustKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	for name, c := range map[string]struct {
		options func(*oidc.Options)
		claims  func(jwt.MapClaims)
		want    auth.External
		refused bool
	}{
		"no groups":         {claims: func(c jwt.MapClaims) { delete(c, "groups") }, want: auth.External{Groups: []string{}}},
		"groups not wanted": {options: func(o *oidc.Options) { o.Groups.Claim = "" }},
		"path and prefix": {
			options: func(o *oidc.Options) { o.Groups.Claim, o.Groups.Prefix = "resource_access.berth.roles", "idp:" },
			claims: func(c jwt.MapClaims) {
				c["resource_access"] = map[string]any{"berth": map[string]any{"roles": []string{"b", "a", "b", ""}}}
			},
			want: auth.External{Groups: []string{"idp:a", "idp:b"}},
		},
		"claim with dots": {
			options: func(o *oidc.Options) { o.Groups.Claim = "https://example.com/groups" },
			claims:  func(c jwt.MapClaims) { c["https://example.com/groups"] = "one" },
			want:    auth.External{Groups: []string{"one"}},
		},
		"objects": {
			claims: func(c jwt.MapClaims) { c["groups"] = []any{map[string]any{"id": 1, "name": "x"}} },
			want:   auth.External{Groups: []string{"x"}},
		},
		"parents": {
			options: func(o *oidc.Options) { o.Groups.Parents = true },
			claims:  func(c jwt.MapClaims) { c["groups"] = []string{"/a/b/c", "d"} },
			want:    auth.External{Groups: []string{"/a", "/a/b", "/a/b/c", "d"}},
		},
		"administrators by group": {
			options: func(o *oidc.Options) { o.Admins, o.Groups.Prefix = []string{"ops"}, "p-" },
			claims:  func(c jwt.MapClaims) { c["groups"] = []string{"ops"} },
			want:    auth.External{Groups: []string{"p-ops"}, Admin: true},
		},
		"a claim that says admin makes none": {
			options: func(o *oidc.Options) { o.Admins = []string{"ops"} },
			claims: func(c jwt.MapClaims) {
				c["admin"], c["is_admin"], c["Admin"], c["groups"] = true, true, true, []string{"OPS", "ops "}
			},
			want: auth.External{Groups: []string{"OPS", "ops "}},
		},
		"required": {
			options: func(o *oidc.Options) {
				o.Required = []oidc.Requirement{{Claim: "hd", Values: []string{"example.com"}}, {Claim: "email_verified"}}
			},
			claims: func(c jwt.MapClaims) { c["hd"] = "example.com" }, want: auth.External{Groups: []string{"devs"}},
		},
		"required, missing": {options: func(o *oidc.Options) { o.Required = []oidc.Requirement{{Claim: "hd", Values: []string{"example.com"}}} }, refused: true},
		"required, another": {
			options: func(o *oidc.Options) { o.Required = []oidc.Requirement{{Claim: "hd", Values: []string{"example.com"}}} },
			claims:  func(c jwt.MapClaims) { c["hd"] = "example.com.evil.org" }, refused: true,
		},
		"required, false": {
			options: func(o *oidc.Options) { o.Required = []oidc.Requirement{{Claim: "mfa"}} },
			claims:  func(c jwt.MapClaims) { c["mfa"] = false }, refused: true,
		},
		"required, in a list": {
			options: func(o *oidc.Options) { o.Required = []oidc.Requirement{{Claim: "amr", Values: []string{"otp", "hwk"}}} },
			claims:  func(c jwt.MapClaims) { c["amr"] = []string{"pwd", "hwk"} }, want: auth.External{Groups: []string{"devs"}},
		},
	} {
		p := i.provider(t, c.options)
		i.gives(i.good(t, c.claims))
		e, err := p.Finish(t.Context(), redirect, "c", "n1", "v")
		if c.refused {
			if !errors.Is(err, auth.ErrRefused) {
				t.Errorf("%s: %+v, %v; want ErrRefused", name, e, err)
			}
			continue
		}
		if err != nil || !slices.Equal(e.Groups, c.want.Groups) || (e.Groups == nil) != (c.want.Groups == nil) || e.Admin != c.want.Admin {
			t.Errorf("%s: %+v, %v; want groups %q, admin %v", name, e, err, c.want.Groups, c.want.Admin)
		}
	}
	i.gives(i.good(t, func(c jwt.MapClaims) { delete(c, "email_verified") }))
	if e, err := i.provider(t, nil).Finish(t.Context(), redirect, "c", "n1", "v"); err != nil || e.Email != "" {
		t.Errorf("an address that nobody verified: %q, %v", e.Email, err)
	}
}

func TestUserInfo(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, func(o *oidc.Options) { o.UserInfo = true })
	i.gives(i.good(t, func(c jwt.MapClaims) { delete(c, "groups") }))
	answer := map[string]any{"sub": "sub-alice", "groups": []string{"from-userinfo"}, "preferred_username": "mallory"}
	i.set(func() {
		i.handle = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/me" && r.Header.Get("Authorization") == "Bearer at" {
				reply(w, 200, answer)
				return true
			}
			return false
		}
	})
	if e, err := p.Finish(t.Context(), redirect, "c", "n1", "v"); err != nil || e.Name != "alice" || !slices.Equal(e.Groups, []string{"from-userinfo"}) {
		t.Errorf("statement: %+v, %v", e, err)
	}
	i.set(func() { answer["sub"] = "sub-mallory" })
	if e, err := p.Finish(t.Context(), redirect, "c", "n1", "v"); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("user information of another subject: %+v, %v; want ErrRefused", e, err)
	}
}

func TestDevice(t *testing.T) {
	i := newIssuer(t)
	p := i.provider(t, func(o *oidc.Options) { o.ClientSecret = "" })
	answers := []map[string]any{
		{"device_code": "dc", "user_code": "ABCD", "verification_uri": i.URL + "/device", "expires_in": 600},
		{"error": "authorization_pending"}, {"error": "slow_down"}, {"error": "expired_token"}, {"error": "access_denied"},
		{"access_token": "at", "id_token": i.good(t, func(c jwt.MapClaims) { delete(c, "nonce") })},
		{"device_code": "dc", "user_code": "ABCD", "verification_uri": "javascript:alert(1)"},
	}
	var forms []url.Values
	i.set(func() {
		i.token = func(f url.Values) (int, any) {
			forms = append(forms, f)
			a := answers[len(forms)-1]
			if a["error"] != nil {
				return 400, a
			}
			return 200, a
		}
	})
	d, err := p.BeginDevice(t.Context())
	if err != nil || d.Code != "dc" || d.UserCode != "ABCD" || d.URL != i.URL+"/device" || d.Interval != 5*time.Second || time.Until(d.ExpiresAt) < 9*time.Minute {
		t.Errorf("device login: %+v, %v", d, err)
	}
	for _, want := range []error{auth.ErrPending, auth.ErrSlowDown, auth.ErrExpired, auth.ErrRefused} {
		if _, err := p.PollDevice(t.Context(), "dc"); !errors.Is(err, want) {
			t.Errorf("poll: %v; want %v", err, want)
		}
	}
	if e, err := p.PollDevice(t.Context(), "dc"); err != nil || e.Subject != "sub-alice" {
		t.Errorf("poll: %+v, %v", e, err)
	}
	if f := forms[5]; f.Get("device_code") != "dc" || f.Get("client_id") != client || f.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" {
		t.Errorf("form of a poll: %v", f)
	}
	if _, err := p.BeginDevice(t.Context()); err == nil {
		t.Error("an address that runs a script is shown to people")
	}
	i2 := newIssuer(t)
	i2.set(func() { i2.describe = func(d map[string]any) { delete(d, "device_authorization_endpoint") } })
	if _, err := i2.provider(t, nil).BeginDevice(t.Context()); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("a provider without the device flow: %v; want ErrRefused", err)
	}
}

func TestBackChannelLogout(t *testing.T) {
	i := newIssuer(t)
	now := time.Now()
	i.now = func() time.Time { return now }
	p := i.provider(t, func(o *oidc.Options) { o.Now = i.now })
	id := 0
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		id++
		c := jwt.MapClaims{
			"iss": i.URL, "aud": client, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "j" + string(rune('a'+id)),
			"sub": "sub-alice", "sid": "s1", "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}
		if change != nil {
			change(c)
		}
		return c
	}
	with := func(change func(jwt.MapClaims)) string {
		return i.sign(t, jwt.SigningMethodES256, i.key, claims(change), map[string]any{"typ": "logout+jwt"})
	}
	good := with(nil)
	if sub, sid, err := p.Logout(t.Context(), good); err != nil || sub != "sub-alice" || sid != "s1" {
		t.Fatalf("logout: %q, %q, %v", sub, sid, err)
	}
	if _, sid, err := p.Logout(t.Context(), with(func(c jwt.MapClaims) { delete(c, "sub") })); err != nil || sid != "s1" {
		t.Errorf("logout by session alone: %q, %v", sid, err)
	}
	if sub, _, err := p.Logout(t.Context(), with(func(c jwt.MapClaims) { delete(c, "sid") })); err != nil || sub != "sub-alice" {
		t.Errorf("logout by subject alone: %q, %v", sub, err)
	}
	for name, token := range map[string]string{
		"again":        good,
		"an ID token":  i.good(t, nil),
		"with a nonce": with(func(c jwt.MapClaims) { c["nonce"] = "n1" }),
		"null nonce":   with(func(c jwt.MapClaims) { c["nonce"] = nil }),
		"no events":    with(func(c jwt.MapClaims) { delete(c, "events") }),
		"another event": with(func(c jwt.MapClaims) {
			c["events"] = map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}
		}),
		"event no object": with(func(c jwt.MapClaims) {
			c["events"] = map[string]any{"http://schemas.openid.net/event/backchannel-logout": "x"}
		}),
		"nobody":         with(func(c jwt.MapClaims) { delete(c, "sub"); delete(c, "sid") }),
		"no id":          with(func(c jwt.MapClaims) { delete(c, "jti") }),
		"no time":        with(func(c jwt.MapClaims) { delete(c, "iat") }),
		"old":            with(func(c jwt.MapClaims) { c["iat"], c["exp"] = now.Add(-10*time.Minute).Unix(), now.Add(time.Hour).Unix() }),
		"of the future":  with(func(c jwt.MapClaims) { c["iat"] = now.Add(10 * time.Minute).Unix() }),
		"expired":        with(func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Minute).Unix() }),
		"no expiry":      with(func(c jwt.MapClaims) { delete(c, "exp") }),
		"another client": with(func(c jwt.MapClaims) { c["aud"] = "someone" }),
		"another issuer": with(func(c jwt.MapClaims) { c["iss"] = "https://evil.example.com" }),
		"another key":    i.sign(t, jwt.SigningMethodES256, mustKey(t), claims(nil), nil),
		"none":           i.sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), nil),
		"nothing":        "",
		"endless":        strings.Repeat("a", 70_000),
	} {
		if sub, sid, err := p.Logout(t.Context(), token); !errors.Is(err, auth.ErrRefused) {
			t.Errorf("%s: %q, %q, %v; want ErrRefused", name, sub, sid, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*oidc.Options){
		"plain HTTP":             func(o *oidc.Options) { o.Issuer = "http://id.example.com" },
		"no address":             func(o *oidc.Options) { o.Issuer = "id.example.com" },
		"issuer with a query":    func(o *oidc.Options) { o.Issuer = "https://id.example.com?x=1" },
		"issuer with a password": func(o *oidc.Options) { o.Issuer = "https://a:b@id.example.com" },
		"no client":              func(o *oidc.Options) { o.ClientID = "" },
		"HS256":                  func(o *oidc.Options) { o.Algorithms = []string{"HS256"} },
		"none":                   func(o *oidc.Options) { o.Algorithms = []string{"none"} },
		"admins without groups":  func(o *oidc.Options) { o.Admins = []string{"ops"} },
		"authorities not there":  func(o *oidc.Options) { o.CAFile = "/nonexistent.pem" },
	} {
		o := oidc.Options{Name: "idp", Issuer: "https://id.example.com", ClientID: client}
		change(&o)
		if _, err := oidc.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
