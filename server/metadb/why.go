package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Reasons are what keeps a blob or manifest.
type Reasons struct {
	Blob  Blob
	Links []string // repositories that have the blob; that alone does not keep it
	Holds []Holding
	// Uploads are uploads that are about to become the blob.
	Uploads []string
	// Held are who holds collection as a whole.
	Held []string
	More bool // there are more than MaxReasons
}

// Holding is a manifest that keeps something: because it refers to it, or is it itself.
type Holding struct {
	Repository string
	Manifest   oci.Digest
	Child      oci.Digest // what it keeps; its own digest when it is that itself
	Kind       EdgeKind   // as what; 0 when it is the manifest itself
	Tags       []string   // that point at it, at most MaxReasonTags
	Subject    oci.Digest // that it refers to; zero for none
	TrashUntil time.Time  // it is in the trash, and is purged then; zero: it is not
	repoID     int64
}

// The bounds of Why.
const (
	MaxReasons    = 1000
	MaxReasonTags = 20
)

func scanHolding(rows *sql.Rows, h *Holding) error {
	return rows.Scan(&h.Repository, &h.repoID, digest{&h.Manifest}, digest{&h.Subject}, digest{&h.Child}, &h.Kind, micros{&h.TrashUntil})
}

// Why tells what keeps the blob of a digest at a time: each manifest that refers to it with its tags, each index above
// those, uploads, and its own lease; ErrNotFound when there is no such blob.
func (r *Reads) Why(ctx context.Context, d oci.Digest, at time.Time) (w Reasons, err error) {
	if w.Blob, err = r.BlobAnywhere(ctx, d); err != nil {
		return w, err
	}
	if w.Blob.State == Damaged {
		if _, err := r.Damage(ctx, d); errors.Is(err, ErrNotFound) {
			w.Blob.State = Claimed // its deletion failed, and is tried again when the lease is over
		} else if err != nil {
			return w, err
		}
	}
	repos, err := many(ctx, r.s, column[string], `SELECT r.name FROM repo_blob rb JOIN repository r ON r.id = rb.repo_id WHERE rb.digest = $1 ORDER BY 1 LIMIT $2`, d.String(), MaxReasons)
	if err != nil {
		return w, err
	}
	w.Links = repos
	if w.Uploads, err = many(ctx, r.s, column[string], `SELECT id FROM upload WHERE committing = $1 AND committing <> '' ORDER BY id LIMIT $2`, d.String(), MaxReasons); err != nil {
		return w, err
	}
	if w.Held, err = r.CollectionHolds(ctx, at); err != nil {
		return w, err
	}
	itself, err := many(ctx, r.s, scanHolding, `SELECT r.name, v.repo_id, v.digest, v.subject, v.digest, 0, v.hold_until
		FROM (SELECT repo_id, digest, subject, 0 AS hold_until FROM manifest WHERE digest = $1
			UNION ALL SELECT repo_id, digest, subject, hold_until FROM trash WHERE digest = $1) v JOIN repository r ON r.id = v.repo_id ORDER BY 1 LIMIT $2`, d.String(), MaxReasons)
	if err != nil {
		return w, err
	}
	above, err := r.above(ctx, d, 0)
	if err != nil {
		return w, err
	}
	return w, r.climb(ctx, append(itself, above...), &w)
}

// above are the manifests, living or in the trash, that refer to a digest: in one repository, or in all with 0.
func (r *Reads) above(ctx context.Context, d oci.Digest, repoID int64) ([]Holding, error) {
	return many(ctx, r.s, scanHolding, `SELECT r.name, e.repo_id, COALESCE(m.digest, t.digest), COALESCE(m.subject, t.subject), e.child, e.kind, COALESCE(t.hold_until, 0)
		FROM edge e LEFT JOIN manifest m ON m.id = e.manifest_id LEFT JOIN trash t ON t.id = e.manifest_id AND m.id IS NULL
		JOIN repository r ON r.id = e.repo_id
		WHERE e.child = $1 AND e.kind <> 4 AND (e.repo_id = $2 OR $2 = 0) AND (m.id IS NOT NULL OR t.id IS NOT NULL) ORDER BY 1, 3, 6 LIMIT $3`, d.String(), repoID, MaxReasons)
}

// climb goes from what holds to what holds that, and asks for the tags.
func (r *Reads) climb(ctx context.Context, wave []Holding, w *Reasons) error {
	type place struct {
		repo int64
		d    oci.Digest
	}
	climbed := map[place]bool{}
	for len(wave) > 0 {
		h := wave[0]
		wave = wave[1:]
		if len(w.Holds) == MaxReasons {
			w.More = true
			return nil
		}
		p := place{h.repoID, h.Manifest}
		if h.TrashUntil.IsZero() {
			tags, err := many(ctx, r.s, column[string], `SELECT name FROM tag WHERE repo_id = $1 AND digest = $2 ORDER BY name LIMIT $3`, h.repoID, h.Manifest.String(), MaxReasonTags)
			if err != nil {
				return err
			}
			h.Tags = tags
		}
		w.Holds = append(w.Holds, h)
		if climbed[p] || h.Kind == 0 { // of the manifest itself the first wave has everything above it
			continue
		}
		climbed[p] = true
		next, err := r.above(ctx, h.Manifest, h.repoID)
		if err != nil {
			return err
		}
		wave = append(wave, next...)
	}
	return nil
}
