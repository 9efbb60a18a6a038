// Package blobtest is the contract of blob.Store as tests: every driver and every wrapper runs it. It may assume a
// store of its own for each test, and about 100 MB of room.
//
//	func TestContract(t *testing.T) {
//		blobtest.Run(t, func(t *testing.T) blob.Store { return mem.New() })
//	}
//
// Each test proves one sentence of the contract. Start reading at [Run]; [Faulty] is a store that fails on request, for
// the tests of those who use stores.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Run checks that the stores that open makes keep the contract. open is called for each test; it registers clean-up
// with t and gives an empty store.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s blob.Store)
	}{
		{"Sizes", testSizes},
		{"Pieces", testPieces},
		{"UnknownBlob", testUnknownBlob},
		{"OpenSeeks", testOpenSeeks},
		{"InvisibleBeforeCommit", testInvisibleBeforeCommit},
		{"Resume", testResume},
		{"ResumeDiscardsTail", testResumeDiscardsTail},
		{"ResumeWithoutSuspend", testResumeWithoutSuspend},
		{"LostBytes", testLostBytes},
		{"SuspendCloses", testSuspendCloses},
		{"SuspendAfterClientWentAway", testSuspendAfterClientWentAway},
		{"WriteKeepsNothing", testWriteKeepsNothing},
		{"CommitDiscardsTail", testCommitDiscardsTail},
		{"CommitUnknown", testCommitUnknown},
		{"CommitTwice", testCommitTwice},
		{"CommitEndsUpload", testCommitEndsUpload},
		{"CommitExisting", testCommitExisting},
		{"CommitRepairs", testCommitRepairs},
		{"CommitUnderOpenReader", testCommitUnderOpenReader},
		{"Abort", testAbort},
		{"Delete", testDelete},
		{"BadIDs", testBadIDs},
		{"EndedContext", testEndedContext},
		{"Check", testCheck},
		{"ConcurrentUploads", testConcurrentUploads},
		{"ConcurrentSameDigest", testConcurrentSameDigest},
		{"ConcurrentReaders", testConcurrentReaders},
		{"ManyOpenUploads", testManyOpenUploads},
		{"OpenUpload", testOpenUpload},
		{"Place", testPlace},
		{"PlaceAbort", testPlaceAbort},
		{"PlaceRepairs", testPlaceRepairs},
		{"Park", testPark},
		{"ParkTwice", testParkTwice},
		{"ParkAbort", testParkAbort},
		{"ParkRepairs", testParkRepairs},
		{"ParkBadInput", testParkBadInput},
		{"Notes", testNotes},
		{"List", testList},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Registered first, so that it looks after the store's own clean-up.
			leaks := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
			c.test(t, open(t))
		})
	}
}

// Random is n bytes that depend on seed only.
func Random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// Put pushes data in one upload and gives its digest.
func Put(t testing.TB, s blob.Store, id string, data []byte) oci.Digest {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(s, id, upload(t, s, id, blob.State{}, data), d); err != nil {
		t.Fatalf("commit of %d bytes: %v", len(data), err)
	}
	return d
}

// RequireContent fails the test unless d is in the store with exactly the bytes of want.
func RequireContent(t testing.TB, s blob.Store, d oci.Digest, want []byte) {
	t.Helper()
	c, size, err := s.Open(context.Background(), d)
	if err != nil {
		t.Fatalf("open %s: %v", d.Short(), err)
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read %s: %v", d.Short(), err)
	}
	if size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Fatalf("%s: size %d and %d bytes that are equal: %t; want %d bytes", d.Short(), size, len(got), bytes.Equal(got, want), len(want))
	}
}

// RequireNoBlob fails the test unless d is BLOB_UNKNOWN.
func RequireNoBlob(t testing.TB, s blob.Store, d oci.Digest) {
	t.Helper()
	c, _, err := s.Open(context.Background(), d)
	if err == nil {
		c.Close()
		t.Fatalf("%s is in the store", d.Short())
	}
	requireFault(t, err, fault.NotFound, fault.BlobUnknown)
}

func requireFault(t testing.TB, err error, kind fault.Kind, reason fault.Reason) {
	t.Helper()
	if !fault.Is(err, kind) || !fault.Has(err, reason) {
		t.Fatalf("error %v, want kind %d, %s", err, kind, reason)
	}
}

// begin opens an upload and closes its writer when the test ends.
func begin(t testing.TB, s blob.Store, id string, state blob.State) blob.Writer {
	t.Helper()
	w, err := s.Upload(context.Background(), id, state)
	if err != nil {
		t.Fatalf("upload %s at %d: %v", id, state.Offset, err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// upload appends data to an upload and suspends it.
func upload(t testing.TB, s blob.Store, id string, state blob.State, data []byte) blob.State {
	t.Helper()
	w := begin(t, s, id, state)
	mustWrite(t, w, data)
	next, err := w.Suspend(context.Background())
	if err != nil {
		t.Fatalf("suspend: %v", err)
	}
	if want := state.Offset + int64(len(data)); next.Offset != want {
		t.Fatalf("suspend at %d says offset %d", want, next.Offset)
	}
	return next
}

func mustWrite(t testing.TB, w io.Writer, data []byte) {
	t.Helper()
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("write of %d bytes: %d, %v", len(data), n, err)
	}
}

func commit(s blob.Store, id string, state blob.State, d oci.Digest) error {
	return s.Commit(context.Background(), id, state, d)
}

// Push is Put for goroutines, which may not end the test.
func Push(s blob.Store, id string, data []byte) error {
	w, err := s.Upload(context.Background(), id, blob.State{})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	state, err := w.Suspend(context.Background())
	if err != nil {
		return err
	}
	return s.Commit(context.Background(), id, state, oci.FromBytes(oci.SHA256, data))
}

// holds is RequireContent for goroutines.
func holds(s blob.Store, d oci.Digest, want []byte) error {
	c, size, err := s.Open(context.Background(), d)
	if err != nil {
		return err
	}
	return same(c, size, want)
}

// same reads c to its end, and closes it.
func same(c blob.Content, size int64, want []byte) error {
	defer c.Close()
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if size != int64(len(want)) || !bytes.Equal(got, want) {
		return errors.New("wrong content")
	}
	return nil
}
