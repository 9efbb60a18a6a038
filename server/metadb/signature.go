package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Signature is a signature of a manifest of a repository, in the form of containers/image: opaque bytes with a name.
type Signature struct {
	RepoID    int64
	Digest    oci.Digest // of the manifest
	Name      string     // 32 hexadecimal digits, chosen by who signed
	Content   []byte
	CreatedAt time.Time
	CreatedBy string
}

func scanSignature(rows *sql.Rows, s *Signature) error {
	return rows.Scan(&s.RepoID, digest{&s.Digest}, &s.Name, &s.Content, micros{&s.CreatedAt}, &s.CreatedBy)
}

// Signatures are the signatures of a manifest, the oldest first; names decide between those of one moment. There are none of
// a manifest that is not there, or in the trash.
func (r *Reads) Signatures(ctx context.Context, repoID int64, d oci.Digest) ([]Signature, error) {
	return many(ctx, r.s, scanSignature, `SELECT s.repo_id, s.digest, s.name, s.content, s.created_at, s.created_by FROM image_signature s
		WHERE s.repo_id = $1 AND s.digest = $2
			AND EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = s.repo_id AND m.digest = s.digest)
		ORDER BY s.created_at, s.name`, repoID, d.String())
}

// Signature is one signature of a manifest; ErrNotFound where Signatures would not have it.
func (r *Reads) Signature(ctx context.Context, repoID int64, d oci.Digest, name string) (Signature, error) {
	return one(ctx, r.s, scanSignature, `SELECT s.repo_id, s.digest, s.name, s.content, s.created_at, s.created_by FROM image_signature s
		WHERE s.repo_id = $1 AND s.digest = $2 AND s.name = $3
			AND EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = s.repo_id AND m.digest = s.digest)`, repoID, d.String(), name)
}

// PutSignature adds a signature to a manifest of the repository; one without a time was made now. count is how many the
// manifest has by then, this one included; of several transactions that add one each sees those before it. ErrNotFound: there
// is no such manifest. A name that is there keeps what it has: then added is false, and same says whether that is what was put.
func (tx *Tx) PutSignature(s Signature) (count int, added, same bool, err error) {
	// The lock makes the count true, and holds off who deletes the manifest.
	_, err = one(tx.ctx, tx.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`+tx.d.forNoKeyUpdate, s.RepoID, s.Digest.String())
	if err != nil {
		return 0, false, false, err
	}
	if s.CreatedAt.IsZero() {
		s.CreatedAt = tx.now
	}
	n, err := tx.exec(`INSERT INTO image_signature (repo_id, digest, name, content, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (repo_id, digest, name) DO NOTHING`, s.RepoID, s.Digest.String(), s.Name, s.Content, toMicros(s.CreatedAt), s.CreatedBy)
	if err != nil {
		return 0, false, false, err
	}
	added, same = n == 1, n == 1
	if !added {
		equal, err := one(tx.ctx, tx.s, column[int64], `SELECT COUNT(*) FROM image_signature WHERE repo_id = $1 AND digest = $2 AND name = $3 AND content = $4`,
			s.RepoID, s.Digest.String(), s.Name, s.Content)
		if err != nil {
			return 0, false, false, err
		}
		same = equal == 1
	}
	total, err := one(tx.ctx, tx.s, column[int64], `SELECT COUNT(*) FROM image_signature WHERE repo_id = $1 AND digest = $2`, s.RepoID, s.Digest.String())
	return int(total), added, same, err
}

// dropSignatures deletes the signatures of a manifest that was deleted for good, unless the digest is a manifest again.
func (tx *Tx) dropSignatures(repoID int64, d string) error {
	_, err := tx.exec(`DELETE FROM image_signature WHERE repo_id = $1 AND digest = $2
		AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.repo_id = $1 AND m.digest = $2)
		AND NOT EXISTS (SELECT 1 FROM trash t WHERE t.repo_id = $1 AND t.digest = $2)`, repoID, d)
	return err
}
