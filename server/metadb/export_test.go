package metadb

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strconv"
)

// Statements are the texts that the connections of a closed SQLite database had prepared.
func Statements(db *DB) []string {
	l := db.backend.(*lite)
	var all []string
	for _, c := range append([]*conn{l.writer.conn}, l.readers.idle...) {
		for q := range c.stmts {
			all = append(all, q)
		}
	}
	return all
}

// Plan is how SQLite would run a statement, line by line.
func Plan(db *DB, query string) (lines []string, err error) {
	query = regexp.MustCompile(`\$\d+`).ReplaceAllString(query, "'1'")
	err = db.backend.query(context.Background(), func(rows *sql.Rows) error {
		var a, b, c int
		var line string
		err := rows.Scan(&a, &b, &c, &line)
		lines = append(lines, line)
		return err
	}, "EXPLAIN QUERY PLAN "+query)
	return lines, err
}

// LimitPages makes the database full beyond n pages; 0 lifts the limit.
func LimitPages(db *DB, n int) (err error) {
	db.backend.(*lite).writer.chore(func(c *conn) {
		limit := n
		if n == 0 {
			limit = 1 << 30
		}
		var got int
		err = c.c.QueryRowContext(context.Background(), "PRAGMA max_page_count="+strconv.Itoa(limit)).Scan(&got)
	})
	return err
}

// PageCount is the size of the database.
func PageCount(db *DB) (n int, err error) {
	return one(context.Background(), db.Reads.s, column[int], "PRAGMA page_count")
}

// CommitsOfOthers is what tells a commit of another process.
func CommitsOfOthers(db *DB) (int64, error) { return db.backend.(*lite).commitsOfOthers() }

// FailSync does what the writer does when the disk fails to sync.
func FailSync(db *DB) error {
	l := db.backend.(*lite)
	l.writer.chore(func(*conn) { _ = poisonWith(&l.poison, l.log, l.writer.now(), errors.New("input/output error")) })
	return *l.poison.Load()
}

// IntakeFile is a file of the intake's log with these contents.
func IntakeFile(salt uint64, contents ...string) []byte {
	b := appendIntakeHeader(nil, salt, 1)
	for i, c := range contents {
		b = appendIntakeEntry(b, &intakeEntry{number: uint64(i + 1), repoID: 1, digest: "sha256:x", content: []byte(c)})
	}
	return b
}

// ParseIntake is how many entries a file has.
func ParseIntake(data []byte, salt uint64) int { return len(parseIntake(data, salt)) }

// Exec runs a statement in a transaction.
func Exec(tx *Tx, statement string) error {
	_, err := tx.exec(statement)
	return err
}
