package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-registry/berth/oci"
)

// Snapshot writes the database as it is at one moment to a SQLite file that is not there yet, whatever kind it is itself,
// while others read and write. Whatever an Update, KeepBlob or KeepLink acknowledged before is in it. It takes as much room
// as the database.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("metadb: snapshot: %s is there already", path)
	}
	return db.open.pass(func() error { return db.backend.snapshot(ctx, path) })
}

// snapshot of SQLite: its own way to write a database anew, which reads one state of it and keeps nobody waiting.
func (l *lite) snapshot(ctx context.Context, path string) error {
	if err := l.settleAll(); err != nil { // what is in the log of small blobs becomes rows
		return err
	}
	if err := createPrivate(path); err != nil {
		return fmt.Errorf("metadb: snapshot: %w", err)
	}
	c, err := openConn(ctx, l.db)
	if err != nil {
		return l.d.fail(err)
	}
	defer c.close()
	if _, err := c.c.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return fmt.Errorf("metadb: snapshot: %w", l.d.fail(err))
	}
	return nil
}

// snapshot of PostgreSQL: a copy of what one transaction sees, with every row compared.
func (p *cluster) snapshot(ctx context.Context, path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	_, err = Copy(ctx, CopyOptions{From: Options{URL: p.url, Log: p.log, Now: p.now}, To: Options{URL: "sqlite:" + abs, Log: p.log, Now: p.now}, Live: true})
	return err
}

// Schema is the number of the newest migration that this berthd knows.
func Schema() (int64, error) {
	m, err := newMigrator(nil, sqliteDialect(), Options{}.withDefaults())
	if err != nil || len(m.known) == 0 {
		return 0, fmt.Errorf("metadb: migrations cannot be read: %w", err)
	}
	return m.known[len(m.known)-1].Version, nil
}

// StoredBlob is a blob as far as its bytes are concerned.
type StoredBlob struct {
	Digest oci.Digest
	Size   int64  // bytes
	Place  string // where in the store; "" under the digest
	State  BlobState
}

func scanStored(rows *sql.Rows, b *StoredBlob) error {
	return rows.Scan(digest{&b.Digest}, &b.Size, &b.Place, &b.State)
}

// StoredBlobs are up to limit blobs whose bytes are in the store and nowhere else, behind that digest, in the order of
// their digests; those that are being deleted, or were until the deletion failed, are left out.
func (r *Reads) StoredBlobs(ctx context.Context, after oci.Digest, limit int) ([]StoredBlob, error) {
	return many(ctx, r.s, scanStored, `SELECT b.digest, b.size, b.place, b.state FROM blob b WHERE b.digest > $1 AND NOT b.inline AND `+notGarbage+`
		ORDER BY b.digest LIMIT $2`, after.String(), limit)
}

// notGarbage is the condition that nobody has begun to delete the blob b; see damage.go.
const notGarbage = `(b.state = 0 OR b.state = 2 AND EXISTS (SELECT 1 FROM damage d WHERE d.digest = b.digest))`

// StoredBlob finds one of StoredBlobs as it is now, or ErrNotFound.
func (r *Reads) StoredBlob(ctx context.Context, d oci.Digest) (StoredBlob, error) {
	return one(ctx, r.s, scanStored, `SELECT b.digest, b.size, b.place, b.state FROM blob b WHERE b.digest = $1 AND NOT b.inline AND `+notGarbage, d.String())
}

// Census is how much a registry has.
type Census struct {
	Repositories int64 `json:"repositories"`
	Manifests    int64 `json:"manifests"`
	Tags         int64 `json:"tags"`
	Blobs        int64 `json:"blobs"` // with bytes in the store
	Bytes        int64 `json:"bytes"` // of those
}

// Census counts. Its cost grows with what is stored.
func (r *Reads) Census(ctx context.Context) (Census, error) {
	return one(ctx, r.s, func(rows *sql.Rows, c *Census) error {
		return rows.Scan(&c.Repositories, &c.Manifests, &c.Tags, &c.Blobs, &c.Bytes)
	}, `SELECT (SELECT COUNT(*) FROM repository), (SELECT COUNT(*) FROM manifest), (SELECT COUNT(*) FROM tag),
		(SELECT COUNT(*) FROM blob b WHERE NOT b.inline AND `+notGarbage+`), (SELECT COALESCE(SUM(b.size), 0) FROM blob b WHERE NOT b.inline AND `+notGarbage+`)`)
}
