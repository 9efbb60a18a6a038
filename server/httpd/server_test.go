package httpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
)

func TestOnePortSpeaksBothProtocols(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s tls=%t", r.Proto, r.TLS != nil)
	}), nil)
	for name, c := range map[string]struct {
		client *http.Client
		url    string
		want   string
	}{
		"plain":       {s.plain(), "http://" + s.addr + "/v2/", "HTTP/1.1 tls=false"},
		"tls, http/1": {s.secure(false), "https://" + s.addr + "/v2/", "HTTP/1.1 tls=true"},
		"tls, http/2": {s.secure(true), "https://" + s.addr + "/v2/", "HTTP/2.0 tls=true"},
	} {
		for range 3 { // also on a connection that is kept
			if _, body := fetch(t, c.client, request(t, "GET", c.url)); body != c.want {
				t.Errorf("%s: got %q, want %q", name, body, c.want)
			}
		}
	}
}

func TestHTTP2CanBeSwitchedOff(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), func(o *httpd.Options) {
		o.HTTP2 = false
		certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: t.TempDir(), Log: o.Log, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		o.Certs = certs
	})
	if _, body := fetch(t, s.secure(true), request(t, "GET", "https://"+s.addr+"/")); body != "HTTP/1.1" {
		t.Errorf("with HTTP/2 off, a client that offers it got %s", body)
	}
}

func TestLargeFileIsTheSameOverEveryProtocol(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(content))
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			httpd.WriteError(w, r, err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if _, err := io.Copy(w, f); err != nil {
			httpd.WriteError(w, r, err)
		}
	}), nil)
	for name, c := range map[string]struct {
		client *http.Client
		scheme string
	}{"plain": {s.plain(), "http"}, "tls": {s.secure(false), "https"}, "h2": {s.secure(true), "https"}} {
		res, body := fetch(t, c.client, request(t, "GET", c.scheme+"://"+s.addr+"/v2/x/blobs/y"))
		sum := sha256.Sum256([]byte(body))
		if res.StatusCode != 200 || hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s: status %d, %d bytes, not the bytes of the file", name, res.StatusCode, len(body))
		}
	}
}

func TestSlowHeadersAreCutAndOthersServed(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), func(o *httpd.Options) {
		o.HeaderTimeout = time.Second
	})
	var conns []net.Conn
	for i := range 100 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch i % 3 { // silent, a header that never ends, a TLS handshake that never ends
		case 1:
			fmt.Fprint(c, "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
		case 2:
			_, _ = c.Write([]byte{0x16, 0x03, 0x01, 0x00})
		}
		conns = append(conns, c)
	}
	began := time.Now()
	if _, body := fetch(t, s.plain(), request(t, "GET", "http://"+s.addr+"/")); body != "ok" {
		t.Errorf("got %q beside slow clients", body)
	}
	if took := time.Since(began); took > 10*time.Second { // behind them, one after the other, it is a minute
		t.Errorf("a good client waited %s beside slow ones", took)
	}
	var wait sync.WaitGroup
	var open atomic.Int32
	for _, c := range conns {
		wait.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err := io.Copy(io.Discard, c)
			if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
				open.Add(1)
			}
		})
	}
	wait.Wait()
	if n := open.Load(); n > 0 {
		t.Errorf("%d of 100 connections that never finished a header were still open", n)
	}
}

func TestBodyThatStandsStillIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	got := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
		httpd.WriteError(w, r, err)
	}), func(o *httpd.Options) { o.Stall = 4 * time.Second })
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
	for range 6 { // five seconds of a trickle are progress
		fmt.Fprint(c, "x")
		time.Sleep(800 * time.Millisecond)
	}
	select {
	case err := <-got:
		t.Fatalf("a trickling body was cut: %v", err)
	default:
	}
	select {
	case err := <-got:
		if !fault.Has(err, httpd.BodyStalled) {
			t.Errorf("body read failed with %v, want BODY_STALLED", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a body that stands still was not cut")
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d, want 408", res.StatusCode)
	}
}

func TestReaderThatStandsStillIsCutAndSlowOneIsNot(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	file := filepath.Join(t.TempDir(), "blob")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(32 << 20); err != nil { // sparse: larger than all socket buffers
		t.Fatal(err)
	}
	_ = f.Close()
	ended := make(chan error, 4)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			ended <- err
			return
		}
		defer f.Close()
		w.Header().Set("Content-Length", fmt.Sprint(32<<20))
		_, err = io.Copy(w, f)
		ended <- err
	}), func(o *httpd.Options) { o.Stall = 4 * time.Second })

	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /v2/a/blobs/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		return c
	}
	slow := dial()
	defer slow.Close()
	total, began := 0, time.Now()
	buffer := make([]byte, 3<<20)
	for total < 32<<20 { // far more than the stall time in all, never that long without a byte
		n, err := io.ReadFull(slow, buffer)
		total += n
		if err != nil && err != io.ErrUnexpectedEOF {
			break
		}
		if total >= 32<<20 {
			break
		}
		time.Sleep(600 * time.Millisecond)
	}
	if total < 32<<20 {
		t.Fatalf("a slow reader got %d bytes in %s and was cut", total, time.Since(began))
	}
	if err := <-ended; err != nil {
		t.Errorf("answer to a slow reader failed: %v", err)
	}
	still := dial()
	defer still.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("an answer that nobody reads ended without an error")
		}
	case <-time.After(30 * time.Second):
		t.Error("an answer that nobody reads was not cut")
	}
}

func TestDrainLetsOpenRequestsEnd(t *testing.T) {
	entered := make(chan struct{})
	finish := make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		_, _ = io.WriteString(w, "done")
	}), nil)
	idle, err := net.Dial("tcp", s.addr) // a spare connection must not hold up the end
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answer := make(chan string, 1)
	go func() {
		res, err := s.plain().Get("http://" + s.addr + "/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-entered
	s.stop()
	deadline := time.Now().Add(30 * time.Second)
	for { // new connections are refused while the old request goes on
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("new connections are accepted during the drain")
		}
		time.Sleep(10 * time.Millisecond)
	}
	close(finish)
	if got := <-answer; got != "done" {
		t.Errorf("the open request got %q", got)
	}
	if err := s.end(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if log := s.access.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"status":200`) {
		t.Errorf("access log was not flushed at the end: %q", log)
	}
}

func TestDrainCutsWhatDoesNotEnd(t *testing.T) {
	entered := make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}), func(o *httpd.Options) { o.Drain = 300 * time.Millisecond })
	go func() {
		if res, err := s.plain().Get("http://" + s.addr + "/"); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-entered
	began := time.Now()
	if err := s.end(); err != nil {
		t.Errorf("Run ended with %v", err)
	}
	if took := time.Since(began); took > 20*time.Second { // without a cut it never ends
		t.Errorf("the end took %s with a drain time of 300 ms", took)
	}
}

func TestPortInUseNamesTheHolder(t *testing.T) {
	s := start(t, http.NotFoundHandler(), nil)
	origin, _ := httpd.NewOrigin(httpd.OriginOptions{})
	other, err := httpd.New(httpd.Options{Addr: s.addr, Handler: http.NotFoundHandler(), Log: discard(), Origin: origin, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	err = other.Listen(context.Background())
	if err == nil {
		t.Fatal("two servers listen on one port")
	}
	text := err.Error()
	if !strings.Contains(text, "is in use") || !strings.Contains(text, "--addr 127.0.0.1:") {
		t.Errorf("message %q does not say what to do", text)
	}
	if _, statErr := os.Stat("/proc/net/tcp"); statErr == nil && !strings.Contains(text, fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("message %q does not name the holder, which is pid %d", text, os.Getpid())
	}
}

func TestConnectionLimitWaitsInsteadOfRefusing(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), func(o *httpd.Options) { o.MaxConns = 2 })
	hold := make([]net.Conn, 2)
	for i := range hold {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "G")
		hold[i] = c
	}
	time.Sleep(50 * time.Millisecond)
	got := make(chan string, 1)
	go func() {
		res, err := s.plain().Get("http://" + s.addr + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	select {
	case text := <-got:
		t.Fatalf("a third connection was served beyond a limit of 2: %q", text)
	case <-time.After(200 * time.Millisecond):
	}
	for _, c := range hold {
		_ = c.Close()
	}
	if text := <-got; text != "ok" {
		t.Errorf("the waiting connection got %q", text)
	}
}

// Every refusal is OCI JSON, also of requests that net/http refuses before us.
func TestMalformedRequestsGetOneOCIError(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpd.WriteError(w, r, fault.New(fault.NotFound, fault.NameUnknown, "no such route"))
	}), nil)
	for name, raw := range map[string]string{
		"bad percent":         "GET /v2/%zz/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no host":             "GET /v2/ HTTP/1.1\r\n\r\n",
		"two hosts":           "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
		"bad line":            "HELLO\r\n\r\n",
		"bad version":         "GET /v2/ HTTP/9.9\r\nHost: localhost\r\n\r\n",
		"control in header":   "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
		"20 kB header":        "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n",
		"200 kB header":       "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 200<<10) + "\r\n\r\n",
		"60 kB bearer":        "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + strings.Repeat("a", 60<<10) + "\r\n\r\n",
		"two authorizations":  "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
		"two lengths":         "POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"negative length":     "POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"unknown transfer":    "POST /v2/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
		"bad chunk":           "POST /v2/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"length and chunked":  "POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"space before colon":  "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
		"connect":             "CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"absolute form":       "GET http://evil.example/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"path with nul":       "GET /v2/a%00b/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"foreign host, plain": "GET /v2/ HTTP/1.1\r\nHost: registry.example.com\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			go func() { _, _ = io.WriteString(c, raw) }()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode < 400 || res.StatusCode > 499 {
				t.Errorf("status %d, want 4xx", res.StatusCode)
			}
			var document struct {
				Errors []struct{ Code, Message string }
			}
			if err := json.NewDecoder(res.Body).Decode(&document); err != nil {
				t.Fatalf("status %d: body is no JSON: %v", res.StatusCode, err)
			}
			if len(document.Errors) != 1 || document.Errors[0].Code == "" || document.Errors[0].Message == "" {
				t.Errorf("document %+v, want exactly one error with code and message", document)
			}
		})
	}
}

// A blob may contain anything, also what net/http's own refusals look like.
func TestAnswersThatLookLikeRefusalsAreNotTouched(t *testing.T) {
	text := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		w.(http.Flusher).Flush() // the body becomes a write of its own
		_, _ = io.WriteString(w, text)
	}), nil)
	client := s.plain()
	for range 3 {
		if _, body := fetch(t, client, request(t, "GET", "http://"+s.addr+"/v2/a/blobs/b")); body != text {
			t.Errorf("body was changed to %q", body)
		}
	}
}

// TestRefusalReachesWhoIsStillSending: an answer that comes before the end of the body is read by a client that sends all of
// it first, also when the connection is closed after it.
func TestRefusalReachesWhoIsStillSending(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpd.WriteError(w, r, fault.New(fault.Unauthenticated, fault.Unknown, "log in first"))
	}), nil)
	const size = 6 << 20
	for _, path := range []string{"/v2/a/blobs/uploads/", "/v2/a/manifests/1"} {
		for name, dial := range map[string]func() (net.Conn, error){
			"plain": func() (net.Conn, error) { return net.Dial("tcp", s.addr) },
			"tls":   func() (net.Conn, error) { return tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true}) },
		} {
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", path, size)
			for range size >> 20 {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					t.Errorf("%s %s: the body cannot be sent: %v", name, path, err)
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Errorf("%s %s: no answer: %v", name, path, err)
				continue
			}
			if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusUnauthorized || !bytes.Contains(body, []byte("log in first")) {
				t.Errorf("%s %s: %d %s %v", name, path, res.StatusCode, body, err)
			}
		}
	}
}
