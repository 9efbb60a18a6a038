package conformance_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func pushBlobChecks() []check {
	return []check{
		{"push blob: POST then PUT", []string{"cat-2", "cat-3", "post-1", "post-2", "post-3", "post-4", "post-5", "post-6"}, postThenPut},
		{"push blob: POST then PUT of no known length", []string{"post-4"}, postThenStreamedPut},
		{"push blob: single POST", []string{"single-1", "single-4", "single-5", "single-6"}, singlePost},
		{"push blob: cut short", []string{"single-2"}, cutShort},
		{"push blob: another digest", []string{"single-3", "push-3"}, anotherDigest},
		{"push blob: digests that are none", []string{"push-3", "push-4"}, badDigests},
		{"push blob: twice, and at once", []string{"post-4"}, pushTwice},
	}
}

var uuid = regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func postThenPut(t *testing.T, r *registry) {
	repo := r.repo()
	seen := map[string]bool{}
	for range 3 {
		a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted)
		at := a.location(t)
		id := uuid.FindString(at)
		if id == "" {
			t.Errorf("Location %s has no UUID", at)
		}
		if seen[id] {
			t.Errorf("two uploads have the UUID %s", id)
		}
		seen[id] = true
		blob := noise(500)
		digest := sha256Of(blob)
		// query adds to what the location already has, as the specification asks of clients.
		done := r.do(t, http.MethodPut, at, query("digest", digest), octets(blob)).want(t, http.StatusCreated)
		r.do(t, http.MethodGet, done.location(t)).want(t, http.StatusOK).same(t, blob)
		r.getBlob(t, repo, digest).want(t, http.StatusOK).same(t, blob)
		if d := done.digest(); d != "" && d != digest {
			t.Errorf("%s: Docker-Content-Digest %s, want %s", done.what, d, digest)
		}
	}
}

func postThenStreamedPut(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(100_000)
	at := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted).location(t)
	r.do(t, http.MethodPut, at, query("digest", sha256Of(blob)), streamed(blob)).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

func singlePost(t *testing.T, r *registry) {
	for _, blob := range [][]byte{noise(700), noise(100_000), {}} {
		repo := r.repo()
		digest := sha256Of(blob)
		a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), query("digest", digest), octets(blob))
		if a.status == http.StatusAccepted {
			if r.ours {
				t.Errorf("%s: 202, single POST is a promise of berthd; body: %s", a.what, short(a.body))
			}
			a = r.do(t, http.MethodPut, a.location(t), query("digest", digest), octets(blob))
		}
		a.want(t, http.StatusCreated)
		r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, blob)
	}
}

// cutShort promises more bytes than it sends and hangs up, which no HTTP client library lets one do.
func cutShort(t *testing.T, r *registry) {
	u, err := url.Parse(r.base)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "http" || r.user != "" {
		t.Skip("speaks plain HTTP without credentials")
	}
	repo, whole := r.repo(), noise(4000)
	r.push(t, repo, noise(10)) // the repository is there
	for _, half := range [][]byte{whole[:2000], whole} {
		digest := sha256Of(half)
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v2/%s/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: 5000\r\n\r\n",
			repo, url.QueryEscape(digest), u.Host)
		if _, err := conn.Write(half); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		reply, _ := io.ReadAll(conn) // it may answer or hang up
		conn.Close()
		if strings.HasPrefix(string(reply), "HTTP/1.1 201") {
			t.Errorf("a blob of %d bytes with Content-Length 5000 was accepted", len(half))
		}
		r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
	}
}

func anotherDigest(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(300)
	wrong := sha256Of(noise(8))
	r.push(t, repo, noise(10))
	at := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted).location(t)
	r.do(t, http.MethodPut, at, query("digest", wrong), octets(blob)).want(t, http.StatusBadRequest).says(t, "DIGEST_INVALID")
	a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), query("digest", wrong), octets(blob))
	if a.status == http.StatusAccepted {
		a = r.do(t, http.MethodPut, a.location(t), query("digest", wrong), octets(blob))
	}
	a.want(t, http.StatusBadRequest).says(t, "DIGEST_INVALID")
	for _, digest := range []string{wrong, sha256Of(blob)} {
		r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
	}
}

func badDigests(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(300)
	from := r.repo()
	r.push(t, from, blob)
	bad := map[string]string{
		"empty":          "",
		"no algorithm":   strings.TrimPrefix(sha256Of(blob), "sha256:"),
		"too short":      sha256Of(blob)[:70],
		"too long":       sha256Of(blob) + "0",
		"not hex":        "sha256:" + strings.Repeat("x", 64),
		"upper case":     "sha256:" + strings.ToUpper(strings.TrimPrefix(sha256Of(blob), "sha256:")),
		"unknown":        "md5:d41d8cd98f00b204e9800998ecf8427e",
		"not made yet":   "blake9:" + strings.Repeat("0", 64),
		"path traversal": "sha256:../../../../etc/passwd",
	}
	for name, digest := range bad {
		at := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted).location(t)
		a := r.do(t, http.MethodPut, at, query("digest", digest), octets(blob))
		if a.status != http.StatusBadRequest {
			t.Errorf("POST then PUT, digest %s: got %d, want 400; body: %s", name, a.status, short(a.body))
		}

		at = r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted).location(t)
		at = r.do(t, http.MethodPatch, at, octets(blob), with("Content-Range", "0-299")).want(t, http.StatusAccepted).location(t)
		a = r.do(t, http.MethodPut, at, query("digest", digest))
		if a.status != http.StatusBadRequest {
			t.Errorf("PATCH then PUT, digest %s: got %d, want 400; body: %s", name, a.status, short(a.body))
		}

		if digest == "" {
			continue // without a digest these two are another request
		}
		a = r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), query("digest", digest), octets(blob))
		if a.status == http.StatusAccepted && !r.ours {
			a = r.do(t, http.MethodPut, a.location(t), query("digest", digest), octets(blob))
		}
		if a.status != http.StatusBadRequest {
			t.Errorf("single POST, digest %s: got %d, want 400; body: %s", name, a.status, short(a.body))
		}
		a = r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), query("mount", digest, "from", from))
		if a.status != http.StatusBadRequest {
			t.Errorf("mount, digest %s: got %d, want 400; body: %s", name, a.status, short(a.body))
		}
	}
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusNotFound)
}

func pushTwice(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(50_000)
	r.push(t, repo, blob)
	r.push(t, repo, blob)
	r.push(t, r.repo(), blob)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)

	other := noise(50_000)
	t.Run("at once", func(t *testing.T) {
		for i := range 8 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				r.push(t, repo, other)
			})
		}
	})
	r.getBlob(t, repo, sha256Of(other)).want(t, http.StatusOK).same(t, other)
}
