package metadb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/berth-registry/berth/oci"
)

// The trash: manifests that were deleted and can be brought back until their hold is over. A row of manifest becomes one of
// trash, with the same number, so that its edges stay as they are and keep what it needs (see doc.go); those who ask for
// the edges of manifests join them with manifest, and so do not see it.
//
// Whoever takes a row out of the trash deletes it first and looks whether it was there: of two who want it, one gets it.
// A digest may be manifest and trash at once, when a berthd of before the trash pushed it again; then the manifest counts.

// Trashed is a manifest in the trash.
type Trashed struct {
	Manifest

	ID         int64
	Repository string
	Tags       []string // that were deleted with it, in order
	DeletedAt  time.Time
	DeletedBy  string
	Source     string    // from where it was deleted
	Cause      string    // why: "" is by request
	HoldUntil  time.Time // when it may be purged, by the database's clock
}

const trashColumns = `m.repo_id, m.digest, m.media_type, m.artifact_type, m.size, m.subject, m.descriptor, m.pushed_at, m.pushed_by,
	m.id, m.tags, m.deleted_at, m.deleted_by, m.source, m.cause, m.hold_until`

const trashQuery = `SELECT ` + trashColumns + `, r.name FROM trash m JOIN repository r ON r.id = m.repo_id `

func trashFields(t *Trashed, tags *string) []any {
	return append(manifestFields(&t.Manifest), &t.ID, tags, micros{&t.DeletedAt}, &t.DeletedBy, &t.Source, &t.Cause, micros{&t.HoldUntil})
}

func (t *Trashed) readTags(text string) error {
	if err := json.Unmarshal([]byte(text), &t.Tags); err != nil {
		return fmt.Errorf("metadb: the tags of manifest %d in the trash are %q: %w", t.ID, text, err)
	}
	return nil
}

func scanTrashed(rows *sql.Rows, t *Trashed) error {
	var tags string
	if err := rows.Scan(append(trashFields(t, &tags), &t.Repository)...); err != nil {
		return err
	}
	return t.readTags(tags)
}

// Trashed finds a manifest in the repository's trash, or ErrNotFound.
func (r *Reads) Trashed(ctx context.Context, repoID int64, d oci.Digest) (Trashed, error) {
	return one(ctx, r.s, scanTrashed, trashQuery+`WHERE m.repo_id = $1 AND m.digest = $2`, repoID, d.String())
}

// Trash are up to limit manifests in the repository's trash, the last deleted first, behind the one given; the zero Trashed
// begins at the newest. The cost depends on the page only.
func (r *Reads) Trash(ctx context.Context, repoID int64, after Trashed, limit int) ([]Trashed, error) {
	at, id := toMicros(after.DeletedAt), after.ID
	if id == 0 {
		at = math.MaxInt64
	}
	return many(ctx, r.s, scanTrashed, trashQuery+`WHERE m.repo_id = $1 AND m.deleted_at <= $2 AND (m.deleted_at < $2 OR m.id < $3)
		ORDER BY m.deleted_at DESC, m.id DESC LIMIT $4`, repoID, at, id, limit)
}

// AllTrash is Trash of all repositories, in the order in which it is purged: the first to go comes first.
func (r *Reads) AllTrash(ctx context.Context, after Trashed, limit int) ([]Trashed, error) {
	at := toMicros(after.HoldUntil)
	return many(ctx, r.s, scanTrashed, trashQuery+`WHERE m.hold_until >= $1 AND (m.hold_until > $1 OR m.id > $2)
		ORDER BY m.hold_until, m.id LIMIT $3`, at, after.ID, limit)
}

// Discard says how a manifest goes to the trash.
type Discard struct {
	Origin

	Tags  []string      // that are deleted with it, in order
	Cause string        // why; "" is by request
	Hold  time.Duration // how long it can be brought back
}

// TrashManifest puts a manifest into the trash; existed says whether there was one. It is a Conflict while a tag points at
// it: DeleteTagsOf goes first.
func (tx *Tx) TrashManifest(repoID int64, d oci.Digest, why Discard) (existed bool, err error) {
	tags, err := json.Marshal(append([]string{}, why.Tags...))
	if err != nil {
		return false, err
	}
	id, err := one(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`+tx.d.forUpdate, repoID, d.String())
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := tx.reviewFollowers(id, repoID, d); err != nil {
		return false, err
	}
	// One that is there already was deleted before a berthd that knows no trash pushed it again.
	double, err := one(tx.ctx, tx.s, column[int64], `DELETE FROM trash WHERE repo_id = $1 AND digest = $2 RETURNING id`, repoID, d.String())
	if err == nil {
		_, err = tx.exec(`DELETE FROM edge WHERE manifest_id = $1 AND manifest_id <> $2`, double, id)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	_, err = tx.exec(`INSERT INTO trash (id, repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at, pushed_by,
			tags, deleted_at, deleted_by, source, cause, hold_until)
		SELECT m.id, m.repo_id, m.digest, m.media_type, m.artifact_type, m.size, m.subject, m.descriptor, m.pushed_at, m.pushed_by,
			CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS BIGINT)
		FROM manifest m WHERE m.id = $1`,
		id, string(tags), toMicros(tx.now), why.By, why.Source, why.Cause, toMicros(tx.clock().Add(why.Hold)))
	if err != nil {
		return false, err
	}
	tx.changed(ManifestGone, repoID, d.String())
	_, err = tx.exec(`DELETE FROM manifest WHERE id = $1`, id)
	return err == nil, err
}

// takeOut deletes a row of the trash, whose edges then belong to who calls; taken is false when somebody else has it.
func (tx *Tx) takeOut(id int64) (taken bool, err error) {
	n, err := tx.exec(`DELETE FROM trash WHERE id = $1`, id)
	return n == 1, err
}

// RestoreManifest makes a manifest out of what is in the trash, as it was, and gives the repository the blobs again that it
// needs. ErrNotFound: it is not in the trash any more. restored is false when the digest is a manifest already, because it
// was pushed again: then only the trash is emptied of it.
func (tx *Tx) RestoreManifest(t Trashed) (restored bool, err error) {
	taken, err := tx.takeOut(t.ID)
	if err == nil && !taken {
		err = ErrNotFound
	}
	if err != nil {
		return false, err
	}
	m := t.Manifest
	n, err := tx.exec(`INSERT INTO manifest (id, repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at, pushed_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (repo_id, digest) DO NOTHING`,
		t.ID, m.RepoID, m.Digest.String(), m.MediaType, m.ArtifactType, m.Size, m.Subject.String(), m.Descriptor, toMicros(m.PushedAt), m.PushedBy)
	if err != nil {
		return false, err
	}
	if n == 0 {
		_, err = tx.exec(`DELETE FROM edge WHERE manifest_id = $1`, t.ID) // those of the other have the same children
		return false, err
	}
	// The rows of the blobs are there, because the edges kept them; a client may have taken them from the repository. One that
	// is taking them at this moment is waited for, or waits and then finds the manifest: so a link that is there is locked.
	_, err = tx.exec(`INSERT INTO repo_blob (repo_id, digest, created_at)
		SELECT $2, b.digest, CAST($3 AS BIGINT) FROM blob b WHERE b.state <> 1
			AND b.digest IN (SELECT e.child FROM edge e WHERE e.manifest_id = $1 AND e.kind IN (1, 2)) ORDER BY b.digest`+tx.d.forKeyShare+`
		ON CONFLICT (repo_id, digest) DO UPDATE SET created_at = repo_blob.created_at`, t.ID, m.RepoID, toMicros(tx.now))
	return err == nil, err
}

// TrashedChildren are those of the children of an index, living or in the trash, that are in the trash.
func (r *Reads) TrashedChildren(ctx context.Context, manifestID int64) ([]Trashed, error) {
	return many(ctx, r.s, scanTrashed, trashQuery+`JOIN edge e ON e.child = m.digest AND e.repo_id = m.repo_id
		WHERE e.manifest_id = $1 AND e.kind = 3 ORDER BY m.id`, manifestID)
}

// DueTrash are up to limit manifests of the trash whose hold is over, the oldest first.
func (tx *Tx) DueTrash(limit int) ([]Trashed, error) {
	return many(tx.ctx, tx.s, scanTrashed, trashQuery+`WHERE m.hold_until <= $1 ORDER BY m.hold_until, m.id LIMIT $2`, toMicros(tx.clock()), limit)
}

// PurgeTrash deletes a manifest of the trash for good, and has collection look at its blob, at what it referred to and at
// its referrers; purged is false when it is not in the trash any more.
func (tx *Tx) PurgeTrash(id int64) (purged bool, err error) {
	// Reviewed first, while its rows say what it refers to: harmless when somebody else has taken it out meanwhile.
	if err := tx.ReviewEdges(id); err != nil {
		return false, err
	}
	was, err := one(tx.ctx, tx.s, scanRepoDigest, `SELECT repo_id, digest FROM trash WHERE id = $1`, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err == nil {
		purged, err = tx.takeOut(id)
	}
	if err != nil || !purged {
		return false, err
	}
	if _, err := tx.exec(`DELETE FROM edge WHERE manifest_id = $1`, id); err != nil {
		return false, err
	}
	err = tx.dropSignatures(was.repoID, was.digest.String())
	return err == nil, err
}
