package metadb_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// shelf is a repository with some manifests, and a clock.
type shelf struct {
	*metadb.DB

	t     *testing.T
	repo  int64
	all   [4]oci.Digest
	clock *atomic.Int64 // microseconds
}

func newShelf(t *testing.T, o metadb.Options) *shelf {
	s := &shelf{t: t, clock: &atomic.Int64{}}
	s.clock.Store(1_000_000)
	o.Now = func() time.Time { return time.UnixMicro(s.clock.Load()) }
	s.DB = open(t, o)
	t.Cleanup(func() { _ = s.Close() })
	for i := range s.all {
		s.all[i] = oci.FromBytes(oci.SHA256, fmt.Append(nil, i))
	}
	s.change(func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("team", true)
		if err != nil {
			return err
		}
		r, err := tx.EnsureRepository(p.ID, "team/app")
		s.repo = r.ID
		return err
	})
	for i := range s.all {
		s.push(i)
	}
	return s
}

func (s *shelf) change(f func(tx *metadb.Tx) error) {
	s.t.Helper()
	s.clock.Add(1000)
	if err := s.Update(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

// push puts manifest i, which refers to the one before and to a layer.
func (s *shelf) push(i int) {
	s.t.Helper()
	s.change(func(tx *metadb.Tx) error {
		content := fmt.Append(nil, i)
		if err := tx.PutBlob(metadb.Blob{Digest: s.all[i], Size: int64(len(content))}, content); err != nil {
			return err
		}
		layer := oci.FromBytes(oci.SHA256, []byte("layer"))
		if err := tx.PutBlob(metadb.Blob{Digest: layer, Size: 5}, nil); err != nil {
			return err
		}
		if _, err := tx.LinkBlob(s.repo, layer); err != nil {
			return err
		}
		_, err := tx.PutManifest(metadb.Manifest{RepoID: s.repo, Digest: s.all[i], MediaType: "m", Size: int64(len(content)), PushedBy: "alice"}, []metadb.Edge{
			{Child: layer, Kind: metadb.LayerEdge}, {Child: s.all[max(i-1, 0)], Kind: metadb.ManifestEdge},
		})
		return err
	})
}

func (s *shelf) put(tag string, i int) {
	s.t.Helper()
	s.change(func(tx *metadb.Tx) error {
		_, err := tx.PutTag(s.repo, tag, s.all[i], metadb.Origin{By: "alice", Source: "192.0.2.1 docker/27"})
		return err
	})
}

func (s *shelf) journal(tag string) (text string) {
	s.t.Helper()
	all, err := s.TagHistory(s.t.Context(), s.repo, tag, time.Time{}, 100)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range all {
		i := -1
		for n, d := range s.all {
			if d == e.Digest {
				i = n
			}
		}
		text += fmt.Sprintf("%d:%d:%s ", e.Since.UnixMicro(), i, e.By)
	}
	return text
}

// TestHistoryOfTheVersionBefore: rows of a berthd that knows no journal are read as what they say: since when the tag is
// where it is. What it was before, while that one moved it, is not guessed.
func TestHistoryOfTheVersionBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		s := newShelf(t, o)
		db := raw(t, o)
		// What 0.1.0 says when it makes, moves and puts a tag again; see testdata/before.
		exec(t, db, fmt.Sprintf(`INSERT INTO tag (repo_id, name, digest, updated_at) VALUES (%d, 'old', '%s', 5000) ON CONFLICT (repo_id, name) DO NOTHING`, s.repo, s.all[0]))
		same := func(tag, want string) {
			t.Helper()
			if got := s.journal(tag); got != want {
				t.Errorf("history of %s is %q, want %q", tag, got, want)
			}
		}
		same("old", "5000:0: ")
		s.clock.Store(10_000)
		s.put("old", 1)
		same("old", "11000:1:alice 5000:0: ")
		exec(t, db, fmt.Sprintf(`UPDATE tag SET digest = '%s', updated_at = 20000 WHERE repo_id = %d AND name = 'old'`, s.all[2], s.repo))
		same("old", "20000:2:alice 5000:0: ")
		s.clock.Store(30_000)
		s.put("old", 3)
		same("old", "31000:3:alice 20000:2:alice 5000:0: ")
		exec(t, db, fmt.Sprintf(`DELETE FROM tag WHERE repo_id = %d AND name = 'old'`, s.repo))
		same("old", "20000:2:alice 5000:0: ")
		s.clock.Store(1) // and a clock that was set back
		s.put("old", 0)
		same("old", "20001:0:alice 20000:2:alice 5000:0: ")
	})
}

// TestTrimTagHistory: whatever a tag was since the time is known as before, and what is not needed for that is gone.
func TestTrimTagHistory(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		s, r := newShelf(t, o), rand.New(rand.NewPCG(1, 2))
		for range 300 {
			tag := fmt.Sprint("t", r.IntN(5))
			if r.IntN(4) > 0 {
				s.put(tag, r.IntN(4))
				continue
			}
			s.change(func(tx *metadb.Tx) error { _, _, err := tx.DeleteTag(s.repo, tag, metadb.Origin{}); return err })
		}
		start, end := int64(1_150_000), s.clock.Load()
		ask := func() (all []string) {
			for at := start; at < end; at += 3000 {
				found, err := s.TagsAt(t.Context(), s.repo, time.UnixMicro(at), "", 100)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, fmt.Sprint(found))
			}
			return all
		}
		before, removed := fmt.Sprint(ask()), 0
		for range 2 {
			var at metadb.HistoryCursor
			for seen := 7; seen == 7; {
				s.change(func(tx *metadb.Tx) error {
					next, n, gone, err := tx.TrimTagHistory(time.UnixMicro(start), at, 7)
					at, seen, removed = next, n, removed+gone
					return err
				})
			}
		}
		if got := fmt.Sprint(ask()); got != before {
			t.Errorf("trimming changed what is known of the time since\n%s\nwas\n%s", got, before)
		}
		db := raw(t, o)
		if old := value[int64](t, db, `SELECT COUNT(*) FROM tag_history WHERE since < $1`, start); old > 5 || removed == 0 {
			t.Errorf("%d entries of before are left, at most one of each tag is needed; %d were removed", old, removed)
		}
	})
}

// TestTrash: a manifest keeps its number and its edges on the way into the trash and out of it, by a restoration or a push,
// and only a purge takes them.
func TestTrash(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		s := newShelf(t, o)
		db := raw(t, o)
		d := s.all[3]
		id, err := s.ImageID(t.Context(), s.repo, d)
		if err != nil {
			t.Fatal(err)
		}
		discard := func() {
			t.Helper()
			s.change(func(tx *metadb.Tx) error {
				existed, err := tx.TrashManifest(s.repo, d, metadb.Discard{Origin: metadb.Origin{By: "bob"}, Tags: []string{"a", "b"}, Hold: time.Minute})
				if !existed {
					t.Error("there was nothing to put into the trash")
				}
				return err
			})
		}
		edges := func(want int64) {
			t.Helper()
			if n := value[int64](t, db, `SELECT COUNT(*) FROM edge WHERE manifest_id = $1`, id); n != want {
				t.Errorf("%d edges of manifest %d, want %d", n, id, want)
			}
			if n := value[int64](t, db, `SELECT COUNT(*) FROM edge`); n != 6+want {
				t.Errorf("%d edges in all, want %d", n, 6+want)
			}
		}
		discard()
		edges(2)
		if kids, err := s.Children(t.Context(), s.repo, d); err != nil || len(kids) > 0 {
			t.Errorf("children of what is in the trash: %v, %v", kids, err)
		}
		s.push(3)
		edges(2)
		if got, err := s.ImageID(t.Context(), s.repo, d); err != nil || got != id {
			t.Errorf("pushed again it has number %d, %v; it was %d", got, err, id)
		}
		discard()
		trashed, err := s.Trashed(t.Context(), s.repo, d)
		if err != nil || trashed.ID != id || fmt.Sprint(trashed.Tags) != "[a b]" || trashed.DeletedBy != "bob" || trashed.PushedBy != "alice" || trashed.Repository != "team/app" {
			t.Errorf("in the trash: %+v, %v", trashed, err)
		}
		s.change(func(tx *metadb.Tx) error { // a client takes away what only the trash needs
			_, err := tx.UnlinkBlob(s.repo, oci.FromBytes(oci.SHA256, []byte("layer")))
			return err
		})
		s.change(func(tx *metadb.Tx) error { _, err := tx.RestoreManifest(trashed); return err })
		edges(2)
		if _, err := s.Blob(t.Context(), s.repo, oci.FromBytes(oci.SHA256, []byte("layer"))); err != nil {
			t.Errorf("its layer did not come back: %v", err)
		}
		// A berthd that knows no trash pushes the digest again: then it is in both.
		discard()
		exec(t, db, fmt.Sprintf(`INSERT INTO manifest (repo_id, digest, media_type, size, pushed_at) VALUES (%d, '%s', 'm', 1, 1)`, s.repo, d))
		if trashed, err = s.Trashed(t.Context(), s.repo, d); err != nil {
			t.Fatal(err)
		}
		s.change(func(tx *metadb.Tx) error {
			restored, err := tx.RestoreManifest(trashed)
			if restored {
				t.Error("a manifest that is there was restored")
			}
			return err
		})
		edges(0)
		discard()
		id = value[int64](t, db, `SELECT id FROM trash`)
		s.change(func(tx *metadb.Tx) error {
			if purged, err := tx.PurgeTrash(id); err != nil || !purged {
				t.Errorf("purge: %v, %v", purged, err)
			}
			purged, err := tx.PurgeTrash(id)
			if purged {
				t.Error("purged twice")
			}
			return err
		})
		edges(0)
		if n := value[int64](t, db, `SELECT COUNT(*) FROM blob WHERE digest = $1 AND lease_until > 0`, d.String()); n != 1 {
			t.Error("collection does not look at the blob of what was purged")
		}
	})
}
