package cli_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/blobinfocache"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/internal/testkit"
)

// counted is a berthd behind something that counts the bytes of blobs that are sent to it.
func counted(t *testing.T) (host string, sent *atomic.Int64) {
	t.Helper()
	d := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}})
	sent = &atomic.Int64{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: d.Addr})
		r.Out.Host = d.Addr
		if strings.Contains(r.In.URL.Path, "/blobs/uploads/") && r.Out.Body != nil {
			r.Out.Body = &counting{r.In.Body, sent}
		}
	}}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), sent
}

type counting struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// Layers of every local place that an earlier run brought to the registry are mounted into another repository, not sent.
func TestLayersOfLocalPlacesAreMounted(t *testing.T) {
	host, sent := counted(t) // first: what is built for all tests does not go into the sandbox
	dir, _ := sandbox(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	noise := rand.NewChaCha8([32]byte{5})
	if err := writeImageOf(at("img"), "a", func(int) string {
		b := make([]byte, 100_000)
		_, _ = noise.Read(b)
		return string(b)
	}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"dir:" + at("folder"), "oci-archive:" + at("oci.tar") + ":v1", "docker-archive:" + at("docker.tar") + ":team/app:v1"} {
		if code, _, errs := berth(t, "copy", "oci:"+at("img")+":v1", to); code != 0 {
			t.Fatal(errs)
		}
	}
	for name, from := range map[string]string{"oci": "oci:" + at("img") + ":v1", "ociarchive": "oci-archive:" + at("oci.tar") + ":v1", "dir": "dir:" + at("folder"), "dockerarchive": "docker-archive:" + at("docker.tar")} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("BERTH_BLOB_CACHE_DIR", t.TempDir())
			var came [2]int64
			for n, repository := range []string{"first", "second"} {
				sent.Store(0)
				if code, _, errs := berth(t, "copy", "--dest-tls-verify=false", from, "docker://"+host+"/"+name+"/"+repository+":v1"); code != 0 {
					t.Fatal(errs)
				}
				came[n] = sent.Load()
			}
			if came[0] < 200_000 || came[1] > 1000 { // the library sends the configuration
				t.Errorf("%d bytes came at first, and %d then", came[0], came[1])
			}
			if code, _, errs := berth(t, "validate", "--tls-verify=false", "docker://"+host+"/"+name+"/second:v1"); code != 0 {
				t.Error(errs)
			}
			if name != "oci" {
				return
			}
			// Where one repository is known that helps, others are not noted, for each note is a write that waits for the disk.
			c := blobinfocache.DefaultCache(&types.SystemContext{BlobInfoCacheDir: os.Getenv("BERTH_BLOB_CACHE_DIR")})
			blobs, err := os.ReadDir(at("img/blobs/sha256"))
			if err != nil || len(blobs) != 4 {
				t.Fatal(len(blobs), err)
			}
			for _, b := range blobs {
				known := c.CandidateLocations(docker.Transport, types.BICTransportScope{Opaque: host}, digest.Digest("sha256:"+b.Name()), false)
				if info, err := b.Info(); err == nil && info.Size() > 90_000 && (len(known) != 1 || known[0].Location.Opaque != host+"/oci/first") {
					t.Errorf("%s is known in %v", b.Name(), known)
				}
			}
		})
	}
}

// The memory is the one of skopeo and podman: what they wrote is read, and written as they do. A host that is another is not asked.
func TestMemoryIsSharedWithSkopeo(t *testing.T) {
	dir, _ := sandbox(t)
	const name = "blob-info-cache-v1.sqlite"
	packed, err := os.ReadFile(filepath.Join("testdata", name+".gz")) // as the library with its own driver wrote it
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "shared")
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, name), theirs, 0o600); err != nil {
		t.Fatal(err)
	}
	c := blobinfocache.DefaultCache(&types.SystemContext{BlobInfoCacheDir: cache})
	d, scope := digest.Digest("sha256:"+strings.Repeat("ab", 32)), types.BICTransportScope{Opaque: "registry.example.com:5000"}
	seen := func() (out []string) {
		for _, l := range c.CandidateLocations(docker.Transport, scope, d, false) {
			out = append(out, l.Location.Opaque)
		}
		return out
	}
	// Their newest comes first: the times were understood.
	if got := strings.Join(seen(), " "); got != "elsewhere.example.com/team/app registry.example.com:5000/team/base registry.example.com:5000/team/old" {
		t.Errorf("of theirs: %s", got)
	}
	c.RecordKnownLocation(docker.Transport, scope, d, types.BICLocationReference{Opaque: "registry.example.com:5000/team/new"})
	if got := seen(); len(got) != 4 || got[0] != "registry.example.com:5000/team/new" {
		t.Errorf("with ours: %q", got)
	}
	ours, err := os.ReadFile(filepath.Join(cache, name))
	if err != nil {
		t.Fatal(err)
	}
	time := regexp.MustCompile(`team/new\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d`)
	if !time.Match(ours) {
		t.Error("the time is not written as their driver does")
	}
}

// A file of others that is damaged, or a folder that cannot be had, is no reason not to copy.
func TestMemoryThatCannotBeHad(t *testing.T) {
	dir, _ := sandbox(t)
	host, _ := counted(t)
	if err := writeImage(filepath.Join(dir, "img"), "a"); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "blob-info-cache-v1.sqlite"), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cache := range map[string]string{"broken": broken, "file": filepath.Join(broken, "blob-info-cache-v1.sqlite", "below")} {
		t.Setenv("BERTH_BLOB_CACHE_DIR", cache)
		if code, _, errs := berth(t, "copy", "--dest-tls-verify=false", "oci:"+filepath.Join(dir, "img")+":v1", "docker://"+host+"/"+name+"/app:v1"); code != 0 || strings.Contains(errs, "sqlite") {
			t.Errorf("%s: %d %s", name, code, errs)
		}
	}
}
