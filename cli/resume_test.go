//go:build unix

package cli_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// large is the size of a layer that is fetched in parts.
const large = 12 << 20

// largeImage writes an image of two large layers, and says where.
func largeImage(t *testing.T, dir string, seed byte) string {
	t.Helper()
	img := filepath.Join(dir, "image")
	noise := rand.NewChaCha8([32]byte{seed})
	if err := writeImageOf(img, "a", func(int) string {
		b := make([]byte, large)
		_, _ = noise.Read(b)
		return string(b)
	}); err != nil {
		t.Fatal(err)
	}
	return img
}

// halfway serves the large layers of an image: 9 MiB of each, once, until it is mended; then what is asked for.
type halfway struct {
	img    string
	mu     sync.Mutex
	mended bool
	cut    map[string]bool
	ranges []string // that were asked for since
}

func (h *halfway) answer(w http.ResponseWriter, r *http.Request) bool {
	_, digest, isBlob := strings.Cut(r.URL.Path, "/blobs/sha256:")
	if !isBlob || r.Method != http.MethodGet {
		return false
	}
	file := filepath.Join(h.img, "blobs", "sha256", digest)
	body, err := os.ReadFile(file)
	if err != nil || len(body) < large {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mended {
		h.ranges = append(h.ranges, r.Header.Get("Range"))
		http.ServeFile(w, r, file)
		return true
	}
	if !h.cut[digest] {
		h.cut[digest] = true
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:9<<20])
	}
	panic(http.ErrAbortHandler)
}

func (h *halfway) mend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mended = true
}

// A copy into an archive that is interrupted before any layer is whole leaves what came, and the next one fetches the rest only,
// and says so.
func TestInterruptedArchiveGoesOn(t *testing.T) {
	dir, _ := sandbox(t)
	img := largeImage(t, dir, 1)
	half := &halfway{img: img, cut: map[string]bool{}}
	s := registryOf(t, "127.0.0.1", img, half.answer)
	file := filepath.Join(dir, "a.tar")
	copied := []string{"--progress", "json", "--retry", "1", "copy", "--src-tls-verify=false", "docker://" + s.host() + "/team/app:v1", "oci-archive:" + file + ":v1"}
	if code, _, errs := berth(t, copied...); code == 0 {
		t.Fatalf("half of each layer is enough:\n%s", errs)
	}
	if _, err := os.Stat(file); err == nil {
		t.Fatal("a part looks like a whole")
	}
	if info, err := os.Stat(file + ".partial"); err != nil || info.Size() < 8<<20 {
		t.Fatalf("what came is gone: %v", err)
	}
	half.mend()
	code, _, errs := berth(t, copied...)
	if code != 0 {
		t.Fatalf("%d\n%s", code, errs)
	}
	if len(half.ranges) != 2 || half.ranges[0] != "bytes=8388608-" || half.ranges[1] != "bytes=8388608-" {
		t.Errorf("asked for %q", half.ranges)
	}
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	for _, line := range lines {
		var e struct {
			Event      string
			Size, Done int64
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "summary" && (e.Done < 4<<20 || e.Done > 12<<20) {
			t.Errorf("%d bytes are said to have been sent", e.Done)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*partial*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// An image of Docker's types that is interrupted on its way into a layout goes on in the middle of its layers, becomes one of OCI's
// types, and the leftovers of a killed run go.
func TestInterruptedDockerImageGoesOn(t *testing.T) {
	dir, _ := sandbox(t)
	img := largeImage(t, dir, 2)
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	oci := (&wicked{dir: img}).manifest()
	body, err := os.ReadFile(filepath.Join(img, "blobs", "sha256", oci))
	if err != nil {
		t.Fatal(err)
	}
	body = []byte(strings.NewReplacer("application/vnd.oci.image.manifest.v1+json", docker, "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
		"application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip").Replace(string(body)))
	half := &halfway{img: img, cut: map[string]bool{}}
	s := registryOf(t, "127.0.0.1", img, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", docker)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			return true
		}
		return half.answer(w, r)
	})
	to := filepath.Join(dir, "to")
	copied := []string{"--retry", "1", "copy", "--src-tls-verify=false", "docker://" + s.host() + "/team/app:v1", "oci:" + to + ":v1"}
	if code, _, errs := berth(t, copied...); code == 0 {
		t.Fatalf("half of each layer is enough:\n%s", errs)
	}
	left := filepath.Join(to, "oci-put-blob4711")
	if err := os.WriteFile(left, []byte("half of a layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	half.mend()
	code, _, errs := berth(t, copied...)
	if code != 0 {
		t.Fatalf("%d\n%s", code, errs)
	}
	if len(half.ranges) != 2 || !strings.HasPrefix(half.ranges[0], "bytes=") || !strings.HasPrefix(half.ranges[1], "bytes=") {
		t.Errorf("asked for %q", half.ranges)
	}
	if strings.Contains(errs, "already there") || !strings.Contains(errs, "copied 3 of 3 blobs") {
		t.Errorf("said:\n%s", errs)
	}
	if _, err := os.Stat(left); err == nil && runtime.GOOS == "linux" {
		t.Error("what a killed run left stays")
	}
	if _, out, errs := berth(t, "inspect", "--raw", "oci:"+to+":v1"); !strings.Contains(out, "application/vnd.oci.image.manifest.v1+json") || strings.Contains(out, "docker") {
		t.Errorf("%s\n%s", out, errs)
	}
	if code, _, errs := berth(t, "validate", "oci:"+to+":v1"); code != 0 {
		t.Error(errs)
	}
}
