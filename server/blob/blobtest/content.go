package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

func testUnknownBlob(t *testing.T, s blob.Store) {
	RequireNoBlob(t, s, oci.FromBytes(oci.SHA256, []byte("never there")))
	RequireNoBlob(t, s, oci.FromBytes(oci.SHA512, []byte("never there")))
	RequireNoBlob(t, s, oci.Digest{})
	// The digests of one content by two algorithms are two blobs.
	d := Put(t, s, "unknown", []byte("content"))
	RequireNoBlob(t, s, oci.FromBytes(oci.SHA512, []byte("content")))
	RequireContent(t, s, d, []byte("content"))
}

func testOpenSeeks(t *testing.T, s blob.Store) {
	data := Random(10, 300_000)
	d := Put(t, s, "seek", data)
	c, size, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, at := range []int64{0, 299_999, 1, 150_000, 300_000} {
		if pos, err := c.Seek(at, io.SeekStart); pos != at || err != nil {
			t.Fatalf("seek to %d: %d, %v", at, pos, err)
		}
		got, err := io.ReadAll(io.LimitReader(c, 1000))
		if want := data[at:min(at+1000, size)]; err != nil || !bytes.Equal(got, want) {
			t.Fatalf("at %d: %d bytes, %v; want %d", at, len(got), err, len(want))
		}
	}
	if end, err := c.Seek(0, io.SeekEnd); end != size || err != nil {
		t.Fatalf("end is at %d, %v; size is %d", end, err, size)
	}
	if _, err := c.Seek(-5, io.SeekCurrent); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data[len(data)-5:]) {
		t.Fatalf("last five bytes: %x, %v", got, err)
	}
}

// What is behind the state does not become content.
func testCommitDiscardsTail(t *testing.T, s blob.Store) {
	data := Random(11, 10_000)
	state := upload(t, s, "commit-tail", blob.State{}, data)
	_ = upload(t, s, "commit-tail", state, []byte("never recorded"))
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "commit-tail", state, d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, data)
}

func testCommitUnknown(t *testing.T, s blob.Store) {
	d := oci.FromBytes(oci.SHA256, nil)
	requireFault(t, commit(s, "never-there", blob.State{}, d), fault.NotFound, fault.BlobUploadUnknown)
	RequireNoBlob(t, s, d)
	state := upload(t, s, "no-digest", blob.State{}, []byte("x"))
	if err := commit(s, "no-digest", state, oci.Digest{}); err == nil {
		t.Error("commit without a digest succeeded")
	}
}

// A caller that never heard the answer asks again.
func testCommitTwice(t *testing.T, s blob.Store) {
	data := Random(12, 10_000)
	d := oci.FromBytes(oci.SHA256, data)
	state := upload(t, s, "twice", blob.State{}, data)
	for range 2 {
		if err := commit(s, "twice", state, d); err != nil {
			t.Fatalf("commit: %v", err)
		}
		RequireContent(t, s, d, data)
	}
	// But an ended upload proves nothing about another digest, another size, or content that is gone.
	other := oci.FromBytes(oci.SHA256, []byte("other"))
	requireFault(t, commit(s, "twice", state, other), fault.NotFound, fault.BlobUploadUnknown)
	requireFault(t, commit(s, "twice", blob.State{Offset: 9_999}, d), fault.NotFound, fault.BlobUploadUnknown)
	if err := s.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	requireFault(t, commit(s, "twice", state, d), fault.NotFound, fault.BlobUploadUnknown)
}

func testCommitEndsUpload(t *testing.T, s blob.Store) {
	data := []byte("ended")
	state := upload(t, s, "ends", blob.State{}, data)
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, "ends", state, d); err != nil {
		t.Fatal(err)
	}
	_, err := s.Upload(t.Context(), "ends", state)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	RequireContent(t, s, d, data)
}

func testCommitExisting(t *testing.T, s blob.Store) {
	data := Random(13, 100_000)
	d := Put(t, s, "existing-1", data)
	if again := Put(t, s, "existing-2", data); again != d {
		t.Fatalf("%s became %s", d, again)
	}
	RequireContent(t, s, d, data)
}

// The store trusts its caller about digests, so a caller that lies makes a rotten blob; a truthful commit repairs it.
func testCommitRepairs(t *testing.T, s blob.Store) {
	good, rotten := Random(14, 100_000), Random(15, 70_000)
	d := oci.FromBytes(oci.SHA256, good)
	if err := commit(s, "rotten", upload(t, s, "rotten", blob.State{}, rotten), d); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, rotten)
	Put(t, s, "repair", good)
	RequireContent(t, s, d, good)
}

// A reader keeps what it opened while the blob is replaced.
func testCommitUnderOpenReader(t *testing.T, s blob.Store) {
	data := Random(16, 1<<20)
	d := Put(t, s, "under-1", data)
	c, _, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	half := make([]byte, len(data)/2)
	if _, err := io.ReadFull(c, half); err != nil {
		t.Fatal(err)
	}
	Put(t, s, "under-2", data)
	rest, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(append(half, rest...), data) {
		t.Fatalf("reading on after a commit: %d bytes more, %v", len(rest), err)
	}
}

func testDelete(t *testing.T, s blob.Store) {
	if err := s.Delete(t.Context()); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
	one, two := Put(t, s, "delete-1", []byte("one")), Put(t, s, "delete-2", []byte("two"))
	kept := Put(t, s, "delete-3", []byte("kept"))
	absent := oci.FromBytes(oci.SHA512, []byte("never there"))
	for range 2 {
		if err := s.Delete(t.Context(), one, absent, two, one); err != nil {
			t.Fatalf("delete: %v", err)
		}
		RequireNoBlob(t, s, one)
		RequireNoBlob(t, s, two)
	}
	RequireContent(t, s, kept, []byte("kept"))
	// What was deleted can come back.
	RequireContent(t, s, Put(t, s, "delete-4", []byte("one")), []byte("one"))
}

// A call whose context has ended does nothing, except Abort, which is mostly called when it has.
func testEndedContext(t *testing.T, s blob.Store) {
	data := []byte("stay")
	d := Put(t, s, "stay", data)
	state := upload(t, s, "ended", blob.State{}, []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Upload(ctx, "ended-2", blob.State{}); !errors.Is(err, context.Canceled) {
		t.Errorf("upload: %v", err)
	}
	x := oci.FromBytes(oci.SHA256, []byte("x"))
	if err := s.Commit(ctx, "ended", state, x); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	RequireNoBlob(t, s, x)
	if err := s.Delete(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("delete: %v", err)
	}
	if _, _, err := s.Open(ctx, d); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	RequireContent(t, s, d, data)
	if err := s.Abort(ctx, "ended", state); err != nil {
		t.Errorf("abort: %v", err)
	}
	_, err := s.Upload(t.Context(), "ended", state)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
}

func testCheck(t *testing.T, s blob.Store) {
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check of a healthy store: %v", err)
	}
	if spacer, ok := s.(blob.Spacer); ok {
		space, err := spacer.Space(t.Context())
		if err != nil || space.Total <= 0 || space.Free < 0 || space.Free > space.Total {
			t.Errorf("space: %+v, %v", space, err)
		}
	}
}
