package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Bundle reads certificates in PEM form, as distribution's auth.token.rootcertbundle has them. A token is accepted that
// names the key of one of them, or brings a chain (x5c) that ends in one of them. more are further keys; nil for none.
//
// Token servers name keys in two ways, both of which are known: libtrust's fingerprint (docker_auth, GitLab) and the
// thumbprint of RFC 7638 (CNCF distribution 3).
func Bundle(text []byte, more *Static, now func() time.Time) (*Static, error) {
	if now == nil {
		now = time.Now
	}
	s := &Static{chain: &bundle{roots: x509.NewCertPool(), now: now}}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("bundle of token certificates: %w", err)
		}
		if err := usable(cert.PublicKey); err != nil {
			return nil, fmt.Errorf("certificate %s of the bundle: %w", cert.Subject, err)
		}
		s.chain.roots.AddCert(cert)
		for _, id := range []string{fingerprint(cert), thumbprint(cert.PublicKey)} {
			s.keys = append(s.keys, key{id: id, public: cert.PublicKey})
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("bundle of token certificates has no certificate in PEM form")
	}
	if more != nil {
		s.keys = append(s.keys, more.keys...)
	}
	return s, nil
}

// bundle is the certificates that chains in tokens must end in.
type bundle struct {
	roots *x509.CertPool
	now   func() time.Time
}

// key verifies a chain and gives its leaf's key.
//
// Spec: RFC 7515 section 4.1.6.
func (b *bundle) key(x5c any) ([]key, error) {
	list, ok := x5c.([]any)
	if !ok || len(list) == 0 || len(list) > 8 {
		return nil, errors.New("issuer: x5c is no list of certificates, or too long")
	}
	others := x509.NewCertPool()
	var leaf *x509.Certificate
	for i, item := range list {
		text, _ := item.(string)
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("issuer: x5c: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("issuer: x5c: %w", err)
		}
		if i == 0 {
			leaf = cert
		} else {
			others.AddCert(cert)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: b.roots, Intermediates: others, CurrentTime: b.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return nil, fmt.Errorf("issuer: x5c: %w", err)
	}
	if err := usable(leaf.PublicKey); err != nil {
		return nil, fmt.Errorf("issuer: x5c: %w", err)
	}
	return []key{{public: leaf.PublicKey}}, nil
}

// fingerprint is libtrust's name of a key: 240 bits of the SHA-256 of its SubjectPublicKeyInfo, base32, in groups of four.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:30])
	var groups []string
	for i := 0; i < len(text); i += 4 {
		groups = append(groups, text[i:i+4])
	}
	return strings.Join(groups, ":")
}

// thumbprint is RFC 7638's name of a key.
func thumbprint(public crypto.PublicKey) string {
	b64 := base64.RawURLEncoding.EncodeToString
	var text string
	switch p := public.(type) {
	case *rsa.PublicKey:
		text = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, b64(big.NewInt(int64(p.E)).Bytes()), b64(p.N.Bytes()))
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			return ""
		}
		size := (len(point) - 1) / 2
		text = fmt.Sprintf(`{"crv":"%s","kty":"EC","x":"%s","y":"%s"}`, p.Curve.Params().Name, b64(point[1:1+size]), b64(point[1+size:]))
	case ed25519.PublicKey:
		text = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, b64(p))
	}
	sum := sha256.Sum256([]byte(text))
	return b64(sum[:])
}
