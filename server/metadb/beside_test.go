package metadb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

// TestBeside: what a second process changes in a SQLite file is told to those who remember, and what the first one keeps
// beside the file is still its own.
func TestBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	db := open(t, metadb.Options{Path: path})
	defer db.Close()
	repo := intakeRepository(t, db)
	keepBlob(t, db, repo, "before")
	told := make(chan metadb.Change, 100)
	db.Watch(func(c metadb.Change) { told <- c })

	other := open(t, metadb.Options{Path: path, Beside: true})
	if err := other.Update(t.Context(), func(tx *metadb.Tx) error {
		_, err := tx.CreateProject(metadb.Project{Name: "beside"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-told:
		if c.Kind != metadb.Everything {
			t.Errorf("told of %+v", c)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody was told of the other's commit")
	}
	between := keepBlob(t, other, repo, "by the other") // needs no log of its own
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	after := keepBlob(t, db, repo, "after")
	copied := open(t, metadb.Options{Path: crashed(t, path)})
	defer copied.Close()
	if !hasBlob(t, copied, repo, between) || !hasBlob(t, copied, repo, after) {
		t.Error("a blob that was acknowledged is lost in a crash")
	}
}

// TestAlone: nothing that one process does by itself looks like the commit of another, or caches would be emptied all the time.
func TestAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	db := open(t, metadb.Options{Path: path})
	defer db.Close()
	ctx := t.Context()
	before, err := metadb.CommitsOfOthers(db)
	if err != nil {
		t.Fatal(err)
	}
	repo := intakeRepository(t, db)
	big := strings.Repeat("x", 64<<10)
	for i := range 600 { // past the steps at which the log is copied into the database
		if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting(fmt.Sprint("s", i%400), big) }); err != nil {
			t.Fatal(err)
		}
		keepBlob(t, db, repo, fmt.Sprint("blob ", i))
	}
	same := func(what string) {
		t.Helper()
		if after, err := metadb.CommitsOfOthers(db); err != nil || after != before {
			t.Errorf("the count went from %d to %d, %v, by %s, and nobody else was there", before, after, err, what)
			before = after
		}
	}
	same("updates")
	undo := errors.New("undone")
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return errors.Join(tx.PutSetting("never", big), undo) }); !errors.Is(err, undo) {
		t.Fatal(err)
	}
	same("an update that was undone")
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		for i := range 400 {
			if err := tx.PutSetting(fmt.Sprint("s", i), ""); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Shrink(ctx); err != nil {
		t.Fatal(err)
	}
	same("giving space back")
	if err := db.Snapshot(ctx, filepath.Join(t.TempDir(), "copy.db")); err != nil {
		t.Fatal(err)
	}
	same("a snapshot")
	for range 3 { // a new connection each
		c := open(t, metadb.Options{Path: path, Beside: true})
		if _, err := c.Project(ctx, "p"); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	same("somebody who only reads")
	if info, err := os.Stat(path); err != nil || info.Size() < 1<<20 {
		t.Errorf("the log was never copied: %d bytes, %v", info.Size(), err)
	}
}

// TestBesideAnotherVersion: an operator's command of a newer version does not migrate what an older berthd serves.
func TestBesideAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	if _, err := metadb.Open(t.Context(), metadb.Options{Path: path, Beside: true}); err == nil || !strings.Contains(err.Error(), "a berthd of another version serves it") {
		t.Errorf("a database without a schema: %v", err)
	}
}
