package httpd_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/telemetry"
)

func TestAccessLogSaysWhatHappened(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httpd.RecordOf(w)
		rec.SetHandler("manifest")
		rec.Repo, rec.Principal = "team/app", "alice"
		_, _ = io.Copy(io.Discard, r.Body)
		httpd.WriteError(w, r, fault.New(fault.Denied, "TAG_IMMUTABLE", "no"))
	}), nil)
	req, _ := http.NewRequest("PUT", "http://"+s.addr+"/v2/team/app/manifests/v1?token=secret", strings.NewReader("12345"))
	req.Header.Set("User-Agent", "evil\"\t{}")
	req.SetBasicAuth("alice", "hunter2hunter2")
	res, body := fetch(t, s.plain(), req)
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(s.access.String()), &line); err != nil {
		t.Fatalf("%q is not one JSON line: %v", s.access, err)
	}
	for key, want := range map[string]any{"method": "PUT", "path": "/v2/team/app/manifests/v1", "status": 403.0, "in": 5.0, "out": float64(len(body)), "client": "127.0.0.1",
		"agent": "evil\"\t{}", "principal": "alice", "req": res.Header.Get("X-Request-Id"), "repo": "team/app", "handler": "manifest", "reason": "TAG_IMMUTABLE", "proto": "HTTP/1.1"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if _, err := time.Parse(time.RFC3339Nano, line["time"].(string)); err != nil {
		t.Error(err)
	}
	if text := s.access.String(); strings.Contains(text, "secret") || strings.Contains(text, "hunter2") {
		t.Errorf("a secret is in the log: %s", text)
	}
}

func TestTextLinesCannotBeForged(t *testing.T) {
	out := &syncBuffer{}
	access := httpd.NewAccessLog(out, false)
	chain := newChain(local(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(o *httpd.ChainOptions) { o.Access = access })
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	r.URL.Path = "/v2/a\nlevel=ERROR msg=\"forged\" \x1b[31m"
	chain.ServeHTTP(httptest.NewRecorder(), r)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := access.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || strings.ContainsRune(text, 0x1b) {
		t.Errorf("one request made %q", text)
	}
}

// slowWriter is an output that does not take anything until it may.
type slowWriter struct{ may chan struct{} }

func (w slowWriter) Write(p []byte) (int, error) {
	<-w.may
	return len(p), nil
}

func TestSlowLogNeverBlocksRequests(t *testing.T) {
	slow := slowWriter{make(chan struct{})}
	access := httpd.NewAccessLog(slow, true)
	chain := newChain(local(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(o *httpd.ChainOptions) { o.Access = access })
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() { _ = access.Run(ctx) })
	r := httptest.NewRequest("GET", "/v2/"+strings.Repeat("a", 400), nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	began := time.Now()
	for range 10_000 { // 6 MB of lines into two buffers of 1 MiB
		chain.ServeHTTP(httptest.NewRecorder(), r)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("10,000 requests took %s with a log that stands still", took)
	}
	if access.Dropped() == 0 {
		t.Error("nothing was dropped, so the buffer is not bounded")
	}
	close(slow.may)
	stop()
	wait.Wait()
}

func TestMetrics(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.Build{Version: "1", GoVersion: "go"})
	inside := make(chan string, 1)
	chain := newChain(local(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httpd.RecordOf(w)
		rec.SetHandler("base") // a face may find out more
		rec.SetHandler("blob")
		if r.Method == "HEAD" {
			inside <- scrape(m)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "0123456789")
	}), func(o *httpd.ChainOptions) { o.Metrics = m })
	for _, method := range []string{"GET", "GET", "HEAD", "BREW"} {
		r := httptest.NewRequest(method, "/v2/a/blobs/b", nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		chain.ServeHTTP(httptest.NewRecorder(), r)
	}
	if text := <-inside; !strings.Contains(text, `registry_http_in_flight_requests{handler="blob"} 1`) || !strings.Contains(text, `registry_http_in_flight_requests{handler="base"} 0`) {
		t.Error("requests in flight are not counted by their last handler")
	}
	text := scrape(m)
	for _, want := range []string{
		`registry_http_requests_total{code="418",handler="blob",method="get"} 2`,
		`registry_http_requests_total{code="418",handler="blob",method="head"} 1`,
		`registry_http_requests_total{code="418",handler="blob",method="other"} 1`,
		`registry_requests_total{code="418",handler="blob",method="get"} 2`,
		`registry_http_in_flight_requests{handler="base"} 0`,
		`registry_http_in_flight_requests{handler="blob"} 0`,
		`registry_http_request_duration_seconds_count{handler="blob",method="get"} 2`,
		`registry_http_response_size_bytes_sum{handler="blob"} 40`,
		`berth_build_info{goversion="go",revision="",version="1"} 1`,
		"go_goroutines ", "process_cpu_seconds_total ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, "BREW") || strings.Contains(text, "brew") {
		t.Error("a stranger made a label value")
	}
}

func scrape(m *telemetry.Metrics) string {
	w := httptest.NewRecorder()
	httpd.MetricsHandler(m.Registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestRequestID(t *testing.T) {
	trusting, _ := httpd.NewOrigin(httpd.OriginOptions{TrustedProxies: []string{"192.0.2.1"}})
	for name, c := range map[string]struct {
		peer, given string
		kept        bool
	}{
		"trusted":         {"192.0.2.1:1", "abc-123", true},
		"a stranger":      {"127.0.0.1:1", "abc-123", false},
		"trusted rubbish": {"192.0.2.1:1", "a b\"", false},
		"trusted, long":   {"192.0.2.1:1", strings.Repeat("a", 65), false},
	} {
		t.Run(name, func(t *testing.T) {
			chain := newChain(trusting, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil)
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.RemoteAddr, r.Host = c.peer, "localhost"
			r.Header.Set("X-Request-Id", c.given)
			w := httptest.NewRecorder()
			chain.ServeHTTP(w, r)
			got := w.Header().Get("X-Request-Id")
			if (got == c.given) != c.kept || got == "" {
				t.Errorf("answered with id %q", got)
			}
		})
	}
}

func TestBodyLimitSparesUploads(t *testing.T) {
	read := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		read <- err
		if err != nil {
			httpd.WriteError(w, r, err)
		}
	}), func(o *httpd.Options) { o.MaxBody = 1000 })
	for path, status := range map[string]int{"/v2/a/manifests/b": 413, "/token": 413, "/v2/a/blobs/uploads/1": 200} {
		res, err := s.plain().Post("http://"+s.addr+path, "application/json", strings.NewReader(strings.Repeat("a", 5000)))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		<-read
		if res.StatusCode != status {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, status)
		}
	}
}

func TestTracingContinuesTheCallersTrace(t *testing.T) {
	spans := &spanRecorder{}
	chain := newChain(local(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpd.RecordOf(w).SetHandler("manifest")
		w.WriteHeader(http.StatusNotFound)
	}), func(o *httpd.ChainOptions) { o.Tracing = telemetry.NewTracingTo(spans) })
	r := httptest.NewRequest("GET", "/v2/a/manifests/b", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	chain.ServeHTTP(httptest.NewRecorder(), r)
	if len(spans.ended) != 1 {
		t.Fatalf("%d spans", len(spans.ended))
	}
	span := spans.ended[0]
	if span.Name() != "GET manifest" || span.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || span.Parent().SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("span %q in trace %s under %s", span.Name(), span.SpanContext().TraceID(), span.Parent().SpanID())
	}
}

func TestBuiltinRoutes(t *testing.T) {
	s := start(t, http.NotFoundHandler(), nil)
	client := s.plain()
	for path, want := range map[string]string{"/livez": `{"status":"ok"}`, "/readyz": `{"status":"ok"}`, "/healthz": `{"status":"ok"}`, "/ca.crt": "-----BEGIN CERTIFICATE-----", "/metrics": "go_goroutines"} {
		if res, body := fetch(t, client, request(t, "GET", "http://"+s.addr+path)); res.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, %.80q", path, res.StatusCode, body)
		}
	}
	if res, _ := fetch(t, client, request(t, "GET", "http://"+s.addr+"/metrics", "X-Forwarded-For", "198.51.100.1")); res.StatusCode != 404 {
		t.Errorf("/metrics through a proxy: status %d, want 404", res.StatusCode)
	}
	if res, _ := fetch(t, client, request(t, "GET", "http://"+s.addr+"/debug/pprof/")); res.StatusCode != 404 {
		t.Errorf("pprof on the main port: status %d", res.StatusCode)
	}
}

func TestDebugListener(t *testing.T) {
	s := start(t, http.NotFoundHandler(), func(o *httpd.Options) { o.DebugAddr = "127.0.0.1:0" })
	client := s.plain()
	base := "http://" + s.server.DebugAddr().String()
	for path, want := range map[string]string{"/metrics": "go_goroutines", "/readyz": "ok", "/debug/health": "ok", "/debug/pprof/cmdline": "httpd"} {
		if res, body := fetch(t, client, request(t, "GET", base+path)); res.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: status %d, %.80q", path, res.StatusCode, body)
		}
	}
	if res, _ := fetch(t, client, request(t, "GET", base+"/debug/pprof/cmdline", "Host", "evil.example")); res.StatusCode != 403 {
		t.Errorf("pprof under a foreign name: status %d, want 403", res.StatusCode)
	}
}
