package metadb_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/server/metadb"
)

// TestShrink: what was deleted from a SQLite file goes back to the file system while others write.
func TestShrink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	db := open(t, metadb.Options{Path: path})
	defer db.Close()
	ctx := t.Context()
	const rows = 400 // of 64 KiB
	for i := range rows {
		if err := db.Update(ctx, func(tx *metadb.Tx) error {
			return tx.PutSetting(fmt.Sprint("s", i), string(bytes.Repeat([]byte{'x'}, 64<<10)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		for i := range rows {
			if err := tx.PutSetting(fmt.Sprint("s", i), ""); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before, err := metadb.PageCount(db)
	if err != nil {
		t.Fatal(err)
	}
	writing := make(chan error)
	go func() {
		writing <- db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting("meanwhile", "kept") })
	}()
	if err := db.Shrink(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-writing; err != nil {
		t.Fatal(err)
	}
	after, err := metadb.PageCount(db)
	if err != nil {
		t.Fatal(err)
	}
	if after > before/2 {
		t.Fatalf("%d pages before, %d after", before, after)
	}
	if v, err := db.Setting(ctx, "meanwhile"); err != nil || v != "kept" {
		t.Fatalf("written meanwhile: %q, %v", v, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 12<<20 {
		t.Fatalf("the file has %d bytes, %v", info.Size(), err)
	}
}
