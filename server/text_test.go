package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// textRoute is a route of the contract with what in it is text.
type textRoute struct {
	id, method, path string
	query            []string
	body             map[string]any // an example of the body, nil for none
	texts            []string       // members of it that are text
}

// textRoutes are all routes of the contract.
func textRoutes(t *testing.T) (all []textRoute) {
	t.Helper()
	type schema struct {
		Ref        string `yaml:"$ref"`
		Type       any
		Enum       []any
		Properties map[string]*schema
		Required   []string
		Items      *schema
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string                      `yaml:"operationId"`
			Parameters []struct{ Name, In string } `yaml:"parameters"`
			Body       struct {
				Content map[string]struct{ Schema schema }
			} `yaml:"requestBody"`
		}
		Components struct{ Schemas map[string]*schema }
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	resolve := func(s *schema) *schema {
		if s != nil && s.Ref != "" {
			return doc.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		}
		return s
	}
	is := func(s *schema, kind string) bool {
		list, _ := s.Type.([]any)
		return s.Type == kind || slices.Contains(list, any(kind))
	}
	var example func(s *schema) any
	example = func(s *schema) any {
		switch s = resolve(s); {
		case len(s.Enum) > 0:
			return s.Enum[0]
		case is(s, "string"):
			return "x"
		case is(s, "array"):
			return []any{example(s.Items)}
		case is(s, "integer"):
			return 1
		case is(s, "object"):
			out := map[string]any{}
			for _, name := range s.Required {
				out[name] = example(s.Properties[name])
			}
			return out
		}
		return false
	}
	for path, item := range doc.Paths {
		for method, o := range item {
			r := textRoute{id: o.ID, method: strings.ToUpper(method), path: path}
			for _, p := range o.Parameters {
				if p.In == "query" {
					r.query = append(r.query, p.Name)
				}
			}
			if body, ok := o.Body.Content["application/json"]; ok {
				s := resolve(&body.Schema)
				r.body, _ = example(s).(map[string]any)
				for name, member := range s.Properties {
					if m := resolve(member); is(m, "string") && len(m.Enum) == 0 {
						r.texts = append(r.texts, name)
					}
				}
			}
			all = append(all, r)
		}
	}
	if len(all) < 90 {
		t.Fatalf("only %d routes", len(all))
	}
	slices.SortFunc(all, func(a, b textRoute) int { return strings.Compare(a.id, b.id) })
	return all
}

// fill puts an ordinary value into every parameter of a path but one.
func (r textRoute) fill(but, value string) string {
	ordinary := map[string]string{"repository": "team/app", "digest": digestOf("absent"), "id": "9999"}
	return regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllStringFunc(r.path, func(p string) string {
		name := strings.Trim(p, "{}")
		switch {
		case name == but:
			return value
		case ordinary[name] != "":
			return ordinary[name]
		}
		return "absent"
	})
}

func onBoth(t *testing.T, test func(t *testing.T, d *daemon)) {
	for name, dsn := range map[string]func() string{"SQLite": func() string { return "" }, "PostgreSQL": func() string { return metadbtest.Postgres(t) }} {
		t.Run(name, func(t *testing.T) {
			env := []string{"BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=none"}
			if url := dsn(); url != "" {
				env = append(env, "BERTH_DATABASE="+url)
			}
			d := start(t, env...)
			d.fill(t)
			test(t, d)
		})
	}
}

// TestUnstorableText sends what no database keeps to every route in every place, as an administrator and without a login: it
// is refused by the name of what it is in, and is never a failure of ours.
func TestUnstorableText(t *testing.T) {
	routes := textRoutes(t)
	onBoth(t, func(t *testing.T, d *daemon) {
		sent := map[string]int{}
		send := func(where, field string, as caller, r textRoute, path, body string) {
			t.Helper()
			sent[where]++
			var header []string
			if body != "" {
				header = []string{"Content-Type", "application/json", "If-Match", "*"}
			}
			a := d.do(t, as, r.method, path, body, header...)
			var p struct{ Field string }
			_ = json.Unmarshal([]byte(a.body), &p)
			refused := as == "" && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden)
			if !refused && (a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity || p.Field != field) {
				t.Errorf("%s %s %s %.100s: %d %s; want a refusal of %s", r.id, r.method, path, body, a.status, a.body, field)
			}
		}
		for _, as := range []caller{basic("admin", adminPassword), ""} {
			for _, r := range routes {
				for _, m := range regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(r.path, -1) {
					for _, bad := range []string{"%00", "a%00b", "%ff", "%ed%a0%80"} {
						send("path", m[1], as, r, r.fill(m[1], bad), "")
					}
				}
				for _, name := range r.query {
					for _, bad := range []string{"%00", "a%00", "%ff", "%ed%a0%80"} {
						send("query", name, as, r, r.fill("", "")+"?"+name+"="+bad, "")
					}
					if name == "after" && r.id != "listEvents" && r.id != "listBackups" { // whose cursor is another, and which needs a target first
						keys := []string{"\x00x", "\xff", "a\x00b"}
						if r.id == "listGroupMembers" {
							keys = append(keys, `{"Account":"a\u0000"}`, `{"Source":"\u0000"}`)
						}
						for _, key := range keys {
							send("cursor", name, as, r, r.fill("", "")+"?after="+base64.RawURLEncoding.EncodeToString([]byte(r.id+"\x00"+key)), "")
						}
					}
				}
				for _, name := range r.texts {
					body := map[string]any{}
					for k, v := range r.body {
						body[k] = v
					}
					body[name] = "a\x00b"
					text, err := json.Marshal(body)
					if err != nil {
						t.Fatal(err)
					}
					send("body", name, as, r, r.fill("", ""), string(text))
				}
				if r.body != nil {
					a := d.do(t, as, r.method, r.fill("", ""), "{\"name\":\"\xff\"}", "Content-Type", "application/json", "If-Match", "*")
					if a.status >= 500 || a.status < 400 || as != "" && (a.status != http.StatusBadRequest || !strings.Contains(a.body, "UTF-8")) {
						t.Errorf("%s: a body that is no UTF-8: %d %s", r.id, a.status, a.body)
					}
				}
			}
		}
		if sent["path"] < 400 || sent["query"] < 300 || sent["cursor"] < 80 || sent["body"] < 50 {
			t.Errorf("sent %v", sent)
		}
		// What a client says of itself is no reason for a refusal, and is kept as far as it can be.
		a := d.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, adminPassword), "Content-Type", "application/json", "User-Agent", "a\xffb")
		list := d.do(t, basic("admin", adminPassword), "GET", "/api/v1/me/sessions", "")
		if a.status != http.StatusCreated || !strings.Contains(list.body, "\"userAgent\":\"a\uFFFDb\"") {
			t.Errorf("%d %s, %s", a.status, a.body, list.body)
		}
		for _, name := range []string{"\x00", "a\x00", "\xff", "\xed\xa0\x80"} {
			for _, path := range []string{"/api/v1/me", "/v2/", "/token?service=x"} {
				if a := d.do(t, basic(name, "x"), "GET", path, ""); a.status != http.StatusUnauthorized {
					t.Errorf("%s as %q: %d %s", path, name, a.status, a.body)
				}
			}
		}
	})
}

// TestMalformedQuery: a query that cannot be read is not one without filters.
func TestMalformedQuery(t *testing.T) {
	d := start(t)
	for _, query := range []string{"%zz", "a;b", "contains=%zz", "contains=x;limit=1", "contains=%"} {
		a := d.do(t, basic("admin", adminPassword), "GET", "/api/v1/users?"+query, "")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, `"field":"query"`) {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
	if a := d.do(t, basic("admin", adminPassword), "GET", "/api/v1/users?contains="+url.QueryEscape("%;"), ""); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestStrictJSON: a body is read in one way, whoever reads it.
func TestStrictJSON(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	long := strings.Repeat("x", 300)
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	apply := func(project string) string {
		return `{"version":1,"projects":[{"name":"p","labels":{"org.example/team":"a"}}],` + project + `}`
	}
	for _, test := range []struct{ method, path, body, field, want string }{
		{"POST", "users", `{"name":"a","displayName":"ok","DISPLAYNAME":"` + long + `"}`, "DISPLAYNAME", "not known here"},
		{"POST", "users", `{"NAME":"a"}`, "NAME", "not known here"},
		{"POST", "users", `{"name":"a","name":"b"}`, "name", "there twice"},
		{"POST", "users", `{"name":"a","n\u0061me":"b"}`, "name", "there twice"},
		{"POST", "grants", `{"subject":{"KIND":"bogus","kind":"user","name":"x"},"verbs":["pull"]}`, "subject.KIND", "not known here"},
		{"POST", "grants", `{"subject":{"kind":"user","name":"x","name":"y"},"verbs":["pull"]}`, "subject.name", "there twice"},
		{"POST", "projects", `{"name":"p","labels":{"a":"1","a":"2"}}`, "labels.a", "there twice"},
		{"POST", "projects", `{"name":"p","labels":{"a\u0000":"1"}}`, "labels", "control character"},
		{"POST", "projects", `{"name":"p","labels":{"a.b":1}}`, "labels.a.b", "expects a string"},
		{"PUT", "apply", apply(`"users":[{"name":"u"},{"name":"v","displayName":"` + long + `"}]`), "users[1].displayName", "at most 255"},
		{"PUT", "apply", apply(`"users":[{"name":"u","Name":"v"}]`), "users[0].Name", "not known here"},
		{"PUT", "apply", `{"version":1,"issuers":[{"name":"i","enabled":true,"config":{"ISSUER":"https://a.example","issuer":"https://b.example","audiences":["x"],"rules":[]}}]}`, "issuers[0].config.ISSUER", "not known here"},
		{"PUT", "apply", `{"version":1,"issuers":[{"name":"i","enabled":true,"config":{"issuer":"https://b.example","audiences":["x"],"rules":[],"jwks":{"keys":[],"Keys":[]}}}]}`, "issuers[0].config.jwks.Keys", "there twice"},
		{"POST", "users", `{"name":"a","email":` + deep + `}`, "", "nested too deeply"},
		{"POST", "users", `{"name":"a"} {"name":"b"}`, "", "more after"},
		{"POST", "users", `{"name":"a"`, "", "ends too early"},
		{"POST", "users", `[]`, "", "takes an object"},
		{"POST", "users", `null`, "", "takes an object"},
	} {
		a := d.do(t, admin, test.method, "/api/v1/"+test.path, test.body, "Content-Type", "application/json")
		var p struct{ Field, Detail string }
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != http.StatusBadRequest || p.Field != test.field || !strings.Contains(p.Detail, test.want) {
			t.Errorf("%s %.100s: %d %s; want %s of %q", test.path, test.body, a.status, a.body, test.want, test.field)
		}
	}
	// Labels that differ in their case are two.
	if a := d.do(t, admin, "POST", "/api/v1/projects", `{"name":"p","labels":{"a":"1","A":"2"},"description":null}`, "Content-Type", "application/json"); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestControlCharacters: what is put on terminals and into lists has none; what has lines may have lines.
func TestControlCharacters(t *testing.T) {
	d := start(t)
	admin := basic("admin", adminPassword)
	for _, test := range []struct {
		path, body string
		field      string // "" when it is taken
	}{
		{"me/tokens", `{"name":"a\u001b[2Jb"}`, "name"}, {"me/tokens", `{"name":"a\nb"}`, "name"}, {"me/tokens", `{"name":"a\u009bb"}`, "name"},
		{"projects", `{"name":"p","description":"\u001b[2J"}`, "description"}, {"projects", `{"name":"p","description":"one\rtwo"}`, "description"},
		{"projects", `{"name":"p","labels":{"a":"\u0007"}}`, "labels.a"},
		{"projects", `{"name":"p","description":"one\r\ntwo\n\tthree"}`, ""}, {"robots", `{"name":"r","description":"one\ntwo"}`, ""},
		{"groups", `{"name":"g\u007f"}`, "name"}, {"users", `{"name":"u","displayName":"a\u0000"}`, "displayName"},
		{"roles", `{"name":"r","description":"\u001b","verbs":["pull"]}`, "description"},
	} {
		a := d.do(t, admin, "POST", "/api/v1/"+test.path, test.body, "Content-Type", "application/json")
		var p struct{ Field string }
		_ = json.Unmarshal([]byte(a.body), &p)
		if (a.status == http.StatusCreated) != (test.field == "") || p.Field != test.field {
			t.Errorf("%s %s: %d %s; want a refusal of %q", test.path, test.body, a.status, a.body, test.field)
		}
	}
}
