package httpd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/telemetry"
)

// running is a real server on a loopback port.
type running struct {
	t      *testing.T
	addr   string
	certs  *httpd.Certificates
	server *httpd.Server
	log    *syncBuffer
	access *syncBuffer
	stop   context.CancelFunc
	done   chan error
}

// start runs a server for the time of the test; change edits the options before.
func start(t *testing.T, handler http.Handler, change func(*httpd.Options)) *running {
	t.Helper()
	r := &running{t: t, log: &syncBuffer{}, access: &syncBuffer{}, done: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	origin, err := httpd.NewOrigin(httpd.OriginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: t.TempDir(), Hosts: []string{"registry.example.com"}, TLS: httpd.TLSOptions{HTTP2: true}, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	o := httpd.Options{
		Addr: "127.0.0.1:0", Handler: handler, Log: log, Origin: origin, Certs: certs, HTTP2: true,
		Errors:  &httpd.ErrorWriter{Log: log, Realm: func(*http.Request) string { return "https://localhost/token" }, Service: func(*http.Request) string { return "localhost" }},
		Metrics: telemetry.NewMetrics(telemetry.Build{Version: "test"}), ServeMetrics: true,
		Health: telemetry.NewHealth(log, time.Now),
		Access: httpd.NewAccessLog(r.access, true),
		Now:    time.Now,
	}
	if change != nil {
		change(&o)
	}
	r.certs = o.Certs
	if r.server, err = httpd.New(o); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.addr = r.server.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- r.server.Run(ctx) }()
	t.Cleanup(func() { _ = r.end() })
	return r
}

// end stops the server and waits for it.
func (r *running) end() error {
	r.stop()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(40 * time.Second):
		r.t.Fatal("server did not end in 40 s")
		return nil
	}
}

// secure is a client that trusts the server's CA.
func (r *running) secure(http2 bool) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.certs.CA())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// plain is a client without TLS.
func (r *running) plain() *http.Client {
	transport := &http.Transport{}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func fetch(t *testing.T, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func request(t *testing.T, method, url string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
