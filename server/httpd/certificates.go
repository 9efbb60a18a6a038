package httpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// CertOptions says where the server's certificate comes from: own files, else ACME, else self-made.
type CertOptions struct {
	Dir      string       // <data>/tls: the self-made CA and certificate
	Hosts    []string     // names and addresses that clients use, besides localhost and the machine's name
	CertFile string       // own certificate chain, PEM
	KeyFile  string       // own key, PEM
	ACME     *ACMEOptions // nil: no ACME
	// Given is asked for the certificate on every handshake: something else gives and renews it. It stands before the others.
	Given func() (*tls.Certificate, error)
	TLS   TLSOptions
	Log   *slog.Logger
	Now   func() time.Time
}

// Sources of the certificate that Source names.
const (
	SourceSelfMade = "self-made"
	SourceFiles    = "files"
	SourceACME     = "acme"
	SourceGiven    = "given"
)

// Certificates holds the certificate that connections get and keeps it fresh. A reload never disturbs open
// connections and never leaves the server without a certificate.
type Certificates struct {
	options CertOptions
	config  *tls.Config
	source  string
	acme    *acmeSource // nil without ACME

	mu     sync.Mutex // one reload at a time
	ca     atomic.Pointer[authority]
	leaf   atomic.Pointer[tls.Certificate]
	stamps [2]time.Time // modification times of own files, guarded by mu
	warned atomic.Int64 // Unix time of the last line about a failed ACME order
}

// OpenCertificates loads or makes what the options ask for. It writes only below Dir (and ACME's cache).
func OpenCertificates(o CertOptions) (*Certificates, error) {
	c := &Certificates{options: o}
	config, err := o.TLS.config()
	if err != nil {
		return nil, err
	}
	c.config = config
	switch {
	case o.Given != nil:
		c.source = SourceGiven
	case o.CertFile != "" || o.KeyFile != "":
		c.source = SourceFiles
	case o.ACME != nil:
		c.source = SourceACME
		if c.acme, err = newACME(*o.ACME); err != nil {
			return nil, err
		}
		config.NextProtos = append(config.NextProtos, acmeProtocol)
	default:
		c.source = SourceSelfMade
	}
	config.GetCertificate = c.certificate
	return c, c.Reload()
}

// Config is the TLS configuration of the listener. It must not be changed.
func (c *Certificates) Config() *tls.Config { return c.config }

// Source names where the certificate comes from.
func (c *Certificates) Source() string { return c.source }

// CA is the self-made CA's certificate in PEM, for GET /ca.crt; nil when the certificate is not self-made.
func (c *Certificates) CA() []byte {
	if ca := c.ca.Load(); ca != nil && c.source == SourceSelfMade {
		return ca.pem
	}
	return nil
}

// Fingerprint is the SHA-256 of the self-made CA, or of the server's own certificate, or "" with ACME.
func (c *Certificates) Fingerprint() string {
	switch c.source {
	case SourceSelfMade:
		return Fingerprint(c.ca.Load().cert.Raw)
	case SourceFiles, SourceGiven:
		return Fingerprint(c.leaf.Load().Leaf.Raw)
	}
	return ""
}

// Leaf is the certificate in use; with ACME it is the self-made one that loopback gets.
func (c *Certificates) Leaf() *x509.Certificate { return c.leaf.Load().Leaf }

// Reload reads the files again (own certificate) or renews when it is time (self-made). On an error the old certificate
// stays in use.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.options.Now()
	if c.source == SourceGiven {
		pair, err := c.options.Given()
		if err != nil {
			return err
		}
		c.leaf.Store(pair)
		return nil
	}
	if c.source == SourceFiles {
		stamps := c.stat()
		pair, warning, err := ownCertificate(c.options.CertFile, c.options.KeyFile, now)
		if err != nil {
			return err
		}
		if warning != "" {
			c.options.Log.Warn(warning, "file", c.options.CertFile)
		}
		c.leaf.Store(pair)
		c.stamps = stamps
		return nil
	}
	ca, leaf, fresh, err := selfMade(c.options.Dir, wantedNames(c.options.Hosts), now)
	if err != nil {
		return err
	}
	if fresh {
		c.options.Log.Debug("certificate made", "names", certNames(leaf.Leaf), "until", leaf.Leaf.NotAfter)
	}
	if now.Add(renewAhead).After(ca.cert.NotAfter) {
		c.options.Log.Warn("the self-made CA ends soon; make a new one with: berthd cert new, and let clients trust it", "until", ca.cert.NotAfter)
	}
	c.ca.Store(ca)
	c.leaf.Store(leaf)
	return nil
}

// Run renews the self-made certificate and notices changed files, until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !c.due() {
				continue
			}
			if err := c.Reload(); err != nil {
				c.options.Log.Error("certificate not reloaded; the old one stays in use", "error", err)
			} else {
				c.options.Log.Info("certificate reloaded", "until", c.Leaf().NotAfter)
			}
		}
	}
}

// due reports whether a reload would change something.
func (c *Certificates) due() bool {
	if c.source == SourceGiven {
		pair, err := c.options.Given()
		return err == nil && !pair.Leaf.Equal(c.Leaf())
	}
	if c.source == SourceFiles {
		c.mu.Lock()
		defer c.mu.Unlock()
		stamps := c.stat()
		return stamps != c.stamps && !stamps[0].IsZero() && !stamps[1].IsZero()
	}
	return c.options.Now().Add(renewAhead).After(c.Leaf().NotAfter)
}

func (c *Certificates) stat() (stamps [2]time.Time) {
	for i, file := range []string{c.options.CertFile, c.options.KeyFile} {
		if info, err := os.Stat(file); err == nil {
			stamps[i] = info.ModTime()
		}
	}
	return stamps
}

// ChallengeHandler answers ACME's HTTP-01 and leaves everything else to next.
func (c *Certificates) ChallengeHandler(next http.Handler) http.Handler {
	if c.acme == nil {
		return next
	}
	return c.acme.challenges(next)
}

// certificate is the listener's GetCertificate.
func (c *Certificates) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.source == SourceGiven {
		return c.options.Given()
	}
	if c.acme == nil || !c.acme.serves(hello.ServerName) {
		return c.leaf.Load(), nil // localhost and addresses get the self-made one
	}
	cert, err := c.acme.manager.GetCertificate(hello)
	if err != nil && !errors.Is(err, context.Canceled) {
		now := c.options.Now().Unix()
		if last := c.warned.Load(); now-last >= 60 && c.warned.CompareAndSwap(last, now) {
			c.options.Log.Error("no certificate from the ACME server", "host", clip(hello.ServerName), "error", err)
		}
	}
	return cert, err
}

// ownCertificate loads a pair of files and refuses what no client would accept.
func ownCertificate(certFile, keyFile string, now time.Time) (pair *tls.Certificate, warning string, err error) {
	if certFile == "" || keyFile == "" {
		return nil, "", fmt.Errorf("http.tls needs both certificate and key; certificate is %q, key is %q", certFile, keyFile)
	}
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, "", fmt.Errorf("http.tls.certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, "", fmt.Errorf("http.tls.key: %w", err)
	}
	loaded, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, "", fmt.Errorf("http.tls: certificate %s and key %s cannot be used together (%w); the key must be the one that the first certificate in the file was made with", certFile, keyFile, err)
	}
	if loaded.Leaf == nil {
		if loaded.Leaf, err = x509.ParseCertificate(loaded.Certificate[0]); err != nil {
			return nil, "", fmt.Errorf("http.tls.certificate %s: %w", certFile, err)
		}
	}
	leaf := loaded.Leaf
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		name := leaf.Subject.CommonName
		if name == "" {
			name = "registry.example.com"
		}
		return nil, "", fmt.Errorf("http.tls.certificate %s names its host only as common name (CN=%s); docker, podman and every other Go client refuse it\n"+
			"make one with a subject alternative name: openssl req -x509 -newkey rsa:2048 -nodes -days 397 -subj \"/CN=%s\" -addext \"subjectAltName=DNS:%s\" -keyout %s -out %s\n"+
			"or leave http.tls out and let berthd make and renew one: berthd cert new --host %s", certFile, leaf.Subject.CommonName, name, name, keyFile, certFile, name)
	}
	switch {
	case now.After(leaf.NotAfter):
		warning = "the certificate has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly) + "; clients will refuse it"
	case now.Before(leaf.NotBefore):
		warning = "the certificate is not valid before " + leaf.NotBefore.UTC().Format(time.DateTime) + " UTC; clients will refuse it; check the clock"
	case now.Add(14 * 24 * time.Hour).After(leaf.NotAfter):
		warning = "the certificate expires on " + leaf.NotAfter.UTC().Format(time.DateOnly)
	}
	return &loaded, warning, nil
}
