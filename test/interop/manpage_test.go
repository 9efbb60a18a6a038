package interop_test

import (
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestSkopeoManPageExamples types the examples of skopeo's manual pages, as Debian installs them, with the name of the
// program replaced. The registries of the world that they name are all our berthd, by way of a proxy. Besides the name,
// only what belongs to this machine is replaced: folders outside of the home, localhost:5000, and the fingerprint of
// the author's key.
func TestSkopeoManPageExamples(t *testing.T) {
	t.Parallel()
	needRoot(t, "containers-storage:")
	r := startRegistry(t, testkit.Options{Env: append([]string{"BERTH_ANONYMOUS=delete"}, exampleUsers(t)...)})
	berth := newBerth(t, r)
	world := startWorld(t, r)
	dir := berth.home
	for _, name := range []string{"skopeo/stable:latest", "library/busybox:latest", "library/nginx:1.17.8", "example/pause:latest", "library/fedora:latest",
		"library/python:latest", "fedora:latest", "ubi8:latest", "busybox:1-glibc", "busybox:1-musl", "busybox:latest", "repo/busybox:1-glibc",
		"redis:1.0", "redis:2.0", "nginx:1.13.1-alpine-perl", "nginx:1.13.2-alpine-perl", "nginx:2", "coreos/etcd:latest"} {
		berth.run(t, "copy", "oci:"+ociLayout(t, ociImage(t, "a"))+":v1", "docker://"+r.host+"/"+name)
	}
	berth.env = append(berth.env, "HTTPS_PROXY="+world.proxy, "SSL_CERT_FILE="+writeFile(t, filepath.Join(dir, "authorities"), append(world.ca, r.ca...)),
		"GNUPGHOME="+filepath.Join(dir, "gnupg"), "CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"), "testpassword=testpassword")
	prepareExamples(t, berth, r)
	own := submatch(t, shell(t, berth, "gpg --batch --with-colons --list-keys", ""), `(?m)^fpr:+([0-9A-F]+):`)
	replace := strings.NewReplacer("localhost:5000", r.host, "1D8230F6CDB6A06716E414C1DB72F2188BB46CC8", own,
		"/bin/skopeo", berth.bin, "skopeo/", "skopeo/", "com/skopeo", "com/skopeo", // a repository of that name stays
		" /media/", " "+dir+"/media/", ":/var/lib/", ":"+dir+"/var/lib/", ":/tmp/", ":"+dir+"/tmp/", " /etc/containers", " "+dir+"/etc/containers", "skopeo ", berth.bin+" ")
	ran := 0
	for _, line := range examples(t) {
		shell(t, berth, replace.Replace(line), "testuser\ntestpassword\n")
		ran++
	}
	if ran < 35 {
		t.Errorf("only %d examples were found", ran)
	}
	for _, name := range []string{"skopeo", "test/busybox"} {
		if _, _, digest := r.manifest(t, name, map[string]string{"skopeo": "latest", "test/busybox": "1-glibc"}[name]); digest == "" {
			t.Errorf("%s was not copied", name)
		}
	}
	r.manifest(t, "repo/nginx", "1.13.2-alpine-perl")
	r.absent(t, "repo/nginx", "2")
	r.absent(t, "example/pause", "latest")
}

// examples are the command lines of all pages, in their order.
func examples(t testing.TB) []string {
	t.Helper()
	pages, err := filepath.Glob("/usr/share/man/man1/skopeo*.1.gz")
	if err != nil || len(pages) < 8 {
		testkit.Missing(t, "skopeo's man pages are not installed (run test/setup/setup.sh): %v", pages)
	}
	typed := regexp.MustCompile(`^(?:[$#] )?((?:echo \S+ \| )?(?:/bin/)?skopeo +[a-z-]+ .*)$`)
	var lines []string
	for _, page := range pages {
		f, err := os.Open(page)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, section, _ := strings.Cut(string(text), ".SH EXAMPLE")
		for line := range strings.Lines(strings.NewReplacer(`\-`, "-", `\&`, "").Replace(section)) {
			if m := typed.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				lines = append(lines, m[1])
			}
		}
	}
	return lines
}

// prepareExamples makes what the examples find on the author's machine: keys, archives, folders, images of podman.
func prepareExamples(t testing.TB, berth *client, r *registry) {
	t.Helper()
	dir := berth.home
	write := func(name, content string) { writeFile(t, filepath.Join(dir, name), []byte(content)) }
	write("storage.conf", "[storage]\ndriver = \"vfs\"\nrunroot = \""+dir+"/run\"\ngraphroot = \""+dir+"/storage\"\n")
	write(".config/containers/registries.d/default.yaml", "default-docker:\n  lookaside-staging: file://"+dir+"/lookaside\n")
	write("testpassword.txt", "testpassword\n")
	write("manifest.json", `{"schemaVersion": 2}`)
	write("busybox-manifest.json", `{"schemaVersion": 2, "busybox": true}`)
	write("sync.yml", "registry.example.com:\n    images:\n        busybox: []\n        redis:\n            - \"1.0\"\n            - \"2.0\"\n"+
		"    images-by-tag-regex:\n        nginx: ^1\\.13\\.[12]-alpine-perl$\n    tls-verify: true\nquay.io:\n    tls-verify: false\n    images:\n        coreos/etcd:\n            - latest\n")
	writeFile(t, filepath.Join(dir, "etc/containers/certs.d/ca.crt"), r.ca)
	archive, _ := dockerArchive(t, makeImage(t, "a"), "busybox:latest")
	for _, name := range []string{"busybox.tar.gz", "docker-two-images.tar.gz", "four-tags-with-an-untag.tar"} {
		writeFile(t, filepath.Join(dir, "tmp", name), readFile(t, archive))
	}
	shell(t, berth, `mkdir -p var/lib/images/busybox media/usb authdir && mkdir -m 700 gnupg
		gpg --batch --quiet --passphrase '' --quick-generate-key dev@example.com rsa2048 sign never
		openssl genrsa -out private.key 2048 && openssl rsa -in private.key -pubout -out public.key
		cp private.key private1.key && cp private.key private2.key && cp private.key private3.key`, "")
	berth.run(t, "copy", "oci:"+ociLayout(t, ociImage(t, "a"))+":v1", "containers-storage:example/busybox:streaming")
}

// shell runs a line as a user types it.
func shell(t testing.TB, user *client, line, stdin string) string {
	t.Helper()
	sh := *user
	sh.name, sh.bin = "sh", "/bin/sh"
	return sh.pipe(t, strings.NewReader(stdin), "-ec", line)
}

// exampleUsers is the environment of a berthd that knows the users of the examples.
func exampleUsers(t testing.TB) []string {
	t.Helper()
	var file strings.Builder
	for user, secret := range map[string]string{"testuser": "testpassword", "test": "test", "foo": "bar"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(user + ":" + string(hash) + "\n")
	}
	path := writeFile(t, filepath.Join(t.TempDir(), "htpasswd"), []byte(file.String()))
	return []string{"REGISTRY_AUTH_HTPASSWD_REALM=berth", "REGISTRY_AUTH_HTPASSWD_PATH=" + path}
}

// world is a proxy behind which every host is one registry.
type world struct {
	proxy string // http://127.0.0.1:port
	ca    []byte // the authority of all its certificates

	key    *ecdsa.PrivateKey
	parent *x509.Certificate
	mu     sync.Mutex
	issued map[string]*tls.Certificate
}

// startWorld starts the proxy. What it passes on carries no credentials: each of the hosts takes any.
func startWorld(t testing.TB, r *registry) *world {
	t.Helper()
	w := &world{issued: map[string]*tls.Certificate{}}
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.parent = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the world"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, w.parent, w.parent, &w.key.PublicKey, w.key)
	if err != nil {
		t.Fatal(err)
	}
	w.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	target, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	inner := &connections{accepted: make(chan net.Conn), done: make(chan struct{})}
	registry := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Header.Del("Authorization")
	}}}
	go registry.Serve(tls.NewListener(inner, &tls.Config{GetCertificate: w.certificate}))
	outer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		inner.accepted <- conn
	})}
	go proxy.Serve(outer)
	t.Cleanup(func() {
		proxy.Close()
		close(inner.done)
		registry.Close()
	})
	w.proxy = "http://" + outer.Addr().String()
	return w
}

// certificate issues one for the host that is asked for.
func (w *world) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.issued[hello.ServerName]; c != nil {
		return c, nil
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(len(w.issued)) + 2), DNSNames: []string{hello.ServerName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, w.parent, &w.key.PublicKey, w.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: w.key}
	w.issued[hello.ServerName] = c
	return c, nil
}

// connections is a listener of what the proxy took.
type connections struct {
	accepted chan net.Conn
	done     chan struct{}
}

func (c *connections) Accept() (net.Conn, error) {
	select {
	case conn := <-c.accepted:
		return conn, nil
	case <-c.done:
		return nil, net.ErrClosed
	}
}

func (c *connections) Close() error   { return nil }
func (c *connections) Addr() net.Addr { return &net.TCPAddr{} }
