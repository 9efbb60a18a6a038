package testkit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The directory that Slapd starts.
const (
	LDAPBase     = "dc=example,dc=com"
	LDAPAdmin    = "cn=admin,dc=example,dc=com" // may do everything
	LDAPPassword = "admin-secret"               // of LDAPAdmin
)

// Slapd is an OpenLDAP server of one test's own, on 127.0.0.1, with the schemas core, cosine, inetorgperson, nis and the
// entries LDAPBase, ou=people and ou=groups below it. Only LDAPAdmin and the entry itself may read an entry; anonymous
// clients may bind. It gives at most 500 entries at once, and the entry cn=reader below LDAPBase, which a test may add, reads all,
// page by page. Its methods are for one goroutine at a time.
type Slapd struct {
	URL    string // ldap://127.0.0.1:port; StartTLS works
	TLSURL string // ldaps://127.0.0.1:port
	CAFile string // PEM of the authority of its certificate, which is for 127.0.0.1 and localhost

	dir     string
	log     *os.File
	release func() // nil while it is stopped
	bin     string
}

// slapdKeeper runs $1 with configuration $2 at the addresses $3 until this process ends.
const slapdKeeper = `
"$1" -d 0 -f "$2" -h "$3" </dev/null &
pid=$!
read _
kill -TERM $pid
wait $pid`

// StartSlapd starts a server that ends with the test. Without OpenLDAP the test is skipped, or fails where the package
// comment says so.
func StartSlapd(t testing.TB) *Slapd {
	t.Helper()
	bin, err := exec.LookPath("slapd")
	if err != nil {
		if bin = "/usr/sbin/slapd"; !isFile(bin) {
			Missing(t, "testkit: no slapd here: apt-get install -y slapd ldap-utils")
		}
	}
	dir, err := os.MkdirTemp("", "berth-slapd-")
	if err != nil {
		t.Fatalf("testkit: directory for slapd: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Slapd{dir: dir, bin: bin, CAFile: filepath.Join(dir, "ca.pem")}
	s.URL = "ldap://127.0.0.1:" + strconv.Itoa(FreePort(t))
	s.TLSURL = "ldaps://127.0.0.1:" + strconv.Itoa(FreePort(t))
	if err := s.configure(); err != nil {
		t.Fatalf("testkit: slapd: %v", err)
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(func() {
		s.Stop()
		_ = s.log.Close()
	})
	s.Start(t)
	s.Add(t, "dn: "+LDAPBase+"\nobjectClass: dcObject\nobjectClass: organization\no: Example\n\n"+
		"dn: ou=people,"+LDAPBase+"\nobjectClass: organizationalUnit\n\n"+
		"dn: ou=groups,"+LDAPBase+"\nobjectClass: organizationalUnit\n")
	return s
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/slapd.pid
TLSCACertificateFile %[1]s/ca.pem
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
maxsize 67108864
suffix "` + LDAPBase + `"
rootdn "` + LDAPAdmin + `"
rootpw ` + LDAPPassword + `
directory %[1]s/data
limits dn.exact="cn=reader,` + LDAPBase + `" size.pr=500 size.prtotal=unlimited
index objectClass,uid,member,entryUUID eq
access to attrs=userPassword by self write by anonymous auth by * none
access to * by dn.exact="cn=reader,` + LDAPBase + `" read by self read by anonymous auth by * none
`

func (s *Slapd) configure() error {
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
		return err
	}
	ca, cert, key, err := selfSigned()
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"ca.pem": ca, "cert.pem": cert, "key.pem": key, "slapd.conf": fmt.Appendf(nil, slapdConf, s.dir)} {
		if err := os.WriteFile(filepath.Join(s.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// selfSigned makes an authority and a certificate of it for this machine, in PEM.
func selfSigned() (ca, cert, key []byte, err error) {
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "berth test authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, authority.Public(), authority)
	if err != nil {
		return nil, nil, nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, own.Public(), authority)
	if err != nil {
		return nil, nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, nil, err
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return encode("CERTIFICATE", rootDER), encode("CERTIFICATE", leafDER), encode("PRIVATE KEY", keyDER), nil
}

// Start starts the server again, at the same addresses with the same entries, and returns when it answers.
func (s *Slapd) Start(t testing.TB) {
	t.Helper()
	if s.release != nil {
		return
	}
	var err error
	s.release, err = keep(nil, s.log, slapdKeeper, s.bin, filepath.Join(s.dir, "slapd.conf"), s.URL+" "+s.TLSURL)
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(s.URL, "ldap://")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(s.log.Name())
			t.Fatalf("testkit: slapd does not answer: %v\n%s", err, text)
		}
	}
}

// Stop ends the server and returns when it is gone.
func (s *Slapd) Stop() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// Add adds entries, in LDIF.
func (s *Slapd) Add(t testing.TB, ldif string) { t.Helper(); s.run(t, "ldapadd", ldif) }

// Modify changes entries, in LDIF with changetype.
func (s *Slapd) Modify(t testing.TB, ldif string) { t.Helper(); s.run(t, "ldapmodify", ldif) }

func (s *Slapd) run(t testing.TB, program, ldif string) {
	t.Helper()
	cmd := exec.Command(program, "-x", "-H", s.URL, "-D", LDAPAdmin, "-w", LDAPPassword)
	cmd.Stdin = strings.NewReader(ldif)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("testkit: %s: %v\n%s", program, err, out.Bytes())
	}
}

// AddPerson adds an inetOrgPerson uid=name below ou=people and returns its DN. The values are written as they are.
func (s *Slapd) AddPerson(t testing.TB, name, password string) string {
	t.Helper()
	dn := "uid=" + name + ",ou=people," + LDAPBase
	s.Add(t, fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nuid: %s\ncn: %s\nsn: %s\nmail: %s@example.com\nuserPassword: %s\n",
		dn, name, name, name, name, password))
	return dn
}

// SetGroup makes the groupOfNames cn=name below ou=groups, or replaces its members, and returns its DN. Without members it
// deletes the group, since the schema knows no empty one.
func (s *Slapd) SetGroup(t testing.TB, name string, members ...string) string {
	t.Helper()
	dn := "cn=" + name + ",ou=groups," + LDAPBase
	_ = exec.Command("ldapdelete", "-x", "-H", s.URL, "-D", LDAPAdmin, "-w", LDAPPassword, dn).Run() // there may be none
	if len(members) > 0 {
		s.Add(t, "dn: "+dn+"\nobjectClass: groupOfNames\ncn: "+name+"\nmember: "+strings.Join(members, "\nmember: ")+"\n")
	}
	return dn
}
