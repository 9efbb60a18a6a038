package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

func testSizes(t *testing.T, s blob.Store) {
	for i, size := range []int{0, 1, 32 << 10, 8<<20 + 1} {
		for _, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			t.Run(fmt.Sprintf("%s-%d", a, size), func(t *testing.T) {
				data := Random(byte(i), size)
				id := fmt.Sprintf("sizes-%s-%d", a, size)
				d := oci.FromBytes(a, data)
				if err := commit(s, id, upload(t, s, id, blob.State{}, data), d); err != nil {
					t.Fatal(err)
				}
				RequireContent(t, s, d, data)
			})
		}
	}
}

// Bytes arrive in the order of the writes, whatever their sizes.
func testPieces(t *testing.T, s blob.Store) {
	data := Random(1, 3<<20)
	w := begin(t, s, "pieces", blob.State{})
	for rest, n := data, 1; len(rest) > 0; n = n*3%100_003 + 1 {
		piece := rest[:min(n, len(rest))]
		mustWrite(t, w, piece)
		rest = rest[len(piece):]
	}
	mustWrite(t, w, nil)
	state, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "pieces", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

func testInvisibleBeforeCommit(t *testing.T, s blob.Store) {
	data := Random(2, 1<<20)
	d := oci.FromBytes(oci.SHA256, data)
	w := begin(t, s, "invisible", blob.State{})
	RequireNoBlob(t, s, d)
	mustWrite(t, w, data)
	RequireNoBlob(t, s, d)
	state, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	RequireNoBlob(t, s, d)
	if err := commit(s, "invisible", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

func testResume(t *testing.T, s blob.Store) {
	data := Random(3, 9<<20)
	var state blob.State
	for _, end := range []int{0, 1, 1, 4096, 5 << 20, 5<<20 + 1, 9 << 20} {
		state = upload(t, s, "resume", state, data[state.Offset:end])
	}
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "resume", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

// What an interrupted writer left behind the state does not count.
func testResumeDiscardsTail(t *testing.T, s blob.Store) {
	data := Random(4, 2<<20)
	state := upload(t, s, "tail", blob.State{}, data[:1<<20])
	_ = upload(t, s, "tail", state, []byte("this state was never recorded, since the process died"))
	w := begin(t, s, "tail", state)
	mustWrite(t, w, []byte("nor this"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	state = upload(t, s, "tail", state, data[1<<20:])
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "tail", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

// An upload that was never suspended starts again at the beginning, with its zero state.
func testResumeWithoutSuspend(t *testing.T, s blob.Store) {
	w := begin(t, s, "restart", blob.State{})
	mustWrite(t, w, Random(5, 100_000))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data := Random(6, 50_000)
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "restart", upload(t, s, "restart", blob.State{}, data), d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

// A state that names bytes that are gone is BLOB_UPLOAD_UNKNOWN, never a shorter upload or one with a hole.
func testLostBytes(t *testing.T, s blob.Store) {
	d := oci.FromBytes(oci.SHA256, []byte("x"))
	_, err := s.Upload(t.Context(), "never-there", blob.State{Offset: 1})
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)

	state := upload(t, s, "lost", blob.State{}, Random(7, 1000))
	state.Offset++
	_, err = s.Upload(t.Context(), "lost", state)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	requireFault(t, commit(s, "lost", state, d), fault.NotFound, fault.BlobUploadUnknown)
	RequireNoBlob(t, s, d)

	_, err = s.Upload(t.Context(), "lost", blob.State{Offset: -1})
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
}

func testSuspendCloses(t *testing.T, s blob.Store) {
	w := begin(t, s, "closed", blob.State{})
	mustWrite(t, w, []byte("hello"))
	if _, err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("late")); err == nil {
		t.Error("a suspended writer takes bytes")
	}
	if _, err := w.Suspend(t.Context()); err == nil {
		t.Error("a suspended writer can be suspended")
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("closing a suspended writer: %v", err)
		}
	}
	w = begin(t, s, "closed-early", blob.State{})
	for range 2 {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := w.Write([]byte("late")); err == nil {
		t.Error("a closed writer takes bytes")
	}
}

// The bytes of a client that went away are kept by a Suspend of its own context or of a fresh one; the contract leaves
// the first to the driver, so only the second is asked for.
func testSuspendAfterClientWentAway(t *testing.T, s blob.Store) {
	data := Random(8, 600<<10)
	d := oci.FromBytes(oci.SHA256, data)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := s.Upload(ctx, "gone", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	h := oci.NewHasher(oci.SHA256)
	body := io.MultiReader(bytes.NewReader(data[:400<<10]), failing{})
	n, err := blob.Receive(ctx, w, body, h, blob.ReceiveOptions{})
	if err == nil || n != 400<<10 {
		t.Fatalf("received %d, %v", n, err)
	}
	cancel()
	state, err := w.Suspend(context.WithoutCancel(ctx))
	if err != nil || state.Offset != n {
		t.Fatalf("suspend at %d: offset %d, %v", n, state.Offset, err)
	}
	state = upload(t, s, "gone", state, data[n:])
	if err := commit(s, "gone", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func testWriteKeepsNothing(t *testing.T, s blob.Store) {
	w := begin(t, s, "kept", blob.State{})
	buf := []byte("first")
	mustWrite(t, w, buf)
	copy(buf, "xxxxx")
	state, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := oci.FromBytes(oci.SHA256, []byte("first"))
	if err := commit(s, "kept", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, []byte("first"))
}

// Aborting is idempotent, and takes the bytes away.
func testAbort(t *testing.T, s blob.Store) {
	if err := s.Abort(t.Context(), "never-there", blob.State{}); err != nil {
		t.Errorf("abort of an unknown upload: %v", err)
	}
	state := upload(t, s, "abort", blob.State{}, Random(9, 100_000))
	for range 2 {
		if err := s.Abort(t.Context(), "abort", state); err != nil {
			t.Fatalf("abort: %v", err)
		}
	}
	_, err := s.Upload(t.Context(), "abort", state)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	d := oci.FromBytes(oci.SHA256, Random(9, 100_000))
	requireFault(t, commit(s, "abort", state, d), fault.NotFound, fault.BlobUploadUnknown)

	// Of an upload that is being written, and of one that has ended.
	w := begin(t, s, "abort-open", blob.State{})
	mustWrite(t, w, []byte("hello"))
	if err := s.Abort(t.Context(), "abort-open", blob.State{}); err != nil {
		t.Errorf("abort of an upload that is open: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("close after abort: %v", err)
	}
	data := []byte("an ended upload")
	d = Put(t, s, "abort-ended", data)
	if err := s.Abort(t.Context(), "abort-ended", blob.State{Offset: int64(len(data))}); err != nil {
		t.Errorf("abort of an ended upload: %v", err)
	}
	RequireContent(t, s, d, data)
}

// An id is [a-z0-9-]{1,64}: everything else is refused before it can be a path.
func testBadIDs(t *testing.T, s blob.Store) {
	data := []byte("stay")
	d := Put(t, s, "good", data)
	shard := d.Hex()[:2]
	for _, id := range []string{
		"", ".", "..", "../uploads", "../blobs/sha256/" + shard + "/" + d.Hex(), "a/b", "/etc/passwd", `..\x`, "a\x00b",
		"%2e%2e%2f", "UPPER", "a b", "a.b", "a_b", "é", strings.Repeat("a", 65),
	} {
		_, err := s.Upload(t.Context(), id, blob.State{})
		requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
		requireFault(t, commit(s, id, blob.State{}, d), fault.NotFound, fault.BlobUploadUnknown)
		requireFault(t, s.Abort(t.Context(), id, blob.State{}), fault.NotFound, fault.BlobUploadUnknown)
	}
	RequireContent(t, s, d, data)
	long := strings.Repeat("z", 64)
	RequireContent(t, s, Put(t, s, long, []byte("64 characters")), []byte("64 characters"))
	RequireContent(t, s, Put(t, s, "-0-", []byte("dashes")), []byte("dashes"))
}

// More uploads are suspended than any driver keeps open files for.
func testManyOpenUploads(t *testing.T, s blob.Store) {
	const uploads = 300
	states := make([]blob.State, uploads)
	for i := range uploads {
		states[i] = upload(t, s, fmt.Sprint("many-", i), blob.State{}, fmt.Appendf(nil, "upload %d, ", i))
	}
	for i := range uploads {
		id := fmt.Sprint("many-", i)
		data := fmt.Appendf(nil, "upload %d, continued", i)
		states[i] = upload(t, s, id, states[i], []byte("continued"))
		d := oci.FromBytes(oci.SHA256, data)
		if err := commit(s, id, states[i], d); err != nil {
			t.Fatal(err)
		}
		RequireContent(t, s, d, data)
	}
}

// What an upload holds can be read back, where the store can do that, up to the state and no further.
func testOpenUpload(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 50_000, 200_000} {
		id := fmt.Sprint("read-back-", size)
		data := Random(20, size)
		state := upload(t, s, id, blob.State{}, data)
		r, err := blob.OpenUpload(t.Context(), s, id, state)
		if errors.Is(err, blob.ErrNoUploadReader) {
			t.Skip("the store cannot read uploads")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if closeErr := r.Close(); err != nil || closeErr != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, %v, %v", len(got), size, err, closeErr)
		}
		_ = upload(t, s, id, state, []byte("behind the state"))
		if r, err = blob.OpenUpload(t.Context(), s, id, state); err != nil {
			t.Fatal(err)
		}
		got, err = io.ReadAll(r)
		if closeErr := r.Close(); err != nil || closeErr != nil || !bytes.Equal(got, data) {
			t.Errorf("with more behind the state: %d of %d bytes, %v, %v", len(got), size, err, closeErr)
		}
	}
	for _, id := range []string{"never-there", "../blobs", ""} {
		_, err := blob.OpenUpload(t.Context(), s, id, blob.State{Offset: 1})
		requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	}
}
