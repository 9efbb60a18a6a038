package interop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestDirectoryLogin: the clients log in with the password that the directory knows, and may what its group may here.
func TestDirectoryLogin(t *testing.T) {
	t.Parallel()
	slapd := testkit.StartSlapd(t)
	slapd.Add(t, "dn: cn=reader,"+testkit.LDAPBase+"\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: reader-secret\n")
	slapd.SetGroup(t, "staff", slapd.AddPerson(t, "alice", "alice-secret"))
	r := startRegistry(t, testkit.Options{Config: fmt.Sprintf(`auth:
  anonymous: none
  ldap:
    - name: corp
      servers: [%q]
      ca: %q
      binddn: cn=reader,%s
      bindpassword: reader-secret
      users: {base: "ou=people,%s"}
      groups: {base: "ou=groups,%s"}
`, slapd.URL, slapd.CAFile, testkit.LDAPBase, testkit.LDAPBase, testkit.LDAPBase)})
	r.push(t, ociImage(t, "a"), "team/app:1")
	r.push(t, ociImage(t, "a"), "other/app:1")
	r.manage(t, "POST", "groups", `{"name":"staff"}`)
	r.manage(t, "POST", "projects/team/members", `{"subject":{"kind":"group","name":"staff"},"role":"developer"}`)
	login := func(c *client, password string, want int) {
		t.Helper()
		if got := c.exec(t, strings.NewReader(password), "login", "--username", "alice", "--password-stdin", r.host); (got.code == 0) != (want == 0) {
			t.Errorf("password %q: %s", password, got)
		}
	}
	app := r.host + "/team/app"

	docker := newDocker(t)
	login(docker, "wrong", 1)
	login(docker, "*", 1)
	login(docker, "alice-secret", 0)
	docker.run(t, "pull", app+":1")
	t.Cleanup(func() { docker.exec(t, nil, "image", "rm", "--force", app+":1", app+":docker") })
	docker.run(t, "tag", app+":1", app+":docker")
	docker.run(t, "push", app+":docker")
	docker.refused(t, "pull", r.host+"/other/app:1")

	podman := newPodman(t, r)
	login(podman, "", 1)
	login(podman, "wrong", 1)
	login(podman, "alice-secret", 0)
	podman.run(t, "pull", "--quiet", app+":1")
	podman.run(t, "push", "--quiet", app+":1", app+":podman")
	podman.refused(t, "pull", "--quiet", r.host+"/other/app:1")

	skopeo := newClient(t, "skopeo", r)
	login(skopeo, "wrong", 1)
	login(skopeo, "alice-secret", 0)
	skopeo.run(t, "inspect", "docker://"+app+":docker")

	crane := newClient(t, "crane", r)
	crane.refused(t, "manifest", app+":1")
	crane.pipe(t, strings.NewReader("alice-secret"), "auth", "login", "--username", "alice", "--password-stdin", r.host)
	crane.run(t, "copy", app+":podman", app+":crane")
	r.manifest(t, "team/app", "crane")

	// Nobody here has a password for the directory to take.
	if log := r.Log(); strings.Contains(log, "alice-secret") || strings.Contains(log, "reader-secret") {
		t.Error("a password is in the log")
	}
}

// TestClientCertificate: whoever shows a certificate of the configured authority needs no other login, with curl and with the
// clients that take one; who shows another, or none, is asked to log in.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	issue := clientAuthority(t, ca)
	strangers := clientAuthority(t, filepath.Join(dir, "strangers.pem"))
	r := startRegistry(t, testkit.Options{Config: fmt.Sprintf(`auth:
  anonymous: none
  mtls:
    cas: [%q]
    rules:
      - {cn: builder, account: builder}
      - {cn: ci, robot: ci}
`, ca)})
	r.push(t, ociImage(t, "a"), "team/app:1")
	r.push(t, ociImage(t, "a"), "other/app:1")
	r.manage(t, "POST", "users", `{"name":"builder","password":"`+doraPassword+`"}`)
	r.manage(t, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"builder"},"role":"developer"}`)
	r.manage(t, "POST", "projects/team/robots", `{"name":"ci"}`)
	r.manage(t, "POST", "projects/team/grants", `{"subject":{"kind":"robot","name":"ci"},"verbs":["pull"]}`)

	cert := map[string][2]string{}
	for name, by := range map[string]func(string, string) [2]string{"builder": issue, "ci": issue, "nobody": issue, "stranger": strangers} {
		cn := strings.Replace(name, "stranger", "builder", 1)
		cert[name] = by(cn, filepath.Join(dir, name))
	}
	trusted := writeFile(t, filepath.Join(dir, "berthd.crt"), r.ca)
	curl := newClient(t, "curl")
	status := func(as, method, path string) string {
		t.Helper()
		args := []string{"--silent", "--show-error", "--cacert", trusted, "--output", filepath.Join(dir, "body"), "--write-out", "%{http_code}", "-X", method}
		if c, ok := cert[as]; ok {
			args = append(args, "--cert", c[0], "--key", c[1])
		}
		return curl.run(t, append(args, "https://"+r.host+path)...)
	}
	for _, test := range []struct{ as, method, path, want string }{
		{"builder", "GET", "/v2/", "200"}, {"ci", "GET", "/v2/", "200"}, {"", "GET", "/v2/", "401"}, {"nobody", "GET", "/v2/", "401"}, {"stranger", "GET", "/v2/", "401"},
		{"builder", "GET", "/v2/team/app/manifests/1", "200"}, {"ci", "GET", "/v2/team/app/manifests/1", "200"}, {"stranger", "GET", "/v2/team/app/manifests/1", "401"},
		{"builder", "POST", "/v2/team/app/blobs/uploads/", "202"}, {"ci", "POST", "/v2/team/app/blobs/uploads/", "403"}, {"", "POST", "/v2/team/app/blobs/uploads/", "401"},
		{"builder", "GET", "/v2/other/app/manifests/1", "404"}, {"builder", "GET", "/api/v1/me", "200"}, {"builder", "GET", "/api/v1/jobs", "403"}, {"nobody", "GET", "/api/v1/me", "401"},
	} {
		if got := status(test.as, test.method, test.path); got != test.want {
			t.Errorf("%s %s with the certificate of %q: %s, want %s: %s", test.method, test.path, test.as, got, test.want, readFile(t, filepath.Join(dir, "body")))
		}
	}
	for _, token := range []struct{ as, subject string }{{"builder", `"kind":"user","name":"builder"`}, {"ci", `"kind":"robot","name":"ci"`}} {
		if status(token.as, "GET", "/api/v1/me"); !strings.Contains(string(readFile(t, filepath.Join(dir, "body"))), token.subject) {
			t.Errorf("%s is %s", token.as, readFile(t, filepath.Join(dir, "body")))
		}
	}

	// skopeo and podman take certificate and key from where they take the authority; nobody has logged in.
	layout := "oci:" + ociLayout(t, ociImage(t, "b")) + ":v1"
	for name, pushes := range map[string]bool{"builder": true, "ci": false} {
		skopeo := newClient(t, "skopeo", r)
		podman := newPodman(t, r)
		for _, c := range []*client{skopeo, podman} {
			at := filepath.Join(c.home, ".config", "containers", "certs.d", r.host)
			writeFile(t, filepath.Join(at, "client.cert"), readFile(t, cert[name][0]))
			writeFile(t, filepath.Join(at, "client.key"), readFile(t, cert[name][1]))
		}
		skopeo.run(t, "inspect", "docker://"+r.host+"/team/app:1")
		podman.run(t, "pull", "--quiet", r.host+"/team/app:1")
		skopeo.refused(t, "inspect", "docker://"+r.host+"/other/app:1")
		if got := skopeo.exec(t, nil, "copy", "--quiet", layout, "docker://"+r.host+"/team/app:by-"+name); (got.code == 0) != pushes {
			t.Errorf("push by %s: %s", name, got)
		}
	}
	r.manifest(t, "team/app", "by-builder")
	r.absent(t, "team/app", "by-ci")
	none := newClient(t, "skopeo", r)
	none.refused(t, "inspect", "docker://"+r.host+"/team/app:1")

	// What is disabled is so for its certificate, too.
	r.manage(t, "PATCH", "users/builder", `{"disabled":true}`)
	if got := status("builder", "GET", "/v2/team/app/manifests/1"); got != "401" {
		t.Errorf("the certificate of a disabled account: %s", got)
	}
}

// clientAuthority writes an authority to a file, and returns what issues a certificate and its key to files of a name.
func clientAuthority(t testing.TB, file string) func(cn, name string) [2]string {
	t.Helper()
	serial := int64(0)
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		serial++
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "authority of clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	text, key := sign(ca, ca, nil)
	writeFile(t, file, text)
	return func(cn, name string) [2]string {
		t.Helper()
		text, own := sign(&x509.Certificate{Subject: pkix.Name{CommonName: cn}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
		der, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		return [2]string{writeFile(t, name+".crt", text), writeFile(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
	}
}
