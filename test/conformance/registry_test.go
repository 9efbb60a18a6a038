package conformance_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/berth-registry/berth/internal/testkit"
)

// registry is the registry under test and the connection to it. Its methods are safe for concurrent use.
type registry struct {
	base     string // http://127.0.0.1:port, no slash at the end
	ours     bool   // berthd: everything optional is expected, and further ones can be started
	project  string // first part of repository names
	user     string
	password string
	database func(t *testing.T) string   // DSN for a further berthd of the same kind; "" is SQLite
	storage  func(t *testing.T) []string // environment that says where it keeps content; none is files
	client   *http.Client
}

func berthd(t *testing.T, database func(t *testing.T) string, storage func(t *testing.T) []string) *registry {
	t.Helper()
	r := &registry{ours: true, project: "conformance", database: database, storage: storage, client: newClient()}
	return r.start(t, "BERTH_ANONYMOUS=delete")
}

func foreign(base string) *registry {
	r := &registry{
		base: strings.TrimSuffix(base, "/"), project: "conformance", client: newClient(),
		user: os.Getenv("BERTH_CONFORMANCE_USER"), password: os.Getenv("BERTH_CONFORMANCE_PASSWORD"),
	}
	if p := os.Getenv("BERTH_CONFORMANCE_PROJECT"); p != "" {
		r.project = p
	}
	return r
}

func newClient() *http.Client {
	return &http.Client{
		Timeout:   60 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true},
		// A redirect is an answer to look at: the specification allows it, and the test says where.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// start starts a further berthd like this one, with settings of its own. For a registry that is not ours it skips.
func (r *registry) start(t *testing.T, env ...string) *registry {
	t.Helper()
	if !r.ours {
		t.Skip("needs a registry with other settings")
	}
	d := testkit.Start(t, testkit.Options{Database: r.database(t), Env: append(r.storage(t), env...)})
	further := *r
	further.base = d.URL
	further.client = newClient()
	t.Cleanup(further.client.CloseIdleConnections)
	return &further
}

// optional ends a check of something that a registry may leave out: fatal for ours, which does not, a skip elsewhere.
func (r *registry) optional(t *testing.T, format string, args ...any) {
	t.Helper()
	if r.ours {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// repo returns a repository name that nothing else uses.
func (r *registry) repo() string { return r.project + "/" + strings.ToLower(rand.Text()[:12]) }

// path returns the URL of a path below /v2/, made from parts as fmt.Sprintf makes them.
func (r *registry) path(format string, args ...any) string {
	return r.base + "/v2/" + fmt.Sprintf(format, args...)
}

// answer is a response that was read to its end.
type answer struct {
	what   string // method and URL, for messages
	status int
	header http.Header
	length int64 // Content-Length, -1 when there is none
	body   []byte
	from   *url.URL
}

// option changes a request before it is sent.
type option func(*http.Request)

func with(name, value string) option {
	return func(req *http.Request) { req.Header.Add(name, value) }
}

// content sets a body of known length and its type.
func content(mediaType string, body []byte) option {
	return func(req *http.Request) {
		req.Header.Set("Content-Type", mediaType)
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		if len(body) == 0 {
			req.Body = http.NoBody
		}
	}
}

func octets(body []byte) option { return content("application/octet-stream", body) }

// streamed sets a body whose length the client does not know before: chunked transfer coding.
func streamed(body []byte) option {
	return func(req *http.Request) {
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
	}
}

func query(pairs ...string) option {
	return func(req *http.Request) {
		q := req.URL.Query()
		for i := 0; i < len(pairs); i += 2 {
			q.Add(pairs[i], pairs[i+1])
		}
		req.URL.RawQuery = q.Encode()
	}
}

// do sends a request, reads the answer, and holds it against the rules that every answer must keep.
func (r *registry) do(t *testing.T, method, target string, opts ...option) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.user != "" {
		req.SetBasicAuth(r.user, r.password)
	}
	for _, o := range opts {
		o(req)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	const most = 64 << 20
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		t.Fatalf("%s %s: read the answer: %v", method, target, err)
	}
	a := &answer{
		what: short([]byte(method + " " + strings.TrimPrefix(req.URL.String(), r.base))), status: resp.StatusCode,
		header: resp.Header, length: resp.ContentLength, body: body, from: resp.Request.URL,
	}
	for _, broken := range brokenRules(a) {
		t.Errorf("%s: %d: %s", a.what, a.status, broken)
	}
	return a
}

// want fails the check unless the answer has one of the given codes.
func (a *answer) want(t *testing.T, codes ...int) *answer {
	t.Helper()
	for _, c := range codes {
		if a.status == c {
			return a
		}
	}
	t.Fatalf("%s: got %d, want %v; body: %s", a.what, a.status, codes, short(a.body))
	return nil
}

// refused fails the check unless the answer is a 4xx.
func (a *answer) refused(t *testing.T) *answer {
	t.Helper()
	if a.status < 400 || a.status > 499 {
		t.Fatalf("%s: got %d, want a 4xx; body: %s", a.what, a.status, short(a.body))
	}
	return a
}

// says fails the check unless the answer's first error has one of the given codes.
func (a *answer) says(t *testing.T, codes ...string) *answer {
	t.Helper()
	got := a.code()
	for _, c := range codes {
		if got == c {
			return a
		}
	}
	t.Errorf("%s: %d with code %q, want %v; body: %s", a.what, a.status, got, codes, short(a.body))
	return a
}

// location returns the answer's Location header, made absolute.
func (a *answer) location(t *testing.T) string {
	t.Helper()
	l := a.header.Get("Location")
	if l == "" {
		t.Fatalf("%s: %d without a Location header", a.what, a.status)
	}
	ref, err := url.Parse(l)
	if err != nil {
		t.Fatalf("%s: Location %q: %v", a.what, l, err)
	}
	return a.from.ResolveReference(ref).String()
}

func (a *answer) digest() string { return a.header.Get("Docker-Content-Digest") }

// short renders what a message shows of an answer: its beginning, in one line, without control characters.
func short(b []byte) string {
	const most = 400
	text := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '·'
		}
		return c
	}, string(b[:min(len(b), most)]))
	if len(b) > most {
		return fmt.Sprintf("%s… (%d bytes)", text, len(b))
	}
	return text
}
