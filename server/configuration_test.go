package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The configuration goes out and comes in as JSON and as YAML, is planned before it is applied, and no secret is in it.
func TestConfiguration(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	const document = `version: 1
users:
  - name: alice
    displayName: Alice
groups:
  - name: one
    members: [alice]
projects:
  - name: fresh
    public: true
robots:
  - name: ci
    project: fresh
    expiresAt: 2031-01-02T03:04:05Z
grants:
  - subject: {kind: group, name: one}
    project: fresh
    role: developer
`
	apply := func(query, body, media string) (out struct {
		DryRun  bool
		Changes []struct{ Action, Kind, Name string }
	}) {
		t.Helper()
		a := d.do(t, admin, "PUT", "/api/v1/apply"+query, body, "Content-Type", media)
		if a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &out) != nil {
			t.Fatalf("apply%s: %d %s", query, a.status, a.body)
		}
		return out
	}
	export := func(format string) string {
		t.Helper()
		a := d.do(t, admin, "GET", "/api/v1/export?format="+format, "")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/"+format) || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("export %s: %d %v %s", format, a.status, a.header, a.body)
		}
		return a.body
	}
	before := export("json")
	if plan := apply("?dry_run=true", document, "application/yaml"); !plan.DryRun || len(plan.Changes) != 5 || export("json") != before {
		t.Fatalf("%+v %s", plan, export("json"))
	}
	if done := apply("", document, "application/yaml"); len(done.Changes) != 5 || done.Changes[0].Kind != "user" {
		t.Fatalf("%+v", done)
	}
	asJSON, asYAML := export("json"), export("yaml")
	if !strings.Contains(asYAML, "  - name: ci\n    project: fresh\n") {
		t.Errorf("YAML:\n%s", asYAML)
	}
	for _, secret := range []string{"argon2", adminPassword, "brs_", "hash"} {
		if strings.Contains(asJSON, secret) {
			t.Errorf("%q is in %s", secret, asJSON)
		}
	}
	for media, body := range map[string]string{"application/json": asJSON, "application/yaml": asYAML} {
		if again := apply("?prune=true", body, media); len(again.Changes) != 0 {
			t.Errorf("%s: %+v", media, again)
		}
	}
	if back := apply("?prune=true", before, "application/json"); len(back.Changes) != 5 || export("json") != before {
		t.Errorf("%+v\n%s", back, export("json"))
	}
	for body, field := range map[string]string{
		`{"version":1,"users":[{"name":"x","passwordHash":"y"}]}`: "users[0].passwordHash",
		`{"version":1,"robots":[{"name":"x","id":7}]}`:            "robots[0].id",
		`{"version":9}`: "version",
		`{}`:            "version",
	} {
		a := d.do(t, admin, "PUT", "/api/v1/apply", body, "Content-Type", "application/json")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}
