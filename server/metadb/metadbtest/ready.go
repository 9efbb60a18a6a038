package metadbtest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
)

// The migrations take longer than most tests, above all with the race detector. A process makes a database once, and each
// test gets a copy.

var sqliteImage = sync.OnceValues(func() (image []byte, err error) {
	dir, err := os.MkdirTemp("", "berth-schema-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "berth.db")
	if err := migrated(metadb.Options{Path: file}); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

var postgresTemplate = sync.OnceValues(func() (testkit.PostgresTemplate, error) {
	return testkit.NewPostgresTemplate(func(dsn string) error { return migrated(metadb.Options{URL: dsn, MaxOpen: 2}) })
})

func migrated(o metadb.Options) error {
	db, err := metadb.Open(context.Background(), o)
	if err != nil {
		return err
	}
	return db.Close()
}

// File is a new SQLite database in a directory of the test's, with the schema and nothing else.
func File(t testing.TB) string {
	t.Helper()
	return FileIn(t, t.TempDir())
}

// FileIn is File in a directory, which is made, under the name that berthd gives it.
func FileIn(t testing.TB, dir string) string {
	t.Helper()
	image, err := sqliteImage()
	must(t, err)
	must(t, os.MkdirAll(dir, 0o700))
	file := filepath.Join(dir, "berth.db")
	must(t, os.WriteFile(file, image, 0o600))
	return file
}

// Postgres is testkit.Postgres with the schema and nothing else.
func Postgres(t testing.TB) string {
	t.Helper()
	testkit.NeedPostgres(t)
	template, err := postgresTemplate()
	must(t, err)
	return template.Database(t)
}
