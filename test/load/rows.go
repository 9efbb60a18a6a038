package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver that berthd itself uses
)

// A million tags, repositories and referrers would take an hour through the API. They are written as rows instead, into a
// store that berthd made and that is stopped meanwhile. This is the one place outside berthd that knows its schema; when a
// migration changes these three tables, the insert fails aloud.

const (
	repoRowTags = "rows/tags"
	repoRowRefs = "rows/subjects"
	rowBatch    = 50_000 // rows in a transaction: keeps the write-ahead log small
)

func rowTag(i int) string  { return fmt.Sprintf("t%07d", i) }
func rowRepo(i int) string { return fmt.Sprintf("rows/zz%07d", i) }

// rowInserts copy one sample row, made through the API, for the numbers from $1 up to but not including $2.
func rowInserts() []string {
	const numbers = `WITH RECURSIVE n(i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2) `
	return []string{
		`INSERT INTO tag (repo_id, name, digest, updated_at) ` + numbers +
			`SELECT t.repo_id, printf('t%07d', i), t.digest, t.updated_at FROM n, tag t JOIN repository r ON r.id = t.repo_id WHERE r.name = '` + repoRowTags + `' AND t.name = 'sample'`,
		`INSERT INTO repository (project_id, name, listed, created_at) ` + numbers +
			`SELECT r.project_id, printf('rows/zz%07d', i), TRUE, r.created_at FROM n, repository r WHERE r.name = '` + repoRowTags + `'`,
		`INSERT INTO manifest (repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at, pushed_by) ` + numbers +
			`SELECT m.repo_id, 'sha256:' || printf('%064x', i), m.media_type, m.artifact_type, m.size, m.subject,
			 replace(m.descriptor, m.digest, 'sha256:' || printf('%064x', i)), m.pushed_at, m.pushed_by
			 FROM n, (SELECT m.* FROM manifest m JOIN repository r ON r.id = m.repo_id WHERE r.name = '` + repoRowRefs + `' AND m.subject <> '' LIMIT 1) m`,
	}
}

// fillRows brings count tags, repositories and referrers into a running berthd and starts it again.
func fillRows(ctx context.Context, s *server, count int) (err error) {
	m, subject := newEmptyIndex("tagged"), newEmptyIndex("subject")
	err = s.with(func(c *client) error {
		r := newReferrer(subject, 0)
		return errors.Join(
			c.putManifest(repoRowTags, "sample", typeIndex, m),
			c.putManifest(repoRowRefs, "subject", typeIndex, subject),
			c.pushBlob(repoRowRefs, newContent([]byte("{}"))),
			c.putManifest(repoRowRefs, r.digest, typeManifest, r))
	})
	if err != nil {
		return err
	}
	if err := s.proc.stop(); err != nil {
		return err
	}
	if err := insertRows(ctx, filepath.Join(s.launch.dir, "data", "berth.db"), count); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return s.start(ctx)
}

func insertRows(ctx context.Context, file string, count int) (err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=synchronous(off)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	for _, insert := range rowInserts() {
		for from := 0; from < count; from += rowBatch {
			if _, err := db.ExecContext(ctx, insert, from, min(from+rowBatch, count)); err != nil {
				return fmt.Errorf("%.60s…: %w", insert, err)
			}
			if _, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
				return err
			}
		}
	}
	return nil
}
