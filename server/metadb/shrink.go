package metadb

import (
	"context"
	"database/sql"
	"fmt"
)

// Shrink gives the pages of the database that are free back to the file system, in steps between which others write.
// PostgreSQL does so by itself, as far as it does.
func (db *DB) Shrink(ctx context.Context) error {
	l, ok := db.backend.(*lite)
	if !ok {
		return nil
	}
	return db.open.pass(func() error { return l.shrink(ctx) })
}

const (
	// shrinkStep is how many pages are given back at a time, 1 MiB: writers wait for some milliseconds.
	shrinkStep = 256
	// shrinkKeep is how many free pages stay, for what comes next.
	shrinkKeep = 1024
)

func (l *lite) shrink(ctx context.Context) (err error) {
	for ctx.Err() == nil && l.poison.Load() == nil {
		var free, mode int64
		if mode, err = one(ctx, l, column[int64], `PRAGMA auto_vacuum`); err != nil || mode == 0 {
			return l.d.fail(err)
		}
		if free, err = one(ctx, l, column[int64], `PRAGMA freelist_count`); err != nil || free <= shrinkKeep {
			return l.d.fail(err)
		}
		var failed error
		ran := l.writer.chore(func(c *conn) {
			// Every row of the answer is a page that has moved.
			failed = c.query(ctx, func(*sql.Rows) error { return nil }, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, shrinkStep))
			l.writer.grown()
		})
		if !ran || failed != nil {
			return l.d.fail(failed)
		}
	}
	return ctx.Err()
}
