package main_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/internal/testkit"
)

// users is an htpasswd file with a user for each name, whose password is the name and "-Gate-5-buoy".
func users(t *testing.T, names ...string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range names {
		hash, err := bcrypt.GenerateFromPassword([]byte(name+"-Gate-5-buoy"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, hash)
	}
	return b.String()
}

// certificate makes a key pair for localhost and returns its files.
func certificate(t *testing.T, dir string) (crt, key []byte) {
	t.Helper()
	c := command{dir: t.TempDir()}
	if r := c.run(t, "cert", "new", "--host", "localhost", "--data", c.dir); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for name, b := range map[string]*[]byte{"server.crt": &crt, "server.key": &key} {
		content, err := os.ReadFile(filepath.Join(c.dir, "tls", name))
		if err != nil {
			t.Fatal(err)
		}
		*b = content
		write(t, filepath.Join(dir, name), string(content))
	}
	return crt, key
}

// presented is the serial number of the certificate that the daemon shows.
func presented(t *testing.T, addr string) string {
	t.Helper()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// status is the answer to a request with a password.
func status(t *testing.T, method, url, user, body, kind string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	if user != "" {
		r.SetBasicAuth(user, user+"-Gate-5-buoy")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// hup reloads the daemon and waits until its log has one more line with the text.
func hup(t *testing.T, d *testkit.Daemon, text string) {
	t.Helper()
	before := strings.Count(d.Log(), text)
	if err := d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if strings.Count(d.Log(), text) > before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log does not say %q:\n%s", text, d.Log())
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	configure := func(level, manifest string) {
		write(t, file, fmt.Sprintf(`log: {level: %s, formatter: json}
http:
  tls: {certificate: %s, key: %s}
auth:
  anonymous: none
  htpasswd: {path: %s}
berth:
  limits: {manifest_bytes: %s}
`, level, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), filepath.Join(dir, "htpasswd"), manifest))
	}
	configure("info", "4MiB")
	crt, key := certificate(t, dir)
	write(t, filepath.Join(dir, "htpasswd"), users(t, "alice"))
	d := testkit.Start(t, testkit.Options{Args: []string{file}})
	first := presented(t, d.Addr)
	manifest := `{"schemaVersion":2,"manifests":[],"annotations":{"x":"` + strings.Repeat("x", 10_000) + `"}}`
	const index = "application/vnd.oci.image.index.v1+json"
	push := func(user string) int {
		return status(t, http.MethodPut, d.URL+"/v2/team/app/manifests/1", user, manifest, index)
	}
	if got := push("alice"); got != http.StatusCreated {
		t.Fatalf("push: %d", got)
	}
	if got := push("bob"); got != http.StatusUnauthorized {
		t.Fatalf("push of a stranger: %d", got)
	}

	// Everything at once.
	certificate(t, dir)
	write(t, filepath.Join(dir, "htpasswd"), users(t, "bob"))
	configure("debug", "1KiB")
	hup(t, d, `"reloaded"`)
	second := presented(t, d.Addr)
	if second == first {
		t.Error("the old certificate is shown")
	}
	if a, b := push("alice"), push("bob"); a != http.StatusUnauthorized || b != http.StatusRequestEntityTooLarge {
		t.Errorf("alice %d, bob %d; want 401, for a removed user, and 413, for the new limit", a, b)
	}

	// One mistake, and nothing of it is taken up.
	refused := map[string]func(){
		"a configuration with a typo": func() {
			write(t, file, strings.Replace(read(t, file), "berth:", "brth:", 1))
			write(t, filepath.Join(dir, "server.crt"), string(crt))
			write(t, filepath.Join(dir, "server.key"), string(key))
		},
		"a key that does not fit": func() {
			configure("info", "4MiB")
			write(t, filepath.Join(dir, "server.crt"), string(crt))
		},
		"an htpasswd file that is none": func() {
			configure("info", "4MiB")
			write(t, filepath.Join(dir, "server.crt"), string(crt))
			write(t, filepath.Join(dir, "server.key"), string(key))
			write(t, filepath.Join(dir, "htpasswd"), "alice\n")
		},
	}
	crt2, key2, users2 := read(t, filepath.Join(dir, "server.crt")), read(t, filepath.Join(dir, "server.key")), read(t, filepath.Join(dir, "htpasswd"))
	for name, spoil := range refused {
		t.Run(name, func(t *testing.T) {
			spoil()
			hup(t, d, "refused")
			if got := presented(t, d.Addr); got != second {
				t.Error("the certificate changed")
			}
			if a, b := push("alice"), push("bob"); a != http.StatusUnauthorized || b != http.StatusRequestEntityTooLarge {
				t.Errorf("alice %d, bob %d; want as before", a, b)
			}
			configure("debug", "1KiB")
			write(t, filepath.Join(dir, "server.crt"), crt2)
			write(t, filepath.Join(dir, "server.key"), key2)
			write(t, filepath.Join(dir, "htpasswd"), users2)
			hup(t, d, `"reloaded"`)
		})
	}
	if strings.Contains(d.Log(), "Gate-5-buoy") {
		t.Error("a password is in the log")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRegistry2Configuration starts an unmodified configuration of registry:2 and works with it: only paths and ports
// are this machine's.
func TestRegistry2Configuration(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	write(t, filepath.Join(dir, "htpasswd"), users(t, "alice"))
	debug := net.JoinHostPort("127.0.0.1", fmt.Sprint(testkit.FreePort(t)))
	told := make(chan string, 100)
	listener := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- r.Header.Get("Authorization") + " " + string(body)
	}))
	defer listener.Close()
	file := write(t, filepath.Join(dir, "config.yml"), fmt.Sprintf(`version: 0.1
log:
  accesslog:
    disabled: false
  level: info
  formatter: text
  fields:
    service: registry
    environment: staging
storage:
  filesystem:
    rootdirectory: %[1]s/registry
    maxthreads: 100
  cache:
    blobdescriptor: inmemory
  delete:
    enabled: true
  maintenance:
    uploadpurging:
      enabled: true
      age: 168h
      interval: 24h
      dryrun: false
auth:
  htpasswd:
    realm: basic-realm
    path: %[1]s/htpasswd
http:
  addr: 127.0.0.1:5000
  secret: asecretforlocaldevelopment
  relativeurls: false
  tls:
    certificate: %[1]s/server.crt
    key: %[1]s/server.key
  headers:
    X-Content-Type-Options: [nosniff]
  debug:
    addr: %[2]s
    prometheus:
      enabled: true
      path: /metrics
notifications:
  events:
    includereferences: true
  endpoints:
    - name: alistener
      url: %[3]s/event
      headers: {Authorization: [Bearer x]}
      timeout: 1s
      threshold: 10
      backoff: 1s
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
`, dir, debug, listener.URL))
	// The data directory is where the configuration puts the content, as a container has it.
	d := testkit.Start(t, testkit.Options{Args: []string{file}, Data: filepath.Join(dir, "data")})
	const index = "application/vnd.oci.image.index.v1+json"
	const empty = `{"schemaVersion":2,"manifests":[]}`
	for _, step := range []struct {
		method, path, user string
		want               int
	}{
		{"GET", "/v2/", "", 401}, {"GET", "/v2/", "alice", 200}, {"PUT", "/v2/app/manifests/1", "", 401}, {"PUT", "/v2/app/manifests/1", "alice", 201},
		{"GET", "/v2/app/manifests/1", "", 401}, {"GET", "/v2/app/manifests/1", "alice", 200}, {"DELETE", "/v2/app/manifests/1", "alice", 202},
		{"GET", "/v2/app/manifests/1", "alice", 404},
	} {
		if got := status(t, step.method, d.URL+step.path, step.user, empty, index); got != step.want {
			t.Errorf("%s %s as %q: %d, want %d", step.method, step.path, step.user, got, step.want)
		}
	}
	presented(t, d.Addr)
	resp, err := http.Get("http://" + debug + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(metrics), "registry_http_requests_total") {
		t.Errorf("%.200s, %v", metrics, err)
	}
	if r, err := http.Get("http://" + debug + "/debug/pprof/cmdline"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("pprof: %v, %v", r, err)
	} else {
		_ = r.Body.Close()
	}
	for wanted := []string{`"push"`, `"delete"`}; len(wanted) > 0; {
		select {
		case event := <-told:
			if !strings.HasPrefix(event, "Bearer x {") || !strings.Contains(event, `"app"`) {
				t.Fatalf("told: %s", event)
			}
			wanted = slices.DeleteFunc(wanted, func(action string) bool { return strings.Contains(event, action) })
		case <-time.After(20 * time.Second):
			t.Fatalf("the endpoint was never told of %v", wanted)
		}
	}
	log := d.Log()
	for _, text := range []string{"service=registry", "environment=staging"} {
		if !strings.Contains(log, text) {
			t.Errorf("the log does not have %q:\n%s", text, log)
		}
	}
	if strings.Contains(log, "asecretforlocaldevelopment") || strings.Contains(log, "Bearer x") {
		t.Error("a secret of the configuration is in the log")
	}
}
