package cli_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// A registry that is slower than a shell waits is asked again in the background, once for each completion that was too early, and the
// next completion has its names without asking. Nothing is kept of a registry that fails.
func TestCompletionFillsInTheBackground(t *testing.T) {
	berth := testkit.BuildBerth(t)
	var asked atomic.Int64
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/_catalog":
			asked.Add(1)
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string][]string{"repositories": {"team/app", "team/base", "other"}})
		case "/v2/broken/tags/list":
			time.Sleep(300 * time.Millisecond)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer registry.Close()
	host := strings.TrimPrefix(registry.URL, "http://")
	home := t.TempDir()
	conf := filepath.Join(home, "registries.conf")
	if err := os.WriteFile(conf, []byte("[[registry]]\nlocation = \""+host+"\"\ninsecure = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	complete := func(word string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c := exec.CommandContext(ctx, berth, "--registries-conf", conf, "__complete", "digest", word)
		c.Env = []string{"HOME=" + home, "XDG_CACHE_HOME=" + filepath.Join(home, "cache"), "CONTAINERS_REGISTRIES_CONF=" + conf, "PATH=" + os.Getenv("PATH")}
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	began := time.Now()
	if got := complete(host + "/team/"); strings.Contains(got, "team/app") {
		t.Fatalf("a registry that takes a second answered at once: %s", got)
	}
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("a shell waited %s", took)
	}
	deadline := time.Now().Add(15 * time.Second)
	got := ""
	for got = ""; !strings.Contains(got, "team/app") && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
		if kept, err := filepath.Glob(filepath.Join(home, "cache", "berth", "names", "*")); err != nil || len(kept) == 0 {
			continue
		}
		before := asked.Load()
		if got = complete(host + "/team/"); asked.Load() != before {
			t.Error("the registry was asked although its names are kept")
		}
	}
	for _, want := range []string{host + "/team/app\n", host + "/team/base\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	if strings.Contains(got, "other") {
		t.Errorf("another prefix: %q", got)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the registry was asked %d times, want once by the shell and once in the background", n)
	}
	kept, _ := filepath.Glob(filepath.Join(home, "cache", "berth", "names", "*"))
	if len(kept) != 1 {
		t.Fatalf("kept: %v", kept)
	}
	if info, err := os.Stat(kept[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("names of private repositories are for others to read: %v, %v", info.Mode(), err)
	}
	complete(host + "/broken:")
	time.Sleep(time.Second)
	if after, _ := filepath.Glob(filepath.Join(home, "cache", "berth", "names", "*")); len(after) != 1 {
		t.Errorf("a failure was kept: %v", after)
	}
}
