package metadb_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// A snapshot has whatever was acknowledged before it, small blobs that have no rows yet included, while others write.
func TestSnapshot(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testSnapshot(t, metadb.Options{Path: filepath.Join(t.TempDir(), "berth.db")}) })
	t.Run("PostgreSQL", func(t *testing.T) { testSnapshot(t, metadb.Options{URL: testkit.Postgres(t)}) })
}

func testSnapshot(t *testing.T, o metadb.Options) {
	ctx := t.Context()
	db, err := metadb.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var repo metadb.Repository
	big := oci.FromBytes(oci.SHA256, []byte("in the store"))
	err = db.Update(ctx, func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("team", true)
		if err != nil {
			return err
		}
		if repo, err = tx.EnsureRepository(p.ID, "team/app"); err != nil {
			return err
		}
		return tx.PutBlob(metadb.Blob{Digest: big, Size: 12, LeaseUntil: time.Now().Add(time.Hour)}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var kept []oci.Digest
	load, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; load.Err() == nil && i < 3000; i++ {
				content := fmt.Appendf(nil, "small %d %d", w, i)
				d := oci.FromBytes(oci.SHA256, content)
				if err := db.KeepBlob(ctx, repo.ID, metadb.Blob{Digest: d, Size: int64(len(content)), LeaseUntil: time.Now().Add(time.Hour)}, content); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				kept = append(kept, d)
				mu.Unlock()
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	mu.Lock()
	before := kept[:len(kept):len(kept)]
	mu.Unlock()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := db.Snapshot(ctx, path); err != nil {
		t.Fatal(err)
	}
	stop()
	writers.Wait()
	if err := db.Snapshot(ctx, path); err == nil {
		t.Error("a snapshot is written over a file that is there")
	}
	copied, err := metadb.Open(ctx, metadb.Options{Path: path, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if len(before) == 0 {
		t.Fatal("nothing was written before the snapshot")
	}
	for _, d := range before {
		if _, err := copied.Content(ctx, d); err != nil {
			t.Fatalf("blob %s was acknowledged before the snapshot and is not in it: %v", d, err)
		}
	}
	stored, err := copied.StoredBlobs(ctx, oci.Digest{}, 10)
	if err != nil || len(stored) != 1 || stored[0].Digest != big {
		t.Errorf("blobs of the store are %v, %v", stored, err)
	}
	if c, err := copied.Census(ctx); err != nil || c.Repositories != 1 || c.Blobs != 1 || c.Bytes != 12 {
		t.Errorf("census %+v, %v", c, err)
	}
}

// What belonged to processes of the old life means nothing in the new one, and no time has passed.
func TestRevive(t *testing.T) {
	ctx := t.Context()
	db, err := metadb.Open(ctx, metadb.Options{Path: filepath.Join(t.TempDir(), "berth.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d := oci.FromBytes(oci.SHA256, []byte("a"))
	lease := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	err = db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1, LeaseUntil: lease}, nil); err != nil {
			return err
		}
		if err := tx.HoldCollection("backup", time.Hour); err != nil {
			return err
		}
		if _, _, err := tx.TakeLease("backup", "old", time.Hour); err != nil {
			return err
		}
		return tx.PutSetting(metadb.InstanceSetting, "old")
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(ctx, func(tx *metadb.Tx) error { return tx.Revive(tx.Now().Add(-100 * time.Hour)) })
	if err != nil {
		t.Fatal(err)
	}
	if holds, err := db.CollectionHolds(ctx, time.Now()); err != nil || len(holds) > 0 {
		t.Errorf("holds of the old life: %q, %v", holds, err)
	}
	if _, err := db.Setting(ctx, metadb.InstanceSetting); !errors.Is(err, metadb.ErrNotFound) {
		t.Errorf("the new life has the old one's name: %v", err)
	}
	b, err := db.BlobAnywhere(ctx, d)
	if got := b.LeaseUntil.Sub(lease).Round(time.Minute); err != nil || got != 100*time.Hour {
		t.Errorf("a promise was extended by %v, want 100 h; %v", got, err)
	}
	err = db.Update(ctx, func(tx *metadb.Tx) error {
		_, held, err := tx.TakeLease("backup", "new", time.Hour)
		if err == nil && !held {
			t.Error("the lease of the old life holds")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
