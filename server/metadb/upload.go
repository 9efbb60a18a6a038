package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Upload is an upload in progress.
type Upload struct {
	ID          string
	Repository  string // full name; the repository need not exist yet
	Principal   string
	Algorithm   oci.Algorithm // "" of one that was cancelled; see EndedUpload
	StartedAt   time.Time
	UpdatedAt   time.Time
	Received    int64      // bytes
	HashState   []byte     // of the oci.Hasher
	DriverState []byte     // of the blob.Store
	Committing  oci.Digest // zero, or the digest under which its bytes are being made readable
}

const uploadColumns = `id, repository, principal, algorithm, started_at, updated_at, received, hash_state, driver_state, committing`

func scanUpload(rows *sql.Rows, u *Upload) error {
	return rows.Scan(&u.ID, &u.Repository, &u.Principal, (*string)(&u.Algorithm), micros{&u.StartedAt}, micros{&u.UpdatedAt},
		&u.Received, &u.HashState, &u.DriverState, digest{&u.Committing})
}

// Upload finds an upload, or ErrNotFound.
func (r *Reads) Upload(ctx context.Context, id string) (Upload, error) {
	return one(ctx, r.s, scanUpload, `SELECT `+uploadColumns+` FROM upload WHERE id = $1`, id)
}

// ExpiredUploads are up to limit uploads that nobody has touched since before, oldest first, behind the upload after;
// the zero Upload begins at the oldest.
func (r *Reads) ExpiredUploads(ctx context.Context, before time.Time, after Upload, limit int) ([]Upload, error) {
	return many(ctx, r.s, scanUpload, `SELECT `+uploadColumns+` FROM upload WHERE updated_at < $1 AND (updated_at, id) > ($2, $3)
		ORDER BY updated_at, id LIMIT $4`, toMicros(before), toMicros(after.UpdatedAt), after.ID, limit)
}

// CreateUpload records a new upload; its times are those of the transaction.
func (tx *Tx) CreateUpload(u Upload) error {
	now := toMicros(tx.now)
	_, err := tx.exec(`INSERT INTO upload (id, repository, principal, algorithm, started_at, updated_at, received, hash_state, driver_state, committing)
		VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8, '')`,
		u.ID, u.Repository, u.Principal, string(u.Algorithm), now, u.Received, u.HashState, u.DriverState)
	return err
}

// UpdateUpload records that the upload went from one number of received bytes to another; ErrNotFound when it has ended,
// or when another process has moved it from there already.
func (tx *Tx) UpdateUpload(id string, from, to int64, hashState, driverState []byte) error {
	n, err := tx.exec(`UPDATE upload SET received = $3, hash_state = $4, driver_state = $5, updated_at = $6
		WHERE id = $1 AND received = $2 AND algorithm <> ''`,
		id, from, to, hashState, driverState, toMicros(tx.now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// SetCommitting announces, before the store is asked to commit, the digest under which the upload's bytes will appear,
// so that a crash leaves a row that names them. ErrNotFound when the upload has ended, ErrClaimed while the digest is
// being deleted.
func (tx *Tx) SetCommitting(id string, d oci.Digest) error {
	if err := tx.lockDigest(d); err != nil {
		return err
	}
	b, err := tx.lockBlob(d, tx.d.forKeyShare) // collection claims nothing behind this
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && b.State == Claimed {
		if err := tx.takeOver(b); err != nil {
			return err
		}
	}
	n, err := tx.exec(`UPDATE upload SET committing = $2, updated_at = $3 WHERE id = $1 AND algorithm <> ''`, id, d.String(), toMicros(tx.now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// EndUpload removes an upload if it is still as it was read: nobody has received bytes for it or announced a digest
// since. ended is false when somebody has, or when there is no such upload any more.
func (tx *Tx) EndUpload(u Upload) (ended bool, err error) {
	n, err := tx.exec(`DELETE FROM upload WHERE id = $1 AND updated_at = $2 AND received = $3 AND committing = $4`,
		u.ID, toMicros(u.UpdatedAt), u.Received, u.Committing.String())
	return n == 1, err
}

// DeleteUpload ends an upload, whatever it is; existed says whether there was one.
func (tx *Tx) DeleteUpload(id string) (existed bool, err error) {
	n, err := tx.exec(`DELETE FROM upload WHERE id = $1 AND algorithm <> ''`, id)
	return n == 1, err
}

// EndedUpload records that an upload was cancelled, so that its id is known as ended everywhere until it expires as
// uploads do: a row without an algorithm, which no method changes any more but EndUpload.
func (tx *Tx) EndedUpload(u Upload) error {
	now := toMicros(tx.now)
	_, err := tx.exec(`INSERT INTO upload (id, repository, principal, algorithm, started_at, updated_at, received, hash_state, driver_state, committing)
		VALUES ($1, $2, $3, '', $4, $4, 0, $5, $5, '')
		ON CONFLICT (id) DO UPDATE SET algorithm = '', updated_at = excluded.updated_at WHERE upload.committing = ''`,
		u.ID, u.Repository, u.Principal, now, []byte{})
	return err
}
