package metadb

import (
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/berth-registry/berth/oci"
)

// Online collection, as far as it is rows. The queue is blob.lease_until: while it is above zero, collection looks at the
// blob when that time has come; zero says that something needs the blob and that nobody need look. See the package comment
// for who waits for whom.

// Review has collection look at the blobs of ds when the grace is over, because they may have lost what needed them: call
// it in the transaction that deletes a manifest, purges one from the trash or takes a blob from a repository. A blob that
// is kept for half of that already keeps its time. What is being deleted, or not there, is left alone.
func (tx *Tx) Review(ds ...oci.Digest) error {
	for part := range slices.Chunk(ds, maxList) {
		width := paddedLen(len(part))
		var b strings.Builder
		placeholders(&b, 2, width, 1, "")
		args := make([]any, 0, 2+width)
		args = append(args, tx.reviewAt(), tx.reviewEnough())
		for i := range width {
			args = append(args, part[min(i, len(part)-1)].String())
		}
		if err := tx.review(b.String(), args); err != nil {
			return err
		}
	}
	return nil
}

// ReviewEdges is Review of a manifest, living or in the trash, of all that it refers to, and of what refers to it as its
// subject. Call it while the manifest has its row and its edges.
func (tx *Tx) ReviewEdges(manifestID int64) error {
	m, err := one(tx.ctx, tx.s, scanRepoDigest, `SELECT repo_id, digest FROM manifest WHERE id = $1
		UNION ALL SELECT repo_id, digest FROM trash WHERE id = $1`, manifestID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return tx.review(`SELECT child FROM edge WHERE manifest_id = $3
		UNION ALL SELECT digest FROM manifest WHERE repo_id = $4 AND subject = $5 AND subject <> ''
		UNION ALL SELECT $6`, []any{tx.reviewAt(), tx.reviewEnough(), manifestID, m.repoID, m.digest.String(), m.digest.String()})
}

// reviewFollowers is Review of the manifests that may follow one to the trash: its children and its referrers. Everything
// else that it refers to is kept by its edges for as long as it is there.
func (tx *Tx) reviewFollowers(manifestID, repoID int64, d oci.Digest) error {
	return tx.review(`SELECT child FROM edge WHERE manifest_id = $3 AND kind = 3
		UNION ALL SELECT digest FROM manifest WHERE repo_id = $4 AND subject = $5 AND subject <> ''`,
		[]any{tx.reviewAt(), tx.reviewEnough(), manifestID, repoID, d.String()})
}

// review sets the time of blobs whose digests the statement says, locking them in one order, so that two transactions
// about the same blobs do not wait for each other.
func (tx *Tx) review(digests string, args []any) error {
	where := ` WHERE digest IN (` + digests + `) AND state <> 1 AND lease_until < $2`
	if tx.d.forNoKeyUpdate != "" {
		where = ` WHERE digest IN (SELECT digest FROM blob` + where + ` ORDER BY digest` + tx.d.forNoKeyUpdate + `)`
	}
	_, err := tx.exec(`UPDATE blob SET lease_until = $1`+where, args...)
	return err
}

func (tx *Tx) reviewAt() int64     { return toMicros(tx.clock().Add(tx.grace)) }
func (tx *Tx) reviewEnough() int64 { return toMicros(tx.clock().Add(tx.grace / 2)) }

type repoDigest struct {
	repoID int64
	digest oci.Digest
}

func scanRepoDigest(rows *sql.Rows, d *repoDigest) error {
	return rows.Scan(&d.repoID, digest{&d.digest})
}
