package backup_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/metadb"
)

// paged is a registry whose journal has several pages, and their names.
func paged(t *testing.T) (r *registry, pages []string) {
	t.Helper()
	r = newRegistry(t)
	for i := range 6 {
		r.push(string(rune('a'+i)), oci.Digest{}, r.small(strings.Repeat("x", i+1)))
		r.journal(0)()
	}
	names, err := r.blobs.NoteNames(t.Context(), "journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.Count(name, "/") == 2 {
			pages = append(pages, name)
		}
	}
	if len(pages) < 6 {
		t.Fatalf("the journal has %d pages: %q", len(pages), names)
	}
	return r, pages
}

// lose removes a note and returns how to put it back.
func (r *registry) lose(name string) (back func()) {
	r.t.Helper()
	text, err := r.blobs.Note(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.blobs.DeleteNotes(r.t.Context(), name); err != nil {
		r.t.Fatal(err)
	}
	return func() {
		if err := r.blobs.PutNote(r.t.Context(), name, text); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *registry) problems() string {
	r.t.Helper()
	_, out, err := r.rebuildAnyway()
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(out.Problems, "\n")
}

// Whichever page is lost, the first, the last or one between, is named; so are two.
func TestMissingPagesAreNoticed(t *testing.T) {
	r, pages := paged(t)
	if said := r.problems(); said != "" {
		t.Fatalf("of a journal that is whole: %s", said)
	}
	for i, page := range pages {
		back := r.lose(page)
		if said := r.problems(); !strings.Contains(said, "page "+page+" of the journal is missing") || strings.Contains(said, "more pages") {
			t.Errorf("without page %d: %s", i, said)
		}
		if i > 1 {
			back2 := r.lose(pages[0])
			if said := r.problems(); !strings.Contains(said, "page "+page+" of the journal is missing") || !strings.Contains(said, "1 more pages of the journal are missing") {
				t.Errorf("without pages 0 and %d: %s", i, said)
			}
			back2()
		}
		back()
	}
	text, err := r.blobs.Note(t.Context(), pages[3])
	if err != nil {
		t.Fatal(err)
	}
	if err := r.blobs.PutNote(t.Context(), pages[3], bytes.ToUpper(text)); err != nil {
		t.Fatal(err)
	}
	if said := r.problems(); strings.Count(said, "of the journal is damaged") != 1 || strings.Contains(said, "missing") {
		t.Errorf("with a damaged page: %s", said)
	}
	if err := r.blobs.PutNote(t.Context(), pages[3], text); err != nil {
		t.Fatal(err)
	}
	last := "journal/last-" + strings.Split(pages[0], "/")[1]
	back := r.lose(last)
	if said := r.problems(); !strings.Contains(said, last) {
		t.Errorf("without the note of the last page: %s", said)
	}
	back()
	to, out, err := r.rebuild()
	if err != nil || out.Failed > 0 {
		t.Fatalf("with all of it again: %v, %+v", err, out)
	}
	requireSame(t, to.names(), r.names())
}

// Pages that the store does not list yet are found by their names, and count in their order.
func TestPagesThatAreNotListedYet(t *testing.T) {
	r, pages := paged(t)
	for _, hidden := range [][]string{pages[len(pages)-1:], pages[2:], {pages[1], pages[4]}, pages} {
		store := &late{Store: r.blobs, t: t}
		store.freezeNotes()
		store.notes = slices.DeleteFunc(store.notes, func(n string) bool { return slices.Contains(hidden, n) })
		temp := t.TempDir()
		file := filepath.Join(temp, "berth.db")
		out, err := backup.Rebuild(t.Context(), backup.Rebuilding{Store: store, File: file, Temp: temp, Plan: plan, Now: time.Now, Log: quiet()})
		if err != nil || out.Failed > 0 {
			t.Fatalf("without %d pages in the list: %v, %+v", len(hidden), err, out)
		}
		to := &registry{t: t}
		if to.db, err = metadb.Open(t.Context(), metadb.Options{Path: file}); err != nil {
			t.Fatal(err)
		}
		repo, err := to.db.Repository(t.Context(), "team/app")
		if err != nil {
			t.Fatal(err)
		}
		to.repo = repo.ID
		requireSame(t, to.names(), r.names())
		_ = to.db.Close()
	}
}

// A journal without a chain, of a version before, is read as it was, and begun anew by who writes on.
func TestJournalWithoutAChain(t *testing.T) {
	r, pages := paged(t)
	head, err := r.blobs.Note(t.Context(), "journal/head")
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Replace(head, []byte(`,"chained":true`), nil, 1)
	if bytes.Equal(old, head) {
		t.Fatalf("the head says nothing of a chain: %s", head)
	}
	if err := r.blobs.PutNote(t.Context(), "journal/head", old); err != nil {
		t.Fatal(err)
	}
	id := strings.Split(pages[0], "/")[1]
	r.lose("journal/last-" + id)
	if said := r.problems(); said != "" {
		t.Errorf("of an old journal: %s", said)
	}
	r.journal(0)()
	names, err := r.blobs.NoteNames(t.Context(), "journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.Contains(name, id) {
			t.Errorf("%s of the old journal is there", name)
		}
	}
	to, out, err := r.rebuild()
	if err != nil || out.Failed > 0 {
		t.Fatalf("of the new one: %v, %+v", err, out)
	}
	requireSame(t, to.names(), r.names())
}
