package distapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// allowAll is an access room that narrows nothing.
type allowAll struct{}

func (allowAll) Narrow(_ context.Context, _ identity.Principal, asked []identity.Grant) ([]identity.Grant, error) {
	return asked, nil
}

func (allowAll) CheckGiveAll(context.Context, metadb.Subject) error        { return nil }
func (allowAll) CheckTakeAll(context.Context, metadb.Subject) error        { return nil }
func (allowAll) CheckActAs(context.Context, identity.Principal) error      { return nil }
func (allowAll) CheckSystem(context.Context, identity.Verb) error          { return nil }
func (allowAll) CheckProject(context.Context, identity.Verb, string) error { return nil }

const adminPassword = "a fine: password"

// tokenServer is the token endpoint in front of the real auth room on a real database.
func tokenServer(t *testing.T, anonymous bool) (*httptest.Server, *auth.Service) {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{Path: metadbtest.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s, err := auth.New(auth.Options{Store: db, Access: allowAll{}, Anonymous: anonymous, Throttle: auth.Throttle{First: time.Millisecond, Most: time.Millisecond, Hard: 6}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureAdmin(t.Context(), adminPassword); err != nil {
		t.Fatal(err)
	}
	e := &httpd.ErrorWriter{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(&distapi.TokenEndpoint{Auth: s, Errors: e.Write})
	t.Cleanup(srv.Close)
	return srv, s
}

// answer is the status, the header and the decoded body; every body must be JSON.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

// code is errors[0].code, and the test fails unless there is exactly one error with a message.
func (a answer) code(t *testing.T) string {
	t.Helper()
	list, _ := a.body["errors"].([]any)
	if len(list) != 1 {
		t.Fatalf("answer %d has not exactly one error: %v", a.status, a.body)
	}
	e, _ := list[0].(map[string]any)
	if message, _ := e["message"].(string); message == "" {
		t.Errorf("answer %d has no message: %v", a.status, a.body)
	}
	code, _ := e["code"].(string)
	return code
}

func do(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(raw, &a.body); err != nil {
		t.Fatalf("answer %d is no JSON: %q", resp.StatusCode, raw)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return a
}

func get(t *testing.T, url, name, password string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		req.SetBasicAuth(name, password)
	}
	return do(t, req)
}

func post(t *testing.T, to, contentType, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	return do(t, req)
}

const formType = "application/x-www-form-urlencoded"

// valid checks a good answer and returns the principal that its token stands for.
func valid(t *testing.T, s *auth.Service, a answer) identity.Principal {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %v", a.status, a.body)
	}
	if a.text("token") == "" || a.text("token") != a.text("access_token") || a.body["expires_in"] != float64(300) {
		t.Errorf("answer %v", a.body)
	}
	if at, err := time.Parse(time.RFC3339, a.text("issued_at")); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("issued_at %q, %v", a.text("issued_at"), err)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be cached")
	}
	p, err := s.Authenticate(t.Context(), "Bearer "+a.text("token"), "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTokenGet(t *testing.T) {
	srv, s := tokenServer(t, true)
	u := srv.URL + "/token?service=whatever&account=admin&client_id=docker&scope=repository:team/app:pull,push&scope=" +
		url.QueryEscape("repository:b:pull repository:c:pull")
	a := get(t, u, "admin", adminPassword)
	p := valid(t, s, a)
	if p.Name != "admin" || !p.Admin || len(p.Grants.List) != 3 || !p.Grants.Allow(identity.Push, "team/app") || p.Grants.Allow(identity.Push, "b") {
		t.Errorf("principal %+v with %+v", p, p.Grants)
	}
	if a.text("refresh_token") != "" {
		t.Error("a refresh token was sent unasked")
	}
	if a = get(t, u+"&offline_token=true", "admin", adminPassword); a.text("refresh_token") != "" {
		t.Error("docker would keep the refresh token where podman looks for a password")
	}
	u = strings.Replace(u, "client_id=docker", "client_id=other", 1)
	a = get(t, u+"&offline_token=true", "admin", adminPassword)
	if refresh := a.text("refresh_token"); refresh == "" {
		t.Error("no refresh token")
	} else if p, err := s.Refresh(t.Context(), refresh, ""); err != nil || p.Name != "admin" {
		t.Errorf("refresh token: %+v, %v", p, err)
	}
	if p := valid(t, s, get(t, u+"&offline_token=true", "", "")); p.Kind != identity.Anonymous || p.Name != "" {
		t.Errorf("without credentials: %+v", p)
	}
}

func TestTokenRefused(t *testing.T) {
	srv, _ := tokenServer(t, false)
	if a := get(t, srv.URL+"/token", "", ""); a.status != http.StatusUnauthorized || a.code(t) != "UNAUTHORIZED" {
		t.Errorf("anonymous at a closed registry: %d %v", a.status, a.body)
	}
	for range 2 {
		if a := get(t, srv.URL+"/token?offline_token=true", "admin", "wrong"); a.status != http.StatusUnauthorized || a.code(t) != "UNAUTHORIZED" {
			t.Errorf("wrong password: %d %v", a.status, a.body)
		}
	}
	open, _ := tokenServer(t, true)
	if a := get(t, open.URL+"/token", "admin", "wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong password where anonymous callers are welcome: %d %v", a.status, a.body)
	}
	// After too many of them: 429 with a time, for the right password as well.
	var a answer
	for i := range 10 {
		if a = get(t, srv.URL+"/token", "admin", fmt.Sprint("guess ", i)); a.status == http.StatusTooManyRequests {
			break
		}
	}
	if a.status != http.StatusTooManyRequests || a.code(t) != "TOOMANYREQUESTS" || a.header.Get("Retry-After") == "" {
		t.Errorf("after ten failures: %d %v %v", a.status, a.header, a.body)
	}
}

func TestTokenPost(t *testing.T) {
	srv, s := tokenServer(t, true)
	u := srv.URL + "/service/token"
	form := url.Values{"grant_type": {"password"}, "username": {"admin"}, "password": {adminPassword}, "service": {"x"}, "client_id": {"podman"},
		"scope": {"repository:a:pull,push repository:b:pull"}, "access_type": {"offline"}}
	a := post(t, u, formType, form.Encode())
	if p := valid(t, s, a); p.Name != "admin" || !p.Grants.Allow(identity.Push, "a") {
		t.Errorf("%+v", p)
	}
	if a.text("scope") != "repository:a:pull,push repository:b:pull" || a.text("token_type") != "Bearer" {
		t.Errorf("answer %v", a.body)
	}
	refresh := a.text("refresh_token")
	if refresh == "" {
		t.Fatal("no refresh token")
	}
	a = post(t, u, formType+"; charset=utf-8", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {"repository:c:pull"}}.Encode())
	if p := valid(t, s, a); p.Name != "admin" || !p.Grants.Allow(identity.Pull, "c") || p.Grants.Allow(identity.Pull, "a") {
		t.Errorf("%+v", p)
	}
	if a.text("refresh_token") != "" {
		t.Error("a refresh prolongs itself")
	}

	form.Set("password", "wrong")
	inQuery := "?grant_type=password&username=admin&password=" + url.QueryEscape(adminPassword)
	for name, c := range map[string]struct {
		to, kind, body string
		status         int
	}{
		"wrong password":      {u, formType, form.Encode(), 401},
		"wrong refresh token": {u, formType, "grant_type=refresh_token&refresh_token=a.b.c", 401},
		"no refresh token":    {u, formType, "grant_type=refresh_token", 401},
		"no grant":            {u, formType, "username=admin&password=x", 400},
		"unknown grant":       {u, formType, "grant_type=client_credentials", 400},
		"in the query":        {u + inQuery, formType, "", 400},
		"half in the query":   {u + inQuery, formType, "grant_type=password", 401},
		"JSON":                {u, "application/json", `{"grant_type":"password"}`, 400},
		"multipart":           {u, "multipart/form-data; boundary=x", "--x--", 400},
		"no content type":     {u, "", "grant_type=password", 400},
		"malformed":           {u, formType, "grant_type=%zz", 400},
		"too large":           {u, formType, "grant_type=password&username=admin&password=" + strings.Repeat("p", 1<<20), 413},
		"long password":       {u, formType, "grant_type=password&username=admin&password=" + strings.Repeat("p", 60<<10), 401},
	} {
		t.Run(name, func(t *testing.T) {
			if a := post(t, c.to, c.kind, c.body); a.status != c.status || a.code(t) == "" {
				t.Errorf("status %d %v, want %d", a.status, a.body, c.status)
			}
		})
	}
}

func TestTokenMalformed(t *testing.T) {
	srv, _ := tokenServer(t, true)
	request := func(method, path string, header ...string) answer {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range header {
			req.Header.Add("Authorization", v)
		}
		return do(t, req)
	}
	right := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword))
	for name, c := range map[string]struct {
		got    answer
		status int
	}{
		"PUT":                        {request(http.MethodPut, "/token"), 405},
		"DELETE":                     {request(http.MethodDelete, "/token", right), 405},
		"bad query":                  {request(http.MethodGet, "/token?scope=%zz"), 400},
		"two authorization headers":  {request(http.MethodGet, "/token", right, "Basic Og=="), 401},
		"unknown scheme":             {request(http.MethodGet, "/token", "Digest x"), 401},
		"a bearer token":             {request(http.MethodGet, "/token", "Bearer "+request(http.MethodGet, "/token", right).text("token")), 401},
		"a header of 100 KB":         {request(http.MethodGet, "/token", "Bearer "+strings.Repeat("x", 100<<10)), 401},
		"a hundred and one scopes":   {request(http.MethodGet, "/token?scope="+url.QueryEscape(many(101))), 400},
		"scopes that make no sense":  {request(http.MethodGet, "/token?scope=:::&scope=a&scope=%00"), 200},
		"nothing but the path":       {request(http.MethodGet, "/token"), 200},
		"an empty authorization":     {request(http.MethodGet, "/token", ""), 200},
		"right credentials, control": {request(http.MethodGet, "/token", right), 200},
	} {
		if c.got.status != c.status {
			t.Errorf("%s: %d %v, want %d", name, c.got.status, c.got.body, c.status)
		} else if c.status != 200 {
			c.got.code(t)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "repository:r%d:pull ", i)
	}
	return b.String()
}
