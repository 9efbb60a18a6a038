package httpd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
)

// whoCalls answers with what the socket knows of the caller.
func whoCalls(w http.ResponseWriter, r *http.Request) {
	peer, local := httpd.OverSocket(r)
	_, _ = fmt.Fprintf(w, "%t %t %t", local, peer.Admitted, peer.UID == os.Getuid() || peer.UID == -1)
}

func overSocket(path string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return httpd.DialSocket(ctx, path)
	}}}
}

func ask(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	answer, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berthd.sock")
	r := start(t, http.HandlerFunc(whoCalls), func(o *httpd.Options) { o.Socket = path })
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v, %v; want a socket for its owner alone", info.Mode(), err)
	}
	// Plain HTTP under any name is fine here: nobody listens to a socket.
	if status, body := ask(t, overSocket(path), "http://berth.example.com/x"); status != 200 || body != "true true true" {
		t.Errorf("over the socket: %d %s", status, body)
	}
	if status, body := ask(t, http.DefaultClient, "http://"+r.addr+"/x"); status != 200 || body != "false false true" && body != "false false false" {
		t.Errorf("over TCP: %d %s", status, body)
	}
	if status, body := ask(t, overSocket(path), "http://localhost/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %d", status)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there after the end: %v", err)
	}
	if _, err := httpd.DialSocket(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A path that is longer than a socket's address may be: test folders are, and so are data directories.
func TestSocketWithALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep-", 12), strings.Repeat("deeper-", 12))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "berthd.sock")
	start(t, http.HandlerFunc(whoCalls), func(o *httpd.Options) { o.Socket = path })
	if status, body := ask(t, overSocket(path), "http://localhost/x"); status != 200 || body != "true true true" {
		t.Errorf("%d %s", status, body)
	}
}

// newServer is a server that does not listen yet.
func newServer(t *testing.T, path string, optional bool) *httpd.Server {
	t.Helper()
	origin, err := httpd.NewOrigin(httpd.OriginOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpd.New(httpd.Options{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(whoCalls), Log: discard(), Origin: origin, Now: time.Now, Socket: path, SocketOptional: optional})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSocketOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berthd.sock")
	first := start(t, http.HandlerFunc(whoCalls), func(o *httpd.Options) { o.Socket = path })
	err := newServer(t, path, false).Listen(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another berthd listens") || !strings.Contains(err.Error(), "berth.socket") {
		t.Errorf("%v", err)
	}
	// Where it is only a convenience, the registry serves without it, and leaves the other's alone.
	second := newServer(t, path, true)
	ctx, stop := context.WithCancel(t.Context())
	if err := second.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()
	if status, _ := ask(t, http.DefaultClient, "http://"+second.Addr().String()+"/x"); status != 200 {
		t.Errorf("%d", status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if status, body := ask(t, overSocket(path), "http://localhost/x"); status != 200 || body != "true true true" {
		t.Errorf("the first one's socket: %d %s", status, body)
	}
	_ = first
}

// A killed berthd leaves its socket. The next one replaces it, but nothing else that has this name.
func TestSocketLeftBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "berthd.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := httpd.DialSocket(t.Context(), path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%v; the test has no stale socket", err)
	}
	start(t, http.HandlerFunc(whoCalls), func(o *httpd.Options) { o.Socket = path })
	if status, _ := ask(t, overSocket(path), "http://localhost/x"); status != 200 {
		t.Errorf("%d", status)
	}
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, file, false).Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "x" {
		t.Errorf("the file is gone: %q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.sock.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A face with a document of its own has it for every failure below its path, also for what the chain refuses.
func TestFaces(t *testing.T) {
	face := httpd.Face{Prefix: "/api/",
		Table: func(f *fault.Error) httpd.Problem { return httpd.Problem{Status: 418, Code: string(f.Reason)} },
		Document: func(f *fault.Error, p httpd.Problem, id string) (string, []byte) {
			return "application/problem+json", []byte(fmt.Sprintf("%d %s %t", p.Status, f.Reason, id != ""))
		}}
	r := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/panic" || r.URL.Path == "/v2/panic" {
			panic("x")
		}
		httpd.WriteError(w, r, fault.New(fault.Conflict, "MINE", "no"))
	}), func(o *httpd.Options) { o.Errors = &httpd.ErrorWriter{Log: discard(), Faces: []httpd.Face{face}} })
	for path, want := range map[string]string{
		"/api/x": "418 MINE true", "/api/panic": "418 UNKNOWN true", "/apix": `{"errors":[{"code":"MINE","message":"no"}]}`,
	} {
		answer, err := http.Get("http://" + r.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		problem := answer.Header.Get("Content-Type") == "application/problem+json"
		if strings.TrimSpace(string(body)) != want || problem != strings.HasPrefix(path, "/api/") || problem && answer.StatusCode != 418 {
			t.Errorf("%s: %d %s %s", path, answer.StatusCode, answer.Header.Get("Content-Type"), body)
		}
	}
	_, body := ask(t, http.DefaultClient, "http://"+r.addr+"/v2/panic")
	oneError(t, []byte(body))
}
