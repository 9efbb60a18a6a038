package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that berthd itself uses
)

// postgresRows are how many rows fillPostgres makes.
type postgresRows struct {
	tags, repositories, referrers int
}

// rowInsertsPostgres are the rows of repoRowTags and repoRowRefs, what rowInserts makes for SQLite, with their sample rows:
// foreign keys hold here, so each is behind what it refers to. $1 up to but not including $2 are the numbers; the parts
// with many rows are run in several steps. A count of 0 is a statement without numbers.
func rowInsertsPostgres(n postgresRows) []struct {
	query string
	count int
} {
	tagged, subject := newEmptyIndex("tagged"), newEmptyIndex("subject")
	put := func(c content, repo string) string {
		return fmt.Sprintf(`WITH b AS (INSERT INTO blob (digest, size, inline, created_at) VALUES ('%[1]s', %[2]d, TRUE, 1)),
			c AS (INSERT INTO blob_content (digest, bytes) VALUES ('%[1]s', '\x%[3]x')),
			l AS (INSERT INTO repo_blob (repo_id, digest, created_at) SELECT id, '%[1]s', 1 FROM repository WHERE name = '%[4]s')
			INSERT INTO manifest (repo_id, digest, media_type, size, pushed_at) SELECT id, '%[1]s', '%[5]s', %[2]d, 1 FROM repository WHERE name = '%[4]s'`,
			c.digest, len(c.data), c.data, repo, typeIndex)
	}
	const numbers = ` FROM generate_series($1::bigint, $2::bigint - 1) i`
	return []struct {
		query string
		count int
	}{
		{`INSERT INTO project (name, public, created_at) VALUES ('rows', TRUE, 1)`, 0},
		{`INSERT INTO repository (project_id, name, listed, created_at) SELECT id, n, TRUE, 1 FROM project, (VALUES ('` + repoRowTags + `'), ('` + repoRowRefs + `')) v(n) WHERE project.name = 'rows'`, 0},
		{put(tagged, repoRowTags), 0},
		{put(subject, repoRowRefs), 0},
		{`INSERT INTO tag (repo_id, name, digest, updated_at) SELECT r.id, 't' || lpad(i::text, 7, '0'), '` + tagged.digest + `', i` + numbers + `, repository r WHERE r.name = '` + repoRowTags + `'`, n.tags},
		{`INSERT INTO repository (project_id, name, listed, created_at) SELECT p.id, 'rows/zz' || lpad(i::text, 7, '0'), TRUE, 1` + numbers + `, project p WHERE p.name = 'rows'`, n.repositories},
		{`INSERT INTO blob (digest, size, inline, created_at) SELECT 'sha256:' || lpad(to_hex(i), 64, '0'), 500, FALSE, 1` + numbers, n.referrers},
		{`INSERT INTO manifest (repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at)
			SELECT r.id, d, '` + typeManifest + `', 'application/vnd.example.sbom', 500, '` + subject.digest + `',
			'{"mediaType":"` + typeManifest + `","digest":"' || d || '","size":500,"artifactType":"application/vnd.example.sbom"}', 1
			FROM (SELECT 'sha256:' || lpad(to_hex(i), 64, '0') AS d` + numbers + `) s, repository r WHERE r.name = '` + repoRowRefs + `'`, n.referrers},
	}
}

// fillPostgres seeds a PostgreSQL database that a berthd has migrated (berthd migrate up) and in which there are no such rows
// yet: tags of the repository rows/tags, repositories rows/zz…, referrers of a subject in rows/subjects. They can be
// listed, and the tags pulled. A berthd that runs meanwhile sees them. It tells how fast it was.
func fillPostgres(ctx context.Context, dsn string, n postgresRows, progress io.Writer) (err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return errors.New("the DSN cannot be parsed; expected postgres://user:password@host:5432/database") // err has the password
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, insert := range rowInsertsPostgres(n) {
		if insert.count == 0 {
			if _, err := db.ExecContext(ctx, insert.query); err != nil {
				return fmt.Errorf("%.60s…: %w", insert.query, err)
			}
			continue
		}
		started := time.Now()
		for from := 0; from < insert.count; from += rowBatch {
			if _, err := db.ExecContext(ctx, insert.query, from, min(from+rowBatch, insert.count)); err != nil {
				return fmt.Errorf("%.60s…: %w", insert.query, err)
			}
		}
		fmt.Fprintf(progress, "%d rows of %.30s… in %.1fs\n", insert.count, insert.query, time.Since(started).Seconds())
	}
	_, err = db.ExecContext(ctx, `VACUUM (ANALYZE) project, repository, blob, manifest, tag`)
	return err
}
