package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// password is the admin's in every test that signs in.
const password = "interop-9RtB-Kd2x"

// registry is a running berthd as its clients know it.
type registry struct {
	*testkit.Daemon
	host  string // localhost:port, the host part of every reference
	ca    []byte // what GET /ca.crt answers
	asked int    // by requests
	open  bool   // anybody may do everything: what the test itself sends carries no credentials
}

// openRegistry lets anybody do everything: for tests that are about the protocol and not about who calls.
func openRegistry(t testing.TB) *registry {
	t.Helper()
	return startRegistry(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}})
}

// guardedRegistry is berthd as it comes: anonymous users may pull what is public, the admin may do everything.
func guardedRegistry(t testing.TB, env ...string) *registry {
	t.Helper()
	return startRegistry(t, testkit.Options{Env: env})
}

func startRegistry(t testing.TB, o testkit.Options) *registry {
	t.Helper()
	open := slices.Contains(o.Env, "BERTH_ANONYMOUS=delete")
	if !open {
		o.Env = append([]string{"BERTH_ADMIN_PASSWORD=" + password}, o.Env...)
	}
	d := testkit.Start(t, o)
	_, port, _ := strings.Cut(d.Addr, ":")
	r := &registry{Daemon: d, host: "localhost:" + port, open: open}
	status, _, ca := r.get(t, "/ca.crt")
	if status != http.StatusOK || !bytes.Contains(ca, []byte("BEGIN CERTIFICATE")) {
		t.Fatalf("GET /ca.crt: %d\n%s", status, ca)
	}
	r.ca = ca
	return r
}

// get asks as a user with curl would, as the admin where berthd is guarded, over plain HTTP on loopback.
func (r *registry) get(t testing.TB, path string, accept ...string) (int, http.Header, []byte) {
	t.Helper()
	return r.do(t, http.MethodGet, path, nil, http.Header{"Accept": accept})
}

func (r *registry) do(t testing.TB, method, path string, body io.Reader, header http.Header) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if strings.HasPrefix(path, "/v2/") && !r.open {
		req.SetBasicAuth("admin", password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, content
}

// manifest returns the stored bytes of repository:reference and checks that they are what their digest says: berthd
// may never convert or re-indent a manifest.
func (r *registry) manifest(t testing.TB, repository, reference string) (body []byte, mediaType string, digest string) {
	t.Helper()
	status, header, body := r.get(t, "/v2/"+repository+"/manifests/"+reference, manifestTypes...)
	if status != http.StatusOK {
		t.Fatalf("GET manifest %s:%s: %d\n%s", repository, reference, status, body)
	}
	sum := sha256.Sum256(body)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	if said := header.Get("Docker-Content-Digest"); strings.HasPrefix(said, "sha256:") && said != digest {
		t.Errorf("manifest %s:%s is said to be %s and is %s", repository, reference, said, digest)
	}
	return body, header.Get("Content-Type"), digest
}

// absent checks that nothing answers under repository:reference.
func (r *registry) absent(t testing.TB, repository, reference string) {
	t.Helper()
	if status, _, body := r.get(t, "/v2/"+repository+"/manifests/"+reference, manifestTypes...); status != http.StatusNotFound {
		t.Errorf("GET manifest %s:%s: %d, want 404\n%s", repository, reference, status, body)
	}
}

// requests counts the access log lines that contain all the words, to prove which way a client took.
func (r *registry) requests(t testing.TB, words ...string) int {
	t.Helper()
	// The log is written behind the answers: what is asked now is the last line to wait for.
	r.asked++
	marker := fmt.Sprintf("/end-of-log-%d", r.asked)
	r.get(t, marker)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(r.Log(), "path="+marker); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no line about GET %s after 10 s in the log:\n%s", marker, r.Log())
		}
	}
	n := 0
lines:
	for line := range strings.Lines(r.Log()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		n++
	}
	return n
}

var manifestTypes = []string{
	"application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
		"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json",
}
