package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/oci"
)

// schemaColumns are all columns of the database.
func schemaColumns(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("metadb", "migrations", "*.sql"))
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	column := regexp.MustCompile(`(?m)^\s+([a-z_]+)\s+(?:\{\{|BIGINT|SMALLINT|BOOLEAN)|ADD COLUMN ([a-z_]+) `)
	seen := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range column.FindAllStringSubmatch(string(text), -1) {
			if name := m[1] + m[2]; !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	if len(names) < 80 || !seen["password_hash"] || !seen["csrf"] {
		t.Fatalf("columns: %v", names)
	}
	return names
}

// Filters, orders and projections come from closed lists: no column of the database is a parameter, and none that is not
// shown can be named.
func TestNoColumnIsAParameter(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	columns := schemaColumns(t)
	lists := 0
	// Filters that have the name of a column, by the contract.
	filters := map[string]bool{"state": true, "kind": true, "project": true, "public": true, "source": true, "admin": true, "disabled": true, "at": true, "target": true}
	for _, o := range operations(t, "team/app") {
		if o.method != "GET" || !strings.HasPrefix(o.id, "list") {
			continue
		}
		lists++
		for _, c := range columns {
			for _, query := range []string{c + "=x", "fields=" + c, "sort=" + c, "sort=-" + c, "sort=id," + c} {
				if c == "name" && strings.TrimPrefix(query, "sort=-") == c || query == "sort=name" { // an order by the contract
					continue
				}
				if (filters[c] || c == "repository" && o.id == "listEvents") && strings.HasPrefix(query, c+"=") {
					continue
				}
				a := d.do(t, admin, "GET", o.path+"?"+query, "")
				known := a.status == http.StatusOK && strings.HasPrefix(query, "fields=") && !regexp.MustCompile("hash|secret|csrf|password|config|payload|sid").MatchString(c)
				if a.status != http.StatusBadRequest && a.status != http.StatusNotFound && !known {
					t.Fatalf("%s?%s: %d %s", o.id, query, a.status, a.body)
				}
			}
		}
	}
	if lists < 15 {
		t.Errorf("only %d lists", lists)
	}
}

// TestOrdersOfLists: what a list may be sorted by is a closed list, which a refusal tells; each order is one, page by page; and
// a cursor belongs to the order that it came from.
func TestOrdersOfLists(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	d.fill(t)
	for _, name := range []string{"zeta", "alpha", "mid"} {
		for path, body := range map[string]string{"projects": `{"name":"p-` + name + `"}`, "robots": `{"name":"r-` + name + `"}`, "groups": `{"name":"g-` + name + `"}`} {
			if a := d.do(t, admin, "POST", "/api/v1/"+path, body, "Content-Type", "application/json"); a.status != http.StatusCreated {
				t.Fatalf("%s: %d %s", path, a.status, a.body)
			}
		}
		if a := d.do(t, admin, "PUT", "/v2/team/app/manifests/t-"+name, `{"schemaVersion":2,"manifests":[],"annotations":{"n":"`+name+`"}}`, "Content-Type", oci.MediaTypeIndex); a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	pages := func(path, sort, member, with string) (all []string) {
		t.Helper()
		for after := ""; ; {
			a := d.do(t, admin, "GET", "/api/v1/"+path+"?limit=2&sort="+sort+"&after="+after, "")
			var page struct {
				Items []map[string]any
				Next  string
			}
			if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != http.StatusOK {
				t.Fatalf("%s sort=%s: %d %s", path, sort, a.status, a.body)
			}
			for _, item := range page.Items {
				if name := fmt.Sprint(item[member]); strings.HasPrefix(name, with) {
					all = append(all, strings.TrimPrefix(name, with))
				}
			}
			if after = page.Next; after == "" {
				return all
			}
		}
	}
	for path, at := range map[string][2]string{"projects": {"name", "p-"}, "robots": {"name", "r-"}, "groups": {"name", "g-"}, "repositories/team/app/-/tags": {"tag", "t-"}} {
		made := "created"
		if strings.HasSuffix(path, "tags") {
			made = "updated"
		}
		for sort, want := range map[string]string{"name": "alpha mid zeta", "-name": "zeta mid alpha", made: "zeta alpha mid", "-" + made: "mid alpha zeta"} {
			if got := strings.Join(pages(path, sort, at[0], at[1]), " "); got != want {
				t.Errorf("%s sort=%s: %s, want %s", path, sort, got, want)
			}
		}
		a := d.do(t, admin, "GET", "/api/v1/"+path+"?sort=digest", "")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"sort"`) || !strings.Contains(a.body, "-name") {
			t.Errorf("%s by what it is not sorted by: %d %s", path, a.status, a.body)
		}
		first := d.do(t, admin, "GET", "/api/v1/"+path+"?limit=1&sort=-name", "")
		var page struct{ Next string }
		if err := json.Unmarshal([]byte(first.body), &page); err != nil || page.Next == "" {
			t.Fatalf("%s: %d %s", path, first.status, first.body)
		}
		for _, other := range []string{"", "&sort=name", "&sort=" + made} {
			if a := d.do(t, admin, "GET", "/api/v1/"+path+"?limit=1&after="+page.Next+other, ""); a.status != http.StatusBadRequest {
				t.Errorf("%s: a cursor of another order%s: %d %s", path, other, a.status, a.body)
			}
		}
	}
	if a := d.do(t, admin, "GET", "/api/v1/repositories/team/app/-/tags?sort=updated&at=2020-01-01T00:00:00Z", ""); a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"sort"`) {
		t.Errorf("an order of tags as they were: %d %s", a.status, a.body)
	}
	// A cursor that somebody made.
	forged := base64.RawURLEncoding.EncodeToString([]byte("listProjects created\x00 1; DROP TABLE project"))
	if a := d.do(t, admin, "GET", "/api/v1/projects?sort=created&after="+forged, ""); a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"after"`) {
		t.Errorf("a forged cursor: %d %s", a.status, a.body)
	}
}

// No body takes more than it says: what a server keeps, and what would be a right, is refused by its name.
func TestMassAssignment(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	var doc struct {
		Paths map[string]map[string]struct {
			ID   string `yaml:"operationId"`
			Body struct {
				Content map[string]struct {
					Schema struct {
						Ref string `yaml:"$ref"`
					}
				}
			} `yaml:"requestBody"`
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Additional any `yaml:"additionalProperties"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	fill := map[string]string{}
	for _, o := range operations(t, "team/app") {
		fill[o.id] = o.path
	}
	bodies := 0
	for _, item := range doc.Paths {
		for method, o := range item {
			ref := o.Body.Content["application/json"].Schema.Ref
			if ref == "" {
				continue
			}
			bodies++
			schema := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
			if schema.Additional != false {
				t.Errorf("%s: the schema of the body is open", o.ID)
			}
			for _, extra := range []string{"id", "generation", "role", "admin", "owner", "project", "projectId", "quota", "createdAt", "created_at", "createdBy", "passwordHash", "password_hash", "hash", "secret", "lastUsedAt", "builtin"} {
				if _, own := schema.Properties[extra]; own {
					continue
				}
				a := d.do(t, admin, strings.ToUpper(method), fill[o.ID], fmt.Sprintf(`{%q:1}`, extra), "Content-Type", "application/json", "If-Match", "*")
				if a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"`+extra+`"`) {
					t.Errorf("%s with %s: %d %s", o.ID, extra, a.status, a.body)
				}
			}
		}
	}
	if bodies < 15 {
		t.Errorf("only %d bodies", bodies)
	}
}

// A session of a browser: its cookie, what changes need besides it, its end, and what a page of another site cannot do.
func TestSessions(t *testing.T) {
	d := start(t)
	type opened struct {
		ID   int64
		User string
		CSRF string
	}
	login := func(password string, header ...string) (answer, string, opened) {
		t.Helper()
		a := d.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, password), append([]string{"Content-Type", "application/json"}, header...)...)
		var o opened
		cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
		if a.status == http.StatusCreated && json.Unmarshal([]byte(a.body), &o) != nil {
			t.Fatal(a.body)
		}
		return a, cookie, o
	}
	if a, cookie, _ := login("wrong-Password-1"); a.status != http.StatusUnauthorized || cookie != "" {
		t.Errorf("wrong password: %d %q", a.status, cookie)
	}
	if a, cookie, _ := login(adminPassword, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden || cookie != "" {
		t.Errorf("login by another site: %d %q", a.status, cookie)
	}
	a, cookie, o := login(adminPassword)
	set := a.header.Get("Set-Cookie")
	if a.status != http.StatusCreated || o.User != "admin" || o.CSRF == "" || strings.Contains(a.body, strings.TrimPrefix(cookie, "__Host-berth=")) {
		t.Fatalf("login: %d %s %s", a.status, a.body, set)
	}
	for _, part := range []string{"__Host-berth=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(set, part) || strings.Contains(set, "Domain") {
			t.Errorf("cookie %q has no %s", set, part)
		}
	}
	do := func(method, path, body string, header ...string) answer {
		t.Helper()
		h := append([]string{"Cookie", cookie}, header...)
		if body != "" {
			h = append(h, "Content-Type", "application/json")
		}
		return d.do(t, "", method, path, body, h...)
	}
	const group = `{"name":"one"}`
	for _, test := range []struct {
		name         string
		method, path string
		body         string
		header       []string
		status       int
	}{
		{"a read", "GET", "/api/v1/jobs", "", nil, 200},
		{"a change without the token", "POST", "/api/v1/groups", group, nil, 403},
		{"with another token", "POST", "/api/v1/groups", group, []string{"X-Berth-CSRF", o.CSRF + "x"}, 403},
		{"with the token, from another site", "POST", "/api/v1/groups", group, []string{"X-Berth-CSRF", o.CSRF, "Sec-Fetch-Site", "cross-site"}, 403},
		{"with the token", "POST", "/api/v1/groups", group, []string{"X-Berth-CSRF", o.CSRF}, 201},
		{"the session", "GET", "/api/v1/sessions/current", "", nil, 200},
		{"two cookies", "GET", "/api/v1/jobs", "", []string{"Cookie", cookie + "; __Host-berth=x"}, 401},
		{"another cookie", "GET", "/api/v1/jobs", "", []string{"Cookie", cookie + "x"}, 401},
		{"logout without the token", "DELETE", "/api/v1/sessions/current", "", nil, 403},
		{"logout", "DELETE", "/api/v1/sessions/current", "", []string{"X-Berth-CSRF", o.CSRF}, 204},
		{"after it", "GET", "/api/v1/jobs", "", nil, 401},
	} {
		if a := do(test.method, test.path, test.body, test.header...); a.status != test.status {
			t.Errorf("%s: %d %s; want %d", test.name, a.status, a.body, test.status)
		}
	}
	// A session is listed and ended by its number, without its secrets.
	_, cookie, o = login(adminPassword)
	admin := basic("admin", adminPassword)
	if a := d.do(t, admin, "GET", "/api/v1/me/sessions", ""); !strings.Contains(a.body, fmt.Sprintf(`"id":%d`, o.ID)) || strings.Contains(a.body, o.CSRF) {
		t.Errorf("sessions: %s", a.body)
	}
	if a := d.do(t, admin, "DELETE", fmt.Sprintf("/api/v1/sessions/%d", o.ID), ""); a.status != http.StatusNoContent {
		t.Errorf("revoke: %d %s", a.status, a.body)
	}
	if a := do("GET", "/api/v1/jobs", ""); a.status != http.StatusUnauthorized {
		t.Errorf("after it was revoked: %d", a.status)
	}
}

// Creations with a key are done once, changes with If-Match on what was read, and secrets are said once.
func TestOnceAndOnlyThen(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	make := func(key, body string) answer {
		t.Helper()
		return d.do(t, admin, "POST", "/api/v1/robots", body, "Content-Type", "application/json", "Idempotency-Key", key)
	}
	first := make("k1", `{"name":"ci"}`)
	var robot struct{ Secret string }
	if first.status != http.StatusCreated || json.Unmarshal([]byte(first.body), &robot) != nil || !strings.HasPrefix(robot.Secret, "brs_") || first.header.Get("Location") != "/api/v1/robots/ci" {
		t.Fatalf("%d %s", first.status, first.body)
	}
	again := make("k1", `{"name":"ci"}`)
	if again.status != http.StatusCreated || again.header.Get("Idempotency-Replayed") != "true" || strings.Contains(again.body, robot.Secret) || !strings.Contains(again.body, `"name":"ci"`) {
		t.Errorf("again: %d %v %s", again.status, again.header, again.body)
	}
	if a := make("k1", `{"name":"cd"}`); a.status != http.StatusConflict || !strings.Contains(a.body, "IDEMPOTENCY_KEY_REUSED") {
		t.Errorf("another request: %d %s", a.status, a.body)
	}
	if a := make("k2", `{"name":"ci"}`); a.status != http.StatusConflict || !strings.Contains(a.body, "NAME_TAKEN") {
		t.Errorf("another key: %d %s", a.status, a.body)
	}
	if a := make("k2", `{"name":"cd"}`); a.status != http.StatusCreated {
		t.Errorf("a key whose request failed is free: %d %s", a.status, a.body)
	}
	if a := make("two words", `{"name":"ce"}`); a.status != http.StatusBadRequest {
		t.Errorf("a key with a space: %d %s", a.status, a.body)
	}
	change := func(match string) answer {
		t.Helper()
		h := []string{"Content-Type", "application/json"}
		if match != "" {
			h = append(h, "If-Match", match)
		}
		return d.do(t, admin, "PATCH", "/api/v1/robots/ci", `{"description":"x"}`, h...)
	}
	tag := d.do(t, admin, "GET", "/api/v1/robots/ci", "").header.Get("ETag")
	if a := change(""); a.status != http.StatusPreconditionRequired {
		t.Errorf("without If-Match: %d %s", a.status, a.body)
	}
	if a := change(tag); a.status != http.StatusOK || a.header.Get("ETag") == tag {
		t.Errorf("with it: %d %s", a.status, a.body)
	}
	if a := change(tag); a.status != http.StatusPreconditionFailed {
		t.Errorf("with the old one: %d %s", a.status, a.body)
	}
	if a := change(`"x"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("with no tag of ours: %d %s", a.status, a.body)
	}
	if a := change("*"); a.status != http.StatusOK {
		t.Errorf("with any: %d %s", a.status, a.body)
	}
	// The robot's secret works, as a password and as a bearer token; and no list has it.
	for _, as := range []caller{basic("ci", robot.Secret), caller("Bearer " + robot.Secret)} {
		if a := d.do(t, as, "GET", "/api/v1/me", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"kind":"robot","name":"ci"`) {
			t.Errorf("robot: %d %s", a.status, a.body)
		}
	}
	for _, o := range operations(t, "team/app") {
		if o.method == "GET" {
			if a := d.do(t, admin, "GET", strings.ReplaceAll(o.path, "absent", "ci"), ""); strings.Contains(a.body, robot.Secret) || strings.Contains(a.body, "argon2") {
				t.Errorf("%s says a secret: %s", o.id, a.body)
			}
		}
	}
}
