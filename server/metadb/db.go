package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Options say which database to open.
type Options struct {
	// URL is postgres://… or postgresql://… for PostgreSQL. Anything else is the path of a SQLite file, with or
	// without "sqlite:" before it; "" is Path.
	URL string
	// Path is the SQLite file when URL is "". It and its folder are made when they are missing, readable by their
	// owner alone.
	Path string
	// MaxOpen bounds the connections: PostgreSQL's whole pool (default 16, at least 2), SQLite's readers (default
	// twice the processors, at least 4).
	MaxOpen int
	// Outage is how long caches go on with what they remember while PostgreSQL cannot be reached; default 5 min. See
	// Watch.
	Outage time.Duration
	// Manual refuses to open a database whose schema is behind, instead of migrating it.
	Manual bool
	// Beside is for a SQLite file that a running berthd serves: what that process keeps beside the file is left alone (see
	// intake), and nothing is migrated below it. It has no meaning for PostgreSQL.
	Beside bool
	// Fresh expects an empty database: that its schema was made is then nothing to log.
	Fresh  bool
	copied bool // Copy opens its own unfinished target
	// Grace is for how long Review keeps what may have lost its last reference; default 24 h. See gc.go.
	Grace time.Duration
	// Log may be nil.
	Log *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Grace <= 0 {
		o.Grace = 24 * time.Hour
	}
	return o
}

func (o Options) onPostgres() bool {
	return strings.HasPrefix(o.URL, "postgres://") || strings.HasPrefix(o.URL, "postgresql://")
}

// file is the SQLite file.
func (o Options) file() string {
	if o.URL == "" {
		return o.Path
	}
	return strings.TrimPrefix(strings.TrimPrefix(o.URL, "sqlite:"), "//")
}

// DB is the metadata database. Safe for concurrent use.
type DB struct {
	Reads
	backend backend
	open    *gate
}

func newDB(b backend, d *dialect) *DB {
	g := newGate()
	return &DB{Reads{reader{b, d, g}, d}, b, g}
}

// backend is a database with its way to make writes durable.
type backend interface {
	session
	update(ctx context.Context, soft bool, fn func(*Tx) error) error
	// keep is DB.KeepBlob, keepLink DB.KeepLink, mark DB.Mark.
	keep(ctx context.Context, repoID int64, b Blob, content []byte) error
	keepLink(ctx context.Context, repoID int64, d oci.Digest, lease time.Time, since Mark) error
	mark() Mark
	check(ctx context.Context) error
	snapshot(ctx context.Context, path string) error
	close() error
}

// Open connects, brings the schema up to date and returns. It does no work that grows with what is stored. A database
// that a newer berthd has already extended is opened as it is.
func Open(ctx context.Context, o Options) (*DB, error) {
	o = o.withDefaults()
	if o.onPostgres() {
		p, err := openPostgres(ctx, o)
		if err != nil {
			return nil, err
		}
		return newDB(p, p.d), nil
	}
	l, err := openSQLite(ctx, o.file(), o)
	if err != nil {
		return nil, err
	}
	return newDB(l, l.d), nil
}

// Update runs fn in a transaction and returns nil when what it wrote is durable: it survives a power loss. An error of
// fn rolls back and is returned as it is; a panic of fn becomes an error.
//
// fn may run more than once, so it must change nothing outside the transaction that a second run does not set again.
// It must not wait for anything but the database, and must not call Update. On SQLite all writers of the process wait
// for it.
//
// When ctx ends before fn was started, Update returns its error and nothing happened. Once fn was started, Update waits
// for the outcome; on PostgreSQL the end of ctx still aborts fn itself.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	return db.open.pass(func() error { return db.backend.update(ctx, false, fn) })
}

// UpdateSoft is Update without the wait for the disk: what it wrote survives the end of the process, however violent,
// but the last moments of it may be lost at a power loss. It never overtakes: whatever is durable includes every
// UpdateSoft before it.
func (db *DB) UpdateSoft(ctx context.Context, fn func(tx *Tx) error) error {
	return db.open.pass(func() error { return db.backend.update(ctx, true, fn) })
}

// KeepBlob records a small blob with its content and gives it to the repository, durably: PutBlob and LinkBlob in an
// Update of their own, for which SQLite needs no transaction (see intake). Whatever runs after it sees the blob.
// ErrClaimed is as of those.
func (db *DB) KeepBlob(ctx context.Context, repoID int64, b Blob, content []byte) error {
	return db.open.pass(func() error { return db.backend.keep(ctx, repoID, b, content) })
}

// keepByUpdate is KeepBlob as a transaction.
func keepByUpdate(ctx context.Context, on backend, repoID int64, b Blob, content []byte) error {
	return on.update(ctx, false, func(tx *Tx) error {
		if err := tx.PutBlob(b, content); err != nil {
			return err
		}
		_, err := tx.LinkBlob(repoID, b.Digest)
		return err
	})
}

// Mark is the moment before a caller looks whether a blob is there that it will link to.
func (db *DB) Mark() Mark { return db.backend.mark() }

// KeepLink gives the repository a blob that was found live after the mark, and extends its lease, durably: LinkBlob and
// LeaseBlob in an Update of their own, for which SQLite needs no transaction (see intake). ErrNotFound and ErrClaimed
// are as of those.
func (db *DB) KeepLink(ctx context.Context, repoID int64, d oci.Digest, lease time.Time, since Mark) error {
	return db.open.pass(func() error { return db.backend.keepLink(ctx, repoID, d, lease, since) })
}

// linkByUpdate is KeepLink as a transaction.
func linkByUpdate(ctx context.Context, on backend, repoID int64, d oci.Digest, lease time.Time) error {
	return on.update(ctx, false, func(tx *Tx) error {
		if _, err := tx.LinkBlob(repoID, d); err != nil {
			return err
		}
		return tx.LeaseBlob(d, lease)
	})
}

// Alone reports whether this is the only berthd of the database: a SQLite file is one berthd's, but for what an operator
// does beside it (see beside.go).
func (db *DB) Alone() bool {
	_, ok := db.backend.(*lite)
	return ok
}

// Check reports whether the database can be read and written, as far as that is known without writing.
func (db *DB) Check(ctx context.Context) error {
	return db.open.pass(func() error { return db.backend.check(ctx) })
}

// Close waits for reads and updates in progress, refuses new ones and closes the database. Closing twice is harmless.
func (db *DB) Close() error {
	if !db.open.shut() {
		return nil
	}
	return db.backend.close()
}

// pass runs f unless the database is closed, and keeps it open meanwhile.
func (g *gate) pass(f func() error) error {
	if !g.enter() {
		return closedFault()
	}
	defer g.leave()
	return f()
}

// reader is the session of a DB's own Reads: it names failures for callers. Inside a transaction the transaction does.
type reader struct {
	session
	d    *dialect
	open *gate
}

func (r reader) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	if !r.open.enter() {
		return closedFault()
	}
	defer r.open.leave()
	return r.d.fail(r.session.query(ctx, each, query, args...))
}

// run calls fn and makes an error of its panic.
func run(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("metadb: panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}

// runHooks calls what AfterCommit was given. A hook that panics must not keep the others from running.
func runHooks(hooks []func(), log *slog.Logger) {
	for _, f := range hooks {
		func() {
			defer func() {
				if p := recover(); p != nil {
					log.Error("metadata commit hook panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				}
			}()
			f()
		}()
	}
}
