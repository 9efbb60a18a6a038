package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// expirySoon is when a certificate that is not renewed by itself deserves a warning.
const expirySoon = 30 * 24 * time.Hour

// certificate looks at http.tls.certificate and http.tls.key as clients will.
func (c *check) certificate() {
	const certificateKey, keyKey = "http.tls.certificate", "http.tls.key"
	t := c.loaded.Config.HTTP.TLS
	if t.Certificate == "" {
		return
	}
	certificatePEM, keyPEM := c.read(certificateKey, t.Certificate), c.read(keyKey, t.Key)
	if certificatePEM == nil {
		return
	}
	chain, err := parseChain(certificatePEM)
	if err != nil {
		c.fail(certificateKey, "%s: %v", t.Certificate, err)
		return
	}
	if keyPEM != nil {
		if _, err := tls.X509KeyPair(certificatePEM, keyPEM); err != nil {
			c.fail(keyKey, "%s does not fit %s: %v", t.Key, t.Certificate, err)
		}
	}
	c.leaf(certificateKey, t.Certificate, chain[0])
}

func (c *check) leaf(key, file string, leaf *x509.Certificate) {
	now, host := c.Now(), c.loaded.Config.HTTP.Hostname()
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		name := leaf.Subject.CommonName
		if host != "" || name == "" {
			name = host
		}
		if name == "" {
			name = "registry.example.com"
		}
		c.fail(key, "%s has no subjectAltName, only the common name %q, which docker, podman and every other Go client refuse; "+
			"make another one: berthd cert new --host %s, or openssl req … -addext subjectAltName=DNS:%s", file, leaf.Subject.CommonName, name, name)
	} else if host != "" && leaf.VerifyHostname(host) != nil {
		c.warn(key, "%s is for %s, not for http.host %q", file, names(leaf), host)
	}
	switch {
	case now.After(leaf.NotAfter):
		c.fail(key, "%s expired on %s", file, leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		c.fail(key, "%s is not valid before %s; look at the clock of this machine", file, leaf.NotBefore.Format(time.DateTime))
	case leaf.NotAfter.Sub(now) < expirySoon:
		c.warn(key, "%s expires on %s, in %d days", file, leaf.NotAfter.Format(time.DateOnly), int(leaf.NotAfter.Sub(now).Hours()/24))
	}
}

func names(leaf *x509.Certificate) []string {
	all := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

func (c *check) clientCAs() {
	for i, file := range c.loaded.Config.HTTP.TLS.ClientCAs {
		key := fmt.Sprintf("http.tls.clientcas[%d]", i)
		if content := c.read(key, file); content != nil {
			if _, err := parseChain(content); err != nil {
				c.fail(key, "%s: %v", file, err)
			}
		}
	}
}

// parseChain reads the certificates of a PEM file, the leaf first.
func parseChain(content []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is damaged: %w", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("no certificate in it; a PEM file with \"BEGIN CERTIFICATE\" is needed")
	}
	return chain, nil
}
