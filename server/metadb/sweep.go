package metadb

import (
	"errors"
	"time"

	"github.com/berth-registry/berth/oci"
)

// The sweep of bytes that a crash left in the store without a row. See the package comment for the protocol.

// ClaimOrphan claims d for deletion on behalf of the expired upload that named it in SetCommitting. It is not claimed,
// and there is nothing to delete, when a live blob has the digest or another upload is committing it. ErrClaimed says
// that somebody else holds the claim: leave the upload to the next sweep. A claim is held for so long from now: bytes may
// be deleted only until then, so give the deletion a deadline before it. After that, another may take it over. The time is
// the database's, so that the clocks of replicas may differ.
func (tx *Tx) ClaimOrphan(d oci.Digest, upload string, hold time.Duration) (claimed bool, err error) {
	if err := tx.beginClaim(); err != nil {
		return false, err
	}
	until := tx.clock().Add(hold)
	if err := tx.lockDigest(d); err != nil {
		return false, err
	}
	others, err := one(tx.ctx, tx.s, column[int64], `SELECT COUNT(*) FROM (SELECT 1 FROM upload
		WHERE committing = $1 AND committing <> '' AND id <> $2 LIMIT 1) o`, d.String(), upload)
	if err != nil || others > 0 {
		return false, err
	}
	b, err := tx.lockBlob(d, tx.d.forUpdate)
	switch {
	case errors.Is(err, ErrNotFound):
		n, err := tx.exec(`INSERT INTO blob (digest, size, inline, state, created_at, lease_until) VALUES ($1, 0, FALSE, 1, $2, $3)
			ON CONFLICT (digest) DO NOTHING`, d.String(), toMicros(tx.now), toMicros(until))
		if err == nil && n == 0 {
			err = ErrClaimed // or live since a moment: the next sweep will see
		}
		return err == nil, err
	case err == nil && b.State != Claimed && !b.Stored: // its bytes are in the database, and now perhaps in the store, too
		_, err = tx.exec(`UPDATE blob SET stored = TRUE WHERE digest = $1`, d.String())
		return false, err
	case err != nil || b.State != Claimed:
		return false, err
	case b.LeaseUntil.After(tx.clock()):
		return false, ErrClaimed
	}
	_, err = tx.exec(`UPDATE blob SET lease_until = $2 WHERE digest = $1`, d.String(), toMicros(until))
	return err == nil, err
}

// DeleteClaimed ends a claim after the bytes were deleted: the digest is free to be pushed again. A blob that is not
// claimed is left alone.
func (tx *Tx) DeleteClaimed(d oci.Digest) error {
	_, err := tx.exec(`DELETE FROM blob_content WHERE digest = $1 AND EXISTS (SELECT 1 FROM blob WHERE digest = $1 AND state = 1)`, d.String())
	if err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM blob WHERE digest = $1 AND state = 1`, d.String())
	return err
}

// lockDigest makes transactions about a digest that has no row yet wait for each other.
func (tx *Tx) lockDigest(d oci.Digest) error {
	if tx.d.lockText == "" {
		return nil
	}
	_, err := tx.exec(tx.d.lockText, d.String())
	return err
}
