package metadb

import (
	"context"
	"database/sql"
	"strings"

	"github.com/berth-registry/berth/oci"
)

// What the rows say of each other, asked by fsck. None of this can come to be while the transactions of this package do
// what they promise; it is found in databases that were restored in part, edited by hand, or met a defect.

// Broken is a row that refers to what is not there.
type Broken struct {
	Repository string
	Manifest   oci.Digest // that refers, or that a tag names
	Tag        string
	Child      oci.Digest // that is referred to
}

func scanBroken(rows *sql.Rows, b *Broken) error {
	return rows.Scan(&b.Repository, digest{&b.Manifest}, &b.Tag, digest{&b.Child})
}

// LastManifest is the highest number of a manifest; 0 when there is none.
func (r *Reads) LastManifest(ctx context.Context) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT COALESCE(MAX(id), 0) FROM manifest`)
}

// ManifestsWithoutContent are manifests with numbers above after and up to upto that have no blob whose bytes are in this
// database; damaged blobs are not meant.
func (r *Reads) ManifestsWithoutContent(ctx context.Context, after, upto int64) ([]Broken, error) {
	return many(ctx, r.s, scanBroken, `SELECT r.name, m.digest, '', '' FROM manifest m JOIN repository r ON r.id = m.repo_id
		WHERE m.id > $1 AND m.id <= $2 AND NOT EXISTS (SELECT 1 FROM blob b WHERE b.digest = m.digest AND b.inline AND b.state <> 1)
		ORDER BY m.id`, after, upto)
}

// EdgesToNothing are configs and layers of manifests with numbers above after and up to upto that the repository does not
// have. Layers that are kept elsewhere are among them: the manifest says which.
func (r *Reads) EdgesToNothing(ctx context.Context, after, upto int64) ([]Broken, error) {
	return many(ctx, r.s, scanBroken, `SELECT r.name, m.digest, '', e.child FROM manifest m JOIN repository r ON r.id = m.repo_id
		JOIN edge e ON e.manifest_id = m.id WHERE m.id > $1 AND m.id <= $2 AND e.kind <= 2
		AND NOT EXISTS (SELECT 1 FROM repo_blob rb JOIN blob b ON b.digest = rb.digest AND b.state <> 1
			WHERE rb.digest = e.child AND rb.repo_id = m.repo_id)
		ORDER BY m.id, e.child`, after, upto)
}

// TagsToNothing are up to limit tags whose manifest is not there.
func (r *Reads) TagsToNothing(ctx context.Context, limit int) ([]Broken, error) {
	return many(ctx, r.s, scanBroken, `SELECT r.name, t.digest, t.name, '' FROM tag t JOIN repository r ON r.id = t.repo_id
		WHERE NOT EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = t.repo_id AND m.digest = t.digest) LIMIT $1`, limit)
}

// NamedInStore are those of ds that a blob, an upload that is about to end, or a claim names: the store may have them.
func (r *Reads) NamedInStore(ctx context.Context, ds []oci.Digest) (map[oci.Digest]bool, error) {
	named := make(map[oci.Digest]bool, len(ds))
	for rest := ds; len(rest) > 0; {
		part := rest[:min(len(rest), maxList)]
		rest = rest[len(part):]
		width := paddedLen(len(part))
		var list strings.Builder
		placeholders(&list, 0, width, 1, "")
		args := make([]any, width)
		for i := range width {
			args[i] = part[min(i, len(part)-1)].String()
		}
		err := r.s.query(ctx, func(rows *sql.Rows) error {
			var d oci.Digest
			err := rows.Scan(digest{&d})
			named[d] = true
			return err
		}, `SELECT digest FROM blob WHERE digest IN (`+list.String()+`) UNION ALL
			SELECT committing FROM upload WHERE committing <> '' AND committing IN (`+list.String()+`)`, args...)
		if err != nil {
			return nil, err
		}
	}
	return named, nil
}
