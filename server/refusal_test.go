package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestRefusals: every refusal of what somebody has written says which member or parameter it is about, and why in a word that
// programs can match.
func TestRefusals(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	send := func(as caller, method, path, body string, header ...string) answer {
		return d.do(t, as, method, "/api/v1/"+path, body, append([]string{"Content-Type", "application/json"}, header...)...)
	}
	for path, body := range map[string]string{
		"projects": `{"name":"team"}`, "groups": `{"name":"ops"}`, "roles": `{"name":"clerk","verbs":["pull"]}`, "robots": `{"name":"ci"}`,
		"users": fmt.Sprintf(`{"name":"carol","password":%q}`, alicePassword),
	} {
		if a := send(admin, "POST", path, body); a.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	grant := func(rest string) string { return `{"subject":{"kind":"user","name":"carol"},` + rest + `}` }
	if a := send(admin, "POST", "projects/team/grants", grant(`"role":"guest"`)); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		method, path, body string
		status             int
		field, reason      string
	}{
		{"POST", "projects", `{"name":"Big Team"}`, 400, "name", "NAME_INVALID"},
		{"POST", "projects", `{"name":"team"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "projects", `{"name":"p","labels":{"a b":"1"}}`, 400, "labels", "FIELD_INVALID"},
		{"POST", "projects", `{"name":"p","description":"` + long + `"}`, 400, "description", "FIELD_INVALID"},
		{"PATCH", "projects/team", `{"labels":{"":"1"}}`, 400, "labels", "FIELD_INVALID"},
		{"DELETE", "projects/library", "", 409, "project", "BUILT_IN"},
		{"POST", "users", `{"name":"a b"}`, 400, "name", "NAME_INVALID"},
		{"POST", "users", `{"name":"system"}`, 400, "name", "NAME_INVALID"},
		{"POST", "users", `{"name":"carol"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "users", `{"name":"Carol"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "users", `{"name":"CI"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "robots", `{"name":"ADMIN"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "users", `{"name":"\u0430lice2"}`, 400, "name", "NAME_INVALID"}, // the first letter is Cyrillic
		{"POST", "users", `{"name":"d","password":"short"}`, 400, "password", "PASSWORD_WEAK"},
		{"POST", "users", `{"name":"d","expiresAt":"2001-01-01T00:00:00Z"}`, 400, "expiresAt", "FIELD_INVALID"},
		{"POST", "users", `{"name":"d","source":"nosuchidp"}`, 400, "source", "FIELD_INVALID"},
		{"POST", "users", `{"name":"d","source":"htpasswd","password":"x"}`, 400, "password", "PASSWORD_WEAK"},
		{"PATCH", "users/carol", `{"expiresAt":"2001-01-01T00:00:00Z"}`, 400, "expiresAt", "FIELD_INVALID"},
		{"POST", "users/carol/reset-password", `{"password":"short"}`, 400, "password", "PASSWORD_WEAK"},
		{"POST", "users/carol/links", `{"provider":"nosuchidp","subject":"x"}`, 400, "provider", "FIELD_INVALID"},
		{"POST", "password", fmt.Sprintf(`{"name":"carol","oldPassword":%q,"newPassword":"short"}`, alicePassword), 400, "newPassword", "PASSWORD_WEAK"},
		{"POST", "password", fmt.Sprintf(`{"name":"carol","oldPassword":%q,"newPassword":""}`, alicePassword), 400, "newPassword", "PASSWORD_WEAK"},
		{"POST", "groups", `{"name":"a:b"}`, 400, "name", "NAME_INVALID"},
		{"POST", "groups", `{"name":"ops"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "roles", `{"name":"Big Boss","verbs":["pull"]}`, 400, "name", "NAME_INVALID"},
		{"POST", "roles", `{"name":"clerk","verbs":["pull"]}`, 409, "name", "NAME_TAKEN"},
		{"POST", "roles", `{"name":"admin","verbs":["pull"]}`, 409, "name", "BUILT_IN"},
		{"DELETE", "roles/admin", "", 409, "role", "BUILT_IN"},
		{"POST", "roles", `{"name":"x","verbs":["pull","fly"]}`, 400, "verbs[1]", "FIELD_INVALID"},
		{"POST", "roles", `{"name":"x","verbs":["pull","pull"]}`, 400, "verbs[1]", "FIELD_INVALID"},
		{"POST", "robots", `{"name":"ci"}`, 409, "name", "NAME_TAKEN"},
		{"POST", "robots", `{"name":"!"}`, 400, "name", "NAME_INVALID"},
		{"POST", "me/tokens", `{"name":"x","expiresAt":"2001-01-01T00:00:00Z"}`, 400, "expiresAt", "FIELD_INVALID"},
		{"POST", "me/tokens", `{"name":"x","grants":[{"repositories":"team/**","verbs":["fly"]}]}`, 400, "grants", "FIELD_INVALID"},
		{"POST", "me/tokens", `{"name":" "}`, 400, "name", "NAME_INVALID"},
		{"POST", "projects/team/grants", grant(`"verbs":["fly"]`), 400, "verbs[0]", "FIELD_INVALID"},
		{"POST", "projects/team/grants", grant(`"verbs":["pull"],"role":"guest"`), 400, "role", "FIELD_INVALID"},
		{"POST", "projects/team/grants", grant(`"verbs":["user.write"]`), 400, "verbs", "FIELD_INVALID"},
		{"POST", "projects/team/grants", grant(`"verbs":["pull"],"until":"2001-01-01T00:00:00Z"`), 400, "until", "FIELD_INVALID"},
		{"POST", "projects/team/grants", grant(`"verbs":["pull"],"pattern":"other/**"`), 400, "pattern", "NAME_INVALID"},
		{"POST", "projects/team/grants", grant(`"role":"guest"`), 409, "subject", "NAME_TAKEN"},
		{"POST", "projects/team/grants", `{"subject":{"kind":"user","name":"ghost"},"role":"guest"}`, 404, "subject.name", "NAME_UNKNOWN"},
		{"POST", "projects/team/grants", `{"subject":{"kind":"everyone","name":"x"},"verbs":["pull"]}`, 400, "subject.name", "FIELD_INVALID"},
		{"PATCH", "groups/ops", `{}`, 428, "If-Match", "PRECONDITION_REQUIRED"},
		{"PUT", "apply", `{"version":1,"groups":[{"name":"fine"},{"name":"a:b"}]}`, 400, "groups[1].name", "FIELD_INVALID"},
		{"PUT", "apply", `{"version":1,"roles":[{"name":"x","verbs":["fly"]}]}`, 400, "roles[0].verbs[0]", "FIELD_INVALID"},
		{"PUT", "apply", `{"version":1,"users":[{"name":"x"},{"name":"x"}]}`, 400, "users[1]", "FIELD_INVALID"},
		{"PUT", "apply", `{"version":1,"groups":[{"name":"x","members":["ghost"]}]}`, 400, "groups", "FIELD_INVALID"},
		{"GET", "trash?after=bGlzdEFsbFRyYXNoAHg", "", 400, "after", "FIELD_INVALID"},
	} {
		as := admin
		if test.path == "password" {
			as = ""
		}
		var match []string
		if test.status != http.StatusPreconditionRequired && test.method == "PATCH" {
			match = []string{"If-Match", "*"}
		}
		a := send(as, test.method, test.path, test.body, match...)
		var p struct{ Field, Reason, Detail string }
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != test.status || p.Field != test.field || p.Reason != test.reason || p.Detail == "" {
			t.Errorf("%s %s %.120s: %d %s; want %d %s of %s", test.method, test.path, test.body, a.status, a.body, test.status, test.reason, test.field)
		}
	}
	// The way out of a password that has to be changed is one that is there.
	if a := send(admin, "POST", "users", fmt.Sprintf(`{"name":"fresh","password":%q,"mustChange":true}`, alicePassword)); a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := send(basic("fresh", alicePassword), "GET", "me", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "POST /api/v1/password") || !strings.Contains(a.body, "PASSWORD_CHANGE_REQUIRED") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send("", "POST", "password", fmt.Sprintf(`{"name":"fresh","oldPassword":%q,"newPassword":"another-Long-9-secret"}`, alicePassword)); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send(basic("fresh", "another-Long-9-secret"), "GET", "me", ""); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}
