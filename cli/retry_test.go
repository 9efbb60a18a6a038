package cli_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/cli"
)

// busy is a registry that answers requests for manifests with 503, and notes when they came.
type busy struct {
	mu   sync.Mutex
	came map[string][]time.Time // by path
}

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/manifests/") {
		return // GET /v2/
	}
	b.mu.Lock()
	if b.came == nil {
		b.came = map[string][]time.Time{}
	}
	b.came[r.URL.Path] = append(b.came[r.URL.Path], time.Now())
	b.mu.Unlock()
	w.WriteHeader(http.StatusServiceUnavailable)
}

// most are the requests for what was asked for most often: sync asks both ends at once, and gives up when one of them has failed.
func (b *busy) most() (came []time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, all := range b.came {
		if len(all) > len(came) {
			came = all
		}
	}
	return came
}

// half answers the first request for a manifest, and is busy from then on.
type half struct {
	busy
	manifest string
	answered bool
}

func (h *half) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	first := !h.answered && strings.HasPrefix(r.URL.Path, "/v2/a/manifests/")
	h.answered = h.answered || first
	h.mu.Unlock()
	if first {
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(h.manifest))
		return
	}
	h.busy.ServeHTTP(w, r)
}

// The questions that policy.json makes necessary are asked again as the flags say, too, in front of the command or behind it.
func TestRetriesOfPolicy(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", home)
	t.Setenv("BERTH_BLOB_CACHE_DIR", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	policy := filepath.Join(home, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		front, behind []string
		tries         int
	}{
		"never":                {nil, []string{"--retry-times", "0"}, 1},
		"often":                {nil, []string{"--retry-times", "2", "--retry-delay", "1ms"}, 3},
		"as the engine":        {nil, []string{"--retry-delay", "1ms"}, 5},
		"of every command":     {[]string{"--retry", "1"}, []string{"--retry-delay", "1ms"}, 2},
		"the command's own":    {[]string{"--retry", "7"}, []string{"--retry-times", "1", "--retry-delay", "1ms"}, 2},
		"until the time is up": {[]string{"--timeout", "300ms"}, []string{"--retry-times", "9", "--retry-delay", "1h"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := &half{manifest: `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`}
			server := httptest.NewServer(h)
			defer server.Close()
			at := strings.TrimPrefix(server.URL, "http://")
			args := slices.Concat([]string{"berth", "--policy", policy}, test.front, []string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false"}, test.behind,
				[]string{"docker://" + at + "/a:1", "docker://" + at + "/b:1"})
			var out, errs bytes.Buffer
			code := cli.Main(args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
			again := 0
			for path, came := range h.came {
				if strings.HasPrefix(path, "/v2/a/") {
					again += len(came)
				}
			}
			if code == 0 || again != test.tries {
				t.Fatalf("exit code %d after %d more requests for the manifest, want %d: %s", code, again, test.tries, errs.String())
			}
		})
	}
}

// What --retry-times and --retry-delay say holds where berth's own engine copies, in place of the engine's own habits: five
// tries, with pauses of at most a second at first, and doubled.
func TestRetryFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args  []string
		tries int
		pause time.Duration // between tries, at least
		whole time.Duration // from first to last, less than; 0 is not looked at
	}{
		"never":  {[]string{"--retry-times", "0"}, 1, 0, 0},
		"often":  {[]string{"--retry-times", "6", "--retry-delay", "1ms"}, 7, time.Millisecond, 3 * time.Second},
		"slowly": {[]string{"--retry-times", "1", "--retry-delay", "1200ms"}, 2, 1200 * time.Millisecond, 0},
		"delay":  {[]string{"--retry-delay", "1ms"}, 5, time.Millisecond, 3 * time.Second},
	} {
		for _, command := range []string{"copy", "sync"} {
			t.Run(command+" "+name, func(t *testing.T) {
				home := t.TempDir()
				t.Setenv("HOME", home)
				t.Setenv("XDG_STATE_HOME", home)
				t.Setenv("BERTH_BLOB_CACHE_DIR", home)
				t.Setenv("REGISTRY_AUTH_FILE", "")
				b := &busy{}
				server := httptest.NewServer(b)
				defer server.Close()
				at := strings.TrimPrefix(server.URL, "http://")
				args := []string{"berth", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"}
				last := []string{"docker://" + at + "/a:1", "docker://" + at + "/b:1"}
				if command == "sync" {
					args[2], last = "sync", []string{at + "/a:1", at + "/b"}
					args = append(args, "--src", "docker", "--dest", "docker")
				}
				var out, errs bytes.Buffer
				code := cli.Main(append(append(args, test.args...), last...), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
				came := b.most()
				if code == 0 || len(came) != test.tries {
					t.Fatalf("exit code %d after %d requests, want %d: %s", code, len(came), test.tries, errs.String())
				}
				for i := 1; i < len(came); i++ {
					if d := came[i].Sub(came[i-1]); d < test.pause {
						t.Errorf("the pause before try %d was %s, want at least %s", i+1, d, test.pause)
					}
				}
				if d := came[len(came)-1].Sub(came[0]); test.whole > 0 && d >= test.whole {
					t.Errorf("all tries took %s, want less than %s", d, test.whole)
				}
			})
		}
	}
}
