package metadb

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies what is missing. Migrations only go forward, and each must leave a schema with which the berthd
// before it still runs. One that was killed half-way is rolled back by the database and starts again.
func migrate(ctx context.Context, db *sql.DB, d *dialect, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	if d.lockText != "" {
		// Replicas start together: one migrates, the others look every second whether it has finished.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 600))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(d.goose, db, rendered{files, d.tokens}, options...)
	if err != nil {
		return fmt.Errorf("metadb: read migrations: %w", err)
	}
	if current, target, err := p.GetVersions(ctx); err == nil && current >= target {
		return nil // the usual start: no lock, no wait
	}
	applied, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("metadb: migrate: %w", err)
	}
	for _, m := range applied {
		log.DebugContext(ctx, "metadata schema migrated", "migration", path.Base(m.Source.Path), "took", m.Duration.Round(time.Millisecond))
	}
	return nil
}

// rendered replaces the dialect's words in every file.
type rendered struct {
	fs.FS
	tokens *strings.Replacer
}

// Open implements fs.FS.
func (r rendered) Open(name string) (fs.File, error) {
	if !strings.HasSuffix(name, ".sql") {
		return r.FS.Open(name)
	}
	text, err := fs.ReadFile(r.FS, name)
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(r.FS, name)
	if err != nil {
		return nil, err
	}
	return renderedFile{strings.NewReader(r.tokens.Replace(string(bytes.TrimSpace(text)) + "\n")), info}, nil
}

type renderedFile struct {
	*strings.Reader
	info fs.FileInfo
}

// Stat and Close complete fs.File.
func (f renderedFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close does nothing: the text is in memory.
func (f renderedFile) Close() error { return nil }
