package metadb

import (
	"database/sql"
	"errors"
	"fmt"
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
		placeholders(&b, 0, width, 1, "")
		args := make([]any, 0, width+2)
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
	return tx.review(`SELECT child FROM edge WHERE manifest_id = $1
		UNION ALL SELECT digest FROM manifest WHERE repo_id = $2 AND subject = $3 AND subject <> ''
		UNION ALL SELECT $4`, []any{manifestID, m.repoID, m.digest.String(), m.digest.String()})
}

// reviewFollowers is Review of the manifests that may follow one to the trash: its children and its referrers. Everything
// else that it refers to is kept by its edges for as long as it is there.
func (tx *Tx) reviewFollowers(manifestID, repoID int64, d oci.Digest) error {
	return tx.review(`SELECT child FROM edge WHERE manifest_id = $1 AND kind = 3
		UNION ALL SELECT digest FROM manifest WHERE repo_id = $2 AND subject = $3 AND subject <> ''`, []any{manifestID, repoID, d.String()})
}

// review sets the time of blobs whose digests the statement says, which is one of args alone, locking them in one order, so
// that two transactions about the same blobs do not wait for each other. Those that keep their time are locked as well, as
// who reads them locks them: that time may come before this transaction ends, and collection would still see what it takes
// away, and never look again.
func (tx *Tx) review(digests string, args []any) error {
	live := ` WHERE digest IN (` + digests + `) AND state <> 1`
	if tx.d.forKeyShare != "" {
		if _, err := tx.exec(`SELECT 1 FROM blob`+live+` ORDER BY digest`+tx.d.forKeyShare, args...); err != nil {
			return err
		}
	}
	n := len(args)
	where := live + fmt.Sprintf(` AND lease_until < $%d`, n+2)
	if tx.d.forNoKeyUpdate != "" {
		where = ` WHERE digest IN (SELECT digest FROM blob` + where + ` ORDER BY digest` + tx.d.forNoKeyUpdate + `)`
	}
	_, err := tx.exec(fmt.Sprintf(`UPDATE blob SET lease_until = $%d`, n+1)+where, append(args, tx.reviewAt(), tx.reviewEnough())...)
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
