package httpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/telemetry"
)

func benchChains(b *testing.B, face http.Handler) []benchChain {
	full := func(asJSON bool) http.Handler {
		access := NewAccessLog(io.Discard, asJSON)
		ctx, stop := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		wait.Go(func() { _ = access.Run(ctx) })
		b.Cleanup(func() { stop(); wait.Wait() })
		return NewChain(ChainOptions{Next: face, Log: slog.New(slog.DiscardHandler), Origin: &Origin{}, Now: time.Now, Stall: time.Minute,
			Metrics: telemetry.NewMetrics(telemetry.Build{}), Access: access})
	}
	return []benchChain{
		{"bare", face},
		{"chain", NewChain(ChainOptions{Next: face, Log: slog.New(slog.DiscardHandler), Origin: &Origin{}, Now: time.Now, Stall: time.Minute})},
		{"chain+metrics+log(json)", full(true)},
		{"chain+metrics+log(text)", full(false)},
	}
}

// BenchmarkServer is what a client sees: requests through a real loopback connection each, to the bare handler on a
// bare http.Server and to the same handler behind everything.
func BenchmarkServer(b *testing.B) {
	body := make([]byte, 1024)
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"application/vnd.oci.image.manifest.v1+json"}
		_, _ = w.Write(body)
	})
	b.Run("bare", func(b *testing.B) {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := &http.Server{Handler: bare}
		go server.Serve(tcp)
		defer server.Close()
		load(b, tcp.Addr().String())
	})
	b.Run("berth", func(b *testing.B) {
		certs, err := OpenCertificates(CertOptions{Dir: b.TempDir(), TLS: TLSOptions{HTTP2: true}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		s, err := New(Options{Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Origin: &Origin{}, Now: time.Now, Certs: certs, HTTP2: true,
			Metrics: telemetry.NewMetrics(telemetry.Build{}), Access: NewAccessLog(io.Discard, true),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := RecordOf(w)
				rec.SetHandler("manifest")
				rec.Repo, rec.Principal = "team/app", "alice"
				bare(w, r)
			})})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		if err := s.Listen(ctx); err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		load(b, s.Addr().String())
		stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}

// load sends requests over 32 raw connections: a net/http client would cost more than the server.
func load(b *testing.B, addr string) {
	request := []byte("GET /v2/team/app/manifests/latest HTTP/1.1\r\nHost: localhost:5000\r\nUser-Agent: docker/28.2.2\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n")
	var left atomic.Int64
	left.Store(int64(b.N))
	var wait sync.WaitGroup
	b.ResetTimer()
	for range 32 {
		wait.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			answer := make([]byte, 8192)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				if n, err := c.Read(answer); err != nil || n < 1024 { // head and body leave in one write
					b.Errorf("read %d bytes, %v", n, err)
					return
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
