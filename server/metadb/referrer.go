package metadb

import (
	"context"
	"database/sql"

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

// Referrers are the manifests of the repository that have the subject, whether or not that exists, in the order of
// their digests behind after. artifactType "" is any. The database joins the descriptors: a thousand of them are one row.
func (r *Reads) Referrers(ctx context.Context, repoID int64, subject oci.Digest, artifactType string, after oci.Digest, limit int) (ReferrerPage, error) {
	const head, tail = `SELECT COALESCE(string_agg(descriptor, ','), ''), COUNT(*), COALESCE(MAX(digest), '')
		FROM (SELECT descriptor, digest FROM manifest WHERE repo_id = $1 AND subject = $2 AND subject <> '' AND digest > $3`,
		` ORDER BY digest LIMIT $4) page`
	query, args := head+tail, []any{repoID, subject.String(), after.String(), limit}
	if artifactType != "" {
		query, args = head+` AND artifact_type = $5`+tail, append(args, artifactType)
	}
	p, err := one(ctx, r.s, scanReferrers, query, args...)
	if err != nil || p.Count < limit {
		return p, err
	}
	query, args = `SELECT EXISTS (SELECT 1 FROM manifest WHERE repo_id = $1 AND subject = $2 AND subject <> '' AND digest > $3)`,
		[]any{repoID, subject.String(), p.Last.String()}
	if artifactType != "" {
		query, args = `SELECT EXISTS (SELECT 1 FROM manifest WHERE repo_id = $1 AND subject = $2 AND subject <> '' AND digest > $3
			AND artifact_type = $4)`, append(args, artifactType)
	}
	p.More, err = one(ctx, r.s, column[bool], query, args...)
	return p, err
}
