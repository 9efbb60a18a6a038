package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
)

// operation is a route of the management API, as its contract says.
type operation struct{ id, method, path, verb, scope string }

// operations are all routes, with the parameters of their paths filled in, in the order of their names.
func operations(t *testing.T, repository string) (all []operation) {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]yaml.Node `yaml:"paths"`
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{repository}", repository, "{tag}", "absent", "{id}", "9999", "{digest}", digestOf("absent"), "{user}", "absent", "{group}", "absent", "{robot}", "absent", "{project}", "absent", "{role}", "absent", "{issuer}", "absent")
	for path, item := range doc.Paths {
		for method, node := range item {
			var o struct {
				ID         string                       `yaml:"operationId"`
				Permission struct{ Verb, Scope string } `yaml:"x-permission"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&o); err != nil {
				t.Fatal(err)
			}
			all = append(all, operation{o.ID, strings.ToUpper(method), fill.Replace(path), o.Permission.Verb, o.Permission.Scope})
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d operations", len(all))
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return all
}

// TestManagementRights sends every route as every kind of caller. Its repository is private, its users have no rights but
// what an administrator gives them: nothing.
func TestManagementRights(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=none", "BERTH_BACKUP_TARGET="+filepath.Join(t.TempDir(), "snapshots"), "BERTH_BACKUP_SCHEDULE=@yearly")
	d.fill(t)
	admin, auditor := basic("admin", adminPassword), basic("bob", alicePassword)
	d.audits(t, "bob")
	callers := []struct {
		name string
		as   caller
	}{
		{"anonymous", ""}, {"another scheme", "Negotiate abc"}, {"alice", basic("alice", alicePassword)},
		{"token of alice", d.token(t, basic("alice", alicePassword), "repository:team/app:pull,push,delete")},
		{"token of admin", d.token(t, admin, "repository:team/app:pull,push,delete", "repository:other/app:pull")},
		{"auditor", auditor}, {"admin", admin},
	}
	var table strings.Builder
	for _, o := range operations(t, "team/app") {
		fmt.Fprintf(&table, "%-18s %-26s", o.id, strings.TrimSpace(o.scope+" "+o.verb))
		for _, who := range callers {
			if who.as == "" && who.name != "anonymous" {
				t.Fatalf("no credential for %s", who.name)
			}
			a := d.do(t, who.as, o.method, o.path, "")
			fmt.Fprintf(&table, "  %s %d", who.name, a.status)
			d.heldToLaws(t, o, who.name, a)
		}
		table.WriteByte('\n')
	}
	golden(t, filepath.Join("testdata", "management.golden"), table.String())
}

// audits makes an account an auditor.
func (d *daemon) audits(t *testing.T, account string) {
	t.Helper()
	if a := d.do(t, basic(account, alicePassword), "GET", "/api/v1/me", ""); a.status != http.StatusOK { // it has a row from its first login on
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := d.do(t, basic("admin", adminPassword), "PATCH", "/api/v1/users/"+account, `{"auditor":true}`, "Content-Type", "application/json", "If-Match", "*"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

// An auditor sees how the registry is set up and what it does, and starts, changes and learns no secret of it.
func TestAuditor(t *testing.T) {
	d := start(t, "REGISTRY_AUTH_USERS=none", "BERTH_BACKUP_TARGET="+filepath.Join(t.TempDir(), "snapshots"), "BERTH_BACKUP_SCHEDULE=@yearly")
	d.fill(t)
	d.audits(t, "bob")
	admin, auditor := basic("admin", adminPassword), basic("bob", alicePassword)
	d.succeeded(t, admin, d.do(t, admin, "POST", "/api/v1/backups", "{}", "Content-Type", "application/json"))
	var robot, token struct{ Secret string }
	for path, into := range map[string]*struct{ Secret string }{"robots": &robot, "me/tokens": &token} {
		a := d.do(t, admin, "POST", "/api/v1/"+path, `{"name":"ci"}`, "Content-Type", "application/json")
		if a.status != http.StatusCreated || json.Unmarshal([]byte(a.body), into) != nil || into.Secret == "" {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"gc", "gc/preview", "gc/why/" + digestOf(blobContent), "damage", "backups", "trash", "jobs", "events", "settings", "export", "providers", "issuers", "users", "sessions"} {
		a := d.do(t, auditor, "GET", "/api/v1/"+path, "")
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		for _, secret := range []string{robot.Secret, token.Secret, adminPassword, alicePassword, "argon2", "$2a$", "$2y$"} {
			if strings.Contains(a.body, secret) {
				t.Errorf("%s tells %q: %s", path, secret, a.body)
			}
		}
	}
	if a := d.do(t, auditor, "GET", "/api/v1/export?format=yaml", ""); a.status != http.StatusOK || !strings.Contains(a.body, "name: ci") {
		t.Errorf("export: %d %s", a.status, a.body)
	}
	for _, o := range []struct{ method, path, body string }{
		{"POST", "gc", "{}"}, {"POST", "fsck", "{}"}, {"POST", "backups", "{}"}, {"PUT", "apply", `{"version":1}`}, {"PUT", "apply?dry_run=true", `{"version":1}`},
		{"DELETE", "repositories/team/app/-/trash", ""}, {"POST", "jobs/1/cancel", ""}, {"POST", "issuers/check", "{}"}, {"GET", "repositories/team/app/-/manifests/" + digestOf(indexContent), ""},
	} {
		if a := d.do(t, auditor, o.method, "/api/v1/"+o.path, o.body, "Content-Type", "application/json"); a.status != http.StatusForbidden {
			t.Errorf("%s %s: %d %s", o.method, o.path, a.status, a.body)
		}
	}
}

// heldToLaws checks what is so for every route, whatever the table says.
func (d *daemon) heldToLaws(t *testing.T, o operation, who string, a answer) {
	t.Helper()
	refused := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status == http.StatusNotFound
	switch {
	case a.status >= 500:
		t.Errorf("%s as %s: %d %s", o.id, who, a.status, a.body)
	case o.scope == "everybody":
		if a.status != http.StatusOK && (a.status != http.StatusBadRequest || o.method == "GET") && who != "another scheme" {
			t.Errorf("%s as %s: %d", o.id, who, a.status)
		}
	case o.scope == "visible":
		if a.status != http.StatusOK && (a.status != http.StatusUnauthorized || who == "admin") {
			t.Errorf("%s as %s: %d", o.id, who, a.status)
		}
	case who == "anonymous" || who == "another scheme":
		if a.status != http.StatusUnauthorized || a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s as %s: %d %s; want 401 with a challenge", o.id, who, a.status, a.body)
		}
	case who == "admin":
		if (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden) && o.id != "getSession" {
			t.Errorf("%s: an administrator is refused: %s", o.id, a.body)
		}
	case who == "auditor" && slices.Contains(identity.AuditorVerbs(), identity.Verb(o.verb)):
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
			t.Errorf("%s: an auditor is refused: %s", o.id, a.body)
		}
	case o.scope == "signed-in":
		if a.status == http.StatusUnauthorized && o.id != "getSession" && !strings.HasPrefix(who, "token of") {
			t.Errorf("%s as %s: %d %s", o.id, who, a.status, a.body)
		}
	case o.scope == "registry" || who != "token of admin":
		if !refused {
			t.Errorf("%s as %s: %d %s; want a refusal", o.id, who, a.status, a.body)
		}
	}
	if a.status >= 400 {
		var p struct {
			Status         int
			Detail, Reason string
		}
		if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(a.body), &p) != nil || p.Status != a.status || p.Detail == "" || p.Reason == "" {
			t.Errorf("%s as %s: %d is no problem document: %s", o.id, who, a.status, a.body)
		}
	}
}

// What a caller may not see is answered as what is not there.
func TestManagementIsNoOracle(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=none")
	d.fill(t)
	id := regexp.MustCompile(`"requestId":"[0-9a-f]+"`)
	there, absent := operations(t, "team/app"), operations(t, "team/none")
	for i, o := range there {
		for _, as := range []caller{"", basic("alice", alicePassword)} {
			a := d.do(t, as, o.method, o.path, "")
			b := d.do(t, as, absent[i].method, absent[i].path, "")
			same := strings.ReplaceAll(id.ReplaceAllString(b.body, ""), "team/none", "team/app") == id.ReplaceAllString(a.body, "")
			if a.status != b.status || !same {
				t.Errorf("%s: %d %s, of a repository that is not there %d %s", o.id, a.status, a.body, b.status, b.body)
			}
		}
	}
}

// TestManagementAnswers holds answers to testdata/management-answers.golden, without what changes from run to run.
func TestManagementAnswers(t *testing.T) {
	snapshots := filepath.Join(t.TempDir(), "snapshots")
	d := start(t, "BERTH_BACKUP_TARGET="+snapshots, "BERTH_BACKUP_SCHEDULE=@yearly")
	d.fill(t)
	admin, repo := basic("admin", adminPassword), "/api/v1/repositories/team/app/-/"
	second := `{"schemaVersion":2,"manifests":[],"annotations":{"n":"2"}}`
	var out strings.Builder
	defer func() { golden(t, filepath.Join("testdata", "management-answers.golden"), out.String()) }()
	ask := func(method, path, body string) answer {
		t.Helper()
		header := []string{}
		if body != "" {
			header = []string{"Content-Type", "application/json"}
		}
		a := d.do(t, admin, method, path, body, header...)
		fmt.Fprintf(&out, "%s %s %s\n  %d", method, plain(path, snapshots), body, a.status)
		for _, name := range []string{"Link", "Location", "Allow"} {
			if v := a.header.Get(name); v != "" {
				fmt.Fprintf(&out, " %s: %s", name, plain(v, snapshots))
			}
		}
		if a.status == http.StatusAccepted { // how far the job is by now
			out.WriteByte('\n')
			return a
		}
		fmt.Fprintf(&out, "\n  %s\n", plain(strings.TrimSpace(a.body), snapshots))
		return a
	}
	if a := d.do(t, admin, "PUT", "/v2/team/app/manifests/1", second, "Content-Type", oci.MediaTypeIndex); a.status != http.StatusCreated {
		t.Fatal(a)
	}
	first := digestOf(indexContent)
	ask("GET", repo+"tags", "")
	ask("GET", repo+"tags/1", "")
	ask("GET", repo+"tags/2", "")
	ask("GET", repo+"tags/1/history", "")
	ask("GET", repo+"tags/1/history?limit=1", "")
	ask("GET", repo+"tags/1?at=2020-01-01T00:00:00Z", "")
	ask("GET", repo+"tags/1?at=yesterday", "")
	ask("GET", "/api/v1/repositories?contains=TEAM&limit=1", "")
	ask("GET", "/api/v1/repositories?after=bGlzdFRhZ3MAMQ", "")
	ask("GET", "/api/v1/repositories?fields=name,secret", "")
	ask("GET", "/api/v1/repositories/team/app?fields=public,name", "")
	ask("GET", repo+"manifests?fields=digest,tags", "")
	ask("GET", repo+"manifests/"+first, "")
	ask("GET", repo+"manifests/"+first+"/referrers", "")
	ask("PUT", repo+"tags/new", `{"digest":"`+first+`","expext":1,"expect":2}`)
	ask("PUT", repo+"tags/new", `{"digest":"`+first+`"}`)
	ask("PUT", repo+"tags/new", `{"digest":"`+digestOf("absent")+`"}`)
	ask("PUT", repo+"tags/new", `{"digest":"`+first+`","expect":"`+digestOf("absent")+`"}`)
	ask("DELETE", repo+"tags/new", "")
	ask("GET", strings.Replace(repo, "team/app", "team%2Fapp", 1)+"tags?limit=1", "")
	ask("GET", "/api/v1/repositories/Team/-/tags", "")
	ask("POST", repo+"tags/1/rollback", `{"expect":"`+first+`"}`)
	ask("POST", repo+"tags/1/rollback", `{"digest":"sha256:1"}`)
	ask("POST", repo+"tags/1/rollback", `{"diggest":"x"}`)
	ask("POST", repo+"tags/1/rollback", `{"at":7}`)
	ask("POST", repo+"tags/1/rollback", `{"digest":7}`)
	ask("POST", repo+"tags/1/rollback", `[]`)
	ask("POST", repo+"tags/1/rollback", `{}{}`)
	ask("POST", repo+"tags/1/rollback", "")
	ask("POST", repo+"tags/1/restore", "")
	if a := d.do(t, admin, "DELETE", "/v2/team/app/manifests/"+first, ""); a.status != http.StatusAccepted {
		t.Fatal(a)
	}
	ask("GET", repo+"deleted-tags", "")
	ask("GET", repo+"trash", "")
	ask("GET", "/api/v1/trash?limit=1", "")
	ask("POST", repo+"trash/"+first+"/restore", `{"tags":true,"force":1}`)
	ask("POST", repo+"trash/"+first+"/restore", `{"tags":true}`)
	ask("POST", repo+"trash/"+first+"/restore", "")
	if a := d.do(t, admin, "DELETE", "/v2/team/app/manifests/1", ""); a.status != http.StatusAccepted {
		t.Fatal(a)
	}
	ask("POST", repo+"tags/1/restore", `{}`)
	ask("DELETE", repo+"trash", "")
	ask("DELETE", repo+"trash/"+first, "")
	ask("GET", "/api/v1/gc/why/"+digestOf(blobContent), "")
	ask("GET", "/api/v1/gc/why/"+digestOf("absent"), "")
	ask("GET", "/api/v1/gc/why/latest", "")
	ask("GET", "/api/v1/gc/preview?deleteUntagged=true", "")
	ask("GET", "/api/v1/gc/preview?deleteUntagged=perhaps", "")
	ask("POST", "/api/v1/gc", `{"rate":-1}`)
	d.succeeded(t, admin, ask("POST", "/api/v1/gc", `{"deleteUntagged":true}`))
	ask("GET", "/api/v1/gc", "")
	ask("GET", "/api/v1/damage", "")
	ask("GET", "/api/v1/damage?after=x", "")
	ask("GET", "/api/v1/fsck/7777", "")
	d.succeeded(t, admin, ask("POST", "/api/v1/fsck", `{"references":true,"orphans":true}`))
	ask("GET", "/api/v1/fsck", "")
	ask("POST", "/api/v1/fsck", `{"repairFrom":"/srv"}`)
	ask("GET", "/api/v1/backups?target=/srv/elsewhere", "")
	d.succeeded(t, admin, ask("POST", "/api/v1/backups", `{"keep":3}`))
	ask("POST", "/api/v1/backups", `{"keep":-3}`)
	ask("GET", "/api/v1/backups", "")
	ask("GET", "/api/v1/jobs?kind=fsck&state=succeeded", "")
	ask("GET", "/api/v1/jobs?state=lost", "")
	ask("GET", "/api/v1/jobs?limit=0", "")
	ask("GET", "/api/v1/jobs?after=-1", "")
	ask("GET", "/api/v1/jobs?order=id", "")
	ask("GET", "/api/v1/jobs/first", "")
	ask("POST", "/api/v1/jobs/7777/cancel", "")
	ask("DELETE", "/api/v1/jobs", "")
	ask("DELETE", "/api/v1/repositories/team/app", "")
	ask("DELETE", "/api/v1/repositories/team/app", "")
	ask("GET", "/api/v1/", "")
	ask("GET", "/api/v2/jobs", "")
}

// plain takes out what is different in every run.
func plain(text, snapshots string) string {
	text = strings.ReplaceAll(text, snapshots, "SNAPSHOTS")
	for _, r := range []struct{ what, with string }{
		{`"requestId":"[0-9a-f]{24}"`, `"requestId":"ID"`},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "TIME"},
		{`\d{8}t\d{6}\.\d+z-[0-9a-f]+`, "SNAPSHOT"},
		{`("next":"|after=)[\w-]{20,}`, "${1}CURSOR"},
		{`"worker":"[^"]*"`, `"worker":"WORKER"`},
		{`"source":"[^"]*"`, `"source":"SOURCE"`},
		{`"seconds":[0-9.e-]+`, `"seconds":N`},
		{`("id":|jobs/|"job":|job )[1-6]?\d\b`, "${1}N"},
		{`Go-http-client/[\d.]+`, "Go-http-client"},
	} {
		text = regexp.MustCompile(r.what).ReplaceAllString(text, r.with)
	}
	return text
}

// succeeded waits until the job that an answer names has succeeded.
func (d *daemon) succeeded(t *testing.T, who caller, started answer) {
	t.Helper()
	at := started.header.Get("Location")
	if started.status != http.StatusAccepted || at == "" {
		t.Fatalf("no job was started: %+v", started)
	}
	for range 3000 {
		var j struct{ State, Error string }
		a := d.do(t, who, "GET", at, "")
		if err := json.Unmarshal([]byte(a.body), &j); err != nil {
			t.Fatal(err)
		}
		switch j.State {
		case "succeeded":
			return
		case "dead", "cancelled":
			t.Fatalf("%s", a.body)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the job does not end")
}

// What a page of another site makes a browser send, and what is too much or not JSON, changes nothing.
func TestManagementRefusals(t *testing.T) {
	d := start(t)
	d.fill(t)
	admin, path := basic("admin", adminPassword), "/api/v1/repositories/team/app/-/tags/1/rollback"
	for _, test := range []struct {
		name, body string
		header     []string
		status     int
	}{
		{"a form of another site", "", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"a form of a neighbour", "", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{"an old browser", "", []string{"Origin", "https://evil.example.com"}, http.StatusForbidden},
		{"text as a form sends it", `{"digest":"x"}`, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType},
		{"no media type", `{"digest":"x"}`, nil, http.StatusUnsupportedMediaType},
		{"a large body", `{"digest":"` + strings.Repeat("x", 70<<10) + `"}`, []string{"Content-Type", "application/json"}, http.StatusRequestEntityTooLarge},
		{"half a body", `{"digest":"`, []string{"Content-Type", "application/json"}, http.StatusBadRequest},
		{"a page of its own", "", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusNotFound},
	} {
		a := d.do(t, admin, "POST", path, test.body, test.header...)
		if a.status != test.status || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s; want %d", test.name, a.status, a.body, test.status)
		}
	}
	// HEAD is GET without its body; an address that only looks alike is another one.
	if a := d.do(t, admin, "HEAD", "/api/v1/jobs", ""); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
	for _, path := range []string{"/api/v1", "/api/v1//jobs", "/api/v1/../v1/jobs", "/api/v1/jobs/", "/api/v1/%6aobs/x/y", "/api/"} {
		if a := d.do(t, admin, "GET", path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}
