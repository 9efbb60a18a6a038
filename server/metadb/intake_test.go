package metadb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// crashed copies a database as a process that is killed at this moment leaves it.
func crashed(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "berth.db")
	suffixes := []string{"", "-wal"}
	for lane := range 2 {
		suffixes = append(suffixes, fmt.Sprintf("-intake%d0", lane), fmt.Sprintf("-intake%d1", lane))
	}
	for _, suffix := range suffixes {
		data, err := os.ReadFile(path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func intakeRepository(t *testing.T, db *metadb.DB) (id int64) { return namedRepository(t, db, "p/app") }
func secondRepository(t *testing.T, db *metadb.DB) (id int64) { return namedRepository(t, db, "p/two") }

func namedRepository(t *testing.T, db *metadb.DB, name string) (id int64) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("p", true)
		if err != nil {
			return err
		}
		r, err := tx.EnsureRepository(p.ID, name)
		id = r.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func keepBlob(t *testing.T, db *metadb.DB, repo int64, content string) oci.Digest {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, []byte(content))
	b := metadb.Blob{Digest: d, Size: int64(len(content)), Inline: true, LeaseUntil: time.Now().Add(time.Hour)}
	if err := db.KeepBlob(t.Context(), repo, b, []byte(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

func hasBlob(t *testing.T, db *metadb.DB, repo int64, d oci.Digest) bool {
	t.Helper()
	_, err := db.Blob(context.Background(), repo, d)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// TestIntakeCrash: at whatever moment the process dies, what was acknowledged is there after a restart, what was taken
// back since is not, and a second crash changes nothing.
func TestIntakeCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	db := open(t, metadb.Options{Path: path})
	repo := intakeRepository(t, db)
	second := secondRepository(t, db)
	var kept []oci.Digest
	gone := keepBlob(t, db, repo, "taken back")
	if err := db.Update(t.Context(), func(tx *metadb.Tx) error { _, err := tx.UnlinkBlob(repo, gone); return err }); err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // 3 MB: both files of the log are used, and used again
		kept = append(kept, keepBlob(t, db, repo, fmt.Sprintf("%016000d", i)))
		if err := db.KeepLink(t.Context(), second, kept[i], time.Now().Add(time.Hour), db.Mark()); err != nil {
			t.Fatal(err)
		}
		if i%13 == 0 {
			if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.PutSetting("x", fmt.Sprint(i)) }); err != nil {
				t.Fatal(err)
			}
		}
		if i%40 != 39 {
			continue
		}
		first := crashed(t, path)
		after := open(t, metadb.Options{Path: first})
		again := crashed(t, first)
		for _, db := range []*metadb.DB{after, open(t, metadb.Options{Path: again})} {
			for n, d := range kept {
				if !hasBlob(t, db, repo, d) || !hasBlob(t, db, second, d) {
					t.Fatalf("blob %d of %d is lost", n, len(kept))
				}
				if c, err := db.Content(t.Context(), d); err != nil || oci.FromBytes(oci.SHA256, c) != d {
					t.Fatalf("content of blob %d: %v", n, err)
				}
			}
			if hasBlob(t, db, repo, gone) {
				t.Fatal("a blob that was taken back is there again")
			}
			keepBlob(t, db, repo, "after the crash")
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(first + "-*"); db == after && len(left) > 0 {
				t.Fatalf("a clean close leaves %v", left)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIntakeTorn: a log that ends anywhere gives what is whole before the end, and an older log beside another database
// gives nothing.
func TestIntakeTorn(t *testing.T) {
	image, other, repo, ds := imageOfLog(t)
	log, err := os.ReadFile(image + "-intake00")
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(log); cut += 7 {
		torn := crashed(t, image)
		if err := os.WriteFile(torn+"-intake00", append(log[:cut:cut], make([]byte, 64)...), 0o600); err != nil {
			t.Fatal(err)
		}
		db := open(t, metadb.Options{Path: torn})
		missing := false
		for i, d := range ds {
			switch has := hasBlob(t, db, repo, d); {
			case !has:
				missing = true
			case missing:
				t.Fatalf("cut at %d: blob %d is there and one before it is not", cut, i)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(other+"-intake00", log, 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, metadb.Options{Path: other})
	defer db.Close()
	if hasBlob(t, db, repo, ds[0]) {
		t.Fatal("the log of one database was applied to another")
	}
}

// imageOfLog is a database as a crash leaves it while four blobs are in its log only, and one from before there was a log.
// Rows are made beside the callers, so on a slow machine the image may be taken too late, and another is made.
func imageOfLog(t *testing.T) (image, before string, repo int64, ds []oci.Digest) {
	t.Helper()
	for range 50 {
		path := filepath.Join(t.TempDir(), "berth.db")
		db := open(t, metadb.Options{Path: path})
		repo, ds = intakeRepository(t, db), nil
		before = crashed(t, path)
		for i := range 4 {
			ds = append(ds, keepBlob(t, db, repo, fmt.Sprintf("blob %d", i)))
		}
		image = crashed(t, path)
		bare := crashed(t, image)
		logs, err := filepath.Glob(bare + "-intake*")
		for _, name := range logs {
			err = errors.Join(err, os.Remove(name))
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		db = open(t, metadb.Options{Path: bare})
		late := false
		for _, d := range ds {
			late = late || hasBlob(t, db, repo, d)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if !late {
			return image, before, repo, ds
		}
	}
	t.Fatal("the rows of four blobs were made before the log could be copied, 50 times")
	return "", "", 0, nil
}

func FuzzIntakeLog(f *testing.F) {
	f.Add([]byte("berthin2"), uint64(7))
	f.Add(metadb.IntakeFile(7, "one", "two"), uint64(7))
	f.Fuzz(func(t *testing.T, data []byte, salt uint64) {
		metadb.ParseIntake(data, salt)
	})
}

// BenchmarkKeepBlob is a small blob, from 1, 8 and 64 callers.
func BenchmarkKeepBlob(b *testing.B) {
	benchmarkUpdate(b, func(db *metadb.DB, repoID int64, _ []oci.Digest, n int64) error {
		content := fmt.Appendf(nil, "%04096d", n)
		d := oci.FromBytes(oci.SHA256, content)
		return db.KeepBlob(context.Background(), repoID, metadb.Blob{Digest: d, Size: 4096, Inline: true}, content)
	})
}
