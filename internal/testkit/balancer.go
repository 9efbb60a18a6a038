package testkit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Exchange is one request as the balancer saw it.
type Exchange struct {
	Replica      int // index into the addresses that the balancer was given
	Method, Path string
	Status       int    // the replica's; 0 when there was none
	Body         string // the beginning of an answer from 500 on
	Err          error  // why there was no answer
	GaveUp       bool   // the client did, before there was an answer
	Began, Ended time.Time
}

// Balancer stands in front of several berthds as an operator's load balancer does, and is as unkind to them as one may be:
// consecutive requests for a repository never meet the same replica while there is another, and nothing is tried at a second
// one. (Go repeats a GET or HEAD when a kept connection turns out to be closed.) It asks every replica for /readyz, and uses
// those that are ready; when none is, all of them.
//
// A request without an answer is answered 502 with the header NoAnswer.
type Balancer struct {
	URL  string // http://127.0.0.1:port
	Host string // localhost:port of the same registry over TLS
	CA   []byte // PEM, of the certificate there

	replicas []*url.URL
	watch    func(Exchange)

	mu     sync.Mutex
	ready  []bool
	held   []bool
	flying []int          // requests that a replica has
	last   map[string]int // repository → replica
}

// NoAnswer is the header of answers that are the balancer's own.
const NoAnswer = "X-Balancer-No-Answer"

// healthEvery is how often replicas are asked whether they are ready.
const healthEvery = 50 * time.Millisecond

// StartBalancer starts a balancer in front of the berthds at these URLs; it ends with the test. watch is told of every
// request, from many goroutines at once; it may be nil.
func StartBalancer(t testing.TB, watch func(Exchange), urls ...string) *Balancer {
	t.Helper()
	b := &Balancer{
		watch: watch, ready: make([]bool, len(urls)), held: make([]bool, len(urls)), flying: make([]int, len(urls)),
		last: map[string]int{},
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatalf("testkit: %v", err)
		}
		b.replicas = append(b.replicas, u)
	}
	ctx, stop := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	for i := range urls {
		b.ask(i)
		asking.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(healthEvery)
				b.ask(i)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		asking.Wait()
	})
	b.serve(t)
	return b
}

// serve opens a plain and a TLS listener for the same handler.
func (b *Balancer) serve(t testing.TB) {
	t.Helper()
	cert, ca, err := localCertificate()
	if err != nil {
		t.Fatalf("testkit: certificate of the balancer: %v", err)
	}
	b.CA = ca
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport:     b.transport(),
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.Header().Set(NoAnswer, err.Error())
			w.WriteHeader(http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	for _, secure := range []bool{false, true} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("testkit: balancer: %v", err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		server := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0)}
		if secure {
			b.Host = "localhost:" + port
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		} else {
			b.URL = "http://127.0.0.1:" + port
		}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { _ = server.Close() })
	}
}

// Hold takes a replica out of service, as an operator does before stopping it: it gets no new requests, and those that it
// has are waited for. Release gives it back; it is used when it is ready.
func (b *Balancer) Hold(replica int) {
	b.hold(replica, true)
	for busy := true; busy; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		busy = b.flying[replica] > 0
		b.mu.Unlock()
	}
}

// Release ends a Hold.
func (b *Balancer) Release(replica int) {
	b.ask(replica)
	b.hold(replica, false)
}

func (b *Balancer) hold(replica int, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[replica] = held
}

// ask asks a replica whether it is ready.
func (b *Balancer) ask(i int) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 3 * time.Second}
	resp, err := client.Get(b.replicas[i].String() + "/readyz")
	ready := err == nil && resp.StatusCode == http.StatusOK
	if err == nil {
		_ = resp.Body.Close()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready[i] = ready
}

// pick chooses the replica for a request to path: the next one after that of the last request for the repository.
func (b *Balancer) pick(path string) int {
	repository := path
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if name, _, found := strings.Cut(path, kind); found {
			repository = name
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	usable := func(i int) bool { return b.ready[i] && !b.held[i] }
	if !slices.ContainsFunc(indexes(len(b.replicas)), usable) {
		usable = func(i int) bool { return !b.held[i] }
	}
	next := b.last[repository]
	for range b.replicas {
		if next = (next + 1) % len(b.replicas); usable(next) {
			break
		}
	}
	b.last[repository] = next
	b.flying[next]++
	return next
}

// landed ends what pick began.
func (b *Balancer) landed(replica int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flying[replica]--
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// transport sends a request to a replica, and tells the watcher.
func (b *Balancer) transport() http.RoundTripper {
	wire := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		i := b.pick(r.URL.Path)
		r.URL.Scheme, r.URL.Host = b.replicas[i].Scheme, b.replicas[i].Host
		x := Exchange{Replica: i, Method: r.Method, Path: r.URL.Path, Began: time.Now()}
		resp, err := wire.RoundTrip(r)
		x.Ended, x.Err, x.GaveUp = time.Now(), err, err != nil && errors.Is(r.Context().Err(), context.Canceled)
		body := &passing{done: sync.OnceFunc(func() { b.landed(i) })}
		if err != nil {
			body.done()
		} else {
			x.Status = resp.StatusCode
			body.Reader, body.inner = resp.Body, resp.Body
			if x.Status >= http.StatusInternalServerError {
				head, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
				x.Body = string(head)
				body.Reader = io.MultiReader(bytes.NewReader(head), resp.Body)
			}
			resp.Body = body
		}
		if b.watch != nil {
			b.watch(x)
		}
		return resp, err
	})
}

// passing is the body of an answer on its way; done is called when it is over.
type passing struct {
	io.Reader
	inner io.Closer
	done  func()
}

func (p *passing) Close() error {
	defer p.done()
	return p.inner.Close()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// localCertificate is for localhost and 127.0.0.1, and its own authority.
func localCertificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "balancer of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
