package httpd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// CertInfo describes one certificate to people, for `berthd cert`.
type CertInfo struct {
	File        string    `json:"file"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names,omitempty"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"sha256"`
	CA          bool      `json:"ca"`
}

func infoOf(file string, c *x509.Certificate) CertInfo {
	return CertInfo{File: file, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: certNames(c),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Fingerprint: Fingerprint(c.Raw), CA: c.IsCA}
}

// ShowSelfMade describes the CA and the server's certificate below dir, in this order. Nothing there is an error that
// wraps fs.ErrNotExist.
func ShowSelfMade(dir string) ([]CertInfo, error) {
	ca, err := loadAuthority(dir)
	if err != nil {
		return nil, err
	}
	infos := []CertInfo{infoOf(filepath.Join(dir, caCertFile), ca.cert)}
	leaf, err := loadLeaf(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return infos, nil
	}
	if err != nil {
		return infos, fmt.Errorf("%s: %w", filepath.Join(dir, leafCertFile), err)
	}
	return append(infos, infoOf(filepath.Join(dir, leafCertFile), leaf.Leaf)), nil
}

// ShowFiles describes an own certificate and checks it as the server would; the warning is "" when all is well.
func ShowFiles(certFile, keyFile string, now time.Time) (info CertInfo, warning string, err error) {
	pair, warning, err := ownCertificate(certFile, keyFile, now)
	if err != nil {
		return CertInfo{}, "", err
	}
	return infoOf(certFile, pair.Leaf), warning, nil
}

// NewSelfMade makes a new CA and certificate below dir, replacing what is there. Clients have to trust the new CA. A
// running server takes it up at its next reload.
func NewSelfMade(dir string, hosts []string, now time.Time) ([]CertInfo, error) {
	ca, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	key, err := keyPEM(ca.key)
	if err != nil {
		return nil, err
	}
	if err := writePair(dir, caKeyFile, caCertFile, key, ca.pem); err != nil {
		return nil, err
	}
	if _, err := makeLeaf(dir, ca, wantedNames(hosts), now); err != nil {
		return nil, err
	}
	return ShowSelfMade(dir)
}

// RenewSelfMade makes a new server certificate from the CA below dir. Clients notice nothing.
func RenewSelfMade(dir string, hosts []string, now time.Time) ([]CertInfo, error) {
	ca, err := loadAuthority(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist, so there is nothing to renew; make a CA: berthd cert new", filepath.Join(dir, caCertFile))
	}
	if err != nil {
		return nil, err
	}
	if _, err := makeLeaf(dir, ca, wantedNames(hosts), now); err != nil {
		return nil, err
	}
	return ShowSelfMade(dir)
}
