package metadb

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Where the bytes of blobs are. A blob that was pushed with its digest last lies at a place of its own, which is a word of
// the blob store's (blob.Parker), until it is moved under its digest. A place that no blob has any more is remembered for
// a while, since somebody may read from it, or hold an address of it, and is then deleted.
//
// Who deletes a blob, deletes what the store has under its digest and what it has at its place: a crash may leave both.

// movedFor is how long bytes stay where a blob was: for longer than an address of them is good for.
const movedFor = time.Hour

// movePlace notes that the bytes of a blob are somewhere else now.
func (tx *Tx) movePlace(have Blob, place string) error {
	if have.Place == place {
		return nil
	}
	if _, err := tx.exec(`UPDATE blob SET place = $2 WHERE digest = $1`, have.Digest.String(), place); err != nil || have.Place == "" {
		return err
	}
	_, err := tx.exec(`INSERT INTO blob_moved (place, digest, due_at) VALUES ($1, $2, $3)
		ON CONFLICT (place) DO UPDATE SET due_at = excluded.due_at`, have.Place, have.Digest.String(), toMicros(tx.clock().Add(movedFor)))
	return err
}

// SettleBlob notes that the bytes of a blob are under its digest now, if they were at that place until now and nothing
// else has happened to the blob. The place is due for its deletion later.
func (tx *Tx) SettleBlob(d oci.Digest, place string) (settled bool, err error) {
	b, err := tx.lockBlob(d, tx.d.forNoKeyUpdate)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || b.State != Live || b.Place != place || place == "" {
		return false, err
	}
	return true, tx.movePlace(b, "")
}

// ParkedBlobs are up to limit live blobs with a place of their own, in the order of the places, behind the place after.
func (r *Reads) ParkedBlobs(ctx context.Context, after string, limit int) ([]Blob, error) {
	return many(ctx, r.s, scanBlob, `SELECT `+blobColumns+` FROM blob b
		WHERE b.place <> '' AND b.place > $1 AND b.state = 0 ORDER BY b.place LIMIT $2`, after, limit)
}

// PlaceNamed reports whether a blob has the place, or had it and the place is not yet deleted. To delete a place that no
// row names, make first sure that no commit can name it: the upload that it is of has no row any more, or a row without an
// algorithm (EndingUpload).
func (r *Reads) PlaceNamed(ctx context.Context, place string) (bool, error) {
	return one(ctx, r.s, column[bool], `SELECT EXISTS (SELECT 1 FROM blob WHERE place = $1 AND place <> '')
		OR EXISTS (SELECT 1 FROM blob_moved WHERE place = $2)`, place, place)
}

// UploadNamed reports whether a row has a place of the upload, as PlaceNamed does: places begin with the id of theirs.
func (r *Reads) UploadNamed(ctx context.Context, id string) (bool, error) {
	behind := id + "0" // '0' comes behind '/'
	return one(ctx, r.s, column[bool], `SELECT EXISTS (SELECT 1 FROM blob WHERE place >= $1 AND place < $2 AND place <> '')
		OR EXISTS (SELECT 1 FROM blob_moved WHERE place >= $3 AND place < $4)`, id, behind, id, behind)
}

// MovedPlaces are up to limit places that are due for their deletion at the time at, the oldest first.
func (r *Reads) MovedPlaces(ctx context.Context, at time.Time, limit int) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT place FROM blob_moved WHERE due_at <= $1 ORDER BY due_at, place LIMIT $2`, toMicros(at), limit)
}

// ForgetPlaces is for places whose bytes were deleted.
func (tx *Tx) ForgetPlaces(places ...string) error {
	for part := range slices.Chunk(places, maxList) {
		var b strings.Builder
		placeholders(&b, 0, paddedLen(len(part)), 1, "")
		var args []any
		for i := range paddedLen(len(part)) {
			args = append(args, part[min(i, len(part)-1)])
		}
		if _, err := tx.exec(`DELETE FROM blob_moved WHERE place IN (`+b.String()+`)`, args...); err != nil {
			return err
		}
	}
	return nil
}

// EndingUpload makes sure that an upload cannot be committed any more, if it is still as it was read, and keeps the row
// until what the upload has in the store is deleted: EndUpload with the same u removes it then. Who dies in between
// leaves it to the sweep. ended is false when somebody has changed or ended it since.
func (tx *Tx) EndingUpload(u Upload) (ended bool, err error) {
	n, err := tx.exec(`UPDATE upload SET algorithm = '' WHERE id = $1 AND updated_at = $2 AND received = $3 AND committing = $4`,
		u.ID, toMicros(u.UpdatedAt), u.Received, u.Committing.String())
	return n == 1, err
}
