package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// BlobState says whether a blob may be used.
type BlobState int16

// The states of a blob.
const (
	Live    BlobState = 0
	Claimed BlobState = 1 // being deleted: nobody may link to it
	Damaged BlobState = 2 // the bytes are not what the digest says, or are gone; see damage.go
)

// Blob is a content object, once for all repositories; manifests are blobs too.
type Blob struct {
	Digest     oci.Digest
	Size       int64 // bytes
	Inline     bool  // the bytes are in this database; the store may have them too, as Stored says
	Stored     bool  // the store may have the bytes, so who deletes the blob deletes there; not used by PutBlob
	State      BlobState
	Place      string // where the store has the bytes, see moved.go; "" is under the digest
	CreatedAt  time.Time
	LeaseUntil time.Time // until then it is kept although nothing refers to it; of a claim: until then it is another's
}

const blobColumns = `b.digest, b.size, b.inline, b.stored, b.state, b.place, b.created_at, b.lease_until`

func scanBlob(rows *sql.Rows, b *Blob) error {
	return rows.Scan(digest{&b.Digest}, &b.Size, &b.Inline, &b.Stored, &b.State, &b.Place, micros{&b.CreatedAt}, micros{&b.LeaseUntil})
}

// Blob finds a blob that the repository has, or ErrNotFound. It is live, or damaged: who asks says so, and does not use it.
func (r *Reads) Blob(ctx context.Context, repoID int64, d oci.Digest) (Blob, error) {
	return one(ctx, r.s, scanBlob, `SELECT `+blobColumns+` FROM repo_blob rb JOIN blob b ON b.digest = rb.digest
		WHERE rb.repo_id = $1 AND rb.digest = $2 AND b.state <> 1`, repoID, d.String())
}

// BlobAnywhere finds a blob in whatever state and repository, or ErrNotFound.
func (r *Reads) BlobAnywhere(ctx context.Context, d oci.Digest) (Blob, error) {
	return one(ctx, r.s, scanBlob, `SELECT `+blobColumns+` FROM blob b WHERE b.digest = $1`, d.String())
}

// BlobRepositories are up to limit repositories that have the live blob, oldest repository first.
func (r *Reads) BlobRepositories(ctx context.Context, d oci.Digest, limit int) ([]Repository, error) {
	return many(ctx, r.s, scanRepository, repositoryColumns+` JOIN repo_blob rb ON rb.repo_id = r.id JOIN blob b ON b.digest = rb.digest
		WHERE rb.digest = $1 AND b.state = 0 ORDER BY rb.repo_id LIMIT $2`, d.String(), limit)
}

// Content is the bytes of an inline blob, never nil, or ErrNotFound when the blob is not inline.
func (r *Reads) Content(ctx context.Context, d oci.Digest) ([]byte, error) {
	b, err := one(ctx, r.s, column[[]byte], `SELECT bytes FROM blob_content WHERE digest = $1`, d.String())
	if err == nil && b == nil {
		b = []byte{} // as SQLite says of no bytes
	}
	return b, err
}

// PutBlob records a blob and, when content is not nil, keeps its bytes here. The bytes of any other are in the store
// already, at b.Place, and are read from there from now on. Of a live blob the lease is extended as by LeaseBlob, never
// shortened; one whose bytes are in the store becomes inline when it is put with content, because a manifest is read from here, and because content that is sent again repairs what the
// store may have lost. One that is damaged is live again, with these bytes and no others. CreatedAt and State of b are not
// used.
//
// ErrClaimed says that the blob is being deleted.
func (tx *Tx) PutBlob(b Blob, content []byte) error {
	inline := content != nil
	n, err := tx.exec(`INSERT INTO blob (digest, size, inline, stored, state, created_at, lease_until, place) VALUES ($1, $2, $3, $6, 0, $4, $5, $7)
		ON CONFLICT (digest) DO NOTHING`, b.Digest.String(), b.Size, inline, toMicros(tx.now), toMicros(b.LeaseUntil), !inline, b.Place)
	switch {
	case err != nil:
		return err
	case n == 0:
		return tx.keepBlob(b, content)
	case inline:
		_, err = tx.exec(`INSERT INTO blob_content (digest, bytes) VALUES ($1, $2)`, b.Digest.String(), content)
	}
	return err
}

// keepBlob extends the lease of a blob that is there, takes its content in, and locks it against being claimed.
func (tx *Tx) keepBlob(b Blob, content []byte) error {
	have, err := tx.lockBlob(b.Digest, tx.d.forNoKeyUpdate)
	if errors.Is(err, ErrNotFound) { // its claim ended while we waited for it
		return ErrClaimed
	}
	if err != nil {
		return err
	}
	if have.State == Claimed {
		if have.LeaseUntil.After(tx.clock()) {
			return ErrClaimed
		}
		have.State = Damaged // its worker died: whatever it did to the bytes has ended
		if err := tx.forgetDamage(b.Digest.String()); err != nil {
			return err
		}
	}
	if content == nil {
		if err := tx.movePlace(have, b.Place); err != nil {
			return err
		}
	}
	if have.State == Damaged {
		return tx.replace(have, b, content)
	}
	if have.Size != b.Size {
		return fmt.Errorf("metadb: blob %s has %d bytes and is put with %d", b.Digest, have.Size, b.Size)
	}
	if content != nil && !have.Inline {
		if _, err := tx.exec(`INSERT INTO blob_content (digest, bytes) VALUES ($1, $2)`, b.Digest.String(), content); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE blob SET inline = TRUE WHERE digest = $1`, b.Digest.String()); err != nil {
			return err
		}
	}
	if content == nil && !have.Stored { // the store has its bytes now, too
		if _, err := tx.exec(`UPDATE blob SET stored = TRUE WHERE digest = $1`, b.Digest.String()); err != nil {
			return err
		}
	}
	if !tx.enough(b.LeaseUntil).After(have.LeaseUntil) {
		return nil
	}
	return tx.LeaseBlob(b.Digest, b.LeaseUntil)
}

// lockBlob reads the row and holds it until the transaction ends: forNoKeyUpdate against a claim, forUpdate against
// links too.
func (tx *Tx) lockBlob(d oci.Digest, lock string) (Blob, error) {
	return one(tx.ctx, tx.s, scanBlob, `SELECT `+blobColumns+` FROM blob b WHERE b.digest = $1`+lock, d.String())
}

// LeaseBlob keeps a live blob until then at least, or nearly: a lease of which two thirds of the asked time are left stays
// as it is, so that a blob that is promised again and again is written once in a while. It is harmless, and does nothing,
// when the blob is not live or is leased for longer.
func (tx *Tx) LeaseBlob(d oci.Digest, until time.Time) error {
	_, err := tx.exec(`UPDATE blob SET lease_until = $2 WHERE digest = $1 AND state = 0 AND lease_until < $3`, d.String(), toMicros(until), toMicros(tx.enough(until)))
	return err
}

// enough is the lease that is not extended when one until then is asked for.
func (tx *Tx) enough(until time.Time) time.Time { return Enough(tx.now, until) }

// Enough is the shortest lease that LeaseBlob leaves as it is when it is asked at now for one until then.
func Enough(now, until time.Time) time.Time { return now.Add(until.Sub(now) * 2 / 3) }

// LinkBlob gives the repository the blob; created says whether it was without. ErrNotFound when there is no such blob or it
// is damaged, ErrClaimed when it is being deleted. From here on the blob cannot be claimed.
func (tx *Tx) LinkBlob(repoID int64, d oci.Digest) (created bool, err error) {
	n, err := tx.exec(`INSERT INTO repo_blob (repo_id, digest, created_at)
		SELECT $1, b.digest, $3 FROM blob b WHERE b.digest = $2 AND b.state = 0`+tx.d.forKeyShare+`
		ON CONFLICT (repo_id, digest) DO NOTHING`, repoID, d.String(), toMicros(tx.now))
	if err != nil || n == 1 {
		return n == 1, err
	}
	b, err := tx.BlobAnywhere(tx.ctx, d)
	switch {
	case err != nil:
	case b.State == Claimed:
		err = ErrClaimed
	case b.State == Damaged:
		err = ErrNotFound
	}
	return false, err
}

// UnlinkBlob takes the blob from the repository; existed says whether it had it. The blob itself stays until collection
// has looked at it.
//
// A caller that must not unlink what a manifest needs unlinks first, asks Parents second and returns an error to undo
// it: the other order lets a push slip in between on PostgreSQL.
func (tx *Tx) UnlinkBlob(repoID int64, d oci.Digest) (existed bool, err error) {
	n, err := tx.exec(`DELETE FROM repo_blob WHERE repo_id = $1 AND digest = $2`, repoID, d.String())
	if err != nil || n == 0 {
		return false, err
	}
	tx.changed(BlobGone, repoID, d.String())
	return true, tx.Review(d)
}

// MissingBlobs are those of ds that the repository does not have or that are damaged, in the order of ds, each once. What
// is not missing stays linked until the transaction ends.
func (tx *Tx) MissingBlobs(repoID int64, ds []oci.Digest) ([]oci.Digest, error) {
	// The question about the blob takes no lock, which pushes of a base layer would all want.
	return tx.missing(`SELECT digest FROM repo_blob WHERE repo_id = $1
		AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = repo_blob.digest AND b.state = 2) AND digest IN (`, repoID, ds)
}

func (tx *Tx) missing(query string, repoID int64, ds []oci.Digest) ([]oci.Digest, error) {
	have := make(map[string]bool, len(ds))
	for rest := ds; len(rest) > 0; {
		part := rest[:min(len(rest), maxList)]
		rest = rest[len(part):]
		var b strings.Builder
		b.WriteString(query)
		width := paddedLen(len(part))
		placeholders(&b, 1, width, 1, "")
		b.WriteByte(')')
		b.WriteString(tx.d.forKeyShare)
		args := make([]any, 1, 1+width)
		args[0] = repoID
		for i := range width {
			args = append(args, part[min(i, len(part)-1)].String())
		}
		err := tx.s.query(tx.ctx, func(rows *sql.Rows) error {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			have[s] = true
			return nil
		}, b.String(), args...)
		if err != nil {
			return nil, err
		}
	}
	var out []oci.Digest
	for _, d := range ds {
		if s := d.String(); !have[s] {
			have[s] = true
			out = append(out, d)
		}
	}
	return out, nil
}
