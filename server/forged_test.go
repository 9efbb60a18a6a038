package server_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// parts are a token's header and claims.
func parts(t *testing.T, token string) (header, claims object) {
	t.Helper()
	text := strings.Split(token, ".")
	if len(text) != 3 {
		t.Fatalf("no token: %s", token)
	}
	for i, to := range []*object{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(text[i])
		if err != nil || json.Unmarshal(b, to) != nil {
			t.Fatalf("part %d of %s: %v", i, token, err)
		}
	}
	return header, claims
}

// forge makes a token out of anything.
func forge(t *testing.T, header, claims object, sign func([]byte) []byte) string {
	t.Helper()
	text := ""
	for _, part := range []object{header, claims} {
		b, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		text += "." + base64.RawURLEncoding.EncodeToString(b)
	}
	text = text[1:]
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

func with(o object, change object) object {
	out := maps.Clone(o)
	maps.Copy(out, change)
	return out
}

// TestForgedCredentials shows each face what can be made of a token of alice, of the keys that are published, and of the other
// secrets that the registry gives out. None of it is anybody.
func TestForgedCredentials(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=delete")
	d.fill(t)
	alice := basic("alice", alicePassword)
	real := strings.TrimPrefix(string(d.token(t, alice, "repository:team/app:pull")), "Bearer ")
	header, claims := parts(t, real)
	kid, _ := header["kid"].(string)
	published := d.keySet(t)[kid]
	if published == nil || d.do(t, caller("Bearer "+real), "GET", "/v2/team/app/manifests/1", "").status != http.StatusOK {
		t.Fatal("the real token is of no published key, or worth nothing")
	}
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(published)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte) func([]byte) []byte {
		return func(text []byte) []byte { h := hmac.New(sha256.New, key); h.Write(text); return h.Sum(nil) }
	}
	byOwn := func(text []byte) []byte { return ed25519.Sign(own, text) }
	none := func([]byte) []byte { return nil }
	wide := with(claims, object{"access": []object{{"type": "repository", "name": "team/app", "actions": []string{"pull", "push", "delete"}}}})
	text := strings.Split(real, ".")
	ownKey := signer{kid, own}.jwk()
	tokens := map[string]string{
		"no signature": text[0] + "." + text[1] + ".", "two parts": text[0] + "." + text[1], "another's signature": forge(t, header, claims, byOwn),
		"own key as jwk": forge(t, with(header, object{"jwk": ownKey}), claims, byOwn), "own key as jku": forge(t, with(header, object{"jku": "https://evil.example/keys"}), claims, byOwn),
		"own key as x5u": forge(t, with(header, object{"x5u": "https://evil.example/key"}), claims, byOwn), "own key as x5c": forge(t, with(header, object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}}), claims, byOwn),
		"kid as a path": forge(t, with(header, object{"kid": "../../../../../../dev/null"}), claims, mac(nil)), "kid of nobody": forge(t, with(header, object{"kid": "x"}), claims, byOwn),
		"HS256 by the published key": forge(t, with(header, object{"alg": "HS256"}), claims, mac(published)), "HS256 by its DER": forge(t, with(header, object{"alg": "HS256"}), claims, mac(der)),
		"HS256 by its PEM":           forge(t, with(header, object{"alg": "HS256"}), claims, mac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))),
		"HS256 by nothing":           forge(t, with(header, object{"alg": "HS256"}), claims, mac(nil)),
		"claims of an administrator": text[0] + "." + strings.Split(forge(t, header, with(claims, object{"sub": "admin"}), none), ".")[1] + "." + text[2],
		"wider claims":               text[0] + "." + strings.Split(forge(t, header, wide, none), ".")[1] + "." + text[2],
		"a character more":           real + "A", "empty parts": "..", "words": "a.b.c",
		"4 KiB of dots": strings.Repeat(".", 4<<10), "7 KiB": text[0] + "." + strings.Repeat("A", 7<<10) + "." + text[2],
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		tokens[fmt.Sprintf("alg %q", alg)] = forge(t, with(header, object{"alg": alg}), wide, none)
		tokens[fmt.Sprintf("alg %q with a signature", alg)] = forge(t, with(header, object{"alg": alg}), wide, byOwn)
	}
	// Secrets of other kinds in the place of a token.
	a := d.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, adminPassword), "Content-Type", "application/json")
	cookie, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Set-Cookie"), "__Host-berth="), ";")
	b := d.do(t, alice, "GET", "/token?offline_token=true&service=berth", "")
	var offline struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(b.body), &offline); err != nil || offline.Refresh == "" || cookie == "" {
		t.Fatalf("a refresh token, and a cookie %q: %s", cookie, b.body)
	}
	tokens["the cookie of a session"], tokens["a refresh token"] = cookie, offline.Refresh
	for what, token := range tokens {
		for _, face := range []string{"/v2/team/app/manifests/1", "/v2/", "/v2/_catalog", "/api/v1/me", "/api/v1/jobs", "/token?service=berth", "/v1/search?q=app", "/extensions/v2/team/app/signatures/" + digestOf(indexContent)} {
			if a := d.do(t, caller("Bearer "+token), "GET", face, ""); a.status != http.StatusUnauthorized || a.header.Get("Www-Authenticate") == "" {
				t.Errorf("%s at %s: %d %.200s", what, face, a.status, a.body)
			}
		}
		if what == "a refresh token" {
			continue // which is a password of its account
		}
		if a := d.do(t, basic("alice", token), "GET", "/token?service=berth", ""); a.status != http.StatusUnauthorized && a.status != http.StatusTooManyRequests {
			t.Errorf("%s as a password: %d %.200s", what, a.status, a.body)
		}
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "service": {"berth"}}
		if a := d.do(t, "", "POST", "/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded"); a.status != http.StatusUnauthorized {
			t.Errorf("%s as a refresh token: %d %.200s", what, a.status, a.body)
		}
	}
	// More than a header may have is not parsed at all.
	for _, long := range []string{"Bearer " + strings.Repeat("a.", 5<<10), "Bearer " + strings.Repeat("A", 60<<10), "Basic " + strings.Repeat("QQ", 6<<10)} {
		if a := d.do(t, caller(long), "GET", "/v2/", ""); a.status != http.StatusUnauthorized && a.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of %d bytes: %d %.200s", len(long), a.status, a.body)
		}
	}
}

// TestNarrowTokenStaysNarrow: a personal access token that is for one thing buys nothing else, whichever way it is shown.
func TestNarrowTokenStaysNarrow(t *testing.T) {
	m := &matrix{daemon: start(t, "REGISTRY_AUTH_USERS=none", "BERTH_ANONYMOUS=none")}
	m.make(t, "users", fmt.Sprintf(`{"name":"lead","password":%q}`, teamPassword))
	m.make(t, "projects", `{"name":"team"}`)
	m.make(t, "projects/team/members", `{"subject":{"kind":"user","name":"lead"},"role":"admin"}`)
	m.push(t, "team/app", blobContent)
	lead := basic("lead", teamPassword)
	made := m.do(t, lead, "POST", "/api/v1/me/tokens", `{"name":"puller","grants":[{"repositories":"team/app","verbs":["pull"]}]}`, "Content-Type", "application/json")
	var token struct{ Secret string }
	if err := json.Unmarshal([]byte(made.body), &token); err != nil || made.status != http.StatusCreated {
		t.Fatalf("%d %s", made.status, made.body)
	}
	narrow := basic("lead", token.Secret)
	ways := map[string]caller{
		"password": narrow, "bearer": caller("Bearer " + token.Secret), "exchanged": m.token(t, narrow, "repository:team/app:pull,push,delete", "repository:team/app:*", "registry:catalog:*"),
	}
	for way, who := range ways {
		if a := m.do(t, who, "GET", "/v2/team/app/manifests/1", ""); a.status != http.StatusOK {
			t.Errorf("%s: pull: %d %s", way, a.status, a.body)
		}
		for _, request := range []string{
			"POST /v2/team/app/blobs/uploads/", "DELETE /v2/team/app/manifests/1", "PUT /v2/team/app/manifests/2", "POST /v2/team/other/blobs/uploads/", "POST /api/v1/projects/team/members",
			"GET /api/v1/projects/team/members", "DELETE /api/v1/projects/team", "POST /api/v1/me/tokens", "GET /api/v1/me/tokens", "GET /api/v1/me/sessions", "DELETE /api/v1/repositories/team/app",
		} {
			method, path, _ := strings.Cut(request, " ")
			body := ""
			if path == "/api/v1/me/tokens" && method == "POST" {
				body = `{"name":"wider"}`
			}
			if a := m.do(t, who, method, path, body, "Content-Type", "application/json"); a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
				t.Errorf("%s: %s: %d %s", way, request, a.status, a.body)
			}
		}
	}
	form := fmt.Sprintf(`{"name":"lead","password":%q}`, token.Secret)
	if a := m.do(t, "", "POST", "/api/v1/sessions", form, "Content-Type", "application/json"); a.status == http.StatusCreated {
		t.Error("a narrow token opens a session")
	}
}

// TestNoHeaderMakesAStranger: what a request says of proxies, of its host and of its address changes no answer, no event and no
// limit, unless it comes from a proxy that the configuration trusts.
func TestNoHeaderMakesAStranger(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=push", "REGISTRY_AUTH_USERS=push", "BERTH_LIMITS_LOGIN_FAILURES=2", "BERTH_LIMITS_LOGIN_PAUSE=15m", "BERTH_LIMITS_LOGIN_WINDOW=30m")
	d.fill(t)
	admin := basic("admin", adminPassword)
	unlike := regexp.MustCompile(`"requestId":"[0-9a-f]+"|uploads/[^" ?\]]+|Docker-Upload-Uuid:\[[^]]+\]`)
	seen := func(a answer) string { return unlike.ReplaceAllString(bytesOf(a, nil), "") }
	headers := [][]string{
		{"X-Forwarded-Host", "evil.example"}, {"X-Forwarded-Proto", "https"}, {"X-Forwarded-For", "198.51.100.7"}, {"Forwarded", `for=198.51.100.7;host=evil.example;proto=https`},
		{"X-Host", "evil.example"}, {"X-Real-Ip", "198.51.100.7"}, {"X-Original-Url", "/v2/team/app/manifests/1"}, {"X-Rewrite-Url", "/v2/team/app/manifests/1"}, {"X-Http-Method-Override", "DELETE"},
		{"X-Forwarded-Prefix", "/evil"}, {"X-Forwarded-Port", "1"}, {"X-Forwarded-User", "admin"}, {"X-Remote-User", "admin"}, {"X-Forwarded-Client-Cert", `Subject="CN=admin"`}, {"X-Ssl-Client-S-Dn", "CN=admin"},
	}
	for _, request := range []string{
		"GET /v2/", "GET /v2/team/app/manifests/1", "POST /v2/library/app/blobs/uploads/", "POST /v2/team/app/blobs/uploads/", "GET /v2/_catalog?n=1", "GET /api/v1/me", "GET /api/v1/jobs", "GET /api/v1/login",
		"GET /api/v1/repositories?limit=1", "GET /v2/library/app/tags/list", "GET /", "DELETE /v2/library/app/manifests/1",
	} {
		method, path, _ := strings.Cut(request, " ")
		for _, who := range []caller{"", basic("alice", alicePassword)} {
			plain := seen(d.do(t, who, method, path, ""))
			for _, h := range headers {
				if got := seen(d.do(t, who, method, path, "", h...)); got != plain {
					t.Errorf("%s with %s: %s\nwithout     %s\nwith        %s", request, h[0], h[1], plain, got)
				}
			}
		}
	}
	// Sessions, events and limits are by the address of the connection.
	spoofed := []string{"Content-Type", "application/json", "X-Forwarded-For", "198.51.100.7", "X-Real-Ip", "198.51.100.7", "Forwarded", "for=198.51.100.7"}
	d.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, adminPassword), spoofed...)
	d.do(t, admin, "DELETE", "/v2/library/app/manifests/1", "", spoofed...)
	sessions, events := d.do(t, admin, "GET", "/api/v1/me/sessions", ""), d.do(t, admin, "GET", "/api/v1/events", "")
	if strings.Contains(sessions.body+events.body, "198.51.100") || !strings.Contains(sessions.body, `"addr":"127.0.0.1"`) || !strings.Contains(events.body, "tag.deleted") {
		t.Errorf("sessions %s\nevents %s", sessions.body, events.body)
	}
	var statuses []int
	for i := range 8 {
		statuses = append(statuses, d.do(t, basic("bob", "a guess"), "GET", "/token?service=berth", "", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i), "X-Real-Ip", fmt.Sprintf("198.51.100.%d", i)).status)
	}
	if !slices.Contains(statuses, http.StatusTooManyRequests) {
		t.Errorf("guesses with another invented address each: %v", statuses)
	}
	// A stranger cannot say that it came by TLS.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/v2/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "registry.example.com"
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("Authorization", string(admin))
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Errorf("plain HTTP from elsewhere, said to be TLS: %d", resp.StatusCode)
	}
}

// TestEveryChangeNeedsTheToken: with the cookie of an administrator, no route that changes something is served without the CSRF
// token of its session, nor to a page of another site; and the cookie is nobody at the other faces.
func TestEveryChangeNeedsTheToken(t *testing.T) {
	d := start(t)
	d.fill(t)
	session := func() (cookie, csrf string) {
		t.Helper()
		a := d.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, adminPassword), "Content-Type", "application/json")
		var o struct{ CSRF string }
		if err := json.Unmarshal([]byte(a.body), &o); err != nil || o.CSRF == "" {
			t.Fatal(a.body)
		}
		cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
		return cookie, o.CSRF
	}
	cookie, csrf := session()
	_, another := session()
	changes := 0
	for _, o := range operations(t, "team/app") {
		if o.method == "GET" || o.scope == "everybody" {
			continue
		}
		changes++
		for what, header := range map[string][]string{
			"no token": nil, "an empty token": {"X-Berth-CSRF", ""}, "another session's token": {"X-Berth-CSRF", another}, "the cookie as the token": {"X-Berth-CSRF", cookie},
			"a page of another site": {"X-Berth-CSRF", csrf, "Sec-Fetch-Site", "cross-site"}, "a page of a site beside": {"X-Berth-CSRF", csrf, "Sec-Fetch-Site", "same-site"},
			"another origin": {"X-Berth-CSRF", csrf, "Origin", "https://evil.example"}, "no origin": {"X-Berth-CSRF", csrf, "Origin", "null"},
		} {
			a := d.do(t, "", o.method, o.path, `{}`, append([]string{"Cookie", cookie, "Content-Type", "application/json"}, header...)...)
			if a.status != http.StatusForbidden || !strings.Contains(a.body, `"reason":"DENIED"`) {
				t.Errorf("%s with %s: %d %s", o.id, what, a.status, a.body)
			}
		}
		// A form, and a simple request, are what another site can send without asking.
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			if a := d.do(t, "", o.method, o.path, `{}`, "Cookie", cookie, "Content-Type", kind); a.status != http.StatusForbidden {
				t.Errorf("%s as %s: %d %s", o.id, kind, a.status, a.body)
			}
		}
	}
	if changes < 40 {
		t.Errorf("only %d changes", changes)
	}
	for _, request := range []string{"DELETE /v2/team/app/manifests/1", "POST /v2/team/app/blobs/uploads/", "GET /v2/team/app/manifests/1"} {
		method, path, _ := strings.Cut(request, " ")
		if a := d.do(t, "", method, path, "", "Cookie", cookie, "X-Berth-CSRF", csrf); a.status != http.StatusUnauthorized {
			t.Errorf("%s with a cookie: %d", request, a.status)
		}
	}
	if a := d.do(t, "", "GET", "/token?service=berth&scope=repository:team/app:pull", "", "Cookie", cookie); a.status == http.StatusOK {
		_, claims := parts(t, strings.TrimSpace(tokenOf(t, a)))
		if claims["sub"] == "admin" {
			t.Errorf("a cookie buys a token: %v", claims)
		}
	}
	if a := d.do(t, "", "GET", "/api/v1/jobs", "", "Cookie", cookie); a.status != http.StatusOK {
		t.Errorf("the session has ended meanwhile: %d", a.status)
	}
}

func tokenOf(t *testing.T, a answer) string {
	t.Helper()
	var doc struct{ Token string }
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Token
}

// TestGroupRemoved: a right that a group gave is gone with the answer that ends the membership, for whatever somebody holds: a
// session, a personal token, an access token, a refresh token; and a robot's with its grant.
func TestGroupRemoved(t *testing.T) {
	m := &matrix{daemon: start(t, "REGISTRY_AUTH_USERS=none", "BERTH_ANONYMOUS=none"), tokens: map[string]caller{}}
	m.make(t, "users", fmt.Sprintf(`{"name":"dora","password":%q}`, teamPassword))
	m.make(t, "groups", `{"name":"crew"}`)
	m.make(t, "projects", `{"name":"team"}`)
	m.make(t, "projects/team/members", `{"subject":{"kind":"group","name":"crew"},"role":"developer"}`)
	m.make(t, "grants", `{"subject":{"kind":"group","name":"crew"},"verbs":["job.read"]}`)
	made := m.make(t, "projects/team/robots", `{"name":"ci"}`)
	grant := number(t, m.make(t, "projects/team/grants", `{"subject":{"kind":"robot","name":"ci"},"verbs":["pull","push"]}`))
	m.push(t, "team/app", blobContent)
	admin := basic("admin", adminPassword)
	belong := func(method string) {
		t.Helper()
		if a := m.do(t, admin, method, "/api/v1/groups/crew/members/dora", ""); a.status != http.StatusNoContent {
			t.Fatalf("%s of a member: %d %s", method, a.status, a.body)
		}
	}
	belong("PUT")
	dora := &principal{name: "dora"}
	m.login(t, dora, teamPassword)
	var robot struct{ Secret string }
	if err := json.Unmarshal([]byte(made.body), &robot); err != nil {
		t.Fatal(err)
	}
	var offline struct {
		Token   string
		Refresh string `json:"refresh_token"`
	}
	a := m.do(t, dora.basic, "GET", "/token?offline_token=true&service=berth&scope=repository:team/app:pull,push", "")
	if err := json.Unmarshal([]byte(a.body), &offline); err != nil || offline.Refresh == "" {
		t.Fatal(a.body)
	}
	bearer := caller("Bearer " + offline.Token)
	ofRobot := m.token(t, basic("ci", robot.Secret), "repository:team/app:pull,push")
	refreshed := func() string {
		t.Helper()
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {offline.Refresh}, "service": {"berth"}, "scope": {"repository:team/app:pull,push"}}
		a := m.do(t, "", "POST", "/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		_, claims := parts(t, tokenOf(t, a))
		return fmt.Sprint(claims["access"])
	}
	check := func(step string, has bool) {
		t.Helper()
		ok := func(a answer) bool { return a.status < 300 }
		for way, got := range map[string]bool{
			"password":         ok(m.do(t, dora.basic, "POST", "/v2/team/app/blobs/uploads/", "")),
			"access token":     ok(m.do(t, bearer, "POST", "/v2/team/app/blobs/uploads/", "")),
			"personal token":   ok(m.do(t, dora.secret, "POST", "/v2/team/app/blobs/uploads/", "")),
			"refresh token":    strings.Contains(refreshed(), "push"),
			"session, project": ok(m.do(t, "", "GET", "/api/v1/projects/team", "", "Cookie", dora.cookie)),
			"session, jobs":    ok(m.do(t, "", "GET", "/api/v1/jobs", "", "Cookie", dora.cookie)),
			"personal, jobs":   ok(m.do(t, dora.secret, "GET", "/api/v1/jobs", "")),
		} {
			if got != has {
				t.Errorf("%s, by %s: %t", step, way, got)
			}
		}
	}
	check("a member", true)
	belong("DELETE")
	check("a member no more", false)
	belong("PUT")
	check("a member again", true)
	m.remove(t, "groups/crew")
	check("without the group", false)
	for _, who := range []caller{basic("ci", robot.Secret), caller("Bearer " + robot.Secret), ofRobot} {
		if a := m.do(t, who, "POST", "/v2/team/app/blobs/uploads/", ""); a.status != http.StatusAccepted {
			t.Errorf("the robot: %d %s", a.status, a.body)
		}
	}
	m.remove(t, fmt.Sprintf("projects/team/grants/%d", grant))
	for _, who := range []caller{basic("ci", robot.Secret), caller("Bearer " + robot.Secret), ofRobot} {
		if a := m.do(t, who, "POST", "/v2/team/app/blobs/uploads/", ""); a.status != http.StatusForbidden {
			t.Errorf("the robot without its grant: %d %s", a.status, a.body)
		}
	}
}

// TestMountIsNoOracle: who pushes to one project learns nothing of the content of another by mounting it, in no header and no byte.
func TestMountIsNoOracle(t *testing.T) {
	m := newMatrix(t)
	foreign, absent := digestOf(foreignBlob), digestOf("nowhere")
	own := regexp.MustCompile(`uploads/[^" ?\]]+|Docker-Upload-Uuid:\[[^]]+\]`)
	for _, p := range m.principals {
		if p.unaffected {
			continue
		}
		for _, way := range ways {
			first := ""
			for _, query := range []string{
				"mount=" + absent + "&from=team/none", "mount=" + foreign + "&from=other/app", "mount=" + absent + "&from=other/app", "mount=" + foreign + "&from=ghost/app", "mount=" + foreign, "mount=" + foreign + "&from=team/app",
				"mount=" + digestOf(blobContent) + "&from=other/app",
			} {
				r := route{method: "POST", path: "/v2/team/new/blobs/uploads/?" + query, repository: "team/new", kind: "application/octet-stream"}
				a, ok := m.as(t, p, way, r)
				if !ok {
					continue
				}
				got := own.ReplaceAllString(bytesOf(a, nil), "")
				if first == "" {
					first = got
				}
				if got != first || a.status == http.StatusCreated {
					t.Errorf("%s by %s, %s: %s\nwant as %s", p.name, way, query, got, first)
				}
			}
		}
	}
}
