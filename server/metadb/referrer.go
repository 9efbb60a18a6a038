package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/oci"
)

// ReferrerPage is a page of the manifests that name a subject.
type ReferrerPage struct {
	// Descriptors are the descriptors as JSON objects with commas between, ready to stand in an array; empty for none.
	Descriptors []byte
	Count       int
	Last        oci.Digest // of the last descriptor: where the next page begins
	More        bool
}

func scanReferrers(rows *sql.Rows, p *ReferrerPage) error {
	return rows.Scan(&p.Descriptors, &p.Count, digest{&p.Last})
}

// MaxReferrerBytes bounds the descriptors of a page, in bytes: clients read an index of 4 MiB at most, and annotations can
// make a descriptor nearly as large. A page has one descriptor at least.
const MaxReferrerBytes = 4<<20 - 1<<10

// Referrers are the manifests of the repository that have the subject, whether or not that exists, in the order of
// their digests behind after. artifactType "" is any. A page has at most limit descriptors and MaxReferrerBytes.
//
// The database joins the descriptors: a thousand of them are one row. Sizes are looked at before, so that descriptors for
// which there is no room are not even read.
func (r *Reads) Referrers(ctx context.Context, repoID int64, subject oci.Digest, artifactType string, after oci.Digest, limit int) (ReferrerPage, error) {
	where := ` FROM manifest WHERE repo_id = $1 AND subject = $2 AND subject <> '' AND digest > $3`
	args := []any{repoID, subject.String(), after.String()}
	if artifactType != "" {
		where, args = where+` AND artifact_type = $4`, append(args, artifactType)
	}
	limit, err := r.roomFor(ctx, where, args, limit)
	if err != nil {
		return ReferrerPage{}, err
	}
	p, err := one(ctx, r.s, scanReferrers, fmt.Sprintf(`SELECT COALESCE(string_agg(descriptor, ','), ''), COUNT(*), COALESCE(MAX(digest), '')
		FROM (SELECT descriptor, digest%s ORDER BY digest LIMIT $%d) page`, where, len(args)+1), append(slices.Clone(args), limit)...)
	if err != nil || p.Count < limit {
		return p, err
	}
	args[2] = p.Last.String()
	// No EXISTS: PostgreSQL takes that for something it finds soon by reading the table from its beginning.
	next, err := one(ctx, r.s, column[int64], `SELECT COUNT(*) FROM (SELECT 1`+where+` ORDER BY digest LIMIT 1) page`, args...)
	p.More = next > 0
	return p, err
}

// Attached reports whether anything belongs to a digest of the repository: a manifest with it as the subject, the fallback tag of older
// clients, a signature. What belongs to a manifest in the trash counts, too.
func (r *Reads) Attached(ctx context.Context, repoID int64, d oci.Digest, fallbackTag string) (bool, error) {
	n, err := one(ctx, r.s, column[int64], `SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM manifest WHERE repo_id = $1 AND subject = $2 AND subject <> '' LIMIT 1) page)
		+ (SELECT COUNT(*) FROM (SELECT 1 FROM image_signature WHERE repo_id = $1 AND digest = $2 LIMIT 1) page)
		+ (SELECT COUNT(*) FROM (SELECT 1 FROM tag WHERE repo_id = $1 AND name = $3 LIMIT 1) page)`, repoID, d.String(), fallbackTag)
	return n > 0, err
}

// roomFor is how many of the first limit descriptors fit into a page, one at least.
func (r *Reads) roomFor(ctx context.Context, where string, args []any, limit int) (int, error) {
	n := len(args)
	total, err := one(ctx, r.s, column[int64], fmt.Sprintf(`SELECT COALESCE(SUM(octet_length(descriptor) + 1), 0)
		FROM (SELECT descriptor%s ORDER BY digest LIMIT $%d) page`, where, n+1), append(slices.Clone(args), limit)...)
	if err != nil || total <= MaxReferrerBytes {
		return limit, err
	}
	fit, err := one(ctx, r.s, column[int], fmt.Sprintf(`SELECT COUNT(*) FROM (
		SELECT SUM(bytes) OVER (ORDER BY digest) AS total
		FROM (SELECT digest, octet_length(descriptor) + 1 AS bytes%s ORDER BY digest LIMIT $%d) page) summed
		WHERE total <= $%d`, where, n+1, n+2), append(slices.Clone(args), limit, MaxReferrerBytes)...)
	return max(fit, 1), err
}
