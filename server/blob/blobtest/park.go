package blobtest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// parkable is the size of an upload that every store that parks leaves at a place.
const parkable = 6 << 20

func parker(t *testing.T, s blob.Store) blob.Parker {
	t.Helper()
	p, ok := blob.ParkerOf(s)
	if !ok {
		t.Skip("the store parks nothing")
	}
	return p
}

// park is an upload that ends at a place.
func park(t *testing.T, s blob.Store, id string, data []byte) (place string, d oci.Digest) {
	t.Helper()
	d = oci.FromBytes(oci.SHA256, data)
	place, err := parker(t, s).Park(t.Context(), id, upload(t, s, id, blob.State{}, data), d)
	if err != nil {
		t.Fatalf("park %d bytes: %v", len(data), err)
	}
	return place, d
}

// requireAt fails the test unless a place has exactly these bytes.
func requireAt(t *testing.T, s blob.Store, place string, want []byte) {
	t.Helper()
	if err := holdsAt(s, place, oci.Digest{}, want); err != nil {
		t.Fatalf("at %q: %v", place, err)
	}
}

func requireNothingAt(t *testing.T, s blob.Store, place string) {
	t.Helper()
	c, _, err := parker(t, s).OpenAt(t.Context(), place)
	if err == nil {
		c.Close()
		t.Fatalf("something is at %q", place)
	}
	requireFault(t, err, fault.NotFound, fault.BlobUnknown)
}

// Uploads of every size are readable where Park says, and become readable under their digest.
func testPark(t *testing.T, s blob.Store) {
	for i, size := range []int{1, 40_000, 5 << 20, parkable, 11<<20 + 5} {
		data := Random(byte(50+i), size)
		id := "park-" + string(rune('a'+i))
		place, d := park(t, s, id, data)
		if place == "" {
			if size >= parkable {
				t.Errorf("%d bytes were moved under their digest at once", size)
			}
			RequireContent(t, s, d, data)
			continue
		}
		requireAt(t, s, place, data)
		RequireNoBlob(t, s, d)
		if got, err := parker(t, s).Parked(t.Context(), id); err != nil || !slices.Equal(got, []string{place}) {
			t.Errorf("of %s are parked %q, %v; want %q", id, got, err, place)
		}
		for range 2 { // what has happened already happens again
			if err := parker(t, s).Settle(t.Context(), place, d); err != nil {
				t.Fatalf("settle: %v", err)
			}
			RequireContent(t, s, d, data)
		}
		requireAt(t, s, place, data)
		for range 2 {
			if err := parker(t, s).DeleteAt(t.Context(), place); err != nil {
				t.Fatalf("delete: %v", err)
			}
			requireNothingAt(t, s, place)
		}
		requireFault(t, parker(t, s).Settle(t.Context(), place, d), fault.NotFound, fault.BlobUnknown)
		RequireContent(t, s, d, data)
		if got, err := parker(t, s).Parked(t.Context(), id); err != nil || len(got) > 0 {
			t.Errorf("of %s are parked %q, %v", id, got, err)
		}
	}
}

// A caller that never heard the answer asks again, and gets the same place; for what is gone, none.
func testParkTwice(t *testing.T, s blob.Store) {
	data := Random(60, parkable)
	d := oci.FromBytes(oci.SHA256, data)
	state := upload(t, s, "park-twice", blob.State{}, data)
	p := parker(t, s)
	first, err := p.Park(t.Context(), "park-twice", state, d)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.Park(t.Context(), "park-twice", state, d); err != nil || again != first {
		t.Errorf("asked again: %q, %v; want %q", again, err, first)
	}
	_, err = s.Upload(t.Context(), "park-twice", state)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	requireAt(t, s, first, data)
	if err := p.DeleteAt(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err = p.Park(t.Context(), "park-twice", state, d)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	requireNothingAt(t, s, first)
}

// What is parked may be a blob by now: only who knows that it is not deletes it. An upload that was aborted before is
// never parked.
func testParkAbort(t *testing.T, s blob.Store) {
	data := Random(61, parkable)
	d := oci.FromBytes(oci.SHA256, data)
	p := parker(t, s)
	state := upload(t, s, "park-abort", blob.State{}, data)
	place, err := p.Park(t.Context(), "park-abort", state, d)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []blob.State{state, {}, state} {
		if err := s.Abort(t.Context(), "park-abort", st); err != nil {
			t.Fatalf("abort: %v", err)
		}
		requireAt(t, s, place, data)
	}
	if got, err := p.Parked(t.Context(), "park-abort"); err != nil || !slices.Equal(got, []string{place}) {
		t.Errorf("parked: %q, %v; want %q", got, err, place)
	}
	if err := p.DeleteAt(t.Context(), place); err != nil {
		t.Fatal(err)
	}

	state = upload(t, s, "abort-park", blob.State{}, data)
	if err := s.Abort(t.Context(), "abort-park", state); err != nil {
		t.Fatal(err)
	}
	_, err = p.Park(t.Context(), "abort-park", state, d)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
	if got, err := p.Parked(t.Context(), "abort-park"); err != nil || len(got) > 0 {
		t.Errorf("of an upload that was aborted are parked %q, %v", got, err)
	}
}

// Two uploads of one content have two places; settling one replaces what is under the digest.
func testParkRepairs(t *testing.T, s blob.Store) {
	good, rotten := Random(62, parkable), Random(63, parkable)
	p := parker(t, s)
	one, d := park(t, s, "park-good", good)
	two, other := park(t, s, "park-rotten", rotten)
	again, _ := park(t, s, "park-again", good)
	if one == two || one == again {
		t.Fatalf("places %q, %q, %q", one, two, again)
	}
	for _, step := range []struct {
		place string
		want  []byte
	}{{two, rotten}, {one, good}} {
		if err := p.Settle(t.Context(), step.place, d); err != nil {
			t.Fatal(err)
		}
		RequireContent(t, s, d, step.want)
	}
	if err := p.DeleteAt(t.Context(), one, two); err != nil {
		t.Fatal(err)
	}
	requireAt(t, s, again, good)
	RequireContent(t, s, d, good)
	RequireNoBlob(t, s, other)
}

func testParkBadInput(t *testing.T, s blob.Store) {
	p := parker(t, s)
	data := Random(64, parkable)
	d := oci.FromBytes(oci.SHA256, data)
	state := upload(t, s, "park-input", blob.State{}, data)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Park(ended, "park-input", state, d); !errors.Is(err, context.Canceled) {
		t.Errorf("park with an ended context: %v", err)
	}
	if _, err := p.Park(t.Context(), "park-input", state, oci.Digest{}); err == nil {
		t.Error("parked without a digest")
	}
	place, err := p.Park(t.Context(), "park-input", state, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Settle(t.Context(), place, oci.Digest{}); err == nil {
		t.Error("settled without a digest")
	}
	if _, _, err := p.OpenAt(t.Context(), "../../etc/passwd"); err == nil {
		t.Error("a path was opened as a place")
	}
	if _, err := p.Parked(t.Context(), "../etc"); err == nil {
		t.Error("a path is an id")
	}
	_, err = p.Park(t.Context(), "park-never", blob.State{Offset: parkable}, d)
	requireFault(t, err, fault.NotFound, fault.BlobUploadUnknown)
}

func holdsAt(s blob.Store, place string, d oci.Digest, want []byte) error {
	c, size, err := blob.OpenAt(context.Background(), s, place, d)
	if err != nil {
		return err
	}
	return same(c, size, want)
}
