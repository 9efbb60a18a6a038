package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
)

// What an administrator does to the database beside a running berthd, or before there is one.

// errLocked says that a running berthd has the data directory.
var errLocked = errors.New("the data directory is in use")

// lockDirectory takes a data directory with a SQLite database for this process.
func lockDirectory(dir string) (release func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "berth.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s cannot be used: %w", dir, err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(errLocked, f.Close())
	}
	return f.Close, nil
}

func databaseOptions(c *config.Config) metadb.Options {
	return metadb.Options{URL: c.Berth.Database.URL.Reveal(), Path: filepath.Join(c.Berth.Data, "berth.db"), MaxOpen: 2, Now: time.Now}
}

// openBeside opens the configured database, which must exist, whether or not a berthd serves it. With SQLite and without a
// running berthd none can start before it is closed again.
func openBeside(ctx context.Context, c *config.Config, log *slog.Logger) (db *metadb.DB, closeDB func() error, err error) {
	o := databaseOptions(c)
	o.Log = log
	release := func() error { return nil }
	if file := sqliteFile(o.URL, o.Path); file != "" {
		if !exists(file) {
			return nil, nil, errors.New("there is no database in " + c.Berth.Data + "; name the data directory with --data")
		}
		alone, err := lockDirectory(c.Berth.Data)
		switch {
		case errors.Is(err, errLocked):
			o.Beside = true
		case err != nil:
			return nil, nil, err
		default:
			release = alone
		}
	}
	if db, err = metadb.Open(ctx, o); err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return db, func() error { return errors.Join(db.Close(), release()) }, nil
}

// Migrations are the steps of the configured database's schema, applied and pending. It changes nothing, and works beside
// a running berthd.
func Migrations(ctx context.Context, c *config.Config) ([]metadb.Migration, error) {
	return metadb.Migrations(ctx, databaseOptions(c))
}

// Migrate brings the configured database's schema up to date and returns what was applied. On PostgreSQL it works beside
// running replicas.
func Migrate(ctx context.Context, c *config.Config) (applied []metadb.Migration, err error) {
	o := databaseOptions(c)
	if sqliteFile(o.URL, o.Path) != "" {
		if err := os.MkdirAll(c.Berth.Data, 0o700); err != nil {
			return nil, fmt.Errorf("data directory %s cannot be made: %w", c.Berth.Data, err)
		}
		release, err := lockDirectory(c.Berth.Data)
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("data directory %s is in use by a running berthd, and SQLite is migrated while none runs; stop it first, or restart it with this version, which migrates at its start", c.Berth.Data)
		}
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return metadb.Migrate(ctx, o)
}

// Copy says what CopyDatabase does.
type Copy struct {
	// From and To are postgres://… or sqlite:PATH, where PATH is a berth.db or a data directory. From "" is the
	// configured database.
	From, To string
	Resume   bool                        // go on with a copy that was interrupted
	Live     bool                        // although others are connected to a PostgreSQL source
	Progress func(p metadb.CopyProgress) // nil for nobody
}

// CopyDatabase moves all metadata into an empty database and compares every row in the end. The content of the registry
// stays where it is.
func CopyDatabase(ctx context.Context, c *config.Config, o Copy) (tables []metadb.CopiedTable, err error) {
	from := databaseOptions(c)
	if o.From != "" {
		if from.URL, err = databaseURL("--from", o.From); err != nil {
			return nil, err
		}
	}
	// Before anything is made: no lock file or directory is left of a mistyped name.
	if file := sqliteFile(from.URL, from.Path); file != "" && !exists(file) {
		return nil, fmt.Errorf("source database %s does not exist; name the berth.db or the data directory of a berthd with --from sqlite:PATH or --data", file)
	}
	to := metadb.Options{MaxOpen: 2, Now: time.Now}
	if to.URL, err = databaseURL("--to", o.To); err != nil {
		return nil, err
	}
	if sqliteFile(to.URL, to.Path) != "" {
		if err := os.MkdirAll(filepath.Dir(sqliteFile(to.URL, "")), 0o700); err != nil {
			return nil, fmt.Errorf("directory of the target database cannot be made: %w", err)
		}
	}
	for _, file := range []string{sqliteFile(from.URL, from.Path), sqliteFile(to.URL, to.Path)} {
		if file == "" || !exists(filepath.Dir(file)) {
			continue
		}
		release, locked := lockDirectory(filepath.Dir(file))
		if errors.Is(locked, errLocked) {
			return nil, fmt.Errorf("data directory %s is in use by a running berthd, or named twice; stop berthd first, so that nothing is written that is not copied", filepath.Dir(file))
		}
		if locked != nil {
			return nil, locked
		}
		defer func() { err = errors.Join(err, release()) }()
	}
	return metadb.Copy(ctx, metadb.CopyOptions{From: from, To: to, Resume: o.Resume, Live: o.Live, Progress: o.Progress})
}

// databaseURL checks what a flag names, and finds berth.db in a data directory.
func databaseURL(flag, text string) (string, error) {
	if isPostgres(text) {
		return text, nil
	}
	path, ok := strings.CutPrefix(text, "sqlite:")
	if !ok || path == "" {
		// What was given may have a password in it.
		return "", fmt.Errorf("%s is not a database; expected sqlite:PATH or postgres://user:password@host:5432/name", flag)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "berth.db")
	}
	return "sqlite:" + path, nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// sqliteFile is the file of a SQLite database, "" for PostgreSQL.
func sqliteFile(url, path string) string {
	switch {
	case isPostgres(url):
		return ""
	case url != "":
		return strings.TrimPrefix(url, "sqlite:")
	}
	return path
}
