package testkit

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL, as one of database/sql's
)

// Behind changes a database behind the back of the berthd that has it open, and returns how many rows the statement
// changed: a PostgreSQL at dsn or, when that is "", a SQLite file. The statement is in the words of both.
func Behind(t testing.TB, dsn, file, statement string, args ...any) int64 {
	t.Helper()
	driver, source := "pgx", dsn
	if dsn == "" {
		driver, source = "sqlite", "file:"+file+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	defer func() { _ = db.Close() }()
	r, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("testkit: %s: %v", statement, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		t.Fatalf("testkit: %s: %v", statement, err)
	}
	return n
}
