package blobtest

import (
	"context"
	"errors"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// place begins a placement and closes it when the test ends, or skips the test for a store that has no use for it.
func place(t *testing.T, s blob.Store, id string, d oci.Digest) blob.Placement {
	t.Helper()
	p, err := blob.Place(t.Context(), s, id, d)
	if errors.Is(err, blob.ErrNoPlacer) {
		t.Skip("the store has no use for a digest before the bytes")
	}
	if err != nil {
		t.Fatalf("place: %v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// What is placed is there after Commit and not before, at any size; what is closed before, never.
func testPlace(t *testing.T, s blob.Store) {
	for i, size := range []int{0, 1, 70_000, 5 << 20, 5<<20 + 1, 17 << 20} {
		data := Random(byte(30+i), size)
		d := oci.FromBytes(oci.SHA256, data)
		p := place(t, s, "place-"+d.Hex()[:8], d)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 300_001)
			mustWrite(t, p, rest[:n])
			rest = rest[n:]
		}
		RequireNoBlob(t, s, d)
		if err := p.Commit(t.Context()); err != nil {
			t.Fatalf("commit of %d bytes: %v", size, err)
		}
		RequireContent(t, s, d, data)
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("close after commit: %v", err)
			}
		}
		if _, err := p.Write([]byte("late")); err == nil {
			t.Error("a committed placement takes bytes")
		}
		if err := p.Commit(t.Context()); err == nil {
			t.Error("a committed placement can be committed")
		}
		RequireContent(t, s, d, data)

		// Closed without a commit, it leaves what is there alone.
		p = place(t, s, "replace-"+d.Hex()[:8], d)
		mustWrite(t, p, Random(1, size/2))
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		RequireContent(t, s, d, data)
		if err := s.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		RequireNoBlob(t, s, d)
	}
}

// A placement ends with its caller's context only when it is not committed: Abort clears what a process that died left.
func testPlaceAbort(t *testing.T, s blob.Store) {
	data := Random(40, 12<<20)
	d := oci.FromBytes(oci.SHA256, data)
	p := place(t, s, "place-abort", d)
	mustWrite(t, p, data)
	if err := s.Abort(t.Context(), "place-abort", blob.State{}); err != nil {
		t.Fatalf("abort: %v", err)
	}
	RequireNoBlob(t, s, d)
	// The writer that did not know of it may fail or succeed; it does not show half of the content.
	if err := p.Commit(t.Context()); err == nil {
		RequireContent(t, s, d, data)
	} else {
		RequireNoBlob(t, s, d)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := blob.Place(ctx, s, "place-ended", d); !errors.Is(err, context.Canceled) {
		t.Errorf("place with an ended context: %v", err)
	}
	if _, err := blob.Place(t.Context(), s, "../place", d); err == nil {
		t.Error("a bad id can be placed")
	}
	if _, err := blob.Place(t.Context(), s, "place-nothing", oci.Digest{}); err == nil {
		t.Error("content without a digest can be placed")
	}
}

// Content that is placed replaces what is there, as a commit does.
func testPlaceRepairs(t *testing.T, s blob.Store) {
	good, rotten := Random(41, 6<<20), Random(42, 100_000)
	d := oci.FromBytes(oci.SHA256, good)
	p := place(t, s, "place-rotten", d)
	mustWrite(t, p, rotten)
	if err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, rotten)
	p = place(t, s, "place-good", d)
	mustWrite(t, p, good)
	if err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	RequireContent(t, s, d, good)
}
