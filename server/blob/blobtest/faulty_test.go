package blobtest_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/mem"
)

var errDisk = errors.New("the disk is gone")

func TestFaultyWithoutFaultsKeepsContract(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store { return blobtest.NewFaulty(mem.New()) })
}

func TestSlowKeepsContract(t *testing.T) {
	if testing.Short() {
		t.Skip("sleeps")
	}
	f := blobtest.NewFaulty(mem.New())
	f.Slow(time.Millisecond)
	start := time.Now()
	blobtest.Put(t, f, "slow", []byte("x"))
	if took := time.Since(start); took < 4*time.Millisecond {
		t.Errorf("upload, write, suspend and commit took %s, want at least 4 ms", took)
	}
}

func TestFail(t *testing.T) {
	f := blobtest.NewFaulty(mem.New())
	data := []byte("content")
	d := blobtest.Put(t, f, "first", data)
	f.Fail(blobtest.Open, 2, errDisk)
	blobtest.RequireContent(t, f, d, data)
	if _, _, err := f.Open(t.Context(), d); !errors.Is(err, errDisk) {
		t.Errorf("second open: %v", err)
	}
	blobtest.RequireContent(t, f, d, data)

	f.Fail(blobtest.Check, 1, errDisk)
	if err := f.Check(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("check: %v", err)
	}
	f.FailAfter(blobtest.Delete, 1, errDisk)
	if err := f.Delete(t.Context(), d); !errors.Is(err, errDisk) {
		t.Errorf("delete: %v", err)
	}
	blobtest.RequireNoBlob(t, f, d)
}

func TestFailedCommitLosesUpload(t *testing.T) {
	f := blobtest.NewFaulty(mem.New())
	w, err := f.Upload(t.Context(), "a", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	state, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := oci.FromBytes(oci.SHA256, []byte("x"))
	f.Fail(blobtest.Commit, 1, errDisk)
	if err := f.Commit(t.Context(), "a", state, d); !errors.Is(err, errDisk) {
		t.Fatalf("commit: %v", err)
	}
	if err := f.Commit(t.Context(), "a", state, d); !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("commit after a failed one: %v", err)
	}
	blobtest.RequireNoBlob(t, f, d)
}

// Receive on a disk that fills: what was taken is counted and hashed, the rest can follow when there is room again.
func TestFillAndResume(t *testing.T) {
	f := blobtest.NewFaulty(mem.New())
	data := blobtest.Random(1, 2<<20)
	f.Fill(1<<20 + 7)
	w, err := f.Upload(t.Context(), "fill", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	h := oci.NewHasher(oci.SHA256)
	n, err := blob.Receive(t.Context(), w, bytes.NewReader(data), h, blob.ReceiveOptions{})
	if n != 1<<20+7 || !fault.Is(err, fault.Full) || !fault.Has(err, fault.StorageFull) {
		t.Fatalf("received %d, %v", n, err)
	}
	state, err := w.Suspend(t.Context())
	if err != nil || state.Offset != n {
		t.Fatalf("suspend: %+v, %v", state, err)
	}
	f.Fill(-1)
	if w, err = f.Upload(t.Context(), "fill", state); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Receive(t.Context(), w, bytes.NewReader(data[n:]), h, blob.ReceiveOptions{}); err != nil {
		t.Fatal(err)
	}
	if state, err = w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context(), "fill", state, h.Digest()); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireContent(t, f, oci.FromBytes(oci.SHA256, data), data)
}

func TestShortWrite(t *testing.T) {
	f := blobtest.NewFaulty(mem.New())
	w, err := f.Upload(t.Context(), "short", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	f.ShortWrite(2, 3, errDisk)
	if n, err := w.Write([]byte("hello ")); n != 6 || err != nil {
		t.Fatalf("first write: %d, %v", n, err)
	}
	if n, err := w.Write([]byte("world")); n != 3 || !errors.Is(err, errDisk) {
		t.Fatalf("second write: %d, %v", n, err)
	}
	state, err := w.Suspend(t.Context())
	if err != nil || state.Offset != 9 {
		t.Fatalf("suspend: %+v, %v", state, err)
	}
}
