package cli_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/cli"
)

// busy is a registry that answers requests for manifests with 503, and notes when they came.
type busy struct {
	mu   sync.Mutex
	came []time.Time
}

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.Contains(r.URL.Path, "/manifests/") {
		return // GET /v2/
	}
	b.mu.Lock()
	b.came = append(b.came, time.Now())
	b.mu.Unlock()
	w.WriteHeader(http.StatusServiceUnavailable)
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
				if code == 0 || len(b.came) != test.tries {
					t.Fatalf("exit code %d after %d requests, want %d: %s", code, len(b.came), test.tries, errs.String())
				}
				for i := 1; i < len(b.came); i++ {
					if d := b.came[i].Sub(b.came[i-1]); d < test.pause {
						t.Errorf("the pause before try %d was %s, want at least %s", i+1, d, test.pause)
					}
				}
				if d := b.came[len(b.came)-1].Sub(b.came[0]); test.whole > 0 && d >= test.whole {
					t.Errorf("all tries took %s, want less than %s", d, test.whole)
				}
			})
		}
	}
}
