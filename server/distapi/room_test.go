package distapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
	"github.com/berth-registry/berth/server/registry"
)

// people takes the Authorization header for the caller's name: nothing is anonymous, admin is an administrator, and
// "name reach" is a token of that user which reaches one pull of that repository.
type people struct{}

func (people) Authenticate(_ context.Context, header, addr string) (identity.Principal, error) {
	name, reach, narrowed := strings.Cut(header, " ")
	p := identity.Principal{Kind: identity.User, Name: name, Admin: name == "admin", Addr: addr}
	if header == "" {
		p.Kind = identity.Anonymous
	}
	if narrowed {
		p.Grants = &identity.Grants{List: []identity.Grant{{Repository: reach, Verbs: []identity.Verb{identity.Pull}}}}
	}
	return p, nil
}

// room is the face before a real engine, on SQLite and memory.
type room struct {
	url    string
	client *http.Client
}

// roomOptions are what tests vary; the zero value lets admin do everything and nobody else anything.
type roomOptions struct {
	anonymous, users access.Level
	noDelete         bool
	readOnly         bool
	limits           registry.Limits
	prefix, base     string
	blobs            blob.Store // nil: memory
	redirect         bool
}

func newRoom(t *testing.T, o roomOptions) *room {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{Path: metadbtest.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	projects, err := project.NewDirectory(t.Context(), project.DirectoryOptions{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if o.blobs == nil {
		o.blobs = mem.New()
	}
	engine := registry.New(registry.Options{
		DB: db, Blobs: o.blobs, Projects: projects, Limits: o.limits, NoDelete: o.noDelete, ReadOnly: o.readOnly, Now: time.Now, Log: quiet,
		Access: access.New(access.Options{Projects: projects, Anonymous: o.anonymous, Users: o.users}),
	})
	h := &distapi.Handler{Registry: engine, Auth: people{}, Prefix: o.prefix, Base: o.base, Redirect: o.redirect}
	origin, err := httpd.NewOrigin(httpd.OriginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/search", distapi.Search{Handler: h})
	signatures := distapi.Signatures{Handler: h}
	chain := httpd.NewChain(httpd.ChainOptions{
		Log: quiet, Origin: origin, Now: time.Now,
		Errors: &httpd.ErrorWriter{Log: quiet, Table: distapi.Problem, Realm: func(*http.Request) string { return "http://registry/token" }},
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v2") {
				h.ServeHTTP(w, r)
				return
			}
			if distapi.SignaturesPath(r.URL.Path) {
				signatures.ServeHTTP(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}),
	})
	srv := httptest.NewServer(chain)
	t.Cleanup(srv.Close)
	return &room{url: srv.URL, client: srv.Client()}
}

// reply is an answer with its body as it came.
type reply struct {
	what   string
	status int
	header http.Header
	body   []byte
}

// as sends a request; header is name, value, name, value …, and the caller is who.
func (r *room) as(t *testing.T, who, method, path string, body []byte, header ...string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if who != "" {
		req.Header.Set("Authorization", who)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return &reply{fmt.Sprintf("%s %s as %q", method, path, who), resp.StatusCode, resp.Header, got}
}

func (r *room) do(t *testing.T, method, path string, body []byte, header ...string) *reply {
	t.Helper()
	return r.as(t, "admin", method, path, body, header...)
}

// want fails the test when the status is another one.
func (a *reply) want(t *testing.T, status int) *reply {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s: %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// refused holds a refusal against rule R1 of the house: one error, a code, a message of at most four lines that says more
// than the code. It returns the message.
func (a *reply) refused(t *testing.T, status int, code string) string {
	t.Helper()
	a.want(t, status)
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: want one error, got %s (%v)", a.what, a.body, err)
	}
	e := doc.Errors[0]
	if e.Code != code || len(e.Message) < 20 || strings.Count(e.Message, "\n") > 3 || e.Message[0] >= 'A' && e.Message[0] <= 'Z' || strings.HasSuffix(e.Message, ".") {
		t.Errorf("%s: code %s, want %s; message %q", a.what, e.Code, code, e.Message)
	}
	return e.Message
}

// push pushes a blob and returns its digest.
func (r *room) push(t *testing.T, repo string, content []byte) string {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, content).String()
	r.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d, content).want(t, http.StatusCreated)
	return d
}

// image pushes an image under a tag and returns its digest. more are further fields, with a comma in front.
func (r *room) image(t *testing.T, repo, tag, more string) string {
	t.Helper()
	config := r.push(t, repo, []byte("{}"))
	body := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":{"mediaType":"` + oci.MediaTypeEmpty + `","digest":"` + config + `","size":2},"layers":[]` + more + `}`
	a := r.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, []byte(body), "Content-Type", oci.MediaTypeManifest).want(t, http.StatusCreated)
	return a.header.Get("Docker-Content-Digest")
}
