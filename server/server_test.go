package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/auth/htpasswd"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	adminPassword = "harbour-Wall-7-lantern"
	alicePassword = "quay-Side-9-anchor"
)

// daemon is an assembled berthd in this process, on a port of loopback.
type daemon struct {
	url    string
	client *http.Client
}

// start runs a server.New until the test ends.
func start(t testing.TB, env ...string) *daemon {
	t.Helper()
	return startFile(t, "", env...)
}

// startFile is start with a configuration file; "" is without one.
func startFile(t testing.TB, file string, env ...string) *daemon {
	t.Helper()
	users := filepath.Join(t.TempDir(), "htpasswd")
	text, err := aliceAndBob()
	if err == nil {
		err = os.WriteFile(users, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return startBare(t, file, append([]string{"REGISTRY_AUTH_HTPASSWD_PATH=" + users}, env...)...)
}

// aliceAndBob is an htpasswd file, whose hashes are made once: with the race detector they take seconds.
var aliceAndBob = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "berth-users-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	users := filepath.Join(dir, "htpasswd")
	for _, name := range []string{"alice", "bob"} {
		if _, err := htpasswd.Set(users, name, alicePassword); err != nil {
			return nil, err
		}
	}
	return os.ReadFile(users)
})

// startBare is startFile without alice and bob, who are in an htpasswd file.
func startBare(t testing.TB, file string, env ...string) *daemon {
	t.Helper()
	dir := t.TempDir()
	metadbtest.FileIn(t, filepath.Join(dir, "data")) // for nothing where it is in PostgreSQL
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t)))
	loaded, err := config.Load(config.LoadOptions{File: file, Search: []string{}, Fallback: []string{}, Env: append([]string{
		"BERTH_DATA=" + filepath.Join(dir, "data"), "BERTH_ADDR=" + addr, "BERTH_ADMIN_PASSWORD=" + adminPassword,
		"BERTH_LOG_LEVEL=error", "REGISTRY_LOG_ACCESSLOG_DISABLED=true",
	}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := server.New(t.Context(), server.Options{Config: loaded, Stderr: &log, Getenv: func(string) string { return "" }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	d := &daemon{"http://" + addr, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 30 * time.Second}}
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for range 3000 {
		if resp, err := d.client.Get(d.url + "/readyz"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return d
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the server is not ready")
	return nil
}

// caller is how a request says who sends it: the value of its Authorization header, "" for none.
type caller string

func basic(name, password string) caller {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return caller(r.Header.Get("Authorization"))
}

// answer is what came back.
type answer struct {
	status  int
	header  http.Header
	body    string
	code    string // of the first error
	message string
}

func (d *daemon) do(t testing.TB, who caller, method, path string, body string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if who != "" {
		r.Header.Set("Authorization", string(who))
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if resp.StatusCode >= 400 && json.Unmarshal(b, &doc) == nil && len(doc.Errors) == 1 {
		a.code, a.message = doc.Errors[0].Code, doc.Errors[0].Message
	}
	return a
}

// token asks the token service, and returns "" when it refuses.
func (d *daemon) token(t testing.TB, who caller, scopes ...string) caller {
	t.Helper()
	a := d.do(t, who, http.MethodGet, "/token?"+url.Values{"scope": scopes, "service": {"berth"}}.Encode(), "")
	var doc struct{ Token string }
	if a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &doc) != nil || doc.Token == "" {
		return ""
	}
	return caller("Bearer " + doc.Token)
}

const (
	blobContent  = "the content of a blob"
	indexContent = `{"schemaVersion":2,"manifests":[]}`
)

func digestOf(s string) string { return oci.FromBytes(oci.SHA256, []byte(s)).String() }

// fill makes two repositories, with a tag 1 and a blob each: library/app is public, team/app is not.
func (d *daemon) fill(t testing.TB) {
	t.Helper()
	for _, name := range []string{"library/app", "team/app"} {
		d.push(t, name, blobContent)
	}
}

func (d *daemon) push(t testing.TB, name, content string) {
	t.Helper()
	admin := basic("admin", adminPassword)
	a := d.do(t, admin, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+digestOf(content), content)
	b := d.do(t, admin, http.MethodPut, "/v2/"+name+"/manifests/1", indexContent, "Content-Type", oci.MediaTypeIndex)
	if a.status != http.StatusCreated || b.status != http.StatusCreated {
		t.Fatalf("push to %s: %+v, %+v", name, a, b)
	}
}

// request is a route of the API. What it does when it is allowed leaves the repository as it was.
type request struct {
	column       string
	method, path string // path behind the repository's; absolute when it begins with a slash, and then {repo} is the repository
	body, kind   string
}

func requests() []request {
	absent, own, index := digestOf("absent"), digestOf(blobContent), digestOf(indexContent)
	put := `{"schemaVersion":2,"type":"atomic","name":"` + absent + "@" + strings.Repeat("a", 32) + `","content":"eA=="}`
	return []request{
		{"mGT", "GET", "manifests/1", "", ""}, {"mHT", "HEAD", "manifests/1", "", ""}, {"mGD", "GET", "manifests/" + index, "", ""},
		{"tag", "GET", "tags/list", "", ""}, {"ref", "GET", "referrers/" + absent, "", ""},
		{"bG ", "GET", "blobs/" + own, "", ""}, {"bH ", "HEAD", "blobs/" + own, "", ""},
		{"mP ", "PUT", "manifests/2", "{", oci.MediaTypeIndex},
		{"uS ", "POST", "blobs/uploads/", "", ""}, {"uW ", "POST", "blobs/uploads/?digest=" + absent, "x", ""},
		{"uM ", "POST", "blobs/uploads/?mount=" + absent + "&from=team/app", "", ""},
		{"uG ", "GET", "blobs/uploads/unknown", "", ""}, {"uPa", "PATCH", "blobs/uploads/unknown", "x", ""},
		{"uPu", "PUT", "blobs/uploads/unknown?digest=" + absent, "x", ""}, {"uD ", "DELETE", "blobs/uploads/unknown", "", ""},
		{"mDT", "DELETE", "manifests/absent", "", ""}, {"mDD", "DELETE", "manifests/" + absent, "", ""}, {"bD ", "DELETE", "blobs/" + absent, "", ""},
		{"bas", "GET", "/v2/", "", ""}, {"BAS", "HEAD", "/v2/", "", ""}, {"cat", "GET", "/v2/_catalog", "", ""}, {"sea", "GET", "/v1/search?q=app", "", ""},
		{"ext", "GET", "/v2/_oci/ext/discover", "", ""},
		{"sG ", "GET", "/extensions/v2/{repo}/signatures/" + index, "", ""}, {"sP ", "PUT", "/extensions/v2/{repo}/signatures/" + absent, put, ""},
		{"sL ", "GET", "/lookaside/{repo}@" + strings.Replace(index, ":", "=", 1) + "/signature-1", "", ""},
	}
}

// TestAccessMatrix sends every route as every kind of caller to four repositories, under every setting of auth.anonymous
// and auth.users, and holds the statuses to testdata/access.golden. Beside the table, laws hold for all of it.
func TestAccessMatrix(t *testing.T) {
	repositories := []string{"library/app", "library/none", "team/app", "absent/app"}
	levels := []string{"none", "pull", "push", "delete"}
	rows := map[string][]string{} // "repository caller statuses" to the settings under which it is so
	for _, anonymous := range levels {
		for _, users := range levels {
			setting := anonymous + "/" + users
			t.Run(strings.ReplaceAll(setting, "/", "-"), func(t *testing.T) {
				d := start(t, "BERTH_ANONYMOUS="+anonymous, "REGISTRY_AUTH_USERS="+users)
				d.fill(t)
				before := d.state(t)
				for _, repository := range repositories {
					for name, who := range d.callers(t, repository) {
						key := fmt.Sprintf("%-13s%-16s%s", repository, name, d.statuses(t, name, who, repository))
						rows[key] = append(rows[key], setting)
					}
				}
				for name := range d.callers(t, "team/app") {
					d.hiddenIsAbsent(t, name, anonymous)
				}
				if after := d.state(t); after != before {
					t.Errorf("the requests changed the registry\nbefore %s\nafter  %s", before, after)
				}
			})
		}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-29s", "")
	for _, r := range requests() {
		table.WriteString(" " + r.column)
	}
	table.WriteString("  anonymous/users\n")
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&table, "%s  %s\n", key, strings.Join(rows[key], " "))
	}
	golden(t, filepath.Join("testdata", "access.golden"), table.String())
}

// callers are the credentials that a client may show for a repository; an empty token means that there is none to have.
func (d *daemon) callers(t testing.TB, repository string) map[string]caller {
	t.Helper()
	alice, admin := basic("alice", alicePassword), basic("admin", adminPassword)
	all := []string{"repository:" + repository + ":pull,push,delete", "registry:catalog:*"}
	out := map[string]caller{
		"anonymous": "", "user": alice, "admin": admin,
		"user-token": d.token(t, alice, all...), "user-pulltoken": d.token(t, alice, "repository:"+repository+":pull"), "user-notoken": d.token(t, alice),
		"admin-token": d.token(t, admin, all...), "admin-other": d.token(t, admin, "repository:library/other:pull,push,delete", "repository:"+repository+"x:*"),
	}
	if token := d.token(t, "", all...); token != "" {
		out["anonymous-token"] = token
	}
	for name, who := range out {
		if who == "" && name != "anonymous" {
			t.Fatalf("the token service refuses %s", name)
		}
	}
	return out
}

func (d *daemon) statuses(t testing.TB, name string, who caller, repository string) string {
	t.Helper()
	var cells strings.Builder
	for _, r := range requests() {
		a := d.send(t, who, repository, r)
		fmt.Fprintf(&cells, " %d", a.status)
		what := fmt.Sprintf("%s %s %s as %s", r.method, repository, r.path, name)
		if a.status >= 500 {
			t.Errorf("%s: %d", what, a.status)
		}
		if a.status >= 400 && r.method != http.MethodHead && (a.code == "" || a.message == "") {
			t.Errorf("%s: %d without one error: %s", what, a.status, a.body)
		}
		if challenge := a.header.Get("WWW-Authenticate"); (a.status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Bearer realm=") {
			t.Errorf("%s: %d with challenge %q", what, a.status, challenge)
		}
		if a.status == http.StatusForbidden && name == "anonymous" {
			t.Errorf("%s: an anonymous caller is refused without being asked to log in", what)
		}
	}
	return cells.String()
}

func (d *daemon) send(t testing.TB, who caller, repository string, r request) answer {
	t.Helper()
	path := r.path
	if !strings.HasPrefix(path, "/") {
		path = "/v2/" + repository + "/" + path
	}
	path = strings.ReplaceAll(path, "{repo}", repository)
	return d.do(t, who, r.method, path, r.body, "Content-Type", r.kind)
}

// hiddenIsAbsent compares a private project with one that is not there, for callers who may not pull from it and whose
// push would not make it: nothing in an answer tells the two apart.
func (d *daemon) hiddenIsAbsent(t testing.TB, name, anonymous string) {
	t.Helper()
	if anonymous == "push" || anonymous == "delete" {
		return // whose push makes a project learns by that which are taken
	}
	d.hiddenIsAbsentIn(t, name, "team/app")
}

// hiddenIsAbsentIn is hiddenIsAbsent of that repository.
func (d *daemon) hiddenIsAbsentIn(t testing.TB, name, repository string) {
	t.Helper()
	project, _, _ := strings.Cut(repository, "/")
	hidden, absent := d.callers(t, repository)[name], d.callers(t, "absent/app")[name]
	for _, r := range requests() {
		if strings.HasPrefix(r.path, "/") && !strings.Contains(r.path, "{repo}") {
			continue
		}
		a, b := d.send(t, hidden, repository, r), d.send(t, absent, "absent/app", r)
		if a.status < 400 || a.code == "MANIFEST_UNKNOWN" || a.code == "BLOB_UNKNOWN" || d.send(t, hidden, repository, requests()[0]).status == http.StatusOK {
			continue // may pull
		}
		same := func(a answer) string {
			h := a.header.Clone()
			for _, k := range []string{"Date", "X-Request-Id", "Content-Length"} {
				h.Del(k)
			}
			return strings.NewReplacer(project, "PROJECT", "absent/", "PROJECT/", `"absent"`, `"PROJECT"`).Replace(fmt.Sprint(a.status, a.code, a.message, h["Www-Authenticate"], len(h)))
		}
		if same(a) != same(b) {
			t.Errorf("%s as %s: hidden %s, absent %s", r.column, name, same(a), same(b))
		}
	}
}

// state is what an administrator sees of the registry's content.
func (d *daemon) state(t testing.TB) string {
	t.Helper()
	admin := basic("admin", adminPassword)
	var out strings.Builder
	out.WriteString(d.do(t, admin, "GET", "/v2/_catalog", "").body)
	for _, name := range []string{"library/app", "team/app"} {
		out.WriteString(d.do(t, admin, "GET", "/v2/"+name+"/tags/list", "").body)
		a := d.do(t, admin, "GET", "/v2/"+name+"/manifests/1", "")
		out.WriteString(a.body + a.header.Get("Docker-Content-Digest"))
		out.WriteString(d.do(t, admin, "GET", "/v2/"+name+"/blobs/"+digestOf(blobContent), "").body)
	}
	return out.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Split(string(want), "\n")
	for _, line := range strings.Split(got, "\n") {
		if i := slices.Index(old, line); i >= 0 {
			old = slices.Delete(old, i, i+1)
		} else {
			t.Errorf("new: %s", line)
		}
	}
	for _, line := range old {
		t.Errorf("gone: %s", line)
	}
}

// A mount from what the caller may not read answers like one from nothing; so does a blob by its digest through another
// repository.
func TestContentIsNoOracle(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=push", "REGISTRY_AUTH_USERS=none")
	d.push(t, "library/app", "public content")
	d.push(t, "secret/app", "secret content")
	secret, absent := digestOf("secret content"), digestOf("nowhere")
	alice := basic("alice", alicePassword)
	tokens := d.token(t, alice, "repository:library/app:pull,push", "repository:secret/app:pull,push,delete", "repository:secret/app:*")
	for name, who := range map[string]caller{"anonymous": "", "user": alice, "user with a token": tokens} {
		var answers []string
		for _, query := range []string{"mount=" + secret + "&from=secret/app", "mount=" + absent + "&from=secret/app", "mount=" + secret + "&from=absent/app", "mount=" + secret, "mount=" + secret + "&from=../x"} {
			a := d.do(t, who, http.MethodPost, "/v2/library/app/blobs/uploads/?"+query, "")
			answers = append(answers, fmt.Sprint(a.status, a.header.Get("Docker-Content-Digest"), len(a.header)))
		}
		if slices.Sort(answers); answers[0] != answers[len(answers)-1] || !strings.HasPrefix(answers[0], "202") {
			t.Errorf("%s: %v", name, answers)
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := d.do(t, who, method, "/v2/library/app/blobs/"+secret, "")
			b := d.do(t, who, method, "/v2/library/app/blobs/"+absent, "")
			if a.status != http.StatusNotFound || a.status != b.status || strings.ReplaceAll(a.message, secret, "") != strings.ReplaceAll(b.message, absent, "") {
				t.Errorf("%s, %s of a digest: %+v, %+v", name, method, a, b)
			}
			if a := d.do(t, who, method, "/v2/secret/app/blobs/"+secret, ""); a.status < 400 {
				t.Errorf("%s reads secret content: %+v", name, a)
			}
		}
	}
	if a := d.do(t, basic("admin", adminPassword), http.MethodPost, "/v2/library/app/blobs/uploads/?mount="+secret+"&from=secret/app", ""); a.status != http.StatusCreated {
		t.Errorf("an administrator: %+v", a)
	}
}

// A token reaches what it was asked for and no further, whatever the account may, and whichever way it is shown.
func TestTokenReachesNoFurther(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=delete")
	d.fill(t)
	alice := basic("alice", alicePassword)
	token := d.token(t, alice, "repository:team/app:pull")
	for _, r := range requests() {
		a, full := d.send(t, token, "team/app", r), d.send(t, alice, "team/app", r)
		reads := slices.Contains([]string{"mGT", "mHT", "mGD", "tag", "ref", "bG ", "bH ", "bas", "BAS", "ext", "sG ", "sL "}, r.column)
		if full.status == http.StatusUnauthorized || full.status == http.StatusForbidden {
			t.Errorf("%s: the account itself is refused: %+v", r.column, full)
		}
		if reads != (a.status != http.StatusUnauthorized) {
			t.Errorf("%s: %+v", r.column, a)
		}
		if other := d.send(t, token, "library/app", r); !strings.HasPrefix(r.path, "/") && other.status != http.StatusUnauthorized && !(r.column == "bH ") {
			t.Errorf("%s in another repository: %+v", r.column, other)
		}
	}
	// A token buys no token.
	if wider := d.token(t, token, "repository:team/app:pull,push,delete"); wider != "" {
		t.Error("a token was exchanged for a wider one")
	}
	// Nor does a scope in another form reach further than the account.
	d2 := start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=pull")
	d2.fill(t)
	for _, scope := range []string{"repository:team/app:*", "repository:team/app:pull,push,delete,*", "repository(plugin):team/app:push", "registry:catalog:* repository:team/app:push", "repository:*:*", "repository:team/*:push", "repository::push"} {
		token := d2.token(t, alice, scope)
		if token == "" {
			continue // refused at once
		}
		for _, r := range requests() {
			if got := d2.send(t, token, "team/app", r); r.method == http.MethodPut || r.method == http.MethodPost || r.method == http.MethodPatch || r.method == http.MethodDelete {
				if got.status != http.StatusForbidden && got.status != http.StatusUnauthorized {
					t.Errorf("scope %s, %s: %+v", scope, r.column, got)
				}
			}
		}
	}
}

// An upload session is its owner's, in its repository.
func TestUploadSessionOfAnother(t *testing.T) {
	d := start(t, "BERTH_ANONYMOUS=push", "REGISTRY_AUTH_USERS=push")
	d.fill(t)
	alice := basic("alice", alicePassword)
	a := d.do(t, alice, http.MethodPost, "/v2/library/app/blobs/uploads/", "")
	location := a.header.Get("Location")
	if a.status != http.StatusAccepted || !strings.HasPrefix(location, "/v2/library/app/blobs/uploads/") {
		t.Fatalf("%+v", a)
	}
	elsewhere := strings.Replace(location, "library/app", "library/other", 1)
	private := strings.Replace(location, "library/app", "team/app", 1)
	for _, try := range []struct {
		name string
		who  caller
		path string
	}{
		{"another user", basic("bob", alicePassword), location}, {"admin", basic("admin", adminPassword), location}, {"anonymous", "", location},
		{"in another repository", alice, elsewhere}, {"in a private repository", alice, private},
	} {
		for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
			path := try.path
			if method == "PUT" {
				path += "?digest=" + digestOf("x")
			}
			if a := d.do(t, try.who, method, path, "x"); a.status != http.StatusNotFound || a.code != "BLOB_UPLOAD_UNKNOWN" {
				t.Errorf("%s, %s: %+v", try.name, method, a)
			}
		}
	}
	token := d.token(t, alice, "repository:library/app:pull,push")
	if a := d.do(t, token, "PUT", location+"?digest="+digestOf("x"), "x"); a.status != http.StatusCreated {
		t.Errorf("its owner, with a token: %+v", a)
	}
}
