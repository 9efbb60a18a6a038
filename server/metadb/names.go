package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/oci"
)

// All names of a registry, page by page in the order of their keys, for who writes them down elsewhere. What changes
// between two pages may be seen or not; events tell.

// NamedRepository is a repository with its project.
type NamedRepository struct {
	ID      int64
	Name    string
	Project string
	Public  bool
	Listed  bool
}

// NamedRepositories are up to limit repositories behind that id.
func (r *Reads) NamedRepositories(ctx context.Context, after int64, limit int) ([]NamedRepository, error) {
	return many(ctx, r.s, func(rows *sql.Rows, n *NamedRepository) error {
		return rows.Scan(&n.ID, &n.Name, &n.Project, &n.Public, &n.Listed)
	}, `SELECT r.id, r.name, p.name, p.public, r.listed FROM repository r JOIN project p ON p.id = r.project_id WHERE r.id > $1 AND r.name < '~' ORDER BY r.id LIMIT $2`, after, limit)
}

// Projects are up to limit projects behind that name.
func (r *Reads) Projects(ctx context.Context, after string, limit int) ([]Project, error) {
	return r.FindProjects(ctx, ProjectFilter{Scope: Scope{All: true}}, after, limit)
}

// NamedManifest is a manifest as far as it is not in its own bytes.
type NamedManifest struct {
	ID         int64
	Repository string
	Digest     oci.Digest
	MediaType  string
	PushedAt   time.Time
	PushedBy   string
}

// NamedManifests are up to limit manifests behind that id.
func (r *Reads) NamedManifests(ctx context.Context, after int64, limit int) ([]NamedManifest, error) {
	return many(ctx, r.s, func(rows *sql.Rows, n *NamedManifest) error {
		return rows.Scan(&n.ID, &n.Repository, digest{&n.Digest}, &n.MediaType, micros{&n.PushedAt}, &n.PushedBy)
	}, `SELECT m.id, r.name, m.digest, m.media_type, m.pushed_at, m.pushed_by FROM manifest m JOIN repository r ON r.id = m.repo_id
		WHERE m.id > $1 ORDER BY m.id LIMIT $2`, after, limit)
}

// NamedTag is a tag with its repository.
type NamedTag struct {
	RepoID     int64
	Repository string
	Name       string
	Digest     oci.Digest
	At         time.Time
	By         string
}

// NamedTags are up to limit tags behind that one.
func (r *Reads) NamedTags(ctx context.Context, repoID int64, name string, limit int) ([]NamedTag, error) {
	return many(ctx, r.s, func(rows *sql.Rows, n *NamedTag) error {
		return rows.Scan(&n.RepoID, &n.Repository, &n.Name, digest{&n.Digest}, micros{&n.At}, &n.By)
	}, `SELECT t.repo_id, r.name, t.name, t.digest, t.updated_at, t.moved_by FROM tag t JOIN repository r ON r.id = t.repo_id
		WHERE (t.repo_id, t.name) > ($1, $2) ORDER BY t.repo_id, t.name LIMIT $3`, repoID, name, limit)
}

// NamedSignature is a signature with the name of its repository.
type NamedSignature struct {
	Signature
	Repository string
}

// NamedSignatures are up to limit signatures of manifests that are there, behind that one.
func (r *Reads) NamedSignatures(ctx context.Context, repoID int64, d oci.Digest, name string, limit int) ([]NamedSignature, error) {
	return many(ctx, r.s, func(rows *sql.Rows, n *NamedSignature) error {
		return rows.Scan(&n.RepoID, &n.Repository, digest{&n.Digest}, &n.Name, &n.Content, micros{&n.CreatedAt}, &n.CreatedBy)
	}, `SELECT s.repo_id, r.name, s.digest, s.name, s.content, s.created_at, s.created_by FROM image_signature s JOIN repository r ON r.id = s.repo_id
		WHERE (s.repo_id, s.digest, s.name) > ($1, $2, $3)
			AND EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = s.repo_id AND m.digest = s.digest)
		ORDER BY s.repo_id, s.digest, s.name LIMIT $4`, repoID, d.String(), name, limit)
}

// SmallBlob is a blob whose bytes are in the database.
type SmallBlob struct {
	Digest oci.Digest
	Bytes  []byte
}

// NeededContents are up to limit blobs behind that digest whose bytes are in the database and which a manifest is or
// refers to.
func (r *Reads) NeededContents(ctx context.Context, after oci.Digest, limit int) ([]SmallBlob, error) {
	return many(ctx, r.s, func(rows *sql.Rows, b *SmallBlob) error { return rows.Scan(digest{&b.Digest}, &b.Bytes) },
		`SELECT c.digest, c.bytes FROM blob_content c WHERE c.digest > $1
		AND (EXISTS (SELECT 1 FROM manifest m WHERE m.digest = c.digest) OR EXISTS (SELECT 1 FROM edge e WHERE e.child = c.digest))
		ORDER BY c.digest LIMIT $2`, after.String(), limit)
}

// PlacedBlobs are up to limit live blobs behind that digest whose bytes do not lie under it; see blob.Parker.
func (r *Reads) PlacedBlobs(ctx context.Context, after oci.Digest, limit int) ([]StoredBlob, error) {
	return many(ctx, r.s, scanStored, `SELECT digest, size, place, state FROM blob WHERE place <> '' AND digest > $1 AND state = 0
		ORDER BY digest LIMIT $2`, after.String(), limit)
}
