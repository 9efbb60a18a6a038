package server_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/identity"
)

// matrix is a registry with four projects, seen from team, and everybody who may come: who shows a password, an access token of
// the token service, a secret (a personal access token, or that of a robot, as a bearer token), the cookie of a session, or a
// client certificate.
type matrix struct {
	*daemon
	principals []*principal
	tokens     map[string]caller
	grants     map[string]int64 // of somebody in a project
	secret     int64            // number of the secret of other's robot
}

type principal struct {
	name       string
	basic      caller
	secret     caller
	cookie     string
	csrf       string
	client     *http.Client
	unaffected bool // may see project other
}

const (
	teamPassword = "a-Long-enough-9-secret"
	foreignIndex = `{"schemaVersion":2,"manifests":[],"annotations":{"of":"other"}}`
	foreignBlob  = "what is in project other alone"
)

// The projects: of the roles, another's, a public one, and one that is not there.
var places = [...]string{"team", "other", "plaza", "ghost"}

// ways are how a principal shows who it is.
var ways = [...]string{"basic", "bearer", "secret", "session", "mtls"}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	dir := t.TempDir()
	names := []string{"stranger", identity.LimitedGuest, identity.Guest, identity.Developer, identity.Maintainer, "lead", "custom", "auditor", "owner"}
	issue := authority(t, filepath.Join(dir, "clients.pem"))
	rules := "    - {cn: admin, account: admin}\n    - {cn: robot, robot: robot}\n"
	for _, n := range names {
		rules += fmt.Sprintf("    - {cn: %s, account: %s}\n", n, n)
	}
	file := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("auth:\n  users: none\n  mtls:\n    cas: [%q]\n    rules:\n%s", filepath.Join(dir, "clients.pem"), rules)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &matrix{daemon: startFile(t, file, "BERTH_DATA="+filepath.Join(dir, "data"), "BERTH_ANONYMOUS=pull"), tokens: map[string]caller{}, grants: map[string]int64{}}
	ca, err := os.ReadFile(filepath.Join(dir, "data", "tls", "ca.crt"))
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("authority of the server: %v", err)
	}

	m.make(t, "users", `{"name":"auditor","password":"`+teamPassword+`","auditor":true}`)
	for _, n := range names {
		if n != "auditor" {
			m.make(t, "users", fmt.Sprintf(`{"name":%q,"password":%q}`, n, teamPassword))
		}
	}
	m.make(t, "roles", `{"name":"custom","verbs":["list","restore","member.read"]}`)
	m.make(t, "groups", `{"name":"crew"}`)
	var robot struct{ Secret string }
	for _, p := range places[:3] {
		m.make(t, "projects", fmt.Sprintf(`{"name":%q,"public":%t}`, p, p == "plaza"))
		m.push(t, p+"/app", blobContent)
		name := map[string]string{"team": "robot"}[p]
		name = cmp.Or(name, p+"-robot")
		a := m.make(t, "projects/"+p+"/robots", fmt.Sprintf(`{"name":%q}`, name))
		if p == "team" {
			if err := json.Unmarshal([]byte(a.body), &robot); err != nil {
				t.Fatal(err)
			}
		}
		m.grants[p] = number(t, m.make(t, "projects/"+p+"/members", `{"subject":{"kind":"user","name":"owner"},"role":"`+map[bool]string{true: "admin", false: "limited-guest"}[p == "other"]+`"}`))
	}
	m.remove(t, fmt.Sprintf("projects/team/members/%d", m.grants["team"])) // so that its number is of nothing
	m.grants["team"] = number(t, m.make(t, "projects/team/grants", `{"subject":{"kind":"robot","name":"robot"},"pattern":"team/**","verbs":["pull","push","list"]}`))
	for role, name := range map[string]string{identity.Admin: "lead", "custom": "custom"} {
		m.make(t, "projects/team/members", fmt.Sprintf(`{"subject":{"kind":"user","name":%q},"role":%q}`, name, role))
	}
	for _, role := range names[1:5] {
		m.make(t, "projects/team/members", fmt.Sprintf(`{"subject":{"kind":"user","name":%q},"role":%q}`, role, role))
	}
	admin := basic("admin", adminPassword)
	a := m.do(t, admin, "PUT", "/v2/other/app/manifests/theirs", foreignIndex, "Content-Type", oci.MediaTypeIndex)
	b := m.do(t, admin, "POST", "/v2/other/app/blobs/uploads/?digest="+digestOf(foreignBlob), foreignBlob)
	if a.status != http.StatusCreated || b.status != http.StatusCreated {
		t.Fatalf("push to other: %+v, %+v", a, b)
	}
	for _, n := range []string{"admin", "auditor"} { // nobody's to adopt: the link is made by hand
		a := m.do(t, admin, "POST", "/api/v1/users/"+n+"/links", `{"provider":"mtls","subject":"account:`+n+`"}`, "Content-Type", "application/json")
		if a.status != http.StatusNoContent {
			t.Fatalf("link of %s: %d %s", n, a.status, a.body)
		}
	}
	var shown struct{ Secrets []struct{ ID int64 } }
	if err := json.Unmarshal([]byte(m.do(t, admin, "GET", "/api/v1/projects/other/robots/other-robot", "").body), &shown); err != nil || len(shown.Secrets) != 1 {
		t.Fatalf("secrets of other's robot: %+v, %v", shown, err)
	}
	m.secret = shown.Secrets[0].ID

	m.principals = []*principal{{name: "anonymous"}}
	for _, n := range append(slices.Insert(names, 7, "robot"), "admin") {
		p := &principal{name: n, unaffected: slices.Contains([]string{"auditor", "owner", "admin"}, n)}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{issue(n)}}, MaxIdleConnsPerHost: 4}
		t.Cleanup(transport.CloseIdleConnections)
		p.client = &http.Client{Transport: transport, Timeout: time.Minute}
		if n == "robot" {
			p.basic, p.secret = basic(n, robot.Secret), caller("Bearer "+robot.Secret)
		} else {
			m.login(t, p, map[bool]string{true: adminPassword, false: teamPassword}[n == "admin"])
		}
		m.principals = append(m.principals, p)
	}
	return m
}

// login gives a person every credential that a password buys.
func (m *matrix) login(t *testing.T, p *principal, password string) {
	t.Helper()
	p.basic = basic(p.name, password)
	var session struct{ CSRF string }
	var token struct{ Secret string }
	a := m.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":%q,"password":%q}`, p.name, password), "Content-Type", "application/json")
	p.cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
	if err := json.Unmarshal([]byte(a.body), &session); err != nil || a.status != http.StatusCreated || p.cookie == "" || session.CSRF == "" {
		t.Fatalf("session of %s: %d %s", p.name, a.status, a.body)
	}
	b := m.do(t, p.basic, "POST", "/api/v1/me/tokens", `{"name":"all"}`, "Content-Type", "application/json")
	if err := json.Unmarshal([]byte(b.body), &token); err != nil || b.status != http.StatusCreated {
		t.Fatalf("token of %s: %d %s", p.name, b.status, b.body)
	}
	p.csrf, p.secret = session.CSRF, caller("Bearer "+token.Secret)
}

// make has the administrator create something.
func (m *matrix) make(t *testing.T, path, body string) answer {
	t.Helper()
	a := m.do(t, basic("admin", adminPassword), "POST", "/api/v1/"+path, body, "Content-Type", "application/json")
	if a.status != http.StatusCreated {
		t.Fatalf("POST %s %s: %d %s", path, body, a.status, a.body)
	}
	return a
}

func (m *matrix) remove(t *testing.T, path string) {
	t.Helper()
	if a := m.do(t, basic("admin", adminPassword), "DELETE", "/api/v1/"+path, ""); a.status != http.StatusNoContent {
		t.Fatalf("DELETE %s: %d %s", path, a.status, a.body)
	}
}

func number(t *testing.T, a answer) int64 {
	t.Helper()
	var made struct{ ID int64 }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.ID == 0 {
		t.Fatalf("no number in %s", a.body)
	}
	return made.ID
}

// authority writes a new authority to a file and returns what makes certificates of clients.
func authority(t *testing.T, file string) func(cn string) tls.Certificate {
	t.Helper()
	serial := int64(0)
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			parent, by = template, key
		}
		serial++
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "authority of clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, key := sign(ca, nil, nil)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(cn string) tls.Certificate {
		der, own := sign(&x509.Certificate{Subject: pkix.Name{CommonName: cn}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
	}
}

// as sends a request as a principal, in one of its ways. ok is false when it has no such way. A token of the token service is one
// for the repository, and for the repository of team where there is none.
func (m *matrix) as(t *testing.T, p *principal, way string, r route, header ...string) (a answer, ok bool) {
	t.Helper()
	header = append([]string{"Content-Type", cmp.Or(r.kind, "application/json")}, header...)
	d, who := m.daemon, caller("")
	switch {
	case way == "basic":
		who = p.basic
	case way == "bearer":
		name := cmp.Or(r.repository, "team/app")
		key := p.name + " " + name
		if _, known := m.tokens[key]; !known {
			m.tokens[key] = m.token(t, p.basic, "repository:"+name+":pull,push,delete")
		}
		if who = m.tokens[key]; who == "" {
			t.Fatalf("the token service refuses %s", p.name)
		}
	case way == "secret" && p.secret != "":
		who = p.secret
	case way == "session" && p.cookie != "":
		header = append(header, "Cookie", p.cookie, "X-Berth-CSRF", p.csrf)
	case way == "mtls" && p.client != nil:
		d = &daemon{strings.Replace(m.url, "http:", "https:", 1), p.client}
	default:
		return a, false
	}
	return d.do(t, who, r.method, r.path, r.body, header...), true
}

// route is a request for a route of the server, to one of the places or to none.
type route struct {
	id               string // of the management API; "" for others
	name             string // how the table calls it
	verb, scope      string
	method, path     string
	pattern          string
	body, kind       string
	place            string
	repository, vary string // vary is the parameter of the path that names an object in the place
}

// routes are requests for all that the server routes, to what is in a place, and to no object of it for what changes something:
// past the door, they change nothing.
func (m *matrix) routes(t *testing.T, place string) (all []route) {
	t.Helper()
	none, index := digestOf("absent"), digestOf(indexContent)
	repository := place + "/app"
	for _, r := range distapi.Routes() {
		one := route{name: r.Method + " " + r.Path, method: r.Method, pattern: r.Path, place: place}
		object := map[string]string{"{reference}": "1", "{digest}": index, "{id}": "unknown", "{n}": "1"}
		changes := r.Method != http.MethodGet && r.Method != http.MethodHead
		if changes {
			object["{reference}"], object["{digest}"] = "absent", none
		} else if strings.Contains(r.Path, "/blobs/") {
			object["{digest}"] = digestOf(blobContent)
		}
		switch {
		case r.Method == http.MethodPut && strings.HasPrefix(r.Path, "/extensions/"):
			one.body = `{"schemaVersion":2,"type":"atomic","name":"` + none + "@" + strings.Repeat("a", 32) + `","content":"eA=="}`
		case r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/"):
			one.body, one.kind = "{", oci.MediaTypeIndex
		case r.Method == http.MethodPost && strings.HasSuffix(r.Path, "token"):
			one.body, one.kind = "grant_type=none", "application/x-www-form-urlencoded"
		case changes:
			one.body, one.kind = "x", "application/octet-stream"
		}
		one.path = r.Path
		if strings.Contains(r.Path, "/lookaside/") {
			object["{digest}"] = strings.Replace(index, ":", "=", 1)
		}
		for parameter, value := range object {
			one.path = strings.ReplaceAll(one.path, parameter, value)
		}
		switch {
		case r.Method == http.MethodPut && strings.HasSuffix(r.Path, "/uploads/{id}"):
			one.path += "?digest=" + none
		case strings.HasSuffix(r.Path, "/search"):
			one.path += "?q=app"
		}
		all = append(all, one.to(repository))
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string                       `yaml:"operationId"`
			Permission struct{ Verb, Scope string } `yaml:"x-permission"`
		}
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	id := cmp.Or(m.grants[place], 999999)
	robot := map[string]string{"team": "robot"}[place]
	there := map[string]string{"{id}": fmt.Sprint(id), "{robot}": cmp.Or(robot, place+"-robot"), "{tag}": "1", "{digest}": index, "{user}": "guest", "{group}": "crew", "{role}": "custom", "{issuer}": "absent"}
	absent := map[string]string{"{id}": "999999", "{robot}": "absent", "{tag}": "absent", "{digest}": none, "{user}": "absent", "{group}": "absent", "{role}": "absent", "{issuer}": "absent"}
	// What would do something to what is there, or to everything, is asked with a parameter or a member that there is not: that is
	// said to those who may.
	harmless := map[string]string{"deleteRepository": "?nosuch=1", "emptyTrash": "?nosuch=1", "logout": "?nosuch=1", "startCollection": `{"nosuch":1}`, "startBackup": `{"nosuch":1}`, "startCheck": `{"nosuch":1}`}
	for path, item := range doc.Paths {
		for method, o := range item {
			one := route{
				id: o.ID, name: fmt.Sprintf("%s %s", strings.ToUpper(method), path), verb: o.Permission.Verb, scope: o.Permission.Scope,
				method: strings.ToUpper(method), pattern: path, path: path, place: place,
			}
			object := absent
			if one.method == http.MethodGet {
				object = there
			}
			if (path == "/api/v1/projects/{project}/members/{id}" || strings.Contains(path, "/fsck/")) && one.method == http.MethodGet {
				object = absent
			}
			for parameter, value := range object {
				one.path = strings.ReplaceAll(one.path, parameter, value)
			}
			if h := harmless[o.ID]; strings.HasPrefix(h, "?") {
				one.path += h
			} else {
				one.body = h
			}
			all = append(all, one.to(repository))
		}
	}
	if len(all) < 120 {
		t.Fatalf("only %d routes", len(all))
	}
	slices.SortFunc(all, func(a, b route) int {
		return cmp.Or(strings.Compare(a.pattern, b.pattern), strings.Compare(a.method, b.method))
	})
	return all
}

// to fills in the repository and its project. A path without them is of no place.
func (r route) to(repository string) route {
	project, _, _ := strings.Cut(repository, "/")
	at := strings.NewReplacer("{name}", repository, "{repository}", repository, "{project}", project).Replace(r.path)
	switch {
	case at == r.path:
		r.place = ""
	case !strings.Contains(r.path, "{project}"):
		r.repository = repository
	}
	r.path = at
	return r
}

// decision is what an answer says of the rights of who asked.
//
//   - past the door    ?  401, show who you are, or a better token    x  403    -  404, as what is not there
func (m *matrix) decision(t *testing.T, p *principal, way string, r route, a answer) byte {
	t.Helper()
	var problem struct{ Reason, Detail string }
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") {
		if err := json.Unmarshal([]byte(a.body), &problem); err != nil {
			t.Fatalf("%s as %s: %s", r.name, p.name, a.body)
		}
	}
	reason := cmp.Or(a.code, problem.Reason)
	what := fmt.Sprintf("%s %s as %s by %s: %d %s", r.method, r.path, p.name, way, a.status, a.body)
	switch {
	case a.status >= 500, reason == "ROUTE_UNKNOWN", a.status == http.StatusMethodNotAllowed, a.status >= 400 && reason == "" && r.method != http.MethodHead:
		t.Errorf("%s: no answer to a request for a route", what)
	case (a.status == http.StatusUnauthorized) != (a.header.Get("Www-Authenticate") != ""):
		t.Errorf("%s: 401 has a challenge, and nothing else has", what)
	case a.status == http.StatusForbidden && p.name == "anonymous":
		t.Errorf("%s: nobody is refused without being asked to log in", what)
	}
	switch {
	case a.status == http.StatusUnauthorized:
		return '?'
	case a.status == http.StatusForbidden:
		return 'x'
	case a.status == http.StatusNotFound && (unknownPlace.MatchString(a.message+problem.Detail) || r.method == http.MethodHead):
		return '-'
	}
	return '+'
}

var unknownPlace = regexp.MustCompile(`^(project|repository) "?[a-z/]+"? is not known to this registry`)

// TestAuthorizationMatrix sends a request for every route, as every principal in every way, to every place, and holds what
// comes to testdata/authorization.golden. A route that is new is not in the table, and fails.
//
// Its second part gives one account every verb there is, alone, and names the routes that the verb opens.
func TestAuthorizationMatrix(t *testing.T) {
	m := newMatrix(t)
	before := m.everything(t)
	var table strings.Builder
	table.WriteString("+ past the door   ? 401   x 403   - 404, as what is not there\n")
	table.WriteString("Four signs: the project of the roles, another's private one, a public one, one that is not there. One sign: no project is named.\n")
	table.WriteString("At the end: how they show who they are, where that makes a difference.\n\n")
	fmt.Fprintf(&table, "%-76s", "")
	for _, p := range m.principals {
		fmt.Fprintf(&table, " %-4.4s", strings.ReplaceAll(p.name, "limited-", "lim"))
	}
	table.WriteByte('\n')
	at := map[string][]route{}
	for _, place := range places {
		at[place] = m.routes(t, place)
	}
	for i, r := range at["team"] {
		cells := map[string][]string{} // of a way, "" is not to be had
		for _, way := range ways {
			for _, p := range m.principals {
				var cell []byte
				for _, place := range places {
					one := at[place][i]
					if a, ok := m.as(t, p, way, one); ok {
						cell = append(cell, m.decision(t, p, way, one, a))
					}
					if one.place == "" {
						break
					}
				}
				m.lawful(t, p, way, r, string(cell))
				cells[way] = append(cells[way], string(cell))
			}
		}
		name := r.name
		if r.id != "" {
			name = fmt.Sprintf("%s (%s)", r.name, strings.TrimSpace(cmp.Or(r.verb, r.scope)))
		}
		for _, group := range alike(cells) {
			fmt.Fprintf(&table, "%-76s", name)
			for _, cell := range group.cells {
				fmt.Fprintf(&table, " %-4s", cell)
			}
			if len(group.ways) < len(ways) {
				table.WriteString("  " + strings.Join(group.ways, " "))
			}
			table.WriteByte('\n')
		}
	}
	table.WriteString("\nWhat one verb alone opens, of team or of the registry\n")
	m.verbs(t, &table, at["team"])
	golden(t, filepath.Join("testdata", "authorization.golden"), regexp.MustCompile(` +\n`).ReplaceAllString(table.String(), "\n"))
	if after := m.everything(t); after != before {
		t.Errorf("the requests changed the registry\nbefore %s\nafter  %s", before, after)
	}
}

// lawful checks what is so for every route, whatever the table says.
func (m *matrix) lawful(t *testing.T, p *principal, way string, r route, cell string) {
	t.Helper()
	if len(cell) < len(places) {
		return
	}
	if own, other, ghost := cell[0], cell[1], cell[3]; !p.unaffected && other != ghost || (p.name == "anonymous" || p.name == "stranger") && own != ghost {
		t.Errorf("%s as %s by %s: %s: a project that is hidden is not like one that is not there", r.name, p.name, way, cell)
	}
	if way != "bearer" && r.scope != "registry" && p.name == "admin" && (way != "session" || r.id != "") && strings.ContainsAny(cell[:3], "?x") {
		t.Errorf("%s as %s by %s: %s: an administrator is refused", r.name, p.name, way, cell)
	}
}

// group is what some ways have in common.
type group struct {
	ways, cells []string
}

// alike puts ways together that differ in nothing. What cannot be had does not differ.
func alike(cells map[string][]string) (groups []group) {
next:
	for _, way := range ways {
		for i, g := range groups {
			same := true
			for j, c := range cells[way] {
				same = same && (c == "" || g.cells[j] == "" || c == g.cells[j])
			}
			if same {
				for j, c := range cells[way] {
					groups[i].cells[j] = cmp.Or(g.cells[j], c)
				}
				groups[i].ways = append(g.ways, way)
				continue next
			}
		}
		groups = append(groups, group{[]string{way}, slices.Clone(cells[way])})
	}
	return groups
}

// verbs gives one account each verb by itself, and writes which routes that opens.
func (m *matrix) verbs(t *testing.T, table *strings.Builder, routes []route) {
	t.Helper()
	m.make(t, "users", fmt.Sprintf(`{"name":"verbal","password":%q}`, teamPassword))
	verbal := &principal{name: "verbal", basic: basic("verbal", teamPassword)}
	opened := func() (names []string) {
		for _, r := range routes {
			if a, _ := m.as(t, verbal, "basic", r); m.decision(t, verbal, "basic", r, a) == '+' {
				names = append(names, cmp.Or(r.id, r.name))
			}
		}
		return names
	}
	always := opened()
	for _, v := range slices.Concat(identity.RepositoryVerbs(), identity.ProjectVerbs(), identity.RegistryVerbs()) {
		path := "projects/team/grants"
		if !identity.Grantable(v) { // TestApplyIsNotGranted
			continue
		}
		if identity.LevelOf(v) == identity.OfRegistry {
			path = "grants"
		}
		id := number(t, m.make(t, path, fmt.Sprintf(`{"subject":{"kind":"user","name":"verbal"},"verbs":[%q]}`, v)))
		with := opened()
		for _, name := range always {
			if !slices.Contains(with, name) {
				t.Errorf("%s closes %s", v, name)
			}
		}
		with = slices.DeleteFunc(with, func(name string) bool { return slices.Contains(always, name) })
		for _, r := range routes {
			alone := r.id != "getManifest" // which says that it needs list, too
			if alone && r.verb == string(v) && r.scope != "visible" && !slices.Contains(with, r.id) && !(r.scope == "registry" && identity.LevelOf(v) != identity.OfRegistry) {
				t.Errorf("%s says that it needs %s, which is not enough", r.id, v)
			}
		}
		fmt.Fprintf(table, "%-16s %s\n", v, strings.Join(with, ", "))
		m.remove(t, fmt.Sprintf("%s/%d", path, id))
		if now := opened(); !slices.Equal(now, always) {
			t.Errorf("after %s was taken away: %v, before it %v", v, now, always)
		}
	}
	m.remove(t, "users/verbal")
}

// TestVerbsOfWork: whoever was granted the verb begins the work, without being an administrator; what is beyond the verb stays
// with those who are.
func TestVerbsOfWork(t *testing.T) {
	m := &matrix{daemon: start(t, "BERTH_BACKUP_TARGET="+filepath.Join(t.TempDir(), "snapshots"), "BERTH_BACKUP_SCHEDULE=@yearly")}
	m.make(t, "users", fmt.Sprintf(`{"name":"worker","password":%q}`, teamPassword))
	worker := basic("worker", teamPassword)
	for _, test := range []struct {
		verb, path, body string
		with             int
	}{
		{"gc.write", "gc", "{}", 202}, {"integrity.write", "fsck", "{}", 202}, {"integrity.write", "fsck", `{"repairFrom":"/srv"}`, 403},
		{"backup.write", "backups", "{}", 202}, {"backup.write", "backups", `{"target":"/srv"}`, 403},
	} {
		send := func(want int) {
			t.Helper()
			if a := m.do(t, worker, "POST", "/api/v1/"+test.path, test.body, "Content-Type", "application/json"); a.status != want {
				t.Errorf("%s of %s: %d %s; want %d", test.path, test.verb, a.status, a.body, want)
			}
		}
		send(http.StatusForbidden)
		id := number(t, m.make(t, "grants", fmt.Sprintf(`{"subject":{"kind":"user","name":"worker"},"verbs":[%q]}`, test.verb)))
		send(test.with)
		m.remove(t, fmt.Sprintf("grants/%d", id))
		send(http.StatusForbidden)
	}
}

// everything is what an administrator can see of the registry, without what uses of it leave behind.
func (m *matrix) everything(t *testing.T) string {
	t.Helper()
	admin := basic("admin", adminPassword)
	var out strings.Builder
	for _, path := range []string{
		"/api/v1/export", "/api/v1/repositories", "/api/v1/jobs", "/api/v1/trash", "/api/v1/users?fields=name,disabled,admin", "/api/v1/tokens?fields=id,revokedAt", "/api/v1/sessions?fields=id",
		"/api/v1/projects/other/robots/other-robot?fields=name,secrets", "/api/v1/projects/team/robots/robot?fields=name,secrets", "/v2/team/app/tags/list", "/v2/other/app/tags/list", "/v2/plaza/app/tags/list",
	} {
		a := m.do(t, admin, "GET", path, "")
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		text := a.body
		if path == "/api/v1/jobs" {
			text = jobsAskedFor(t, text)
		}
		fmt.Fprintf(&out, "%s %s\n", path, text)
	}
	return out.String()
}

// jobsAskedFor are the jobs of a list but those that the server gives itself every minute.
func jobsAskedFor(t *testing.T, list string) string {
	t.Helper()
	var jobs struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(list), &jobs); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(slices.DeleteFunc(jobs.Items, func(j map[string]any) bool { return j["kind"] == "blob.settle" || j["kind"] == "upload.sweep" }))
}

// TestObjectsOfOthers: whoever has no part in project other gets the same bytes for what is there as for what is not, in project
// other as in one that does not exist, and by way of his own project for what is in another as for what is nowhere.
func TestObjectsOfOthers(t *testing.T) {
	m := newMatrix(t)
	before := m.everything(t)
	foreign := map[string]string{
		"{id}": fmt.Sprint(m.grants["other"]), "{robot}": "other-robot", "{tag}": "theirs", "{reference}": "theirs", "{digest}": digestOf(foreignIndex), "{n}": "1",
	}
	absent := map[string]string{"{id}": "999999", "{robot}": "ghost-robot", "{tag}": "absent", "{reference}": "absent", "{digest}": digestOf("absent"), "{n}": "1"}
	// Bodies that reach the object.
	bodies := map[string]string{
		"updateMember": `{"role":"guest"}`, "updateProjectGrant": `{"role":"guest"}`, "updateProjectRobot": `{"description":"x"}`, "updateProject": `{"description":"x"}`,
		"putTag": `{"digest":"{digest}"}`, "rollBackTag": `{"digest":"{digest}"}`, "restoreManifest": `{}`, "restoreTag": `{}`,
		"PUT /extensions/v2/{name}/signatures/{digest}": `{"schemaVersion":2,"type":"atomic","name":"{digest}@` + strings.Repeat("a", 32) + `","content":"eA=="}`,
		"addMember": `{"subject":{"kind":"robot","name":"{robot}"},"role":"guest"}`, "createProjectGrant": `{"subject":{"kind":"robot","name":"{robot}"},"verbs":["pull"]}`,
	}
	compared := 0
	for i, r := range m.routes(t, "other") {
		if r.place == "" || r.scope == "registry" || r.id == "createProjectRobot" {
			continue
		}
		body := bodies[cmp.Or(r.id, r.name)]
		fill := func(place string, object map[string]string) route {
			one := m.routes(t, place)[i]
			text := func(s string) string {
				for parameter, value := range object {
					if parameter == "{digest}" && strings.Contains(r.pattern, "/blobs/") && value == digestOf(foreignIndex) {
						value = digestOf(foreignBlob)
					}
					if parameter == "{digest}" && strings.HasPrefix(r.pattern, "/lookaside/") {
						value = strings.Replace(value, ":", "=", 1)
					}
					s = strings.ReplaceAll(s, parameter, value)
				}
				return s
			}
			one.path = strings.ReplaceAll(r.pattern, "{name}@", place+"/app@")
			if strings.HasSuffix(r.pattern, "/uploads/{id}") {
				one.path = strings.Replace(one.path, "{id}", "unknown?digest="+digestOf("absent"), 1)
			}
			if strings.Contains(r.pattern, "/secrets/{id}") && object["{robot}"] == "other-robot" {
				one.path = strings.Replace(one.path, "{id}", fmt.Sprint(m.secret), 1)
			}
			one.path = text(one.path)
			one.body = cmp.Or(text(body), one.body)
			one = one.to(place + "/app")
			return one
		}
		there, nowhere := fill("other", foreign), fill("ghost", foreign)
		ours, none := fill("team", foreign), fill("team", absent)
		for _, p := range m.principals {
			if p.unaffected {
				continue
			}
			for _, way := range ways {
				a, ok := m.as(t, p, way, there, "If-Match", "*")
				if !ok {
					continue
				}
				compared++
				b, _ := m.as(t, p, way, nowhere, "If-Match", "*")
				if x, y := bytesOf(a, nil), bytesOf(b, strings.NewReplacer("ghost", "other")); x != y {
					t.Errorf("%s as %s by %s\nof a project that is hidden   %s\nof one that is not there       %s", r.name, p.name, way, x, y)
				}
				if a.status < 400 || p.name != "anonymous" && a.status == http.StatusUnauthorized && r.id != "" && way != "bearer" {
					t.Errorf("%s as %s by %s: %d %s", r.name, p.name, way, a.status, a.body)
				}
				if ours.path == none.path && ours.body == none.body || strings.Contains(r.pattern, "/uploads/") {
					continue // names no object
				}
				c, _ := m.as(t, p, way, ours, "If-Match", "*")
				d, _ := m.as(t, p, way, none, "If-Match", "*")
				same := replace(absent, foreign)
				if x, y := bytesOf(c, replace(foreign, foreign)), bytesOf(d, same); x != y {
					t.Errorf("%s as %s by %s\nof what is another's  %s\nof what is nowhere    %s", r.name, p.name, way, x, y)
				}
				if c.status < 400 && r.id != "listReferrers" && !strings.Contains(r.pattern, "/referrers/") && !strings.HasSuffix(r.pattern, "/signatures/{digest}") {
					t.Errorf("%s as %s by %s reaches another's: %d %s", r.name, p.name, way, c.status, c.body)
				}
			}
		}
	}
	if compared < 1500 {
		t.Errorf("only %d answers were compared", compared)
	}
	if after := m.everything(t); after != before {
		t.Errorf("the requests changed the registry\nbefore %s\nafter  %s", before, after)
	}
}

// replace puts the objects of one map in the place of those of another.
func replace(from, to map[string]string) *strings.Replacer {
	var pairs []string
	for _, parameter := range slices.Sorted(maps.Keys(from)) {
		if value := from[parameter]; parameter != "{n}" {
			pairs = append(pairs, value, to[parameter], strings.Replace(value, ":", "=", 1), to[parameter])
		}
	}
	pairs = append(pairs, digestOf(foreignBlob), to["{digest}"])
	return strings.NewReplacer(pairs...)
}

var requestID = regexp.MustCompile(`"requestId":"[0-9a-f]+"`)

// bytesOf is an answer as it came, but for what tells requests apart, and the length of what is in it.
func bytesOf(a answer, names *strings.Replacer) string {
	if names == nil {
		names = strings.NewReplacer()
	}
	h := a.header.Clone()
	for _, k := range []string{"Date", "X-Request-Id", "Content-Length"} {
		h.Del(k)
	}
	return names.Replace(fmt.Sprint(a.status, " ", h, " ", requestID.ReplaceAllString(a.body, "")))
}
