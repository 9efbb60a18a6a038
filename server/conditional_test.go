package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestConditions holds every object with an ETag to what conditions mean (RFC 9110, section 13.1): one that has changed, or was
// made again under its name, is not changed or deleted by who has read another; and who has it is not sent it again.
func TestConditions(t *testing.T) {
	onBoth(t, func(t *testing.T, d *daemon) {
		admin := basic("admin", adminPassword)
		send := func(method, path, body string, header ...string) answer {
			return d.do(t, admin, method, "/api/v1/"+path, body, append([]string{"Content-Type", "application/json"}, header...)...)
		}
		make := func(path, body string) answer {
			t.Helper()
			a := send("POST", path, body)
			if a.status != http.StatusCreated || a.header.Get("ETag") == "" {
				t.Fatalf("%s %s: %d %s", path, body, a.status, a.body)
			}
			return a
		}
		want := func(what string, a answer, status int) {
			t.Helper()
			if a.status != status {
				t.Errorf("%s: %d %s, want %d", what, a.status, a.body, status)
			}
		}
		make("projects", `{"name":"home"}`)
		const issuer = `{"name":"i","issuer":"https://i.example.com","audiences":["x"],"rules":[],"jwksUrl":"https://i.example.com/keys"}`
		for _, o := range []struct{ at, make, method, change, path string }{
			{"projects", `{"name":"p"}`, "PATCH", `{"description":"x"}`, "projects/p"},
			{"users", `{"name":"u"}`, "PATCH", `{"email":"x@example.com"}`, "users/u"},
			{"groups", `{"name":"g"}`, "PATCH", `{"description":"x"}`, "groups/g"},
			{"roles", `{"name":"r","verbs":["pull"]}`, "PUT", `{"verbs":["push"]}`, "roles/r"},
			{"robots", `{"name":"b"}`, "PATCH", `{"description":"x"}`, "robots/b"},
			{"projects/home/robots", `{"name":"c"}`, "PATCH", `{"description":"x"}`, "projects/home/robots/c"},
			{"issuers", issuer, "PUT", strings.Replace(issuer, `"name":"i",`, "", 1), "issuers/i"},
			{"projects/home/grants", `{"subject":{"kind":"signed-in"},"verbs":["pull"]}`, "PUT", `{"verbs":["push"]}`, ""},
		} {
			first := make(o.at, o.make)
			if o.path == "" {
				o.path = strings.TrimPrefix(first.header.Get("Location"), "/api/v1/")
			}
			tag := first.header.Get("ETag")
			got := send("GET", o.path, "")
			if got.status != http.StatusOK || got.header.Get("ETag") != tag {
				t.Errorf("%s: %d, ETag %s and %s", o.path, got.status, got.header.Get("ETag"), tag)
			}
			for header, status := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200} {
				a := send("GET", o.path, "", "If-None-Match", header)
				if a.status != status || status == 304 && (a.body != "" || a.header.Get("ETag") != tag) {
					t.Errorf("%s with If-None-Match %s: %d %v %s", o.path, header, a.status, a.header, a.body)
				}
			}
			want(o.path+" with another tag", send(o.method, o.path, o.change, "If-Match", `"x"`), http.StatusPreconditionFailed)
			want(o.path+" with a weak tag", send(o.method, o.path, o.change, "If-Match", "W/"+tag), http.StatusPreconditionFailed)
			want(o.path+" with other tags", send(o.method, o.path, o.change, "If-Match", `"1", "2"`), http.StatusPreconditionFailed)
			changed := send(o.method, o.path, o.change, "If-Match", `"1", `+tag+`, "x"`)
			want(o.path+" with a list that has its tag", changed, http.StatusOK)
			for _, stale := range []string{tag, `"1", ` + tag} {
				a := send("DELETE", o.path, "", "If-Match", stale)
				want(o.path+" deleted with an old tag", a, http.StatusPreconditionFailed)
				if !strings.Contains(a.body, `"field":"If-Match"`) || !strings.Contains(a.body, `"reason":"CHANGED_MEANWHILE"`) {
					t.Errorf("%s: %s", o.path, a.body)
				}
			}
			now := send("GET", o.path, "").header.Get("ETag")
			if now == tag || now != changed.header.Get("ETag") {
				t.Errorf("%s: ETag %s, %s after the change", o.path, tag, now)
			}
			want(o.path+" deleted", send("DELETE", o.path, "", "If-Match", now), http.StatusNoContent)
			again := make(o.at, o.make)
			if again.header.Get("ETag") == tag {
				t.Errorf("%s: what was made again has the tag of the first, %s", o.path, tag)
			}
			if o.at != "projects/home/grants" { // which are known by number
				want(o.path+" made again, changed with the tag of the first", send(o.method, o.path, o.change, "If-Match", tag), http.StatusPreconditionFailed)
				want(o.path+" made again, deleted with the tag of the first", send("DELETE", o.path, "", "If-Match", tag), http.StatusPreconditionFailed)
			}
		}
	})
}

// An answer that is kept for an account is not given to another one of its name.
func TestKeysEndWithTheAccount(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	make := func() caller {
		t.Helper()
		a := d.do(t, admin, "POST", "/api/v1/users", fmt.Sprintf(`{"name":"carol","password":%q}`, alicePassword), "Content-Type", "application/json")
		if a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return basic("carol", alicePassword)
	}
	token := func(as caller) (id int64, replayed string) {
		t.Helper()
		a := d.do(t, as, "POST", "/api/v1/me/tokens", `{"name":"ci"}`, "Content-Type", "application/json", "Idempotency-Key", "one")
		var made struct{ Token struct{ ID int64 } }
		if a.status != http.StatusCreated || json.Unmarshal([]byte(a.body), &made) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return made.Token.ID, a.header.Get("Idempotency-Replayed")
	}
	carol := make()
	first, _ := token(carol)
	if again, replayed := token(carol); again != first || replayed != "true" {
		t.Errorf("%d, then %d %q", first, again, replayed)
	}
	if a := d.do(t, admin, "DELETE", "/api/v1/users/carol", ""); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if other, replayed := token(make()); other == first || replayed != "" {
		t.Errorf("another carol got token %d of the first, replayed %q", other, replayed)
	}
}

// What a login or a secret is answered with stays in no cache, whoever may ask.
func TestSecretsAreNotKept(t *testing.T) {
	d := start(t)
	login := fmt.Sprintf(`{"name":"admin","password":%q}`, adminPassword)
	for _, test := range []struct{ as, method, path, body string }{
		{"", "POST", "sessions", login}, {"", "POST", "password", `{"name":"x","oldPassword":"y","newPassword":"z"}`},
		{"admin", "POST", "me/tokens", `{"name":"ci"}`}, {"admin", "POST", "robots", `{"name":"ci"}`}, {"admin", "POST", "robots/ci/rotate", `{}`},
		{"admin", "POST", "users", `{"name":"carol"}`}, {"admin", "POST", "users/carol/reset-password", `{}`}, {"admin", "GET", "me/sessions", ""},
	} {
		as := caller("")
		if test.as != "" {
			as = basic(test.as, adminPassword)
		}
		a := d.do(t, as, test.method, "/api/v1/"+test.path, test.body, "Content-Type", "application/json")
		if got := a.header.Get("Cache-Control"); got != "no-store" && a.status < 400 || a.status >= 400 && test.path != "password" {
			t.Errorf("%s %s: %d %s, Cache-Control %q", test.method, test.path, a.status, a.body, got)
		}
	}
}

// Everybody may see what is kept of them; of others that needs user.read.
func TestOwnAccount(t *testing.T) {
	d := start(t)
	bob := basic("bob", alicePassword)
	for path, status := range map[string]int{"users/bob": 200, "users/bob/links": 200, "users/admin": 403, "users/nobody-there": 403, "users/admin/links": 403} {
		if path == "users/bob" {
			if a := d.do(t, bob, "GET", "/api/v1/me", ""); a.status != http.StatusOK { // it has a row from its first login on
				t.Fatal(a.body)
			}
		}
		if a := d.do(t, bob, "GET", "/api/v1/"+path, ""); a.status != status {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, status)
		}
		if a := d.do(t, "", "GET", "/api/v1/"+path, ""); a.status != http.StatusUnauthorized {
			t.Errorf("%s without a login: %d %s", path, a.status, a.body)
		}
	}
}

// What is not there below /api is a problem document, as every failure there is.
func TestUnknownPaths(t *testing.T) {
	d := start(t)
	for _, path := range []string{"/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/users", "/api/v1/userz", "/api/v1//users", "/api/v1/login/x/y"} {
		for _, method := range []string{"GET", "POST"} {
			a := d.do(t, basic("admin", adminPassword), method, path, "")
			if a.status != http.StatusNotFound || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, `"reason":"ROUTE_UNKNOWN"`) {
				t.Errorf("%s %s: %d %v %s", method, path, a.status, a.header, a.body)
			}
		}
	}
}
