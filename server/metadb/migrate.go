package metadb

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/berth-registry/berth/fault"
)

// Migrations only go forward. Each leaves a schema with which the berthd before it still runs (migrate_test.go holds
// them to that), so that replicas are replaced one by one. On PostgreSQL one replica migrates and the others wait. A
// migration that waits for a lock gives up soon and tries again, because what queues behind it are pushes and pulls; an
// index of a table that may be large is made with CREATE INDEX CONCURRENTLY in a file of its own that can be repeated:
//
//	{{without_transaction}}
//	-- +goose Up
//	{{drop_index}} tag_example;
//	{{create_index}} tag_example ON tag (repo_id, updated_at);

//go:embed migrations/*.sql
var migrations embed.FS

// Migration is a step of the schema.
type Migration struct {
	Version   int64
	Name      string    // such as create_registry; "" for one that this berthd does not know
	AppliedAt time.Time // zero while it is pending
}

// Migrations are the steps of the schema in their order, those of the database and those of this berthd. It changes
// nothing, and waits for nobody. A database that is not there has none.
func Migrations(ctx context.Context, o Options) ([]Migration, error) {
	o = o.withDefaults()
	db, d, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	m, err := newMigrator(db, d, o)
	if db == nil {
		return m.known, err
	}
	defer func() { _ = db.Close() }()
	if err != nil {
		return nil, err
	}
	all, err := m.state(ctx)
	return all, d.fail(err)
}

// Migrate brings the schema up to date, as Open does, and returns what was applied by this call. It makes the database
// file when it is missing.
func Migrate(ctx context.Context, o Options) (applied []Migration, err error) {
	before, err := Migrations(ctx, o)
	if err != nil {
		return nil, err
	}
	o.Manual = false
	db, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	after, err := Migrations(ctx, o)
	if err != nil {
		return nil, err
	}
	pending := map[int64]bool{}
	for _, m := range before {
		pending[m.Version] = m.AppliedAt.IsZero()
	}
	for _, m := range after {
		if pending[m.Version] && !m.AppliedAt.IsZero() {
			applied = append(applied, m)
		}
	}
	return applied, nil
}

// look connects without changing anything; a SQLite file that is not there is a nil db.
func (o Options) look(ctx context.Context) (*sql.DB, *dialect, error) {
	if o.onPostgres() {
		d := postgresDialect()
		cfg, err := parsePostgres(o.URL)
		if err != nil {
			return nil, d, err
		}
		db := stdlib.OpenDB(*cfg)
		db.SetMaxOpenConns(1)
		if err := db.PingContext(ctx); err != nil {
			return nil, d, d.fail(errors.Join(err, db.Close()))
		}
		return db, d, nil
	}
	d := sqliteDialect()
	path, err := filepath.Abs(o.file())
	if err != nil {
		return nil, d, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, d, nil
	} else if err != nil {
		return nil, d, fmt.Errorf("metadb: open the database file: %w", err)
	}
	connector, err := sqlite.NewConnector("file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return nil, d, fmt.Errorf("metadb: open: %w", err)
	}
	return sql.OpenDB(connector), d, nil
}

// migrate applies what is missing, or refuses to with Options.Manual. The usual start finds nothing missing, takes no
// lock and waits for nobody; so does a berthd that is older than the schema.
func migrate(ctx context.Context, db *sql.DB, d *dialect, o Options) error {
	m, err := newMigrator(db, d, o)
	if err != nil {
		return err
	}
	if err := m.run(ctx); err != nil || !o.onPostgres() {
		return err
	}
	return m.rebase(ctx)
}

// migrator applies migrations to a database.
type migrator struct {
	db    *sql.DB
	d     *dialect
	goose *goose.Provider
	known []Migration
	names map[int64]string
	long  map[int64]bool // done without a transaction, beside readers and writers
	o     Options
	wait  time.Duration // for another replica, or for locks of others
	turn  *sessionLock
}

const (
	migrateWait = 10 * time.Minute
	migrateLock = 2 * time.Second
	migrateTurn = 250 * time.Millisecond // between two looks whether another replica has finished
)

func newMigrator(db *sql.DB, d *dialect, o Options) (*migrator, error) {
	m := &migrator{db: db, d: d, o: o, names: map[int64]string{}, long: map[int64]bool{}, wait: migrateWait}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return m, err
	}
	return m, m.read(files)
}

// read takes the migrations of a folder.
func (m *migrator) read(files fs.FS) error {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return err
	}
	for _, name := range names { // sorted
		number, rest, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("metadb: migration %s has no number", name)
		}
		m.known = append(m.known, Migration{Version: version, Name: rest})
		m.names[version] = rest
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		m.long[version] = bytes.Contains(text, []byte("{{without_transaction}}"))
	}
	if m.db == nil {
		return nil
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	if m.d.lockText != "" {
		m.turn = &sessionLock{wait: m.wait, log: m.o.Log}
		options = append(options, goose.WithSessionLocker(m.turn))
	}
	m.goose, err = goose.NewProvider(m.d.goose, m.db, rendered{files, m.d.tokens}, options...)
	if err != nil {
		return fmt.Errorf("metadb: read migrations: %w", err)
	}
	return nil
}

// state is what is applied and what is pending, by version.
func (m *migrator) state(ctx context.Context) ([]Migration, error) {
	applied, err := m.applied(ctx)
	if err != nil {
		return nil, err
	}
	var all []Migration
	rest := m.known
	for _, a := range applied {
		for len(rest) > 0 && rest[0].Version < a.Version {
			all, rest = append(all, rest[0]), rest[1:]
		}
		if len(rest) > 0 && rest[0].Version == a.Version {
			rest = rest[1:]
		}
		a.Name = m.names[a.Version]
		all = append(all, a)
	}
	return append(all, rest...), nil
}

// applied are the migrations of the database, by version, without names.
func (m *migrator) applied(ctx context.Context) (all []Migration, err error) {
	var there bool
	if err := m.db.QueryRowContext(ctx, m.d.hasTable, goose.DefaultTablename).Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, err := m.db.QueryContext(ctx, `SELECT version_id, `+m.d.migratedAt+` FROM `+goose.DefaultTablename+`
		WHERE version_id > 0 ORDER BY version_id, id`)
	if err != nil {
		return nil, err
	}
	err = collect(rows, func(rows *sql.Rows) error {
		var a Migration
		var seconds int64
		if err := rows.Scan(&a.Version, &seconds); err != nil {
			return err
		}
		a.AppliedAt = time.Unix(seconds, 0).UTC()
		if n := len(all); n > 0 && all[n-1].Version == a.Version {
			all = all[:n-1]
		}
		all = append(all, a)
		return nil
	})
	return all, err
}

// run applies what is pending, one by one.
func (m *migrator) run(ctx context.Context) error {
	all, err := m.state(ctx)
	if err != nil {
		return err
	}
	var part bool
	if err := m.db.QueryRowContext(ctx, m.d.hasTable, copyMark).Scan(&part); err != nil {
		return err
	}
	if part && !m.o.copied {
		return unfinished()
	}
	var pending []Migration
	for _, s := range all {
		if s.AppliedAt.IsZero() {
			pending = append(pending, s)
		}
	}
	if len(pending) > 0 && m.o.Beside && !m.o.onPostgres() {
		return fault.New(fault.Unavailable, fault.UnavailableReason,
			"metadata database lacks %d of %d migrations, and a berthd of another version serves it; restart that with this version first", len(pending), len(m.known))
	}
	if len(pending) > 0 && m.o.Manual {
		return fault.New(fault.Unavailable, fault.UnavailableReason,
			"metadata database lacks %d of %d migrations, the first is %s, and berth.database.migrate is manual; run berthd migrate up",
			len(pending), len(m.known), pending[0].file())
	}
	began := m.o.Now()
	for _, p := range pending {
		if err := m.apply(ctx, p); err != nil {
			return err
		}
	}
	if n := len(pending); n > 0 && !(m.o.Fresh && n == len(all)) {
		m.o.Log.InfoContext(ctx, "metadata schema migrated", "migrations", n, "last", pending[n-1].file(), "took", m.o.Now().Sub(began).Round(time.Millisecond))
	}
	return nil
}

// apply runs a migration until it has got its locks. Meanwhile another replica may have run it.
func (m *migrator) apply(ctx context.Context, p Migration) error {
	deadline := m.o.Now().Add(m.wait)
	if m.turn != nil {
		m.turn.lock = migrateLock
		if m.long[p.Version] {
			m.turn.lock = m.wait // nobody queues behind these
		}
	}
	for pause := migrateTurn; ; pause = min(2*pause, 10*time.Second) {
		_, err := m.goose.ApplyVersion(ctx, p.Version, true)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, goose.ErrAlreadyApplied):
			return nil
		case m.d.classify(err) != classRetry && !isLockTimeout(err):
			return fmt.Errorf("migration %s failed; what it did is undone, or is done again at the next start: %w", p.file(), err)
		case m.o.Now().Add(pause).After(deadline):
			return fault.New(fault.Unavailable, fault.UnavailableReason,
				"migration %s found its table locked for %s; end the transaction that holds it, see pg_stat_activity, and start again", p.file(), m.wait).Because(err)
		}
		m.o.Log.WarnContext(ctx, "metadata migration waits for a lock of another transaction", "migration", p.file(), "err", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (p Migration) file() string { return fmt.Sprintf("%04d_%s", p.Version, p.Name) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sessionLock is the advisory lock under which one replica migrates. It is taken by looking again and again, because a
// session that waits in the server is a transaction for which CREATE INDEX CONCURRENTLY of the holder would wait.
type sessionLock struct {
	wait time.Duration
	lock time.Duration // for a statement to get its lock, in the session that migrates
	log  *slog.Logger
}

// migrationLock is the number that goose uses by itself, as berthd 0.1.0 did.
const migrationLock = 4097083626

// SessionLock implements lock.SessionLocker of goose.
func (l *sessionLock) SessionLock(ctx context.Context, c *sql.Conn) error {
	tries := int(max(l.wait/migrateTurn, 1))
	for try := range tries {
		var ours bool
		if err := c.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&ours); err != nil {
			return err
		}
		if ours {
			// Everyone queues behind a statement that waits for a strong lock, so it must not wait for long.
			_, err := c.ExecContext(ctx, "SELECT set_config('lock_timeout', $1, false)", strconv.FormatInt(l.lock.Milliseconds(), 10))
			return err
		}
		if try == 4 {
			l.log.InfoContext(ctx, "another berthd migrates the metadata database; this one waits for it", "atMost", l.wait)
		}
		if err := sleep(ctx, migrateTurn); err != nil {
			return err
		}
	}
	return fault.New(fault.Unavailable, fault.UnavailableReason,
		"metadata database has been migrated by another berthd for %s, and is not finished; look at its log, or for advisory lock %d in pg_locks", l.wait, migrationLock)
}

// SessionUnlock implements lock.SessionLocker of goose.
func (l *sessionLock) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "RESET lock_timeout")
	_, err2 := c.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLock))
	return errors.Join(err, err2)
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
