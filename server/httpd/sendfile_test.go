package httpd

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The connection that net/http sees must be one that it asks to ReadFrom a file: that is how sendfile is reached. This
// counts the bytes that came that way, at the connection itself, behind the whole chain.
func TestFilesLeaveThroughReadFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blob")
	const size = 4 << 20
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, f *os.File){
		"io.Copy":      func(w http.ResponseWriter, _ *http.Request, f *os.File) { _, _ = io.Copy(w, f) },
		"io.CopyN":     func(w http.ResponseWriter, _ *http.Request, f *os.File) { _, _ = io.CopyN(w, f, size) },
		"ServeContent": func(w http.ResponseWriter, r *http.Request, f *os.File) { http.ServeContent(w, r, "", time.Time{}, f) },
	} {
		t.Run(name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			chain := NewChain(ChainOptions{Log: log, Origin: &Origin{}, Now: time.Now, Stall: time.Minute, Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f, err := os.Open(file)
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				w.Header().Set("Content-Length", fmt.Sprint(size))
				serve(w, r, f)
			})})
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var through int64
			done := make(chan struct{})
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { chain.ServeHTTP(w, r); close(done) })}
			l := newTwoFaced(tcp, nil, log, time.Second, time.Minute, 10, time.Now)
			go l.run()
			go server.Serve(countingListener{l.plain, &through})
			defer server.Close()
			c, err := net.Dial("tcp", tcp.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, "GET /v2/a/blobs/b HTTP/1.1\r\nHost: localhost\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			if err != nil || n != size {
				t.Fatalf("got %d bytes, %v", n, err)
			}
			<-done
			if through < size-4096 { // net/http may send the sniffed head on its own
				t.Errorf("%d of %d bytes went through the connection's ReadFrom", through, size)
			}
		})
	}
}

type countingListener struct {
	net.Listener
	n *int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c.(*conn), l.n}, nil
}

type countingConn struct {
	*conn
	n *int64
}

func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.conn.ReadFrom(r)
	*c.n += n
	return n, err
}

// BenchmarkChain is the price of the chain: with is everything that is on by default, bare is the same handler alone.
func BenchmarkChain(b *testing.B) {
	body := []byte(`{"schemaVersion":2}`)
	face := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if rec := RecordOf(w); rec.chain != nil {
			rec.SetHandler("manifest")
			rec.Repo, rec.Principal = "team/app", "alice"
		}
		w.Header()["Content-Type"] = []string{"application/vnd.oci.image.manifest.v1+json"}
		_, _ = w.Write(body)
	})
	for _, c := range benchChains(b, face) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			req := httptest.NewRequest("GET", "/v2/team/app/manifests/latest", nil)
			req.RemoteAddr, req.Host = "127.0.0.1:4711", "localhost:5000"
			req.Header.Set("User-Agent", "docker/28.2.2 go/go1.24.3 git-commit/0000000 kernel/6.1.0 os/linux arch/amd64")
			req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
			b.RunParallel(func(pb *testing.PB) {
				w := &nullWriter{h: http.Header{}}
				for pb.Next() {
					clear(w.h)
					c.handler.ServeHTTP(w, req)
				}
			})
		})
	}
}

type nullWriter struct{ h http.Header }

func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(int)             {}

type benchChain struct {
	name    string
	handler http.Handler
}
