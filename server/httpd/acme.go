package httpd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// acmeProtocol is the ALPN name of TLS-ALPN-01 (RFC 8737).
const acmeProtocol = acme.ALPNProto

// ACMEOptions says whom to ask for certificates.
type ACMEOptions struct {
	Email     string   // contact for the account; may be ""
	Hosts     []string // the names to get certificates for; never anything else
	Directory string   // URL; "" is Let's Encrypt
	CacheDir  string   // account key and certificates
	CAFile    string   // PEM of the CA that the ACME server's own certificate comes from; "" is the system's
}

type acmeSource struct {
	manager *autocert.Manager
	hosts   map[string]bool
}

func newACME(o ACMEOptions) (*acmeSource, error) {
	s := &acmeSource{hosts: map[string]bool{}}
	var names []string
	for _, host := range o.Hosts {
		name := bareHost(host)
		if !strings.Contains(name, ".") || strings.HasPrefix(name, "*.") || isAddress(name) {
			return nil, fmt.Errorf("ACME needs public host names; %q is none (no addresses, no wildcards); use --host registry.example.com", host)
		}
		s.hosts[name] = true
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, errors.New("ACME needs a host name; use --host registry.example.com")
	}
	client := &acme.Client{DirectoryURL: o.Directory, UserAgent: "berthd"}
	if o.Directory == "" {
		client.DirectoryURL = acme.LetsEncryptURL
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ACME CA file: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ACME CA file %s holds no PEM certificate", o.CAFile)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		client.HTTPClient = &http.Client{Transport: transport, Timeout: time.Minute}
	}
	s.manager = &autocert.Manager{
		Prompt:      autocert.AcceptTOS,
		Cache:       autocert.DirCache(o.CacheDir),
		HostPolicy:  autocert.HostWhitelist(names...),
		RenewBefore: renewAhead,
		Client:      client,
		Email:       o.Email,
	}
	return s, nil
}

// serves reports whether ACME answers for the name.
func (s *acmeSource) serves(name string) bool {
	return s.hosts[strings.ToLower(strings.TrimSuffix(name, "."))]
}

// challenges answers HTTP-01 on the plain half of the port. autocert compares the Host with the names as they are, so a
// port (80 mapped to ours with the Host kept) has to go.
func (s *acmeSource) challenges(next http.Handler) http.Handler {
	answer := s.manager.HTTPHandler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil || !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
			next.ServeHTTP(w, r)
			return
		}
		named := *r
		named.Host = bareHost(r.Host)
		answer.ServeHTTP(w, &named)
	})
}

func isAddress(name string) bool {
	_, err := parseHop(name)
	return err == nil
}
