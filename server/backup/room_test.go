package backup_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// registry is metadata and content as engines would have made them, and a place for backups.
type registry struct {
	t      *testing.T
	db     *metadb.DB
	blobs  *fs.Store
	repo   int64
	target *fs.Store
	tamed  blob.Store // what the service is given as the target; target unless a test puts something before it
	temp   string
	backup *backup.Service
}

type door struct{ err error }

func (d door) CheckSystem(context.Context, identity.Verb) error { return d.err }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newFS(t *testing.T) *fs.Store {
	t.Helper()
	s, err := fs.New(t.TempDir(), fs.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{t: t, blobs: newFS(t), target: newFS(t), temp: t.TempDir()}
	r.tamed = r.target
	db, err := metadb.Open(t.Context(), metadb.Options{Path: metadbtest.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	r.db = db
	t.Cleanup(func() { _ = db.Close() })
	r.update(func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("team", false)
		if err != nil {
			return err
		}
		repo, err := tx.EnsureRepository(p.ID, "team/app")
		r.repo = repo.ID
		return err
	})
	r.backup = r.service(door{})
	return r
}

func (r *registry) service(d door) *backup.Service {
	return backup.New(backup.Options{
		DB: r.db, Blobs: r.blobs, Access: d, Temp: r.temp, Version: "test", Database: "sqlite", Now: time.Now, Log: quiet(),
		Open: func(context.Context, string, bool) (blob.Store, func() error, error) {
			return r.tamed, func() error { return nil }, nil
		},
	})
}

func (r *registry) update(fn func(*metadb.Tx) error) {
	r.t.Helper()
	if err := r.db.Update(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// layer puts a blob into the store and the repository.
func (r *registry) layer(seed byte, n int) oci.Digest {
	r.t.Helper()
	d := blobtest.Put(r.t, r.blobs, fmt.Sprintf("layer-%d-%d", seed, n), blobtest.Random(seed, n))
	r.update(func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(n), LeaseUntil: tx.Now().Add(time.Hour)}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(r.repo, d)
		return err
	})
	return d
}

// image puts a manifest with those layers under a tag.
func (r *registry) image(tag string, layers ...oci.Digest) oci.Digest {
	r.t.Helper()
	body := []byte("manifest " + tag)
	d := oci.FromBytes(oci.SHA256, body)
	r.update(func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(body))}, body); err != nil {
			return err
		}
		var edges []metadb.Edge
		for _, l := range layers {
			edges = append(edges, metadb.Edge{Child: l, Kind: metadb.LayerEdge})
		}
		if _, err := tx.PutManifest(metadb.Manifest{RepoID: r.repo, Digest: d, MediaType: "m", Size: int64(len(body))}, edges); err != nil {
			return err
		}
		return putTag(tx, r.repo, tag, d)
	})
	return d
}

func (r *registry) take(ask backup.Ask) *backup.Record {
	r.t.Helper()
	record, err := r.backup.Run(r.t.Context(), ask, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return record
}

// restored is another registry from the backup.
func (r *registry) restore(o backup.Restoring) (*registry, *backup.Restored, error) {
	r.t.Helper()
	to := &registry{t: r.t, temp: r.t.TempDir(), repo: r.repo}
	if o.To == nil {
		to.blobs = newFS(r.t)
		o.To = to.blobs
	}
	file := filepath.Join(to.temp, "berth.db")
	if o.From == nil {
		o.From = r.target
	}
	o.File, o.Temp, o.Now, o.Log = file, to.temp, time.Now, quiet()
	result, err := backup.Restore(r.t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	if to.db, err = metadb.Open(r.t.Context(), metadb.Options{Path: file}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = to.db.Close() })
	return to, result, nil
}

func (r *registry) requireTag(tag string, want oci.Digest) {
	r.t.Helper()
	got, err := r.db.Tag(r.t.Context(), r.repo, tag)
	if err != nil || got.Digest != want {
		r.t.Errorf("tag %s is %v, %v, want %v", tag, got.Digest, err, want)
	}
	if _, err := r.db.Content(r.t.Context(), want); err != nil {
		r.t.Errorf("manifest of tag %s: %v", tag, err)
	}
}

var errDenied = errors.New("denied")
