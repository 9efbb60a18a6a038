package httpd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/httpd"
)

// clock is a time that the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func openSelfMade(t *testing.T, dir string, c *clock, hosts ...string) *httpd.Certificates {
	t.Helper()
	certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: dir, Hosts: hosts, Log: discard(), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func TestSelfMadeCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	c := &clock{time.Now()}
	certs := openSelfMade(t, dir, c, "Registry.Example.com:5000", "https://[2001:db8::1]:5000", "0.0.0.0")
	leaf := certs.Leaf()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certs.CA()) {
		t.Fatal("CA is no PEM")
	}
	names := []string{"localhost", "127.0.0.1", "::1", "registry.example.com", "2001:db8::1"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, name := range names {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("not valid for %s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "0.0.0.0"}); err == nil {
		t.Error("valid for 0.0.0.0")
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 397*24*time.Hour {
		t.Errorf("lives %s, more than 397 days", life)
	}
	if !regexp.MustCompile(`^([0-9A-F]{2}:){31}[0-9A-F]{2}$`).MatchString(certs.Fingerprint()) {
		t.Errorf("fingerprint %q", certs.Fingerprint())
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, %v; want the two pairs", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s, want 0600", f.Name(), info.Mode())
		}
	}

	again := openSelfMade(t, dir, c, "registry.example.com")
	if !again.Leaf().Equal(leaf) || again.Fingerprint() != certs.Fingerprint() {
		t.Error("a second start made new certificates without a reason")
	}
	renamed := openSelfMade(t, dir, c, "other.example.com")
	if renamed.Leaf().Equal(leaf) || renamed.Fingerprint() != certs.Fingerprint() {
		t.Error("a new name must make a new certificate and keep the CA")
	}
	if err := renamed.Leaf().VerifyHostname("other.example.com"); err != nil {
		t.Error(err)
	}
}

func TestSelfMadeRenewal(t *testing.T) {
	dir := t.TempDir()
	c := &clock{time.Now()}
	certs := openSelfMade(t, dir, c)
	first, ca := certs.Leaf(), certs.Fingerprint()
	c.t = first.NotAfter.Add(-31 * 24 * time.Hour)
	if err := certs.Reload(); err != nil || !certs.Leaf().Equal(first) {
		t.Fatalf("renewed 31 days ahead (%v)", err)
	}
	c.t = first.NotAfter.Add(-29 * 24 * time.Hour)
	if err := certs.Reload(); err != nil || certs.Leaf().Equal(first) || certs.Fingerprint() != ca {
		t.Fatalf("not renewed 29 days ahead, or with another CA (%v)", err)
	}
}

func TestSelfMadeSurvivesTornFiles(t *testing.T) {
	c := &clock{time.Now()}
	for name, c2 := range map[string]struct {
		tear func(dir string)
		ok   bool
		same bool // the CA is the same afterwards
	}{
		"leaf of another key": {func(dir string) { _ = os.WriteFile(filepath.Join(dir, "server.crt"), []byte("x"), 0o600) }, true, true},
		"no leaf":             {func(dir string) { _ = os.Remove(filepath.Join(dir, "server.key")) }, true, true},
		"no CA certificate":   {func(dir string) { _ = os.Remove(filepath.Join(dir, "ca.crt")) }, true, false},
		"no CA key, leaf ok":  {func(dir string) { _ = os.Remove(filepath.Join(dir, "ca.key")) }, true, true},
		"no CA key, no leaf": {func(dir string) {
			_ = os.Remove(filepath.Join(dir, "ca.key"))
			_ = os.Remove(filepath.Join(dir, "server.crt"))
		}, false, true},
		"rubbish CA": {func(dir string) { _ = os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := openSelfMade(t, dir, c).Fingerprint()
			c2.tear(dir)
			certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: dir, Log: discard(), Now: c.now})
			if (err == nil) != c2.ok {
				t.Fatalf("start gave %v", err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), "berthd cert new") {
					t.Errorf("message does not say what to do: %v", err)
				}
				return
			}
			if (certs.Fingerprint() == before) != c2.same {
				t.Error("CA kept or replaced against expectation")
			}
		})
	}
}

func TestCertCommands(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	if _, err := httpd.RenewSelfMade(dir, nil, now); err == nil {
		t.Error("renewed without a CA")
	}
	made, err := httpd.NewSelfMade(dir, []string{"reg.example.com"}, now)
	if err != nil || len(made) != 2 || !made[0].CA || !slices.Contains(made[1].Names, "reg.example.com") {
		t.Fatalf("%+v, %v", made, err)
	}
	renewed, err := httpd.RenewSelfMade(dir, []string{"reg.example.com"}, now)
	if err != nil || renewed[0].Fingerprint != made[0].Fingerprint || renewed[1].Fingerprint == made[1].Fingerprint {
		t.Fatalf("%+v, %v", renewed, err)
	}
	replaced, err := httpd.NewSelfMade(dir, nil, now)
	if err != nil || replaced[0].Fingerprint == made[0].Fingerprint {
		t.Fatalf("%+v, %v", replaced, err)
	}
}

// ownPair writes a certificate of its own signature.
func ownPair(t *testing.T, dir string, names []string, until time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "reg.example.com"}, DNSNames: names,
		NotBefore: until.Add(-400 * 24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestOwnCertificate(t *testing.T) {
	now := time.Now()
	open := func(cert, key string) (*httpd.Certificates, error) {
		return httpd.OpenCertificates(httpd.CertOptions{CertFile: cert, KeyFile: key, Log: discard(), Now: time.Now})
	}
	cert, key := ownPair(t, t.TempDir(), []string{"reg.example.com"}, now.Add(90*24*time.Hour))
	certs, err := open(cert, key)
	if err != nil || certs.CA() != nil || certs.Source() != httpd.SourceFiles {
		t.Fatalf("a good pair: %v", err)
	}
	first := certs.Leaf()

	// A reload takes a new pair and refuses a broken one without losing the old.
	dir := filepath.Dir(cert)
	ownPair(t, dir, []string{"reg.example.com"}, now.Add(91*24*time.Hour))
	if err := certs.Reload(); err != nil || certs.Leaf().Equal(first) {
		t.Fatalf("a new pair was not taken: %v", err)
	}
	second := certs.Leaf()
	if err := os.WriteFile(cert, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certs.Reload(); err == nil || !certs.Leaf().Equal(second) {
		t.Fatalf("a broken pair: %v", err)
	}

	cn, cnKey := ownPair(t, t.TempDir(), nil, now.Add(90*24*time.Hour))
	if _, err := open(cn, cnKey); err == nil || !strings.Contains(err.Error(), "subjectAltName=DNS:reg.example.com") {
		t.Errorf("common name only: %v", err)
	}
	_, foreign := ownPair(t, t.TempDir(), []string{"x.example.com"}, now.Add(time.Hour))
	if _, err := open(cn, foreign); err == nil || !strings.Contains(err.Error(), "cannot be used together") {
		t.Errorf("foreign key: %v", err)
	}
	if _, err := open(cn, ""); err == nil {
		t.Error("a certificate without a key was accepted")
	}
	old, oldKey := ownPair(t, t.TempDir(), []string{"reg.example.com"}, now.Add(-time.Hour))
	if _, warning, err := httpd.ShowFiles(old, oldKey, now); err != nil || !strings.Contains(warning, "expired") {
		t.Errorf("expired: warning %q, %v", warning, err)
	}
}

func TestTLSOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    httpd.TLSOptions
		want string // part of the error; "" is none
	}{
		"defaults":        {httpd.TLSOptions{HTTP2: true}, ""},
		"tls 1.3":         {httpd.TLSOptions{MinVersion: "tls1.3"}, ""},
		"tls 1.0":         {httpd.TLSOptions{MinVersion: "tls1.0"}, "use tls1.2 or tls1.3"},
		"a suite":         {httpd.TLSOptions{CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}, HTTP2: true}, ""},
		"h2 without":      {httpd.TLSOptions{CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, HTTP2: true}, "HTTP/2 needs"},
		"broken suite":    {httpd.TLSOptions{CipherSuites: []string{"TLS_RSA_WITH_RC4_128_SHA"}}, "broken"},
		"unknown suite":   {httpd.TLSOptions{CipherSuites: []string{"TLS_X"}}, "unknown"},
		"1.3 suite":       {httpd.TLSOptions{CipherSuites: []string{"TLS_AES_128_GCM_SHA256"}}, "always on"},
		"auth without ca": {httpd.TLSOptions{ClientAuth: "require-and-verify-client-cert"}, "clientcas"},
		"unverified auth": {httpd.TLSOptions{ClientAuth: "request-client-cert"}, "not offered"},
		"no such ca":      {httpd.TLSOptions{ClientCAs: []string{"no-such-file"}}, "clientcas"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := httpd.OpenCertificates(httpd.CertOptions{Dir: t.TempDir(), TLS: c.o, Log: discard(), Now: time.Now})
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	ca, caKey := ownPair(t, dir, []string{"alice"}, time.Now().Add(time.Hour))
	client, err := tls.LoadX509KeyPair(ca, caKey)
	if err != nil {
		t.Fatal(err)
	}
	strange := t.TempDir()
	sc, sk := ownPair(t, strange, []string{"mallory"}, time.Now().Add(time.Hour))
	stranger, err := tls.LoadX509KeyPair(sc, sk)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.VerifiedChains) > 0 {
			_, _ = w.Write([]byte(r.TLS.PeerCertificates[0].DNSNames[0]))
		}
	}), func(o *httpd.Options) {
		certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: t.TempDir(), TLS: httpd.TLSOptions{HTTP2: true, ClientCAs: []string{ca}}, Log: o.Log, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		o.Certs = certs
	})
	get := func(certs ...tls.Certificate) (string, error) {
		c := s.secure(false)
		transport := c.Transport.(*http.Transport)
		if len(certs) > 0 { // sent whatever the server says it accepts
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
		}
		res, err := c.Get("https://" + s.addr + "/")
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b := make([]byte, 64)
		n, _ := res.Body.Read(b)
		return string(b[:n]), nil
	}
	if got, err := get(); err != nil || got != "" {
		t.Errorf("without a certificate: %q, %v", got, err)
	}
	if got, err := get(client); err != nil || got != "alice" {
		t.Errorf("with a certificate of the CA: %q, %v", got, err)
	}
	if _, err := get(stranger); err == nil {
		t.Error("a certificate of nobody's CA was accepted")
	}
}
