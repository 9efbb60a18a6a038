//go:build unix

package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berth-registry/berth/internal/testkit"
)

// wicked is a registry that has the image of a layout as team/app:v1, and answers some requests in a way of its own.
type wicked struct {
	*httptest.Server
	dir  string
	does func(w http.ResponseWriter, r *http.Request) bool // true when it answered

	mu     sync.Mutex
	seen   []string // "METHOD path"
	logins []string // what came as Authorization
}

// registryOf serves a layout by plain HTTP, on the address of a loopback interface.
func registryOf(t *testing.T, addr, dir string, does func(w http.ResponseWriter, r *http.Request) bool) *wicked {
	t.Helper()
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		testkit.Missing(t, "this machine has no address %s: %v", addr, err)
	}
	s := &wicked{dir: dir, does: does}
	s.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s}} //nolint:gosec // of a test
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *wicked) host() string { return s.Listener.Addr().String() }

// asked counts requests.
func (s *wicked) asked(method, path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.seen {
		if strings.HasPrefix(q, method+" ") && strings.Contains(q, path) {
			n++
		}
	}
	return n
}

func (s *wicked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Path)
	if a := r.Header.Get("Authorization"); a != "" {
		s.logins = append(s.logins, a)
	}
	s.mu.Unlock()
	if s.does != nil && s.does(w, r) {
		return
	}
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	hex := strings.TrimPrefix(name, "sha256:")
	isManifest := strings.Contains(r.URL.Path, "/manifests/")
	switch {
	case r.URL.Path == "/v2/":
	case isManifest || strings.Contains(r.URL.Path, "/blobs/"):
		if isManifest && hex == "v1" {
			hex = s.manifest()
		}
		body, err := os.ReadFile(filepath.Join(s.dir, "blobs", "sha256", hex))
		if err != nil || len(hex) != 64 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if isManifest {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		w.Header().Set("Docker-Content-Digest", "sha256:"+hex)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *wicked) manifest() string {
	var doc struct{ Manifests []struct{ Digest string } }
	body, err := os.ReadFile(filepath.Join(s.dir, "index.json"))
	if err != nil || json.Unmarshal(body, &doc) != nil {
		return ""
	}
	return strings.TrimPrefix(doc.Manifests[0].Digest, "sha256:")
}

// A registry that misbehaves, asked by real commands over HTTP: what is wrong is said, in time and after a bounded number of
// requests, the exit code is not 0, and the target has no image. What only goes wrong for a while does no harm.
func TestMisbehavingRegistries(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	fat(t, image)
	lie := "sha256:" + strings.Repeat("0", 64)
	isBlob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	isManifest := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }
	html := func(w http.ResponseWriter, status int) bool {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, "<!DOCTYPE html><html><title>Please sign in</title></html>")
		return true
	}
	// once answers wrong the first time that a path is asked for.
	once := func(when func(*http.Request) bool, do func(w http.ResponseWriter, r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
		var mu sync.Mutex
		var done []string
		return func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			first := when(r) && r.Method == http.MethodGet && !slices.Contains(done, r.URL.Path)
			if first {
				done = append(done, r.URL.Path)
			}
			mu.Unlock()
			if first {
				do(w, r)
			}
			return first
		}
	}
	half := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 1000))
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		does func(w http.ResponseWriter, r *http.Request) bool
		text string // "" is success
	}{
		"nothing wrong": {nil, ""},
		"a digest header that lies": {func(w http.ResponseWriter, r *http.Request) bool {
			if !isManifest(r) || r.Method == http.MethodHead {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", lie)
			fmt.Fprint(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":"`+lie+`","size":2},"layers":[]}`)
			return true
		}, "igest"},
		"HTML and 200 to everything": {func(w http.ResponseWriter, _ *http.Request) bool { return html(w, 200) }, "HTML page"},
		"HTML and 502 to everything": {func(w http.ResponseWriter, _ *http.Request) bool { return html(w, 502) }, "HTML page"},
		"HTML and 200 for blobs":     {func(w http.ResponseWriter, r *http.Request) bool { return isBlob(r) && html(w, 200) }, "blob"},
		"HTML and 502 once":          {once(isManifest, func(w http.ResponseWriter, _ *http.Request) { html(w, 502) }), ""},
		"too many requests once":     {once(isManifest, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) }), ""},
		"too many requests for hours": {func(w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				w.Header().Set("Retry-After", "20000")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return isManifest(r)
		}, "20000"},
		"blobs that break off once": {once(isBlob, half), ""},
		"blobs that break off at once": {func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) && r.Method == http.MethodGet {
				panic(http.ErrAbortHandler)
			}
			return false
		}, "connection"},
		"blobs of another length": {func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				_, _ = w.Write([]byte("another"))
			}
			return isBlob(r)
		}, "bytes"},
		"blobs of other bytes": {func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r) {
				return false
			}
			body, err := os.ReadFile(filepath.Join(image, "blobs", "sha256", r.URL.Path[len(r.URL.Path)-64:]))
			if err != nil {
				return false
			}
			body[len(body)-1]++
			_, _ = w.Write(body)
			return true
		}, "igest"},
		"a redirect in a circle": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return true
		}, "redirects"},
		"a redirect to a file": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(307)
			return true
		}, "redirect"},
		"an answer that never ends": {func(w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				for range 9 << 10 {
					if _, err := w.Write(make([]byte, 1<<10)); err != nil {
						break
					}
				}
			}
			return isManifest(r)
		}, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registryOf(t, "127.0.0.1", image, tc.does)
			out := filepath.Join(dir, "out-"+strings.ReplaceAll(name, " ", "-"))
			code, _, errs := berth(t, "--command-timeout", "60s", "copy", "--retry-times", "2", "--retry-delay", "10ms", "--src-tls-verify=false", "docker://"+reg.host()+"/team/app:v1", "oci:"+out+":v1")
			inspect, _, _ := berth(t, "inspect", "--raw", "oci:"+out+":v1")
			switch {
			case tc.text == "" && (code != 0 || inspect != 0):
				t.Errorf("exit code %d: %s", code, errs)
			case tc.text != "" && (code == 0 || !strings.Contains(errs, tc.text) || strings.Contains(errs, "goroutine ")):
				t.Errorf("exit code %d, want %q: %s", code, tc.text, errs)
			case tc.text != "" && inspect == 0:
				t.Error("the target has an image")
			}
			if n := reg.asked("", ""); n > 60 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
}

// Credentials of a registry follow no redirect, token server or link to another host, in the commands of our own client and in those
// of the library.
func TestCredentialsStayAtTheirHost(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	if err := writeImage(image, "a"); err != nil {
		t.Fatal(err)
	}
	other := registryOf(t, "127.0.0.2", image, nil)
	for name, where := range map[string]func(*http.Request) bool{
		"blobs":     func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") },
		"manifests": func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") },
	} {
		t.Run(name, func(t *testing.T) {
			reg := registryOf(t, "127.0.0.1", image, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "" {
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
					return true
				}
				if where(r) {
					http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
					return true
				}
				return false
			})
			from := "docker://" + reg.host() + "/team/app:v1"
			for what, args := range map[string][]string{
				"copy":         {"copy", "--src-tls-verify=false", "--src-creds", "alice:secret", from, "oci:" + filepath.Join(dir, "out-"+name) + ":v1"},
				"library copy": {"copy", "--format", "v2s2", "--src-tls-verify=false", "--src-creds", "alice:secret", from, "dir:" + filepath.Join(dir, "dir-"+name)},
				"inspect":      {"inspect", "--no-tags", "--tls-verify=false", "--creds", "alice:secret", from},
				"export":       {"export", "--tls-verify=false", "--creds", "alice:secret", from, filepath.Join(dir, "export-"+name)},
			} {
				if code, _, errs := berth(t, args...); code != 0 {
					t.Errorf("%s: exit code %d: %s", what, code, errs)
				}
			}
			if len(reg.logins) == 0 {
				t.Error("the registry itself got no login")
			}
		})
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if len(other.seen) == 0 {
		t.Error("nobody followed a redirect")
	}
	if len(other.logins) > 0 {
		t.Errorf("the other host got %q", other.logins)
	}
	// A token server on another host is not told the password.
	token := registryOf(t, "127.0.0.2", image, func(w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprint(w, `{"token":"x"}`)
		return true
	})
	reg := registryOf(t, "127.0.0.1", image, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+token.URL+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	from := "docker://" + reg.host() + "/team/app:v1"
	for what, args := range map[string][]string{
		"copy":         {"copy", "--src-tls-verify=false", "--src-creds", "alice:secret", from, "oci:" + filepath.Join(dir, "out-token") + ":v1"},
		"library copy": {"copy", "--src-tls-verify=false", "--src-creds", "alice:secret", from, "dir:" + filepath.Join(dir, "dir-token")},
		"library push": {"copy", "--format", "v2s2", "--dest-tls-verify=false", "--dest-creds", "alice:secret", "oci:" + image, from},
		"sync":         {"sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", "--src-creds", "alice:secret", reg.host() + "/team/app:v1", filepath.Join(dir, "sync-token")},
		"login":        {"login", "--tls-verify=false", "-u", "alice", "-p", "secret", reg.host()},
	} {
		if code, _, errs := berth(t, args...); code != 5 || !strings.Contains(errs, "another site") {
			t.Errorf("%s: exit code %d: %s", what, code, errs)
		}
	}
	if len(token.logins) > 0 {
		t.Errorf("the token server of a stranger got %q", token.logins)
	}
}

// A blob without end does not fill the disk where the library writes it, which compares sizes only at the end.
func TestBlobWithoutEnd(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	if err := writeImage(image, "a"); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	reg := registryOf(t, "127.0.0.1", image, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		for range 4 << 20 { // 4 GiB, should nobody end it
			n, err := w.Write(make([]byte, 1<<10))
			if sent.Add(int64(n)); err != nil {
				break
			}
		}
		return true
	})
	out := filepath.Join(dir, "out")
	code, _, errs := berth(t, "copy", "-q", "--src-tls-verify=false", "docker://"+reg.host()+"/team/app:v1", "dir:"+out)
	if code == 0 || !strings.Contains(errs, "goes on far beyond") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if n := sent.Load(); n > 2<<30 {
		t.Errorf("%d bytes were taken", n)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Error("something was left")
	}
}

// A layer that unpacks to far more than its size, as one of text does, is no blob without end.
func TestLayerThatUnpacks(t *testing.T) {
	dir, _ := sandbox(t)
	image := filepath.Join(dir, "image")
	body := tarOf(t, member{name: "text", body: bytes.Repeat([]byte("0123456789abcdef"), 200<<20/16)})
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(t, img)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(image, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
	for what, args := range map[string][]string{
		"docker-archive": {"copy", "oci:" + image, "docker-archive:" + filepath.Join(dir, "saved.tar")},
		"unpacked":       {"copy", "--dest-decompress", "oci:" + image, "dir:" + filepath.Join(dir, "folder")},
		"as it is":       {"copy", "oci:" + image, "dir:" + filepath.Join(dir, "kept")},
	} {
		if code, _, errs := berth(t, args...); code != 0 {
			t.Errorf("%s: exit code %d: %s", what, code, errs)
		}
	}
}

func diffIDs(t *testing.T, img v1.Image) []v1.Hash {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c.RootFS.DiffIDs
}
