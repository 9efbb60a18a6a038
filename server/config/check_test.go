package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/config"
)

var checkNow = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

// pair makes a self-signed certificate with its key, valid for a time from a day before checkNow.
func pair(t *testing.T, template x509.Certificate, validFor time.Duration) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	if template.NotBefore.IsZero() {
		template.NotBefore = checkNow.Add(-24 * time.Hour)
	}
	template.NotAfter = checkNow.Add(validFor)
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// run checks a configuration whose data directory is a fresh one, against files.
func run(t *testing.T, content string, fs files) []config.Problem {
	t.Helper()
	l := mustLoad(t, content, "BERTH_DATA="+t.TempDir())
	c := config.Checker{Now: func() time.Time { return checkNow }, ReadFile: fs.read}
	return c.Check(t.Context(), l)
}

func TestCheckCertificate(t *testing.T) {
	const year = 365 * 24 * time.Hour
	named := x509.Certificate{Subject: pkix.Name{CommonName: "r.example.com"}, DNSNames: []string{"r.example.com"}}
	good, key := pair(t, named, year)
	_, otherKey := pair(t, named, year)
	bare, bareKey := pair(t, x509.Certificate{Subject: pkix.Name{CommonName: "r.example.com"}}, year)
	expired, expiredKey := pair(t, named, -time.Hour)
	soon, soonKey := pair(t, named, 10*24*time.Hour)
	early := named
	early.NotBefore = checkNow.Add(time.Hour)
	later, laterKey := pair(t, early, year)
	tests := []struct {
		name, host, certificate, key string
		want                         string
		warning                      bool
	}{
		{"good", "r.example.com", good, key, "", false},
		{"common name only", "", bare, bareKey, `http.tls.certificate: /crt has no subjectAltName, only the common name "r.example.com", which docker, podman and every other Go client refuse; ` +
			`make another one: berthd cert new --host r.example.com, or openssl req … -addext subjectAltName=DNS:r.example.com`, false},
		{"other host", "x.example.com", good, key, `http.tls.certificate: /crt is for [r.example.com], not for http.host "x.example.com"`, true},
		{"expired", "", expired, expiredKey, "http.tls.certificate: /crt expired on 2030-05-01", false},
		{"soon", "", soon, soonKey, "http.tls.certificate: /crt expires on 2030-05-11, in 10 days", true},
		{"not yet", "", later, laterKey, "http.tls.certificate: /crt is not valid before 2030-05-01 13:00:00; look at the clock of this machine", false},
		{"other key", "", good, otherKey, "http.tls.key: /key does not fit /crt: tls: private key does not match public key", false},
		{"no certificate", "", "hello", key, `http.tls.certificate: /crt: no certificate in it; a PEM file with "BEGIN CERTIFICATE" is needed`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			content := fmt.Sprintf("http:\n  host: %q\n  tls:\n    certificate: /crt\n    key: /key\n", test.host)
			problems := run(t, content, files{"/crt": test.certificate, "/key": test.key})
			if test.want == "" {
				if len(problems) > 0 {
					t.Errorf("%v", problems)
				}
				return
			}
			if len(problems) != 1 || problems[0].Message != test.want || problems[0].Warning != test.warning || problems[0].Line == 0 {
				t.Errorf("\n got %v\nwant %s", problems, test.want)
			}
		})
	}
	problems := run(t, "http: {tls: {certificate: /crt, key: /key, clientcas: [/ca]}}\n", files{})
	if len(problems) != 3 || !strings.Contains(problems[0].String(), "config.yml:1:27: http.tls.certificate: cannot read /crt: file does not exist") {
		t.Errorf("missing files: %v", problems)
	}
}

func TestCheckHtpasswd(t *testing.T) {
	const content = `# accounts
alice:$2y$05$abcdefghijklmnopqrstuu5s8ZqvT1p3J9n4Qm3V9rY1mXh2w0O2a
bob:$apr1$x$y
carol:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=

dave:rqXexS6ZhobKA
hunter2
`
	problems := run(t, "auth: {htpasswd: {path: /h}}\n", files{"/h": content})
	want := []struct {
		line    int
		text    string
		warning bool
	}{{3, `account "bob" has an MD5 hash`, true}, {4, `account "carol" has a SHA-1 hash`, true}, {6, `account "dave" has neither`, false}, {7, "not an entry", false}}
	if len(problems) != len(want) {
		t.Fatalf("%v", problems)
	}
	for i, p := range problems {
		if p.File != "/h" || p.Line != want[i].line || p.Warning != want[i].warning || !strings.Contains(p.Message, want[i].text) {
			t.Errorf("got %s, want %+v", p, want[i])
		}
		if text := p.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "rqXex") {
			t.Errorf("%s quotes what may be a password", text)
		}
	}
	if problems = run(t, "auth: {htpasswd: {path: /h}}\n", files{}); len(problems) != 1 || !problems[0].Warning || problems[0].Line != 1 {
		t.Errorf("missing file: %v", problems)
	}
}

func TestCheckDirectories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Checker{Now: func() time.Time { return checkNow }}
	if problems := c.Check(t.Context(), mustLoad(t, "", "BERTH_DATA="+filepath.Join(dir, "new", "deeper"))); len(problems) > 0 {
		t.Errorf("a directory that is still to be made: %v", problems)
	}
	problems := c.Check(t.Context(), mustLoad(t, "", "BERTH_DATA="+file))
	if len(problems) != 1 || problems[0].Message != "berth.data: "+file+" is a file; a directory is needed" || problems[0].File != "BERTH_DATA" {
		t.Errorf("%v", problems)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the check left something behind: %v, %v", entries, err)
	}
}
