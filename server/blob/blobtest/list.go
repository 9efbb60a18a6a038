package blobtest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// testList is the contract of blob.Lister, for stores that have the power.
func testList(t *testing.T, s blob.Store) {
	ctx := t.Context()
	list := func(after oci.Digest) (all []blob.Listed) {
		err := blob.List(ctx, s, after, func(l blob.Listed) error {
			all = append(all, l)
			return nil
		})
		if errors.Is(err, blob.ErrNoLister) {
			t.Skip("the store cannot list")
		}
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := list(oci.Digest{}); len(all) != 0 {
		t.Fatalf("an empty store lists %v", all)
	}
	var want []blob.Listed
	for i := range 40 {
		content := Random(byte(i), 10+i)
		d := oci.FromBytes([]oci.Algorithm{oci.SHA256, oci.SHA512}[i%2], content)
		id := "list-" + strconv.Itoa(i)
		if err := commit(s, id, upload(t, s, id, blob.State{}, content), d); err != nil {
			t.Fatal(err)
		}
		want = append(want, blob.Listed{Digest: d, Size: int64(len(content))})
	}
	slices.SortFunc(want, func(a, b blob.Listed) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	for _, from := range []int{0, 1, 7, 20, 39, 40} {
		after := oci.Digest{}
		if from > 0 {
			after = want[from-1].Digest
		}
		got := list(after)
		for i := range got {
			got[i].Modified = want[0].Modified
		}
		if !slices.Equal(got, want[from:]) {
			t.Fatalf("behind %d blobs it lists %d, want %d in the order of their digests", from, len(got), len(want)-from)
		}
	}
	enough := errors.New("enough")
	n := 0
	err := blob.List(ctx, s, oci.Digest{}, func(blob.Listed) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 3 {
		t.Errorf("a listing that was ended goes on to %d, %v", n, err)
	}
}
