package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// host is how clients call the registry in these tests; it leads to the load balancer by the client's own dialing.
const host = "registry.example.com"

// replicas starts berthds on one database and one shared directory.
func replicas(t *testing.T, database string) (list []*testkit.Daemon) {
	t.Helper()
	shared := t.TempDir()
	for range 3 {
		list = append(list, testkit.Start(t, testkit.Options{Database: database, Env: []string{
			"BERTH_ADMIN_PASSWORD=" + adminPassword, "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + shared,
			"REGISTRY_HTTP_TRUSTEDPROXIES=[127.0.0.1]", "BERTH_LOG_FORMAT=json", "BERTH_ANONYMOUS=none",
		}}))
	}
	return list
}

// balancer is a load balancer under test.
type balancer struct {
	addr string // 127.0.0.1:port
	cert *x509.Certificate
}

// client dials the balancer whatever the name is, from another address of loopback than everything else here.
func (b balancer) client(t *testing.T, http2 bool) docker {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(b.cert)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 32,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, b.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	_, port, _ := net.SplitHostPort(b.addr)
	return docker{http: &http.Client{Transport: transport, Timeout: time.Minute}, base: "https://" + host + ":" + port}
}

// serve runs a load balancer until the test ends.
func serve(t *testing.T, addr string, cert *x509.Certificate, program string, args ...string) balancer {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(peer(t, program), args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir()}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &log, &log, 2*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(3 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", program, log.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return balancer{addr, cert}
		}
		select {
		case <-exited:
			t.Fatalf("%s ended before it was ready", program)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready after 10 s", program)
		}
	}
}

// adapt replaces what a document says about addresses and files by those of the test. What it asks to replace must be
// there, or the test would run something else than the document.
func adapt(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

const balancerDoc = tree + "/docs/operate/load-balancer.md"

func nginx(t *testing.T, list []*testkit.Daemon) balancer {
	t.Helper()
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	cert := makeCertificate(t, dir+"/cert.pem", dir+"/key.pem")
	site := adapt(t, block(t, balancerDoc, "nginx"), "10.0.0.21:5000", list[0].Addr, "10.0.0.22:5000", list[1].Addr, "10.0.0.23:5000", list[2].Addr,
		"listen 443 ", "listen "+addr+" ", "/etc/ssl/registry/fullchain.pem", dir+"/cert.pem", "/etc/ssl/registry/key.pem", dir+"/key.pem")
	file := write(t, filepath.Join(dir, "nginx.conf"), "daemon off; master_process off; pid "+dir+"/pid; error_log stderr warn;\nevents {}\nhttp {\naccess_log off;\n"+
		"client_body_temp_path "+dir+"/body; proxy_temp_path "+dir+"/proxy; fastcgi_temp_path "+dir+"/f; uwsgi_temp_path "+dir+"/u; scgi_temp_path "+dir+"/s;\n"+site+"}\n")
	b := serve(t, addr, cert, "nginx", "-e", "stderr", "-c", file)
	t.Cleanup(func() { // the promise "no buffering"
		for _, name := range []string{"body", "proxy"} {
			if err := filepath.Walk(filepath.Join(dir, name), func(path string, info os.FileInfo, err error) error {
				if err == nil && info.Mode().IsRegular() {
					t.Errorf("nginx wrote %s, %d bytes", path, info.Size())
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

func haproxy(t *testing.T, list []*testkit.Daemon, text string, pairs ...string) balancer {
	t.Helper()
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	cert := makeCertificate(t, dir+"/cert.pem", dir+"/key.pem")
	pem := write(t, filepath.Join(dir, "haproxy.pem"), read(t, dir+"/cert.pem")+read(t, dir+"/key.pem"))
	pairs = append(pairs, "bind :", "bind 127.0.0.1:")
	text = adapt(t, text, pairs...)
	text = strings.NewReplacer("ADDR0", list[0].Addr, "ADDR1", list[1].Addr, "ADDR2", list[2].Addr, "PEM", pem, "127.0.0.1:443 ", addr+" ", "127.0.0.1:8443 ", addr+" ",
		"127.0.0.1:8404", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))).Replace(text)
	file := write(t, filepath.Join(dir, "haproxy.cfg"), text)
	command{}.run(t, peer(t, "haproxy"), "-c", "-f", file)
	return serve(t, addr, cert, "haproxy", "-db", "-f", file)
}

func caddy(t *testing.T, list []*testkit.Daemon) balancer {
	t.Helper()
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	cert := makeCertificate(t, dir+"/cert.pem", dir+"/key.pem")
	_, port, _ := net.SplitHostPort(addr)
	text := adapt(t, block(t, balancerDoc, "caddy"), "10.0.0.21:5000", list[0].Addr, "10.0.0.22:5000", list[1].Addr, "10.0.0.23:5000", list[2].Addr,
		host+" {", "https://"+host+":"+port+" {\n    bind 127.0.0.1\n    tls "+dir+"/cert.pem "+dir+"/key.pem")
	file := write(t, filepath.Join(dir, "Caddyfile"), "{\n    admin off\n    auto_https disable_redirects\n}\n"+text)
	return serve(t, addr, cert, "caddy", "run", "--adapter", "caddyfile", "--config", file)
}

// Pushes and pulls as docker's, through what the documentation tells people to write, each request of them to another
// replica.
func TestBalancers(t *testing.T) {
	list := replicas(t, testkit.Postgres(t))
	for name, start := range map[string]func(t *testing.T) balancer{
		"nginx": func(t *testing.T) balancer { return nginx(t, list) },
		"haproxy": func(t *testing.T) balancer {
			return haproxy(t, list, block(t, balancerDoc, "haproxy"), "10.0.0.21:5000", "ADDR0", "10.0.0.22:5000", "ADDR1", "10.0.0.23:5000", "ADDR2", "/etc/ssl/registry/haproxy.pem", "PEM")
		},
		"haproxy of compose": func(t *testing.T) balancer { return composeBalancer(t, list) },
		"caddy":              func(t *testing.T) balancer { return caddy(t, list) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			repository := "team/" + strings.ReplaceAll(name, " ", "-")
			for _, http2 := range []bool{false, true} {
				b.client(t, http2).pushPull(t, repository, fmt.Sprintf("h2-%t", http2), 24<<20)
			}
			for _, d := range list {
				if !strings.Contains(d.Log(), repository) {
					t.Errorf("replica %s got no request", d.Addr)
				}
			}
			if !strings.Contains(list[0].Log()+list[1].Log()+list[2].Log(), `"client":"127.0.0.77"`) {
				t.Errorf("no replica saw the client's address:\n%.2000s", list[0].Log())
			}
		})
	}
}

func composeBalancer(t *testing.T, list []*testkit.Daemon) balancer {
	t.Helper()
	return haproxy(t, list, read(t, tree+"/deploy/compose/haproxy.cfg"), "berth1:5000", "ADDR0", "berth2:5000", "ADDR1", "berth3:5000", "ADDR2",
		"/run/secrets/tls.pem", "PEM", " resolvers names init-addr libc,none", "")
}

// An upgrade: one replica after the other ends and comes back, as compose and Kubernetes do it, while clients push and
// pull. Nobody is told that anything is wrong.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	list := replicas(t, testkit.Postgres(t))
	b := composeBalancer(t, list)
	client := b.client(t, false)
	client.pushPull(t, "team/app", "1", 1<<20)
	token, _ := client.login(t, "team/app")

	var done atomic.Bool
	var answers atomic.Int64
	var clients sync.WaitGroup
	for n := range 6 {
		clients.Go(func() {
			for i := 0; !done.Load(); i++ {
				method, path, body, want := http.MethodGet, "/v2/team/app/manifests/1", "", http.StatusOK
				if n%3 == 0 {
					method, path, want = http.MethodPut, fmt.Sprintf("/v2/team/app/manifests/n%d-%d", n, i%8), http.StatusCreated
					body = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
				}
				req, err := http.NewRequest(method, client.base+path, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
				resp, err := client.http.Do(req)
				if err != nil {
					t.Errorf("%s %s: %v", method, path, err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("%s %s: %s", method, path, resp.Status)
					return
				}
				answers.Add(1)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for _, d := range list {
		before := answers.Load()
		d.Restart(t)
		time.Sleep(1500 * time.Millisecond) // the next one waits until the balancer has seen this one, as --wait does
		if answers.Load() == before {
			t.Error("nothing was answered during a restart")
		}
	}
	done.Store(true)
	clients.Wait()
	t.Logf("%d requests were answered", answers.Load())
}

// While PostgreSQL is away no replica is ready. The load balancer asks them nevertheless: what is in memory is served, and a
// push is told by berth what is wrong.
func TestBalancerWithoutDatabase(t *testing.T) {
	t.Parallel()
	postgres := testkit.OwnPostgres(t)
	list := replicas(t, postgres.DSN)
	b := composeBalancer(t, list)
	client := b.client(t, false)
	client.pushPull(t, "team/app", "1", 1<<20)
	token, _ := client.login(t, "team/app")
	const manifest = "/v2/team/app/manifests/1"
	for range 2 * len(list) { // each of them reads it
		client.call(t, token, http.MethodGet, manifest, nil, "", http.StatusOK)
	}

	postgres.Crash()
	for _, d := range list {
		awaitStatus(t, d.URL+"/readyz", http.StatusServiceUnavailable)
	}
	time.Sleep(3 * time.Second) // fall 2, inter 1s: the balancer knows
	for range 2 * len(list) {
		client.call(t, token, http.MethodGet, manifest, nil, "", http.StatusOK)
	}
	header, body := client.call(t, token, http.MethodPut, "/v2/team/app/manifests/2", strings.NewReader(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`),
		"application/vnd.oci.image.index.v1+json", http.StatusServiceUnavailable)
	if header.Get("Retry-After") == "" || !strings.Contains(string(body), "UNAVAILABLE") {
		t.Errorf("a push is answered %v\n%s", header, body)
	}

	postgres.Start(t)
	for _, d := range list {
		awaitReady(t, d.URL)
	}
	client.pushPull(t, "team/app", "3", 1<<20)
}
