package httpd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// TLSOptions says how TLS is spoken, whatever the certificate. Names and values are those of distribution's http.tls.
type TLSOptions struct {
	MinVersion   string   // tls1.2 or tls1.3; "" is tls1.2
	CipherSuites []string // by IANA name, for TLS 1.2; empty is Go's choice
	ClientCAs    []string // PEM files of CAs whose client certificates are accepted
	ClientAuth   string   // verify-client-cert-if-given (the default with ClientCAs) or require-and-verify-client-cert
	HTTP2        bool     // offer h2
	// Identities are further authorities, as they are now, whose client certificates are asked for. Without ClientCAs they are
	// taken as they come: whoever makes an identity of one verifies it. nil: none.
	Identities func() []*x509.Certificate
}

// config makes the part of the TLS configuration that does not depend on the certificate.
func (o TLSOptions) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if o.HTTP2 {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	switch strings.ToLower(o.MinVersion) {
	case "", "tls1.2":
	case "tls1.3":
		c.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("http.tls.minimumtls %q is not offered; use tls1.2 or tls1.3", o.MinVersion)
	}
	for _, name := range o.CipherSuites {
		id, err := cipherSuite(name)
		if err != nil {
			return nil, err
		}
		c.CipherSuites = append(c.CipherSuites, id)
	}
	if o.HTTP2 && len(c.CipherSuites) > 0 && c.MinVersion < tls.VersionTLS13 &&
		!slices.Contains(c.CipherSuites, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) && !slices.Contains(c.CipherSuites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) {
		// RFC 9113 9.2.2: without it a client may not speak HTTP/2, and net/http does not start.
		return nil, errors.New("http.tls.ciphersuites: HTTP/2 needs TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; add it or set http.http2.disabled: true")
	}
	return c, o.clients(c)
}

func (o TLSOptions) clients(c *tls.Config) error {
	switch o.ClientAuth {
	case "":
		if len(o.ClientCAs) > 0 {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	case "verify-client-cert-if-given":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "require-and-verify-client-cert":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		// distribution's two others accept certificates that nobody vouches for; no right could follow from them.
		return fmt.Errorf("http.tls.clientauth %q is not offered; use verify-client-cert-if-given or require-and-verify-client-cert", o.ClientAuth)
	}
	if c.ClientAuth != tls.NoClientCert && len(o.ClientCAs) == 0 {
		return fmt.Errorf("http.tls.clientauth %q needs http.tls.clientcas: the files of the CAs to verify with", o.ClientAuth)
	}
	if o.Identities != nil {
		defer o.ask(c)
	}
	for _, file := range o.ClientCAs {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("http.tls.clientcas: %w", err)
		}
		if c.ClientCAs == nil {
			c.ClientCAs = x509.NewCertPool()
		}
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("http.tls.clientcas: %s holds no PEM certificate", file)
		}
	}
	return nil
}

// ask makes the listener ask for client certificates of the identities' authorities, besides those of ClientCAs. Clients
// choose by the names of the authorities, so each connection is told those of now.
func (o TLSOptions) ask(c *tls.Config) {
	if c.ClientAuth == tls.NoClientCert {
		c.ClientAuth = tls.RequestClientCert
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		own := c.Clone()
		own.GetConfigForClient = nil
		if own.ClientCAs = x509.NewCertPool(); c.ClientCAs != nil {
			own.ClientCAs = c.ClientCAs.Clone()
		}
		for _, authority := range o.Identities() {
			own.ClientCAs.AddCert(authority)
		}
		return own, nil
	}
}

func cipherSuite(name string) (uint16, error) {
	for _, s := range tls.CipherSuites() {
		if strings.EqualFold(s.Name, name) {
			if !slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
				return 0, fmt.Errorf("http.tls.ciphersuites: %s belongs to TLS 1.3, whose suites are always on; leave it out", name)
			}
			return s.ID, nil
		}
	}
	for _, s := range tls.InsecureCipherSuites() {
		if strings.EqualFold(s.Name, name) {
			return 0, fmt.Errorf("http.tls.ciphersuites: %s is broken and not offered; leave it out", name)
		}
	}
	var known []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			known = append(known, s.Name)
		}
	}
	return 0, fmt.Errorf("http.tls.ciphersuites: %q is unknown; use some of %s", name, strings.Join(known, ", "))
}
