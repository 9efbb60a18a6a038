package httpd_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/httpd"
)

// pebble finds the ACME test server: in PATH or in the cache that test/setup fills.
func pebble(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("pebble"); err == nil {
		return path
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			testkit.Missing(t, "pebble is in the cache directory, and there is none: %v", err)
		}
		cache = filepath.Join(home, ".cache")
	}
	for _, name := range []string{"pebble@v2.10.1/pebble", "pebble"} { // test/setup keeps versions apart
		path := filepath.Join(cache, "berth-test", "bin", name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	testkit.Missing(t, "pebble is not installed (run test/setup/setup.sh)")
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// The certificate comes from a real ACME server, which validates against our one port: HTTP-01 on its plain half,
// TLS-ALPN-01 on its TLS half. The host name is one that every resolver maps to loopback.
func TestACME(t *testing.T) {
	program := pebble(t)
	const host = "registry.localhost.localdomain"
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			dir := t.TempDir()
			_, err := httpd.NewSelfMade(dir, nil, time.Now()) // for pebble's own API
			if err != nil {
				t.Fatal(err)
			}
			port, apiPort := freePort(t), freePort(t)
			unused := freePort(t) // where the other challenge would be answered
			httpPort, tlsPort := port, unused
			if challenge == "tls-alpn-01" {
				httpPort, tlsPort = unused, port
			}
			config := filepath.Join(dir, "pebble.json")
			text := fmt.Sprintf(`{"pebble":{"listenAddress":"127.0.0.1:%d","certificate":%q,"privateKey":%q,"httpPort":%d,"tlsPort":%d,"ocspResponderURL":"","externalAccountBindingRequired":false,"profiles":{"default":{"description":"d","validityPeriod":7776000}}}}`,
				apiPort, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), httpPort, tlsPort)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			dns := startDNS(t)
			ctx, stop := context.WithCancel(context.Background())
			command := exec.CommandContext(ctx, program, "-config", config, "-dnsserver", dns)
			command.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
			output := &syncBuffer{}
			command.Stdout, command.Stderr = output, output
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { stop(); _ = command.Wait() })
			waitFor(t, fmt.Sprintf("127.0.0.1:%d", apiPort), output)

			s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }), func(o *httpd.Options) {
				o.Addr = fmt.Sprintf("127.0.0.1:%d", port)
				certs, err := httpd.OpenCertificates(httpd.CertOptions{Dir: filepath.Join(dir, "ours"), Log: o.Log, Now: time.Now, TLS: httpd.TLSOptions{HTTP2: true},
					ACME: &httpd.ACMEOptions{Email: "alice@example.com", Hosts: []string{host}, CacheDir: filepath.Join(dir, "acme"),
						Directory: fmt.Sprintf("https://127.0.0.1:%d/dir", apiPort), CAFile: filepath.Join(dir, "ca.crt")}})
				if err != nil {
					t.Fatal(err)
				}
				o.Certs = certs
			})
			deadline := time.Now().Add(60 * time.Second)
			for {
				c, err := tls.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}, "tcp", s.addr, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // pebble's root changes with every start; issuer and name are checked below
				if err == nil {
					leaf := c.ConnectionState().PeerCertificates[0]
					_ = c.Close()
					if err := leaf.VerifyHostname(host); err != nil || !strings.Contains(leaf.Issuer.CommonName, "Pebble") {
						t.Fatalf("certificate of %q: %v", leaf.Issuer.CommonName, err)
					}
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("no certificate in 60 s: %v\nserver: %s\npebble: %s", err, s.log, output)
				}
				time.Sleep(200 * time.Millisecond)
			}
			// Other names get the self-made certificate and never an order.
			c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}) //nolint:gosec // the issuer is what is looked at
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if issuer := c.ConnectionState().PeerCertificates[0].Issuer.CommonName; !strings.HasPrefix(issuer, "berth CA") {
				t.Errorf("localhost got a certificate of %q", issuer)
			}
		})
	}
}

func waitFor(t *testing.T, addr string, output *syncBuffer) {
	t.Helper()
	for range 100 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("pebble does not listen on %s: %s", addr, output)
}

func TestACMERefusesNamesItCannotServe(t *testing.T) {
	for _, hosts := range [][]string{nil, {"localhost"}, {"192.0.2.1"}, {"*.example.com"}, {"a b.example"}} {
		_, err := httpd.OpenCertificates(httpd.CertOptions{Dir: t.TempDir(), Log: discard(), Now: time.Now, ACME: &httpd.ACMEOptions{Hosts: hosts, CacheDir: t.TempDir()}})
		if err == nil || !strings.Contains(err.Error(), "--host") {
			t.Errorf("%q: %v", hosts, err)
		}
	}
}
