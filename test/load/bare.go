package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// serveMain is this program started again as one of the ceilings: load serve bare|sync -addr … -dir … [-cert … -key …].
func serveMain(args []string) error {
	if len(args) == 0 {
		return errors.New("want bare or sync")
	}
	f := flag.NewFlagSet("load serve", flag.ContinueOnError)
	addr := f.String("addr", "", "address to listen on")
	dir := f.String("dir", "", "folder of the content")
	cert := f.String("cert", "", "certificate; empty: plain HTTP")
	key := f.String("key", "", "key of the certificate")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	var h http.Handler
	switch args[0] {
	case "bare":
		h = &bare{}
	case "sync":
		s, err := newBareSync(*dir)
		if err != nil {
			return err
		}
		h = s
	default:
		return fmt.Errorf("handler %q is unknown, want bare or sync", args[0])
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return fmt.Errorf("load certificate: %w", err)
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { <-stop; _ = srv.Close() }()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

const (
	answerPrefix = "Answer-" // a PUT's headers with this prefix become the headers of the answer
	fileHeader   = "Answer-From-File"
)

// bare answers what it was told to: the ceiling of a net/http server. PUT <path> teaches it an answer.
type bare struct {
	answers sync.Map // request URI → *bareAnswer
}

type bareAnswer struct {
	header http.Header
	body   []byte
	file   string
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		b.learn(w, r)
		return
	}
	v, ok := b.answers.Load(r.RequestURI)
	if !ok {
		http.NotFound(w, r)
		return
	}
	a := v.(*bareAnswer)
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	if a.file != "" {
		serveFile(w, r, a.file)
		return
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(a.body)
	}
}

func (b *bare) learn(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a := &bareAnswer{header: http.Header{}, body: body, file: r.Header.Get(fileHeader)}
	for k, v := range r.Header {
		if name, ok := strings.CutPrefix(k, answerPrefix); ok && k != fileHeader {
			a.header[http.CanonicalHeaderKey(name)] = v
		}
	}
	if a.file == "" {
		a.header["Content-Length"] = []string{fmt.Sprint(len(body))}
	}
	b.answers.Store(r.RequestURI, a)
	w.WriteHeader(http.StatusCreated)
}

// serveFile leaves the bytes to sendfile and ranges to net/http.
func serveFile(w http.ResponseWriter, r *http.Request, path string) {
	f, err := os.Open(path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/octet-stream") // else net/http reads the file to guess
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}
