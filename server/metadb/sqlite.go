package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
)

// pragmas of every connection. FULL: a commit that is not synced is lost with the power. No autocheckpoint: the
// checkpointer does it where no caller waits. The cache is small because there is one per connection, and the
// operating system has the file anyway.
const pragmas = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)" +
	"&_pragma=wal_autocheckpoint(0)&_pragma=cache_size(-2048)&_pragma=temp_store(2)&_pragma=journal_size_limit(100663296)"

// lite is SQLite: many readers, one writer.
type lite struct {
	path    string
	d       *dialect
	db      *sql.DB
	log     *slog.Logger
	readers *pool
	writer  *writer
	copier  *checkpointer
	intake  *intake
	poison  atomic.Pointer[error]

	beside bool     // another process serves the file
	others watchers // of what other processes commit
	quit   chan struct{}
	loops  sync.WaitGroup // settleLoop and lookLoop, until quit
}

func openSQLite(ctx context.Context, path string, o Options) (*lite, error) {
	if path == "" {
		return nil, errors.New("metadb: no database file is named")
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("metadb: create the database file: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	name := "file:" + (&url.URL{Path: abs}).EscapedPath()
	if err := prepareFile(ctx, abs, name); err != nil {
		return nil, fmt.Errorf("metadb: open: %w", err)
	}
	connector, err := sqlite.NewConnector(name + "?_txlock=immediate&" + pragmas)
	if err != nil {
		return nil, fmt.Errorf("metadb: open: %w", err)
	}
	l := &lite{path: abs, d: sqliteDialect(), db: sql.OpenDB(connector), log: o.Log, beside: o.Beside, quit: make(chan struct{})}
	if err := l.start(ctx, o); err != nil {
		_ = l.db.Close()
		return nil, err
	}
	return l, nil
}

func (l *lite) start(ctx context.Context, o Options) error {
	o.Manual = o.Manual || o.Beside
	if err := migrate(ctx, l.db, l.d, o); err != nil {
		return l.d.fail(err)
	}
	readers := o.MaxOpen
	if readers <= 0 {
		readers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	l.readers = newPool(l.db, readers)
	// The writer's commits are synced by the syncer, beside the next batch.
	w, err := openConn(ctx, l.db, "PRAGMA cache_size=-8192", "PRAGMA synchronous=NORMAL")
	if err != nil {
		return l.d.fail(err)
	}
	c, err := openConn(ctx, l.db)
	if err != nil {
		return l.d.fail(err)
	}
	l.intake = newIntake(l.path+"-intake", &l.poison, o)
	if err := c.query(ctx, func(rows *sql.Rows) error {
		var d string
		err := rows.Scan(&d)
		l.intake.hurt(d, true)
		return err
	}, `SELECT digest FROM damage`); err != nil {
		return l.d.fail(err)
	}
	l.writer = newWriter(w, l.d, &l.poison, l.path+"-wal", l.intake, o)
	l.copier = newCheckpointer(c, l.writer, &l.poison, o)
	seen, err := l.commitsOfOthers()
	l.loops.Go(l.settleLoop)
	l.loops.Go(func() { l.lookLoop(seen) })
	if err == nil && !l.beside {
		err = l.recoverIntake(ctx)
	}
	if err != nil {
		return errors.Join(err, l.stop())
	}
	return nil
}

// createPrivate makes the file before SQLite would, because it holds password hashes and keys; the files that SQLite
// puts beside it inherit its mode.
func createPrivate(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// prepareFile makes a database of an empty file, one that can give free pages back (Shrink); another stays as it is. It is not
// said on every connection: on a file that can do so already, each time would be a commit.
func prepareFile(ctx context.Context, path, name string) (err error) {
	if info, err := os.Stat(path); err != nil || info.Size() > 0 {
		return err
	}
	db, err := sql.Open("sqlite", name+"?_pragma=busy_timeout(5000)&_pragma=auto_vacuum(2)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	return errors.Join(db.PingContext(ctx), db.Close())
}

func (l *lite) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return 0, errors.New("metadb: a change outside a transaction")
}

func (l *lite) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	if err := l.settle(ctx, query, args); err != nil {
		return err
	}
	c, err := l.readers.get(ctx)
	if err != nil {
		return err
	}
	defer l.readers.put(c)
	return c.query(ctx, each, query, args...)
}

func (l *lite) update(ctx context.Context, soft bool, fn func(*Tx) error) error {
	return l.writer.update(ctx, soft, fn)
}

func (l *lite) check(ctx context.Context) error {
	if p := l.poison.Load(); p != nil {
		return *p
	}
	return l.d.fail(l.query(ctx, func(*sql.Rows) error { return nil }, `SELECT 1`))
}

func (l *lite) close() error { return errors.Join(l.stop(), l.db.Close()) } // the last connection checkpoints and removes the log

func (l *lite) stop() error {
	close(l.quit)
	l.loops.Wait()
	err := l.settleAll()
	l.writer.close()
	l.intake.close(err == nil && !l.beside)
	l.copier.close()
	l.readers.close()
	return nil // what has no rows yet is in the log of the intake
}

// conn is a connection with its prepared statements. One goroutine uses it at a time.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
}

func openConn(ctx context.Context, db *sql.DB, pragmas ...string) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pragmas {
		if _, err := c.ExecContext(ctx, p); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return &conn{c, map[string]*sql.Stmt{}}, nil
}

// maxStatements is far above the number of texts in this package; a mistake must not become a leak.
const maxStatements = 512

func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	if len(c.stmts) >= maxStatements {
		for q, s := range c.stmts {
			_ = s.Close()
			delete(c.stmts, q)
		}
	}
	s, err := c.c.PrepareContext(context.Background(), query)
	if err == nil {
		c.stmts[query] = s
	}
	return s, err
}

// Statements run to their end whatever happens to ctx: they take microseconds, and watching a context would cost as
// much again.

func (c *conn) exec(_ context.Context, query string, args ...any) (int64, error) {
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *conn) query(_ context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	return collect(rows, each)
}

func (c *conn) close() {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	_ = c.c.Close()
}

// pool lends reading connections, the one used last first, so that few are warm instead of all lukewarm. They are
// opened when they are needed.
type pool struct {
	db    *sql.DB
	slots chan struct{} // a token per connection lent
	mu    sync.Mutex
	idle  []*conn
}

func newPool(db *sql.DB, size int) *pool { return &pool{db: db, slots: make(chan struct{}, size)} }

func (p *pool) get(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case p.slots <- struct{}{}:
	default:
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := openConn(context.WithoutCancel(ctx), p.db, "PRAGMA query_only=1")
	if err != nil {
		<-p.slots
	}
	return c, err
}

func (p *pool) put(c *conn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	<-p.slots
}

// close waits for connections that are lent. Later calls of get find a closed database.
func (p *pool) close() {
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	for _, c := range p.idle {
		c.close()
	}
	for range cap(p.slots) {
		<-p.slots
	}
}
