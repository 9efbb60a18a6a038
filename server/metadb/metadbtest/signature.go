package metadbtest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// testSignatures: signatures live as long as their manifest can be brought back, and no longer.
func testSignatures(t *testing.T, db *metadb.DB) {
	w := newTrashWorld(t, db, repository(t, db, "team/signed").ID, "signed")
	put := func(name, content string) (count int, same bool, err error) {
		err = db.Update(t.Context(), func(tx *metadb.Tx) error {
			count, _, same, err = tx.PutSignature(metadb.Signature{RepoID: w.repoID, Digest: w.manifest, Name: name, Content: []byte(content), CreatedBy: "user:alice"})
			return err
		})
		return count, same, err
	}
	list := func() string {
		t.Helper()
		var out bytes.Buffer
		for _, s := range get[[]metadb.Signature](t)(db.Signatures(t.Context(), w.repoID, w.manifest)) {
			out.WriteString(s.Name + "=" + string(s.Content) + " ")
		}
		return out.String()
	}
	want := func(what, wanted string) {
		t.Helper()
		if got := list(); got != wanted {
			t.Fatalf("%s: signatures %q, want %q", what, got, wanted)
		}
	}
	if _, _, err := put("a", "1"); !errors.Is(err, metadb.ErrNotFound) {
		t.Fatalf("a signature of what is in the trash: %v", err)
	}
	restore := func() {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			trashed, err := tx.Trashed(t.Context(), w.repoID, w.manifest)
			if err == nil {
				_, err = tx.RestoreManifest(trashed)
			}
			return err
		})
	}
	attached := func() bool {
		t.Helper()
		return get[bool](t)(db.Attached(t.Context(), w.repoID, w.manifest, "none"))
	}
	restore()
	if attached() {
		t.Error("something belongs to a manifest without anything")
	}
	for i, c := range []struct {
		name, content string
		count         int
		same          bool
	}{{"b", "2", 1, true}, {"b", "2", 1, true}, {"b", "other", 1, false}, {"a", "1", 2, true}} {
		if count, same, err := put(c.name, c.content); err != nil || count != c.count || same != c.same {
			t.Fatalf("put %d: %d, %v, %v", i, count, same, err)
		}
	}
	want("in the order of their times", "b=2 a=1 ")
	if !attached() {
		t.Error("nothing belongs to a manifest with signatures")
	}
	if s := get[metadb.Signature](t)(db.Signature(t.Context(), w.repoID, w.manifest, "b")); string(s.Content) != "2" || s.CreatedBy != "user:alice" || s.CreatedAt.IsZero() {
		t.Errorf("one signature: %+v", s)
	}
	if _, err := db.Signature(t.Context(), w.repoID, w.manifest, "c"); !errors.Is(err, metadb.ErrNotFound) {
		t.Errorf("a signature that is not there: %v", err)
	}
	// A journal reads all of them page by page, and puts them back with their times.
	named := func() (all []metadb.NamedSignature) {
		t.Helper()
		last := metadb.NamedSignature{}
		for {
			page := get[[]metadb.NamedSignature](t)(db.NamedSignatures(t.Context(), last.RepoID, last.Digest, last.Name, 1))
			if len(page) == 0 {
				return all
			}
			last = page[0]
			if last.RepoID == w.repoID {
				all = append(all, last)
			}
		}
	}
	if all := named(); len(all) != 2 || all[0].Name != "a" || all[1].Name != "b" || all[0].Repository != "team/signed" || string(all[1].Content) != "2" {
		t.Errorf("all signatures: %+v", all)
	}
	at := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	update(t, db, func(tx *metadb.Tx) error {
		_, added, same, err := tx.PutSignature(metadb.Signature{RepoID: w.repoID, Digest: w.manifest, Name: "d", Content: []byte("old"), CreatedAt: at})
		if !added || !same {
			t.Errorf("added %v, same %v", added, same)
		}
		return err
	})
	if s := get[metadb.Signature](t)(db.Signature(t.Context(), w.repoID, w.manifest, "d")); !s.CreatedAt.Equal(at) {
		t.Errorf("it was made at %s, want %s", s.CreatedAt, at)
	}
	want("the oldest first", "d=old b=2 a=1 ")
	update(t, db, func(tx *metadb.Tx) error {
		_, added, same, err := tx.PutSignature(metadb.Signature{RepoID: w.repoID, Digest: w.manifest, Name: "d", Content: []byte("old")})
		if added || !same {
			t.Errorf("again: added %v, same %v", added, same)
		}
		return err
	})

	discard := func(hold time.Duration) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			_, err := tx.TrashManifest(w.repoID, w.manifest, metadb.Discard{Hold: hold})
			return err
		})
	}
	discard(time.Hour)
	want("in the trash", "")
	if all := named(); len(all) != 0 {
		t.Errorf("all signatures, with the manifest in the trash: %+v", all)
	}
	restore()
	want("restored", "d=old b=2 a=1 ")
	discard(time.Hour)
	if err := w.push(); err != nil {
		t.Fatal(err)
	}
	want("pushed again", "d=old b=2 a=1 ")

	discard(-time.Hour)
	purge := func() {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			trashed, err := tx.Trashed(t.Context(), w.repoID, w.manifest)
			if err == nil {
				_, err = tx.PurgeTrash(trashed.ID)
			}
			return err
		})
	}
	purge()
	if err := w.push(); err != nil {
		t.Fatal(err)
	}
	want("purged and pushed again", "")

	if _, _, err := put("c", "3"); err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.DeleteManifest(w.repoID, w.manifest)
		return err
	})
	if err := w.push(); err != nil {
		t.Fatal(err)
	}
	want("deleted for good and pushed again", "")

	// Of several who sign at once each learns how many there are, so that a bound on them holds.
	var together sync.WaitGroup
	counts := make([]int, 8)
	for i := range counts {
		together.Go(func() {
			count, _, err := put(string(rune('a'+i)), "x")
			if err != nil {
				t.Error(err)
			}
			counts[i] = count
		})
	}
	together.Wait()
	seen := map[int]bool{}
	for _, c := range counts {
		seen[c] = true
	}
	if len(seen) != len(counts) {
		t.Errorf("counts of concurrent signers: %v", counts)
	}
	if rows := get[[]metadb.Signature](t)(db.Signatures(t.Context(), w.repoID, oci.FromBytes(oci.SHA256, []byte("absent")))); len(rows) != 0 {
		t.Errorf("signatures of an absent manifest: %v", rows)
	}
}
