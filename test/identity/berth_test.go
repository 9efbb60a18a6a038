package identity_test

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// said is what a command has printed so far.
type said struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// berth signs in with berth login --device, as an account that somebody uses in a browser elsewhere, and lists a repository as it.
func (w *world) berth(t *testing.T, account, name string) {
	t.Helper()
	u, err := url.Parse(w.base)
	if err != nil {
		t.Fatal(err)
	}
	tool, auth := testkit.BuildBerth(t), filepath.Join(t.TempDir(), "auth.json")
	command := func(args ...string) (*exec.Cmd, *said) {
		out := &said{}
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Env = append(os.Environ(), "REGISTRY_AUTH_FILE="+auth)
		cmd.Stdout, cmd.Stderr = out, out
		return cmd, out
	}
	certs := filepath.Join(w.Data, "tls", "trust")
	if err := os.MkdirAll(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	if ca, err := os.ReadFile(filepath.Join(w.Data, "tls", "ca.crt")); err != nil || os.WriteFile(filepath.Join(certs, "ca.crt"), ca, 0o600) != nil {
		t.Fatal("the authority cannot be put where berth looks: ", err)
	}
	cmd, out := command("login", "--device", "--cert-dir", certs, u.Host)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`Open (\S+)\nin a browser .* the code (\S+),`)
	var m []string
	for began := time.Now(); m == nil && time.Since(began) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		m = told.FindStringSubmatch(out.String())
	}
	if m == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("berth login --device: %s", out)
	}
	w.idp.Browse(t, w.browser(t), m[1], account, map[string]string{"user_code": m[2]})
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "Login Succeeded!") {
		t.Fatalf("berth login --device: %v: %s", err, out)
	}
	for _, args := range [][]string{{"login", "--get-login", u.Host}, {"login", "--device", "--provider", "nobody", "--cert-dir", certs, u.Host}} {
		cmd, out := command(args...)
		err := cmd.Run()
		if wrong := len(args) > 3; wrong != (err != nil) || wrong && !strings.Contains(out.String(), "there are: idp") || !wrong && strings.TrimSpace(out.String()) != name {
			t.Errorf("berth %q: %v: %s", args, err, out)
		}
	}
}
