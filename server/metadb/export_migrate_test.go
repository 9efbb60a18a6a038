package metadb

import (
	"context"
	"io/fs"
	"strings"
	"time"
)

// MigrateWith applies the migrations of a folder, as a start does, and waits for others no longer than wait.
func MigrateWith(ctx context.Context, o Options, files fs.FS, wait time.Duration) error {
	o = o.withDefaults()
	db, d, err := o.look(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if !o.onPostgres() {
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(ctx, "PRAGMA query_only=0"); err != nil {
			return err
		}
	}
	m := &migrator{db: db, d: d, o: o, names: map[int64]string{}, long: map[int64]bool{}, wait: wait}
	if err := m.read(files); err != nil {
		return err
	}
	return m.run(ctx)
}

// MigrationFiles are the migrations as they are written.
func MigrationFiles() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err)
	}
	return files
}

// Render gives a migration the words of SQLite and of PostgreSQL.
func Render(text string) (sqlite, postgres string) {
	return sqliteDialect().tokens.Replace(text), postgresDialect().tokens.Replace(text)
}

// Unrendered reports whether a word was left that no dialect knows.
func Unrendered(text string) bool { return strings.Contains(text, "{{") }
