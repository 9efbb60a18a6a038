package conformance_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func chunkChecks() []check {
	return []check{
		{"chunks: in order", []string{"chunk-1", "chunk-3", "chunk-4", "chunk-5", "chunk-7", "chunk-8", "chunk-9", "chunk-10", "chunk-11", "chunk-12", "chunk-14", "chunk-15", "chunk-17", "chunk-18"}, chunksInOrder},
		{"chunks: last one with the PUT", []string{"chunk-14", "chunk-15", "chunk-17"}, lastChunkWithPut},
		{"chunks: as one stream", []string{"chunk-8", "chunk-10"}, streamedPatch},
		{"chunks: out of order", []string{"chunk-4", "chunk-5", "chunk-12", "chunk-13", "chunk-23"}, chunksOutOfOrder},
		{"chunks: last one out of order", []string{"chunk-19", "chunk-23"}, lastChunkOutOfOrder},
		{"chunks: content ranges that are none", []string{"chunk-6"}, badContentRanges},
		{"chunks: digest of the whole", []string{"chunk-16"}, closingDigest},
		{"chunks: status", []string{"chunk-20", "chunk-21", "chunk-22"}, uploadStatus},
		{"cancel", []string{"cancel-1", "cancel-2"}, cancelUpload},
		{"cancel: sessions that are over or never were", []string{"cancel-2"}, unknownUpload},
		{"cancel: sessions that nobody ends", []string{"cancel-3"}, abandonedUpload},
	}
}

// open opens an upload and returns its place and the least size of a chunk.
func (r *registry) open(t *testing.T, repo string, opts ...option) (at string, least int) {
	t.Helper()
	opts = append([]option{octets(nil)}, opts...)
	a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), opts...).want(t, http.StatusAccepted)
	least = 1
	if s := a.header.Get("OCI-Chunk-Min-Length"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 64<<20 {
			t.Errorf("OCI-Chunk-Min-Length %q is not a size", s)
		}
		least = max(1, n)
	}
	return a.location(t), least
}

// patch sends one chunk that begins at byte first.
func (r *registry) patch(t *testing.T, at string, first int, chunk []byte) *answer {
	t.Helper()
	return r.do(t, http.MethodPatch, at, octets(chunk), with("Content-Range", contentRange(first, chunk)))
}

func contentRange(first int, chunk []byte) string {
	return fmt.Sprintf("%d-%d", first, first+len(chunk)-1)
}

func wantReceived(t *testing.T, a *answer, bytes int) {
	t.Helper()
	if got, want := a.header.Get("Range"), fmt.Sprintf("0-%d", bytes-1); got != want {
		t.Errorf("%s: %d with Range %q, want %q", a.what, a.status, got, want)
	}
}

func chunksInOrder(t *testing.T, r *registry) {
	repo := r.repo()
	at, least := r.open(t, repo)
	blob := noise(3*least + 4)
	cuts := []int{0, least, 2 * least, 3 * least, len(blob)} // the last one has four bytes
	digest := sha256Of(blob)
	for i := range len(cuts) - 1 {
		a := r.patch(t, at, cuts[i], blob[cuts[i]:cuts[i+1]]).want(t, http.StatusAccepted)
		wantReceived(t, a, cuts[i+1])
		at = a.location(t)
	}
	r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
	a := r.do(t, http.MethodPut, at, query("digest", digest), octets(nil)).want(t, http.StatusCreated)
	r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, blob)
	r.getBlob(t, repo, digest).want(t, http.StatusOK).same(t, blob)
}

func lastChunkWithPut(t *testing.T, r *registry) {
	repo := r.repo()
	at, least := r.open(t, repo)
	blob := noise(least + 100)
	digest := sha256Of(blob)
	at = r.patch(t, at, 0, blob[:least]).want(t, http.StatusAccepted).location(t)
	r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
	r.do(t, http.MethodPut, at, query("digest", digest), octets(blob[least:]), with("Content-Range", contentRange(least, blob[least:]))).want(t, http.StatusCreated)
	r.getBlob(t, repo, digest).want(t, http.StatusOK).same(t, blob)

	// Content-Range is optional there.
	at, least = r.open(t, repo)
	blob = noise(least + 100)
	at = r.patch(t, at, 0, blob[:least]).want(t, http.StatusAccepted).location(t)
	r.do(t, http.MethodPut, at, query("digest", sha256Of(blob)), octets(blob[least:])).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

// docker and podman push so: one PATCH of no known length and no Content-Range.
func streamedPatch(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(300_000)
	at, _ := r.open(t, repo)
	a := r.do(t, http.MethodPatch, at, streamed(blob)).want(t, http.StatusAccepted)
	wantReceived(t, a, len(blob))
	r.do(t, http.MethodPut, a.location(t), query("digest", sha256Of(blob))).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

func chunksOutOfOrder(t *testing.T, r *registry) {
	repo := r.repo()
	at, least := r.open(t, repo)
	third := max(10, least)
	blob := noise(3 * third)

	// The first chunk does not begin with 0.
	r.patch(t, at, third, blob[third:2*third]).want(t, http.StatusRequestedRangeNotSatisfiable)
	at = r.patch(t, at, 0, blob[:third]).want(t, http.StatusAccepted).location(t)
	for name, first := range map[string]int{
		"again": 0, "overlap": third - 1, "gap of one": third + 1, "gap of a chunk": 2 * third,
	} {
		a := r.patch(t, at, first, blob[first:first+least])
		if a.status != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("%s: got %d, want 416; body: %s", name, a.status, short(a.body))
		}
	}
	// Nothing of that was kept, and the upload goes on from what it says itself.
	status := r.do(t, http.MethodGet, at).want(t, http.StatusNoContent)
	wantReceived(t, status, third)
	a := r.patch(t, status.location(t), third, blob[third:]).want(t, http.StatusAccepted)
	wantReceived(t, a, len(blob))
	r.do(t, http.MethodPut, a.location(t), query("digest", sha256Of(blob))).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

func lastChunkOutOfOrder(t *testing.T, r *registry) {
	repo := r.repo()
	at, least := r.open(t, repo)
	half := max(10, least)
	blob := noise(2 * half)
	at = r.patch(t, at, 0, blob[:half]).want(t, http.StatusAccepted).location(t)
	digest := query("digest", sha256Of(blob))
	for _, first := range []int{0, half - 1, half + 1} {
		r.do(t, http.MethodPut, at, digest, octets(blob[half:]), with("Content-Range", contentRange(first, blob[half:]))).
			want(t, http.StatusRequestedRangeNotSatisfiable)
	}
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusNotFound)
	status := r.do(t, http.MethodGet, at).want(t, http.StatusNoContent)
	wantReceived(t, status, half)
	r.do(t, http.MethodPut, status.location(t), digest, octets(blob[half:]), with("Content-Range", contentRange(half, blob[half:]))).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

func badContentRanges(t *testing.T, r *registry) {
	repo := r.repo()
	at, _ := r.open(t, repo)
	chunk := noise(10)
	for _, bad := range []string{"abc", "0", "-", "0-", "-9", "9-0", "0-9-9", "a-b", "0x0-0x9", "0-99999999999999999999999", "0-4", "0-19", "0 - 9", "bytes 0-9/10"} {
		r.do(t, http.MethodPatch, at, octets(chunk), with("Content-Range", bad)).refused(t)
	}
	// The session lived through all of it, and has nothing.
	a := r.patch(t, at, 0, chunk).want(t, http.StatusAccepted)
	wantReceived(t, a, len(chunk))
	r.do(t, http.MethodPut, a.location(t), query("digest", sha256Of(chunk))).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(chunk)).want(t, http.StatusOK).same(t, chunk)
}

func closingDigest(t *testing.T, r *registry) {
	repo := r.repo()
	for name, say := range map[string]option{
		"no digest":              func(*http.Request) {},
		"digest of another blob": query("digest", sha256Of(noise(8))),
		"digest of last chunk":   nil,
	} {
		at, least := r.open(t, repo)
		blob := noise(least + 50)
		at = r.patch(t, at, 0, blob[:least]).want(t, http.StatusAccepted).location(t)
		if say == nil {
			say = query("digest", sha256Of(blob[least:]))
		}
		a := r.do(t, http.MethodPut, at, say, octets(blob[least:]))
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400; body: %s", name, a.status, short(a.body))
		}
		r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusNotFound)
	}
}

func uploadStatus(t *testing.T, r *registry) {
	repo := r.repo()
	at, least := r.open(t, repo)
	// Before the first byte the answer cannot say a last byte; what matters is that it goes on from its Location.
	a := r.do(t, http.MethodGet, at).want(t, http.StatusNoContent)
	at = a.location(t)
	blob := noise(2 * least)
	for i := range 2 {
		at = r.patch(t, at, i*least, blob[i*least:(i+1)*least]).want(t, http.StatusAccepted).location(t)
		a := r.do(t, http.MethodGet, at).want(t, http.StatusNoContent)
		wantReceived(t, a, (i+1)*least)
		at = a.location(t)
	}
	r.do(t, http.MethodPut, at, query("digest", sha256Of(blob))).want(t, http.StatusCreated)
	r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusOK).same(t, blob)
}

func cancelUpload(t *testing.T, r *registry) {
	repo := r.repo()
	for _, sent := range []int{0, 1} {
		at, least := r.open(t, repo)
		blob := noise(sent * least)
		if sent > 0 {
			at = r.patch(t, at, 0, blob).want(t, http.StatusAccepted).location(t)
		}
		r.do(t, http.MethodDelete, at, octets(nil)).want(t, http.StatusNoContent)
		r.wantGone(t, at)
		r.getBlob(t, repo, sha256Of(blob)).want(t, http.StatusNotFound)
	}
}

// wantGone fails the check unless every request to an upload says that it is not there.
func (r *registry) wantGone(t *testing.T, at string) {
	t.Helper()
	chunk := noise(10)
	r.do(t, http.MethodGet, at).want(t, http.StatusNotFound).says(t, "BLOB_UPLOAD_UNKNOWN")
	r.patch(t, at, 0, chunk).want(t, http.StatusNotFound).says(t, "BLOB_UPLOAD_UNKNOWN")
	r.do(t, http.MethodPut, at, query("digest", sha256Of(chunk)), octets(chunk)).want(t, http.StatusNotFound).says(t, "BLOB_UPLOAD_UNKNOWN")
	r.do(t, http.MethodDelete, at).want(t, http.StatusNotFound).says(t, "BLOB_UPLOAD_UNKNOWN")
}

func unknownUpload(t *testing.T, r *registry) {
	repo := r.repo()
	r.push(t, repo, noise(10))
	for _, id := range []string{"00000000-0000-4000-8000-000000000000", "nothing", "..%2F..%2Fx"} {
		at := r.path("%s/blobs/uploads/%s", repo, id)
		for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete} {
			a := r.do(t, method, at, query("digest", sha256Of(nil)))
			if id == "..%2F..%2Fx" && a.status >= 300 && a.status < 400 {
				continue // sent to the clean path, which is another thing
			}
			a.want(t, http.StatusNotFound, http.StatusBadRequest)
		}
	}
	r.wantGone(t, r.path("%s/blobs/uploads/%s", repo, "00000000-0000-4000-8000-000000000000"))

	// An upload belongs to the repository it was opened in.
	at, _ := r.open(t, repo)
	other := r.repo()
	r.push(t, other, noise(10))
	r.wantGone(t, strings.Replace(at, "/v2/"+repo+"/", "/v2/"+other+"/", 1))

	// An upload is over when it was closed.
	blob := noise(20)
	r.do(t, http.MethodPut, at, query("digest", sha256Of(blob)), octets(blob)).want(t, http.StatusCreated)
	r.wantGone(t, at)
}

func abandonedUpload(t *testing.T, r *registry) {
	r = r.start(t, "BERTH_ANONYMOUS=delete",
		"REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_ENABLED=true",
		"REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE=1s",
		"REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_INTERVAL=1s")
	repo := r.repo()
	at, least := r.open(t, repo)
	at = r.patch(t, at, 0, noise(least)).want(t, http.StatusAccepted).location(t)
	deadline := time.Now().Add(30 * time.Second)
	// Looking must not be what keeps the upload alive, so it is rare.
	for {
		time.Sleep(4 * time.Second)
		a := r.do(t, http.MethodGet, at).want(t, http.StatusNoContent, http.StatusNotFound)
		if a.status == http.StatusNotFound {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("an upload that nobody used for 30 s is still there, with an age limit of 1 s")
		}
	}
}
