package remote_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berth-registry/berth/image/remote"
)

// Blobs go side by side over connections of their own, also to a server that offers HTTP/2, and the second connection to a host takes up
// the first one's session.
func TestTransport(t *testing.T) {
	var resumed []bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.TLS.DidResume)
		_, _ = io.WriteString(w, r.Proto)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	transport := remote.NewTransport(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "HTTP/1.1" {
			t.Errorf("%q, %v", body, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	}
	if len(resumed) != 2 || resumed[0] || !resumed[1] {
		t.Errorf("sessions taken up: %v", resumed)
	}
}

// Who named a place where nobody listens is told at once, unless tries were asked for; a registry that answered before is waited for.
func TestNobodyListens(t *testing.T) {
	for _, c := range []struct {
		name     string
		tries    int
		answered bool
		pauses   int
	}{{"never answered", 0, false, 0}, {"never answered, tries given", 3, false, 2}, {"went away", 0, true, 4}} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"tags":["a"]}`) }))
			defer s.Close()
			pauses := 0
			transport := remote.NewTransport(nil)
			r := app(t, client(remote.Options{Tries: c.tries, Transport: transport, Sleep: func(context.Context, time.Duration) error {
				pauses++
				return nil
			}}), s.Listener.Addr().String())
			if c.answered {
				if _, err := r.Tags(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			transport.CloseIdleConnections()
			s.Close()
			if _, err := r.Tags(t.Context()); err == nil || pauses != c.pauses {
				t.Errorf("%d pauses, want %d: %v", pauses, c.pauses, err)
			}
		})
	}
}

// A login that the token server refuses, or does not know, is tried once: a registry that counts failures would lock its user out.
func TestRefusedLoginOnce(t *testing.T) {
	for status, want := range map[int]int{http.StatusUnauthorized: 1, http.StatusForbidden: 1, http.StatusNotFound: 1, http.StatusBadGateway: 5} {
		asked := 0
		var reg *hostile
		reg = serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				asked++
				w.WriteHeader(status)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+reg.host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		if _, err := app(t, client(remote.Options{}), reg.host).Tags(t.Context()); err == nil || asked != want {
			t.Errorf("%d: asked %d times, want %d: %v", status, asked, want, err)
		}
	}
}
