package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Manifest is a manifest or index in a repository.
type Manifest struct {
	RepoID       int64
	Digest       oci.Digest
	MediaType    string
	ArtifactType string
	Size         int64      // bytes
	Subject      oci.Digest // zero for none
	Descriptor   string     // JSON object for the referrers answer; "" without a subject
	PushedAt     time.Time
	PushedBy     string
}

// EdgeKind says as what a manifest refers to something.
type EdgeKind int16

// The kinds of edges.
const (
	ConfigEdge   EdgeKind = 1
	LayerEdge    EdgeKind = 2
	ManifestEdge EdgeKind = 3
	SubjectEdge  EdgeKind = 4
)

// Edge is a reference from a manifest of a repository to a blob, a manifest or a subject of the same repository.
type Edge struct {
	Parent oci.Digest
	Child  oci.Digest
	Kind   EdgeKind
}

const manifestColumns = `m.repo_id, m.digest, m.media_type, m.artifact_type, m.size, m.subject, m.descriptor, m.pushed_at, m.pushed_by`

func manifestFields(m *Manifest) []any {
	return []any{&m.RepoID, digest{&m.Digest}, &m.MediaType, &m.ArtifactType, &m.Size, digest{&m.Subject}, &m.Descriptor, micros{&m.PushedAt}, &m.PushedBy}
}

func scanManifest(rows *sql.Rows, m *Manifest) error { return rows.Scan(manifestFields(m)...) }

// Manifest finds a manifest of the repository, or ErrNotFound.
func (r *Reads) Manifest(ctx context.Context, repoID int64, d oci.Digest) (Manifest, error) {
	return one(ctx, r.s, scanManifest, `SELECT `+manifestColumns+` FROM manifest m WHERE m.repo_id = $1 AND m.digest = $2`, repoID, d.String())
}

type manifestContent struct {
	m     Manifest
	bytes []byte
}

func scanManifestContent(rows *sql.Rows, c *manifestContent) error {
	return rows.Scan(append(manifestFields(&c.m), &c.bytes)...)
}

// ManifestContent finds a manifest and its bytes in one statement. content is nil when the bytes are in the store.
func (r *Reads) ManifestContent(ctx context.Context, repoID int64, d oci.Digest) (m Manifest, content []byte, err error) {
	c, err := one(ctx, r.s, scanManifestContent, `SELECT `+manifestColumns+`, c.bytes FROM manifest m
		LEFT JOIN blob_content c ON c.digest = m.digest WHERE m.repo_id = $1 AND m.digest = $2`, repoID, d.String())
	return c.m, c.bytes, err
}

// ManifestByTag is ManifestContent of what the tag points at.
func (r *Reads) ManifestByTag(ctx context.Context, repoID int64, tag string) (m Manifest, content []byte, err error) {
	c, err := one(ctx, r.s, scanManifestContent, `SELECT `+manifestColumns+`, c.bytes FROM tag t
		JOIN manifest m ON m.repo_id = t.repo_id AND m.digest = t.digest
		LEFT JOIN blob_content c ON c.digest = t.digest WHERE t.repo_id = $1 AND t.name = $2`, repoID, tag)
	return c.m, c.bytes, err
}

// Manifests are manifests of the repository behind the digest after, in the order of their digests.
func (r *Reads) Manifests(ctx context.Context, repoID int64, after oci.Digest, limit int) ([]Manifest, error) {
	return many(ctx, r.s, scanManifest, `SELECT `+manifestColumns+` FROM manifest m WHERE m.repo_id = $1 AND m.digest > $2 ORDER BY m.digest LIMIT $3`,
		repoID, after.String(), limit)
}

// HasManifests reports whether the repository has any manifest.
func (r *Reads) HasManifests(ctx context.Context, repoID int64) (bool, error) {
	return one(ctx, r.s, column[bool], `SELECT EXISTS (SELECT 1 FROM manifest WHERE repo_id = $1)`, repoID)
}

// PutManifest records a manifest, whose blob must be there, and what it refers to. The Parent of the edges is not
// used. Putting a digest again changes nothing, except that it is an answer to a push: created is false. One that is in the
// trash comes out of it, with the number and the edges that it had.
func (tx *Tx) PutManifest(m Manifest, edges []Edge) (created bool, err error) {
	if m.PushedAt.IsZero() {
		m.PushedAt = tx.now
	}
	// A deletion by another replica that commits while this waits for it is not seen: then manifest and trash both have
	// the digest, which every method of trash.go can deal with.
	made, err := one(tx.ctx, tx.s, scanMade, `INSERT INTO manifest
		(repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at, pushed_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (repo_id, digest) DO NOTHING
		RETURNING id, COALESCE((SELECT t.id FROM trash t WHERE t.repo_id = manifest.repo_id AND t.digest = manifest.digest), 0)`,
		m.RepoID, m.Digest.String(), m.MediaType, m.ArtifactType, m.Size, m.Subject.String(), m.Descriptor, toMicros(m.PushedAt), m.PushedBy)
	if errors.Is(err, ErrNotFound) {
		// The same digest has the same edges. It stays until the transaction ends, so that a tag can be pointed at it; one
		// that was deleted since is put again.
		if _, err = one(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`+tx.d.forKeyShare, m.RepoID, m.Digest.String()); errors.Is(err, ErrNotFound) {
			return tx.PutManifest(m, edges)
		}
		return false, err
	}
	if err != nil {
		return false, err
	}
	if made.trashed != 0 {
		if taken, err := tx.takeOut(made.trashed); err != nil || taken {
			if err == nil {
				_, err = tx.exec(`UPDATE manifest SET id = $2 WHERE id = $1`, made.id, made.trashed)
			}
			return err == nil, err
		}
	}
	return true, tx.putEdges(m.RepoID, made.id, edges)
}

// made is the number of a new manifest, and the one that it has in the trash or 0.
type made struct{ id, trashed int64 }

func scanMade(rows *sql.Rows, m *made) error { return rows.Scan(&m.id, &m.trashed) }

func (tx *Tx) putEdges(repoID, manifestID int64, edges []Edge) error {
	for rest := edges; len(rest) > 0; {
		part := rest[:min(len(rest), maxList)]
		rest = rest[len(part):]
		width := paddedLen(len(part))
		var b strings.Builder
		b.WriteString(`INSERT INTO edge (repo_id, manifest_id, child, kind) VALUES `)
		placeholders(&b, 2, width, 2, "$1,$2,")
		b.WriteString(` ON CONFLICT (manifest_id, child, kind) DO NOTHING`)
		args := make([]any, 2, 2+2*width)
		args[0], args[1] = repoID, manifestID
		for i := range width {
			e := part[min(i, len(part)-1)]
			args = append(args, e.Child.String(), int64(e.Kind))
		}
		if _, err := tx.exec(b.String(), args...); err != nil {
			return err
		}
	}
	return nil
}

// MissingManifests are those of ds that the repository does not have, in the order of ds, each once. What is not
// missing stays until the transaction ends.
func (tx *Tx) MissingManifests(repoID int64, ds []oci.Digest) ([]oci.Digest, error) {
	return tx.missing(`SELECT digest FROM manifest WHERE repo_id = $1 AND digest IN (`, repoID, ds)
}

// DeleteManifest removes a manifest with its edges and signatures for good; existed says whether there was one. It is a Conflict while a
// tag points at it: DeleteTagsOf goes first. Collection looks at its blob, at what it referred to and at its referrers.
func (tx *Tx) DeleteManifest(repoID int64, d oci.Digest) (existed bool, err error) {
	id, err := one(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`+tx.d.forUpdate, repoID, d.String())
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = tx.ReviewEdges(id)
	}
	if err != nil {
		return false, err
	}
	tx.changed(ManifestGone, repoID, d.String())
	if _, err := tx.exec(`DELETE FROM manifest WHERE id = $1`, id); err != nil {
		return false, err
	}
	if _, err := tx.exec(`DELETE FROM edge WHERE manifest_id = $1`, id); err != nil {
		return false, err
	}
	err = tx.dropSignatures(repoID, d.String())
	return err == nil, err
}

func scanEdge(rows *sql.Rows, e *Edge) error {
	return rows.Scan(digest{&e.Parent}, digest{&e.Child}, &e.Kind)
}

// Children are the edges from a manifest, in the order of their digests.
func (r *Reads) Children(ctx context.Context, repoID int64, parent oci.Digest) ([]Edge, error) {
	return many(ctx, r.s, scanEdge, `SELECT m.digest, e.child, e.kind FROM manifest m JOIN edge e ON e.manifest_id = m.id
		WHERE m.repo_id = $1 AND m.digest = $2 ORDER BY e.child, e.kind`, repoID, parent.String())
}

// Parents are up to limit edges to a digest from manifests of the repository, oldest manifest first.
func (r *Reads) Parents(ctx context.Context, repoID int64, child oci.Digest, limit int) ([]Edge, error) {
	return many(ctx, r.s, scanEdge, `SELECT m.digest, e.child, e.kind FROM edge e JOIN manifest m ON m.id = e.manifest_id
		WHERE e.child = $2 AND e.repo_id = $1 ORDER BY e.manifest_id, e.kind LIMIT $3`, repoID, child.String(), limit)
}
