package httpd

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/durable"
)

// The self-made CA and the certificate that it signs. The CA lives for ten years, because people install it; the
// server's certificate for 397 days, because Apple's clients refuse more, and it is renewed 30 days before its end.
const (
	caLife     = 10 * 365 * 24 * time.Hour
	leafLife   = 397 * 24 * time.Hour
	renewAhead = 30 * 24 * time.Hour
	clockSlack = time.Hour // clients' clocks may be behind ours
)

// Files of the self-made certificates, below <data>/tls, all 0600.
const (
	caCertFile   = "ca.crt"
	caKeyFile    = "ca.key"
	leafCertFile = "server.crt"
	leafKeyFile  = "server.key"
)

// authority is the self-made CA. key is nil when its file is gone: what is signed stays valid, nothing new is signed.
type authority struct {
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
}

// selfMade loads the CA and the server's certificate from dir and makes what is missing, about to expire, or does not
// carry every wanted name. fresh reports whether a certificate was made.
func selfMade(dir string, names []string, now time.Time) (ca *authority, leaf *tls.Certificate, fresh bool, err error) {
	ca, err = loadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		ca, err = firstAuthority(dir, now)
	}
	if err != nil {
		return nil, nil, false, err
	}
	leaf, err = loadLeaf(dir)
	if err == nil && leafServes(leaf.Leaf, ca, names, now) {
		return ca, leaf, false, nil
	}
	// A torn or foreign pair is replaced: it is ours, and the CA vouches for the next one.
	leaf, err = makeLeaf(dir, ca, names, now)
	return ca, leaf, true, err
}

func leafServes(leaf *x509.Certificate, ca *authority, names []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(ca.cert) != nil || now.Add(renewAhead).After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return false
	}
	have := certNames(leaf)
	for _, name := range names {
		if !slices.Contains(have, name) {
			return false
		}
	}
	return true
}

func loadAuthority(dir string) (*authority, error) {
	text, err := os.ReadFile(filepath.Join(dir, caCertFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM certificate; make a new CA: berthd cert new", filepath.Join(dir, caCertFile))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read (%w); make a new CA: berthd cert new", filepath.Join(dir, caCertFile), err)
	}
	ca := &authority{cert: cert, pem: pem.EncodeToMemory(block)}
	text, err = os.ReadFile(filepath.Join(dir, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return ca, nil
	}
	if err != nil {
		return nil, err
	}
	if block, _ = pem.Decode(text); block == nil {
		return nil, fmt.Errorf("%s holds no PEM key; make a new CA: berthd cert new", filepath.Join(dir, caKeyFile))
	}
	ca.key, err = x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read (%w); make a new CA: berthd cert new", filepath.Join(dir, caKeyFile), err)
	}
	if !ca.key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to %s; restore the pair or make a new CA: berthd cert new", caKeyFile, filepath.Join(dir, caCertFile))
	}
	return ca, nil
}

// offerDir holds the first CA between the moment that one was agreed on and the moment that its files are in place.
const (
	offerDir  = "first-ca"
	offerFile = "pair.pem"
)

// firstAuthority makes the CA of a directory that several replicas may start in together: two that made one each would show
// clients different ones, and leave the key of one with the certificate of the other.
//
// Each replica makes a pair and offers it by renaming a directory, which only one of them can do, also on NFS. All of them
// then put the offered pair in place, so it does not matter which one dies, and nobody waits. The offer goes when the
// certificate is in place; a replica so slow that its own offer comes after that sees the certificate, and takes it.
func firstAuthority(dir string, now time.Time) (*authority, error) {
	ca, err := newAuthority(now)
	if err != nil {
		return nil, err
	}
	key, err := keyPEM(ca.key)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	mine, err := os.MkdirTemp(dir, offerDir+"-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(mine) }()
	if err := durable.WriteFile(filepath.Join(mine, offerFile), append(key, ca.pem...), 0o600); err != nil {
		return nil, err
	}
	offer := filepath.Join(dir, offerDir)
	lost := os.Rename(mine, offer) // fails when another replica's is there: a directory is not put over one that holds something

	// The offer is read before the look at the certificate: an offer that is not the agreed one can only be read when the
	// certificate of the agreed one is in place.
	text, err := os.ReadFile(filepath.Join(offer, offerFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, missing := os.Stat(filepath.Join(dir, caCertFile)); errors.Is(missing, fs.ErrNotExist) {
		if err != nil {
			return nil, fmt.Errorf("%s: no CA could be offered to other replicas: %w", offer, cmp.Or(lost, err))
		}
		keyText, certText := splitPair(text)
		if err := writePair(dir, caKeyFile, caCertFile, keyText, certText); err != nil {
			return nil, err
		}
	}
	// Under a name of its own first: another's offer may take the place while this one is being removed.
	done := mine + "-done"
	defer func() { _ = os.RemoveAll(done) }()
	if err := os.Rename(offer, done); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return loadAuthority(dir)
}

// splitPair takes what was offered apart into the key's block and the rest.
func splitPair(text []byte) (key, cert []byte) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, nil // what loadAuthority then finds, it names
	}
	return pem.EncodeToMemory(block), rest
}

// newAuthority is a CA that is nowhere yet.
func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"berth"}, CommonName: "berth CA " + host + " " + now.UTC().Format("2006-01-02")},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func loadLeaf(dir string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, leafCertFile), filepath.Join(dir, leafKeyFile))
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	return &pair, err
}

func makeLeaf(dir string, ca *authority, names []string, now time.Time) (*tls.Certificate, error) {
	if ca.key == nil {
		return nil, fmt.Errorf("the CA's key %s is missing, so no certificate can be signed; restore it or make a new CA: berthd cert new", filepath.Join(dir, caKeyFile))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"berth"}, CommonName: names[len(names)-1]},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.Add(-clockSlack).Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(template.Subject.CommonName) > 64 { // the field's limit (RFC 5280); names are in the SANs anyway
		template.Subject.CommonName = "berth"
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// No CA behind the leaf: clients that trust it have it, and others would not gain by it.
	keyText, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := writePair(dir, leafKeyFile, leafCertFile, keyText, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil // RFC 5280 wants it positive
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// writePair writes the key first: a crash in between leaves a key that nobody has seen a certificate of, and the next start
// makes both.
func writePair(dir, keyFile, certFile string, key, cert []byte) error {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, keyFile), key, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, certFile), cert, 0o600)
}

// wantedNames are the names and addresses that the self-made certificate must carry: the loopback ones, the machine's
// own name, and what was configured. Addresses are in their canonical form.
func wantedNames(hosts []string) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil {
		hosts = append([]string{host}, hosts...)
	}
	for _, host := range hosts {
		name := bareHost(host)
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// bareHost takes "https://name:port/path", "name:port", "[::1]:5000" or "name" down to the name or address.
func bareHost(text string) string {
	if strings.Contains(text, "://") {
		if u, err := url.Parse(text); err == nil {
			text = u.Host
		}
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	text = strings.ToLower(strings.Trim(text, "[]"))
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.IsUnspecified() {
			return "" // 0.0.0.0 is where we listen, not where anyone finds us
		}
		return addr.Unmap().WithZone("").String()
	}
	if !validHost(strings.TrimPrefix(text, "*.")) || strings.Contains(text, ":") {
		return ""
	}
	return text
}

// certNames are the DNS names and addresses of a certificate.
func certNames(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, addr.Unmap().String())
		}
	}
	return names
}

// Fingerprint is the SHA-256 of a certificate in the form that openssl and browsers show: 4F:1C:….
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, 3*len(sum))
	for i, b := range sum {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}
