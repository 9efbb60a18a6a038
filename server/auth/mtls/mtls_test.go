package mtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/mtls"
)

// authority signs certificates and lists.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64 = 100 //nolint:gochecknoglobals // of a test

func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = a
		parent.cert = template
	}
	a.cert = parent.sign(t, template, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial++
	template.SerialNumber = big.NewInt(serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leaf is a client certificate for alice of the team ci.
func (a *authority) leaf(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	u, err := url.Parse("urn:team:ci:alice")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "alice", OrganizationalUnit: []string{"people", "ci"}, Organization: []string{"Example"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
		EmailAddresses: []string{"other@example.org", "alice@example.com"}, DNSNames: []string{"laptop.example.com"}, URIs: []*url.URL{u},
	}
	if change != nil {
		change(template)
	}
	return a.sign(t, template, newKey(t))
}

func (a *authority) list(t *testing.T, next time.Time, revoked ...*x509.Certificate) []byte {
	t.Helper()
	serial++
	l := &x509.RevocationList{Number: big.NewInt(serial), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: next}
	for _, c := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, file string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return file
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func open(t *testing.T, a *authority, o mtls.Options) *mtls.Provider {
	t.Helper()
	if o.CAFiles == nil {
		o.CAFiles = []string{write(t, filepath.Join(t.TempDir(), "ca.pem"), a.pem())}
	}
	if o.Rules == nil {
		o.Rules = []mtls.Rule{{CN: "*", Account: "{cn}"}}
	}
	o.Name = "certs"
	p, err := mtls.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestIdentify(t *testing.T) {
	root := newAuthority(t, "root", nil)
	between := newAuthority(t, "between", root)
	stranger := newAuthority(t, "root", nil) // of the same name
	p := open(t, root, mtls.Options{})
	good := root.leaf(t, nil)
	e, err := p.Identify(t.Context(), []*x509.Certificate{good})
	if err != nil || e.Name != "alice" || e.Provider != "certs" || e.Subject != "account:alice" || e.Groups != nil || e.Admin || !e.ExpiresAt.Equal(good.NotAfter) {
		t.Errorf("statement: %+v, %v", e, err)
	}
	if _, err := p.Identify(t.Context(), []*x509.Certificate{between.leaf(t, nil), between.cert}); err != nil {
		t.Errorf("by an intermediate: %v", err)
	}
	old := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
	}
	early := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	climber := &authority{key: newKey(t)}
	climber.cert = root.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "mallory"}, KeyUsage: x509.KeyUsageDigitalSignature}, climber.key)
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  error
	}{
		"none":                     {nil, auth.ErrNoAccount},
		"of a stranger":            {[]*x509.Certificate{stranger.leaf(t, nil)}, auth.ErrNoAccount},
		"of a stranger, with ours": {[]*x509.Certificate{stranger.leaf(t, nil), root.cert}, auth.ErrNoAccount},
		"of a stranger, expired":   {[]*x509.Certificate{stranger.leaf(t, old)}, auth.ErrNoAccount},
		"intermediate missing":     {[]*x509.Certificate{between.leaf(t, nil)}, auth.ErrNoAccount},
		"signed by a leaf":         {[]*x509.Certificate{climber.leaf(t, nil), climber.cert}, auth.ErrNoAccount},
		"expired":                  {[]*x509.Certificate{root.leaf(t, old)}, auth.ErrRefused},
		"not yet valid":            {[]*x509.Certificate{root.leaf(t, early)}, auth.ErrRefused},
		"for servers":              {[]*x509.Certificate{root.leaf(t, server)}, auth.ErrRefused},
		"without a common name":    {[]*x509.Certificate{root.leaf(t, func(c *x509.Certificate) { c.Subject.CommonName = "" })}, auth.ErrNoAccount},
		"name with a colon":        {[]*x509.Certificate{root.leaf(t, func(c *x509.Certificate) { c.Subject.CommonName = "a:b" })}, auth.ErrRefused},
	} {
		if e, err := p.Identify(t.Context(), c.chain); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v; want %v", name, e, err, c.want)
		}
	}
}

func TestRules(t *testing.T) {
	root := newAuthority(t, "root", nil)
	alice := root.leaf(t, nil)
	spoof := root.leaf(t, func(c *x509.Certificate) { // an organization within a common name
		c.Subject = pkix.Name{CommonName: "mallory,OU=ci,O=Example"}
		c.EmailAddresses, c.DNSNames, c.URIs = []string{"alice@example.com.evil.org"}, nil, nil
	})
	for name, c := range map[string]struct {
		rules   []mtls.Rule
		account string
		robot   string
		groups  []string
	}{
		"common name":             {rules: []mtls.Rule{{CN: "alice", Account: "a"}}, account: "a"},
		"common name, no other":   {rules: []mtls.Rule{{CN: "alic", Account: "a"}}},
		"address":                 {rules: []mtls.Rule{{Email: "*@example.com", Account: "{email}"}}, account: "alice@example.com"},
		"host":                    {rules: []mtls.Rule{{DNS: "laptop.*.com", Account: "{dns}"}}, account: "laptop.example.com"},
		"URI to a robot":          {rules: []mtls.Rule{{URI: "urn:team:ci:*", Robot: "builder"}}, robot: "builder"},
		"subject":                 {rules: []mtls.Rule{{Subject: "O=Example, ou=ci", Account: "ci", Groups: []string{"ci"}}}, account: "ci", groups: []string{"ci"}},
		"subject of another":      {rules: []mtls.Rule{{Subject: "O=Example,OU=ops", Account: "ops"}}},
		"all patterns must fit":   {rules: []mtls.Rule{{CN: "alice", Email: "*@example.net", Account: "a"}}},
		"the first that fits":     {rules: []mtls.Rule{{CN: "bob", Account: "b"}, {CN: "a*e", Account: "first"}, {CN: "*", Account: "second"}}, account: "first"},
		"letters of another case": {rules: []mtls.Rule{{CN: "ALICE", Account: "a"}}},
	} {
		e, err := open(t, root, mtls.Options{Rules: c.rules}).Identify(t.Context(), []*x509.Certificate{alice})
		if (err == nil) != (c.account+c.robot != "") || e.Name != c.account || e.Robot != c.robot || !slices.Equal(e.Groups, c.groups) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	for _, r := range []mtls.Rule{{Subject: "OU=ci,O=Example", Account: "ci"}, {Email: "*@example.com", Account: "{email}"}} {
		if e, err := open(t, root, mtls.Options{Rules: []mtls.Rule{r}}).Identify(t.Context(), []*x509.Certificate{spoof}); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("%+v takes %s: %+v, %v", r, spoof.Subject, e, err)
		}
	}
	for name, r := range map[string]mtls.Rule{
		"no pattern":           {Account: "a"},
		"neither":              {CN: "*"},
		"both":                 {CN: "*", Account: "a", Robot: "b"},
		"place without a kind": {CN: "*", Account: "{email}"},
		"unknown place":        {CN: "*", Account: "{user}"},
		"place in a robot":     {CN: "*", Robot: "{cn}"},
		"no subject":           {Subject: "Example", Account: "a"},
		"unknown attribute":    {Subject: "XX=1", Account: "a"},
	} {
		if _, err := mtls.New(mtls.Options{Name: "x", CAFiles: []string{write(t, filepath.Join(t.TempDir(), "ca.pem"), root.pem())}, Rules: []mtls.Rule{r}}); err == nil {
			t.Errorf("rule accepted: %s", name)
		}
	}
}

func TestRevocation(t *testing.T) {
	root := newAuthority(t, "root", nil)
	between := newAuthority(t, "between", root)
	stranger := newAuthority(t, "root", nil)
	kept, gone, below := root.leaf(t, nil), root.leaf(t, nil), between.leaf(t, nil)
	file := filepath.Join(t.TempDir(), "crl")
	now := time.Now()
	day := now.Add(24 * time.Hour)
	write(t, file, root.list(t, day, gone))
	p := open(t, root, mtls.Options{CRLFiles: []string{file}, Now: func() time.Time { return now }})
	check := func(what string, chain []*x509.Certificate, want error) {
		t.Helper()
		if e, err := p.Identify(t.Context(), chain); !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v; want %v", what, e, err, want)
		}
	}
	check("good", []*x509.Certificate{kept}, nil)
	check("revoked", []*x509.Certificate{gone}, auth.ErrRefused)
	check("below", []*x509.Certificate{below, between.cert}, nil)

	now = now.Add(3 * time.Second)
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: root.list(t, day, between.cert)}))
	check("revoked before, not any more", []*x509.Certificate{gone}, nil)
	check("authority revoked", []*x509.Certificate{below, between.cert}, auth.ErrRefused)

	now = now.Add(3 * time.Second)
	write(t, file, stranger.list(t, day, kept))
	check("list of another key", []*x509.Certificate{kept}, nil)

	now = now.Add(3 * time.Second)
	write(t, file, []byte("broken"))
	check("broken list: the one before holds", []*x509.Certificate{kept}, nil)

	now = now.Add(3 * time.Second)
	write(t, file, root.list(t, now.Add(-time.Minute)))
	check("list too old", []*x509.Certificate{kept}, auth.ErrRefused)
}

// An authority that is replaced counts from then on, and the one before no more.
func TestAuthorityReplaced(t *testing.T) {
	first, second := newAuthority(t, "first", nil), newAuthority(t, "second", nil)
	file := write(t, filepath.Join(t.TempDir(), "ca.pem"), first.pem())
	now := time.Now()
	p := open(t, first, mtls.Options{CAFiles: []string{file}, Now: func() time.Time { return now }})
	mine, next := []*x509.Certificate{first.leaf(t, nil)}, []*x509.Certificate{second.leaf(t, nil)}
	if _, err := p.Identify(t.Context(), mine); err != nil {
		t.Error(err)
	}
	write(t, file, second.pem())
	now = now.Add(3 * time.Second)
	if _, err := p.Identify(t.Context(), next); err != nil {
		t.Errorf("by the new authority: %v", err)
	}
	if _, err := p.Identify(t.Context(), mine); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("by the old authority: %v; want ErrNoAccount", err)
	}
	if len(p.Authorities()) != 1 || !p.Authorities()[0].Equal(second.cert) {
		t.Error("the listener names the old authority")
	}
}
