package blobtest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// testNotes is the contract of blob.NoteKeeper, for stores that have the power.
func testNotes(t *testing.T, s blob.Store) {
	keeper, err := blob.Notes(s)
	if err != nil {
		t.Skip("the store keeps no notes")
	}
	ctx := t.Context()
	if _, err := keeper.Note(ctx, "backup/none.json"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a note that is not there: %v", err)
	}
	if names, err := keeper.NoteNames(ctx, "backup"); err != nil || len(names) != 0 {
		t.Errorf("a folder that is not there has %q, %v", names, err)
	}
	want := map[string][]byte{
		"backup/b.json": []byte("1"), "backup/a.json": {}, "backup/deep/er/c": Random(1, 300_000), "backup2/x": []byte("x"), "head": []byte("h"),
	}
	for name, content := range want {
		for _, c := range [][]byte{[]byte("what was there before, and is longer"), content} {
			if err := keeper.PutNote(ctx, name, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, content := range want {
		if got, err := keeper.Note(ctx, name); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has %d bytes, %v", name, len(got), err)
		}
	}
	for folder, want := range map[string][]string{
		"backup": {"backup/a.json", "backup/b.json", "backup/deep/er/c"}, "backup/deep": {"backup/deep/er/c"},
		"": {"backup/a.json", "backup/b.json", "backup/deep/er/c", "backup2/x", "head"},
	} {
		if got, err := keeper.NoteNames(ctx, folder); err != nil || !slices.Equal(got, want) {
			t.Errorf("folder %q has %q, %v, want %q", folder, got, err, want)
		}
	}
	if err := keeper.DeleteNotes(ctx, "backup/a.json", "backup/none", "backup/b.json"); err != nil {
		t.Error(err)
	}
	if got, err := keeper.NoteNames(ctx, "backup"); err != nil || !slices.Equal(got, []string{"backup/deep/er/c"}) {
		t.Errorf("after the deletion there are %q, %v", got, err)
	}
	for _, name := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".a", "A", "a b", strings.Repeat("a", 201)} {
		if err := keeper.PutNote(ctx, name, nil); err == nil {
			t.Errorf("name %q is taken", name)
		}
		if _, err := keeper.Note(ctx, name); err == nil {
			t.Errorf("name %q is read", name)
		}
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	if keeper.PutNote(ended, "x", nil) == nil {
		t.Error("a note is put although the context has ended")
	}
}
