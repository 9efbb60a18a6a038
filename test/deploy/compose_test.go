package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// project is what docker compose makes of the file.
type project struct {
	Services map[string]service
	Secrets  map[string]struct{ File string }
	Networks map[string]struct{ Internal bool }
}

type service struct {
	Image       string
	User        string
	Environment map[string]*string
	Secrets     []struct{ Source string }
	Networks    map[string]any
	Ports       []any
	Healthcheck *struct{ Test []string }
	Entrypoint  []string
	Command     []string
	ReadOnly    bool     `json:"read_only"`
	CapDrop     []string `json:"cap_drop"`
	SecurityOpt []string `json:"security_opt"`
	Grace       string   `json:"stop_grace_period"`
	DependsOn   map[string]struct{ Condition string }
}

// prepared is the folder after start.sh has made the secrets.
func prepared(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deploy", "compose")
	for _, name := range []string{"compose.yaml", "haproxy.cfg", "start.sh"} {
		write(t, filepath.Join(dir, name), read(t, filepath.Join(tree, "deploy", "compose", name)))
	}
	command{}.run(t, "sh", filepath.Join(dir, "start.sh"), "--prepare", host+":8443")
	return dir
}

func TestCompose(t *testing.T) {
	dir, known := prepared(t), strict(t)
	var p project
	if err := json.Unmarshal([]byte(command{dir: dir}.run(t, known, "compose", "compose.yaml")), &p); err != nil {
		t.Fatal(err)
	}
	replicas := 0
	for name, s := range p.Services {
		if !regexp.MustCompile(`^[^:]+/[^:]+:[A-Za-z0-9._-]*[0-9][A-Za-z0-9._-]*$`).MatchString(s.Image) {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		if s.Healthcheck == nil || len(s.Healthcheck.Test) == 0 {
			t.Errorf("%s has no health check", name)
		}
		if (len(s.Ports) > 0) != (name == "balancer") {
			t.Errorf("%s publishes %v", name, s.Ports)
		}
		for variable, value := range s.Environment {
			secret := regexp.MustCompile(`(?i)password|secret|accesskey|database`).MatchString(variable)
			if secret && value != nil && !strings.HasPrefix(*value, "/run/secrets/") {
				t.Errorf("%s: %s=%s is not a file", name, variable, *value)
			}
		}
		for _, secret := range s.Secrets {
			if !exists(p.Secrets[secret.Source].File) {
				t.Errorf("%s: start.sh makes no secret %s", name, secret.Source)
			}
		}
		if strings.HasPrefix(name, "berth") {
			replicas++
			if !s.ReadOnly || s.User != "65532:65532" || strings.Join(s.CapDrop, " ") != "ALL" || len(s.SecurityOpt) == 0 || s.Grace != "40s" {
				t.Errorf("%s: %+v", name, s)
			}
			replicaAccepted(t, dir, s)
		}
	}
	if replicas != 3 || !p.Networks["back"].Internal {
		t.Errorf("%d replicas, networks %+v", replicas, p.Networks)
	}
	for _, name := range []string{"postgres", "s3"} {
		if _, front := p.Services[name].Networks["front"]; front {
			t.Errorf("%s is on the network of the load balancer", name)
		}
	}
}

// replicaAccepted lets berthd check the environment of a replica.
func replicaAccepted(t *testing.T, dir string, s service) {
	t.Helper()
	env := []string{"BERTH_DATA=" + t.TempDir()}
	for name, value := range s.Environment {
		if value == nil || name == "BERTH_DATA" {
			t.Fatalf("variable %s", name)
		}
		env = append(env, name+"="+strings.ReplaceAll(*value, "/run/secrets/", dir+"/secrets/"))
	}
	out := command{env: env}.run(t, testkit.BuildBerthd(t), "config", "check")
	if !strings.HasSuffix(out, "ok\n") || strings.Contains(out, "warning") {
		t.Errorf("config check:\n%s", out)
	}
}

// Without start.sh there are no secrets, and nothing starts.
func TestComposeWithoutSecrets(t *testing.T) {
	wants(t, command{dir: tree + "/deploy/compose"}.refused(t, strict(t), "compose", "compose.yaml"), "start.sh")
}

func TestComposeSecrets(t *testing.T) {
	dir := prepared(t)
	secret := func(name string) string { return read(t, filepath.Join(dir, "secrets", name)) }
	if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	seen := map[string]bool{}
	for _, name := range []string{"admin-password", "postgres-password", "s3-accesskey", "s3-secretkey"} {
		text := secret(name)
		if len(text) < 20 || strings.TrimSpace(text) != text || seen[text] {
			t.Errorf("%s is %q", name, text)
		}
		seen[text] = true
	}
	if u, err := url.Parse(secret("database-url")); err != nil || u.Host != "postgres:5432" {
		t.Errorf("%v, %v", u, err)
	} else if password, _ := u.User.Password(); password != secret("postgres-password") {
		t.Error("the database's password is another one in its address")
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "secrets", "tls.pem"), filepath.Join(dir, "secrets", "tls.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ca, _ := pem.Decode([]byte(secret("ca.crt")))
	cert, err := x509.ParseCertificate(ca.Bytes)
	if err != nil || !cert.Equal(pair.Leaf) || cert.VerifyHostname(host) != nil {
		t.Errorf("certificate: %v, %v", cert, err)
	}

	// A second start keeps what is there; the host is remembered.
	before := secret("admin-password") + secret("tls.pem") + secret("database-url")
	command{}.run(t, "sh", filepath.Join(dir, "start.sh"), "--prepare")
	if secret("admin-password")+secret("tls.pem")+secret("database-url") != before {
		t.Error("a second start made other secrets")
	}
	wants(t, read(t, filepath.Join(dir, ".env")), "BERTH_HOST="+host+":8443\n")
	wants(t, command{}.refused(t, "sh", filepath.Join(tree, "deploy", "compose", "start.sh"), "--prepare"), "usage:")
}

// The S3 server's command, run as the file says it with the program in the version of its image.
func TestComposeS3(t *testing.T) {
	t.Parallel()
	versitygw := peer(t, "versitygw")
	dir, known := prepared(t), strict(t)
	var p project
	if err := json.Unmarshal([]byte(command{dir: dir}.run(t, known, "compose", "compose.yaml")), &p); err != nil {
		t.Fatal(err)
	}
	s := p.Services["s3"]
	if want := filepath.Base(filepath.Dir(versitygw)); !strings.HasSuffix(s.Image, strings.TrimPrefix(want, "versitygw@")) {
		t.Errorf("image %s, and the tests have %s", s.Image, want)
	}
	data, port := t.TempDir(), testkit.FreePort(t)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	// Compose writes a dollar twice.
	script := strings.ReplaceAll(adapt(t, s.Command[0], "/run/secrets/", dir+"/secrets/", "/data", data, ":7070", addr), "$$", "$")
	health := strings.Replace(s.Healthcheck.Test[len(s.Healthcheck.Test)-1], "127.0.0.1:7070", addr, 1)
	start := func() (stop func()) {
		return startS3(t, append(s.Entrypoint, script), filepath.Dir(versitygw), data, health)
	}
	stop := start()
	env := []string{"BERTH_ADMIN_PASSWORD=" + adminPassword, "BERTH_ANONYMOUS=none"}
	for name, value := range p.Services["berth1"].Environment {
		if strings.HasPrefix(name, "REGISTRY_STORAGE_") {
			env = append(env, name+"="+strings.NewReplacer("/run/secrets/", dir+"/secrets/", "s3:7070", addr).Replace(*value))
		}
	}
	d := testkit.Start(t, testkit.Options{Database: testkit.Postgres(t), Env: env})
	client := docker{http: &http.Client{Timeout: time.Minute}, base: d.URL}
	client.pushPull(t, "team/app", "1", 24<<20)
	token, _ := client.login(t, "team/app")
	_, manifest := client.call(t, token, http.MethodGet, "/v2/team/app/manifests/1", nil, "", http.StatusOK)
	layer := layerOf(t, manifest)

	// The bucket is away: readiness tells, what is in the database is served, the rest is a clear 503, when all attempts have failed.
	stop()
	awaitStatus(t, d.URL+"/readyz", http.StatusServiceUnavailable)
	client.call(t, token, http.MethodGet, "/v2/team/app/manifests/1", nil, "", http.StatusOK)
	began := time.Now()
	small := client.pushBlob(t, token, "team/app", []byte("small content"))
	client.call(t, token, http.MethodGet, "/v2/team/app/blobs/"+small, nil, "", http.StatusOK)
	t.Logf("small content was pushed without the bucket in %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	_, body := client.call(t, token, http.MethodGet, "/v2/team/app/blobs/"+layer, nil, "", http.StatusServiceUnavailable)
	wants(t, string(body), "UNAVAILABLE", "storage")
	t.Logf("a pull without the bucket was refused after %s", time.Since(began).Round(time.Millisecond))

	start()
	awaitStatus(t, d.URL+"/readyz", http.StatusOK)
	client.pushPull(t, "team/app", "2", 24<<20)
}

// startS3 starts the server of the Compose file until the test ends or stop is called.
func startS3(t *testing.T, args []string, path, home, health string) (stop func()) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"PATH=" + path + ":/usr/bin:/bin", "HOME=" + home}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("log of versitygw:\n%s", log.String())
		}
	})
	t.Cleanup(stop)
	awaitStatus(t, health, http.StatusOK)
	return stop
}
