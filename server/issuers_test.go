package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const rules = `"rules":[{"name":"build","claims":{"repository":"octo/app"},"grants":[{"repositories":"octo/app","verbs":["pull"]}]}]`

// Issuers of tokens are made, read, changed and deleted over the API, and what is wrong with one is named by its member.
func TestIssuers(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	send := func(method, path, body string, header ...string) answer {
		t.Helper()
		return d.do(t, admin, method, "/api/v1/issuers"+path, body, append(header, "Content-Type", "application/json")...)
	}
	body := `{"name":"github","issuer":"https://token.example.com","audiences":["berth"],` + rules + `}`
	made := send("POST", "", body)
	if made.status != http.StatusCreated || made.header.Get("Location") != "/api/v1/issuers/github" || !strings.Contains(made.body, `"enabled":true`) {
		t.Fatalf("%d %v %s", made.status, made.header, made.body)
	}
	if a := send("POST", "", body); a.status != http.StatusConflict || !strings.Contains(a.body, "NAME_TAKEN") || !strings.Contains(a.body, `"field":"name"`) {
		t.Errorf("twice: %d %s", a.status, a.body)
	}
	shown := send("GET", "/github", "")
	if shown.status != http.StatusOK || shown.body != made.body || shown.header.Get("ETag") != made.header.Get("ETag") {
		t.Errorf("%d %s, made %s", shown.status, shown.body, made.body)
	}
	if a := send("GET", "?fields=name,rules", ""); !strings.Contains(a.body, `{"items":[{"name":"github","rules":[{"name":"build"`) {
		t.Errorf("%s", a.body)
	}
	change := `{"enabled":false,"issuer":"https://token.example.com","audiences":["berth"],"rules":[]}`
	if a := send("PUT", "/github", change); a.status != http.StatusPreconditionRequired {
		t.Errorf("without If-Match: %d %s", a.status, a.body)
	}
	changed := send("PUT", "/github", change, "If-Match", made.header.Get("ETag"))
	if changed.status != http.StatusOK || !strings.Contains(changed.body, `"enabled":false`) || !strings.Contains(changed.body, `"rules":[]`) {
		t.Errorf("%d %s", changed.status, changed.body)
	}
	if a := send("PUT", "/github", change, "If-Match", made.header.Get("ETag")); a.status != http.StatusPreconditionFailed {
		t.Errorf("what was read before: %d %s", a.status, a.body)
	}
	if a := send("DELETE", "/github", "", "If-Match", made.header.Get("ETag")); a.status != http.StatusPreconditionFailed {
		t.Errorf("what was read before: %d %s", a.status, a.body)
	}
	if a := send("PUT", "/gitlab", change, "If-Match", "*"); a.status != http.StatusNotFound {
		t.Errorf("of none: %d %s", a.status, a.body)
	}
	for _, test := range []struct{ member, body string }{
		{"issuer", `"issuer":"http://token.example.com","audiences":["berth"],` + rules},
		{"issuer", `"issuer":"spiffe://example.org","audiences":["berth"],` + rules},
		{"audiences", `"issuer":"https://token.example.com","audiences":[""],` + rules},
		{"audiences", `"issuer":"https://token.example.com",` + rules},
		{"jwksUrl", `"issuer":"https://token.example.com","audiences":["berth"],"jwksUrl":"ftp://a","rules":[]`},
		{"jwks", `"issuer":"https://token.example.com","audiences":["berth"],"jwks":{"keys":7},"rules":[]`},
		{"ca", `"issuer":"https://token.example.com","audiences":["berth"],"ca":"x","rules":[]`},
		{"algorithms", `"issuer":"https://token.example.com","audiences":["berth"],"algorithms":["HS256"],"rules":[]`},
		{"rules[0].claims", `"issuer":"https://token.example.com","audiences":["berth"],"rules":[{"name":"x","claims":{"repository":"*"},"robot":"ci"}]`},
		{"rules[0]", `"issuer":"https://token.example.com","audiences":["berth"],"rules":[{"name":"x","claims":{"repository":"a"}}]`},
		{"rules[0].lifetimeSeconds", `"issuer":"https://token.example.com","audiences":["berth"],"rules":[{"name":"x","claims":{"repository":"a"},"robot":"ci","lifetimeSeconds":1}]`},
		{"rules[0].grants", `"issuer":"https://token.example.com","audiences":["berth"],"rules":[{"name":"x","claims":{"repository":"a"},"grants":[{"repositories":"a/**","verbs":["member.write"]}]}]`},
	} {
		for path, body := range map[string]string{"": `{"name":"other",` + test.body + `}`, "/check": `{` + test.body + `}`} {
			var p struct{ Reason, Field string }
			a := send("POST", path, body)
			if json.Unmarshal([]byte(a.body), &p) != nil || a.status != http.StatusBadRequest || p.Reason != "FIELD_INVALID" || p.Field != test.member {
				t.Errorf("%s%s: %d %s", test.member, path, a.status, a.body)
			}
		}
	}
	for path, body := range map[string]string{
		"": `{"name":"cluster","issuer":"https://c.example.com","audiences":["berth"],"bearerFile":"/etc/passwd",` + rules + `}`, "/check": `{"issuer":"https://c.example.com","audiences":["berth"],"bearerFile":"/etc/passwd",` + rules + `}`,
	} {
		if a := send("POST", path, body); a.status != http.StatusForbidden || !strings.Contains(a.body, `"field":"bearerFile"`) {
			t.Errorf("an account sends files of the machine away: %d %s", a.status, a.body)
		}
	}
	applied := `{"version":1,"issuers":[{"name":"cluster","enabled":true,"config":{"issuer":"https://c.example.com","audiences":["berth"],"bearerFile":"/etc/passwd","rules":[]}}]}`
	if a := d.do(t, admin, "PUT", "/api/v1/apply", applied, "Content-Type", "application/json"); a.status != http.StatusForbidden || !strings.Contains(a.body, `"field":"bearerFile"`) {
		t.Errorf("an account sends files of the machine away, by apply: %d %s", a.status, a.body)
	}
	applied = strings.Replace(strings.Replace(applied, `"/etc/passwd"`, `""`, 1), `["berth"]`, `[]`, 1)
	if a := d.do(t, admin, "PUT", "/api/v1/apply", applied, "Content-Type", "application/json"); a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"issuers[0].config.audiences"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send("POST", "/check", `{"issuer":"https://token.example.com","audiences":["berth"],`+rules+`}`); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send("DELETE", "/github", "", "If-Match", changed.header.Get("ETag")); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := send("GET", "/github", ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// The sources of identities are listed as they are configured, without what is secret, for who may read them.
func TestProviders(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(config, []byte(`version: 0.1
auth:
  ldap:
    - name: corp
      label: Company
      accounts: adopt
      servers: ["ldap://127.0.0.1:1"]
      plain: true
      binddn: cn=berth
      bindpassword: harbour-Wall-7
      users: {base: "ou=people", filter: "(uid={name})"}
      groups: {base: "ou=groups", create: true}
  oidc:
    - name: sso
      issuer: https://id.example.com
      clientid: berth
      clientsecret: harbour-Wall-7
`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startFile(t, config)
	admin := basic("admin", adminPassword)
	a := d.do(t, admin, "GET", "/api/v1/providers", "")
	var list struct {
		Items []struct {
			Name, Label, Kind, Accounts string
			CreatesGroups, Failing      bool
			Logins                      []string
			AnsweredAt, FailedAt        string
		}
	}
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	got := ""
	for _, p := range list.Items {
		got += fmt.Sprintln(p.Name, p.Label, p.Kind, p.Accounts, p.CreatesGroups, p.Logins, p.Failing, p.AnsweredAt, p.FailedAt)
	}
	if want := "htpasswd  htpasswd  false [password] false  \nlocal  local  false [password] false  \ncorp Company ldap adopt true [password] false  \nsso  oidc create false [browser device] false  \n"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if strings.Contains(a.body, "harbour") || strings.Contains(a.body, "127.0.0.1") || strings.Contains(a.body, "cn=berth") {
		t.Errorf("more is told than is to be: %s", a.body)
	}
	// The directory is away; it is said, whoever asked for what.
	if a := d.do(t, basic("stranger", "some-Password-1"), "GET", "/v2/", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := d.do(t, admin, "GET", "/api/v1/providers?limit=1&after="+cursor(t, d.do(t, admin, "GET", "/api/v1/providers?limit=2", "").body), ""); !strings.Contains(a.body, `"name":"corp"`) || !strings.Contains(a.body, `"failing":true`) || !strings.Contains(a.body, "failedAt") {
		t.Errorf("%s", a.body)
	}
	if a := d.do(t, basic("alice", alicePassword), "GET", "/api/v1/providers", ""); a.status != http.StatusForbidden {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// cursor is the member next of a page.
func cursor(t *testing.T, body string) string {
	t.Helper()
	var p struct{ Next string }
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Next == "" {
		t.Fatalf("no page follows: %s", body)
	}
	return p.Next
}
