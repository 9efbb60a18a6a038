package httpd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
)

func local() *httpd.Origin {
	o, err := httpd.NewOrigin(httpd.OriginOptions{})
	if err != nil {
		panic(err)
	}
	return o
}

// answer sends one request through a chain whose face fails with err.
func answer(t *testing.T, err error, method string, log io.Writer, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	if log == nil {
		log = io.Discard
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	chain := newChain(local(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "12345")
		w.Header().Set("Docker-Content-Digest", "sha256:0")
		httpd.WriteError(w, r, err)
		httpd.WriteError(w, r, err) // a second one must neither write nor log again
	}), func(o *httpd.ChainOptions) {
		o.Log = logger
		o.Errors = &httpd.ErrorWriter{Log: logger,
			Realm:   func(*http.Request) string { return "https://reg.example.com/token" },
			Service: func(*http.Request) string { return "reg.example.com" }}
	})
	r := httptest.NewRequest(method, "/v2/team/app/manifests/v1", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	func() {
		defer func() { _ = recover() }() // the second error asks for the connection to be cut
		chain.ServeHTTP(w, r)
	}()
	return w
}

func TestStatusTable(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		status  int
		code    string
		message string
	}{
		"invalid":      {fault.New(fault.Invalid, fault.NameInvalid, "name x is bad"), 400, "NAME_INVALID", "name x is bad"},
		"not found":    {fault.New(fault.NotFound, fault.ManifestUnknown, "tag 9 not found"), 404, "MANIFEST_UNKNOWN", "tag 9 not found"},
		"conflict":     {fault.New(fault.Conflict, fault.ManifestInvalid, "m"), 409, "MANIFEST_INVALID", "m"},
		"who":          {fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "m"), 401, "UNAUTHORIZED", "m"},
		"policy":       {fault.New(fault.Denied, "TAG_IMMUTABLE", "tag v1 is immutable"), 403, "DENIED", "tag v1 is immutable"},
		"too large":    {fault.New(fault.TooLarge, fault.ManifestInvalid, "m"), 413, "MANIFEST_INVALID", "m"},
		"too many":     {fault.New(fault.RateLimited, fault.TooManyRequests, "m"), 429, "TOOMANYREQUESTS", "m"},
		"read-only":    {fault.New(fault.Unsupported, "READ_ONLY", "m"), 405, "UNSUPPORTED", "m"},
		"range":        {fault.New(fault.Range, fault.RangeInvalid, "m"), 416, "RANGE_INVALID", "m"},
		"down":         {fault.New(fault.Unavailable, fault.UnavailableReason, "m"), 503, "UNAVAILABLE", "m (request "},
		"full":         {fault.New(fault.Full, fault.StorageFull, "m"), 507, "STORAGE_FULL", "m (request "},
		"ours":         {errors.New("open /secret/path: permission denied"), 500, "UNKNOWN", "the registry failed"},
		"chinese":      {fault.New(fault.Denied, fault.DeniedReason, "标签 v1 不可变"), 403, "DENIED", "标签 v1 不可变"},
		"many lines":   {fault.New(fault.Denied, fault.DeniedReason, "1\n2\n3\n4\n5"), 403, "DENIED", "1\n2\n3\n4"},
		"odd bytes":    {fault.New(fault.Invalid, fault.NameInvalid, "name %s", "a\x00\"\\\xff<>"), 400, "NAME_INVALID", "name a\x00\"\\\ufffd<>"},
		"body limit":   {&http.MaxBytesError{Limit: 10}, 413, "SIZE_INVALID", "larger than the 10 bytes"},
		"cancelled":    {context.DeadlineExceeded, 503, "UNAVAILABLE", "try again"},
		"wrapped":      {errors.Join(errors.New("x"), fault.New(fault.NotFound, fault.BlobUnknown, "m")), 404, "BLOB_UNKNOWN", "m"},
		"stalled body": {fault.New(fault.Invalid, httpd.BodyStalled, "m"), 408, "BLOB_UPLOAD_INVALID", "m"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			w := answer(t, c.err, "GET", &log)
			got := oneError(t, w.Body.Bytes())
			if w.Code != c.status || got.Code != c.code || !strings.HasPrefix(got.Message, c.message) && !strings.Contains(got.Message, c.message) {
				t.Errorf("got %d %s %q, want %d %s %q", w.Code, got.Code, got.Message, c.status, c.code, c.message)
			}
			id := w.Header().Get("X-Request-Id")
			if id == "" || w.Header().Get("Docker-Content-Digest") != "" || w.Header().Get("Docker-Distribution-Api-Version") != "registry/2.0" {
				t.Errorf("headers %v", w.Header())
			}
			if c.status >= 500 {
				if got.Detail["requestId"] != id || !strings.Contains(got.Message, id) {
					t.Errorf("the request id %s is not in %+v", id, got)
				}
				if strings.Contains(w.Body.String(), "secret") {
					t.Errorf("the cause leaked: %s", w.Body)
				}
				if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), id) {
					t.Errorf("%d log lines, want one with the request id: %s", n, &log)
				}
			} else if log.Len() > 0 {
				t.Errorf("a refusal was logged as a failure: %s", &log)
			}
			if c.status == 429 || c.status == 503 {
				if w.Header().Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
		})
	}
}

func TestHeadHasNoBody(t *testing.T) {
	w := answer(t, fault.New(fault.NotFound, fault.ManifestUnknown, "m"), "HEAD", nil)
	if w.Code != 404 || w.Body.Len() != 0 {
		t.Errorf("HEAD got %d with %d bytes", w.Code, w.Body.Len())
	}
}

func TestChallenge(t *testing.T) {
	scope := func(r fault.Reason) error {
		f := fault.New(fault.Unauthenticated, r, "m")
		f.Scope = `repository:team/app:pull`
		return f
	}
	base := `Bearer realm="https://reg.example.com/token",service="reg.example.com"`
	for name, c := range map[string]struct {
		err  error
		auth string
		want string
	}{
		"ping":          {fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "m"), "", base},
		"anonymous":     {scope(fault.UnauthorizedReason), "", base + `,scope="repository:team/app:pull"`},
		"basic":         {scope(fault.UnauthorizedReason), "Basic YTpi", base + `,scope="repository:team/app:pull"`},
		"narrow token":  {scope(fault.UnauthorizedReason), "Bearer abc", base + `,scope="repository:team/app:pull",error="insufficient_scope",error_description="m"`},
		"expired token": {scope(httpd.InvalidToken), "Bearer abc", base + `,scope="repository:team/app:pull",error="invalid_token"`},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if c.auth != "" {
				header = []string{"Authorization", c.auth}
			}
			if got := answer(t, c.err, "GET", nil, header...).Header().Get("Www-Authenticate"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTokenRouteAsksForBasic(t *testing.T) {
	chain := newChain(local(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpd.RecordOf(w).SetHandler("token")
		httpd.WriteError(w, r, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "wrong password"))
	}), func(o *httpd.ChainOptions) {
		o.Errors = &httpd.ErrorWriter{Realm: func(*http.Request) string { return "https://reg/token" }, Service: func(*http.Request) string { return "reg" }}
	})
	r := httptest.NewRequest("GET", "/token", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	chain.ServeHTTP(w, r)
	if got := w.Header().Get("Www-Authenticate"); w.Code != 401 || !strings.HasPrefix(got, "Basic ") {
		t.Errorf("status %d, challenge %q", w.Code, got)
	}
}

func TestFailureHalfWayCutsTheConnection(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the first half")
		w.(http.Flusher).Flush()
		httpd.WriteError(w, r, errors.New("disk read failed"))
	}), nil)
	for name, client := range map[string]*http.Client{"http://": s.plain(), "https://": s.secure(true)} {
		res, err := client.Get(name + s.addr + "/v2/a/blobs/b")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err == nil {
			t.Errorf("%s: a broken answer ended as if it were complete", name)
		}
	}
	if log := s.log.String(); strings.Count(log, "disk read failed") != 2 {
		t.Errorf("want one log line for each failure: %s", log)
	}
}

func TestPanicBecomes500WithItsStackInTheLogOnly(t *testing.T) {
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a secret detail") }), nil)
	res, body := fetch(t, s.plain(), request(t, "GET", "http://"+s.addr+"/v2/"))
	if res.StatusCode != 500 || strings.Contains(body, "secret") || strings.Contains(body, "goroutine") {
		t.Errorf("status %d, body %s", res.StatusCode, body)
	}
	if e := oneError(t, []byte(body)); e.Detail["requestId"] != res.Header.Get("X-Request-Id") {
		t.Errorf("no request id in %+v", e)
	}
	log := s.log.String()
	if strings.Count(log, "a secret detail") != 1 || !strings.Contains(log, "errors_test.go") {
		t.Errorf("want one log line with the stack: %s", log)
	}
}

func TestWarn(t *testing.T) {
	w := httptest.NewRecorder()
	httpd.Warn(w, "quota \"team\" is 91 % used\nclean up")
	if got := w.Header().Get("Warning"); got != `299 - "quota \"team\" is 91 % used clean up"` {
		t.Errorf("got %s", got)
	}
}
