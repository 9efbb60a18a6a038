package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// cluster is PostgreSQL: many processes share it, and each update is a transaction of its own.
type cluster struct {
	d   *dialect
	db  *sql.DB
	log *slog.Logger
	now func() time.Time
}

func openPostgres(ctx context.Context, o Options) (*cluster, error) {
	cfg, err := parsePostgres(o.URL)
	if err != nil {
		return nil, err
	}
	p := &cluster{d: postgresDialect(), db: stdlib.OpenDB(*cfg), log: o.Log, now: o.Now}
	open := o.MaxOpen
	if open <= 0 {
		open = 16
	}
	open = max(open, 2)
	p.db.SetMaxOpenConns(open)
	p.db.SetMaxIdleConns(open)
	p.db.SetConnMaxIdleTime(5 * time.Minute)
	if err := p.start(ctx, o); err != nil {
		_ = p.db.Close()
		return nil, p.d.fail(err)
	}
	return p, nil
}

func parsePostgres(url string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("metadb: the database URL cannot be parsed; expected postgres://user:password@host:5432/database") // err has the password
	}
	return cfg, nil
}

func (p *cluster) start(ctx context.Context, o Options) error {
	if err := migrate(ctx, p.db, p.d, o); err != nil {
		return err
	}
	var mode string
	if err := p.db.QueryRowContext(ctx, "SHOW synchronous_commit").Scan(&mode); err != nil {
		return err
	}
	if mode == "off" {
		p.log.WarnContext(ctx, "PostgreSQL is set to synchronous_commit=off: pushes that were answered can be lost at a power failure")
	}
	return nil
}

func (p *cluster) exec(ctx context.Context, query string, args ...any) (int64, error) {
	return 0, errors.New("metadb: a change outside a transaction")
}

func (p *cluster) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := p.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return collect(rows, each)
}

// maxRetries bounds how often a transaction is run again after a deadlock or serialization failure.
const maxRetries = 5

func (p *cluster) update(ctx context.Context, soft bool, fn func(*Tx) error) error {
	for try := 0; ; try++ {
		again, err := p.attempt(ctx, soft, fn)
		if !again || try == maxRetries {
			return err
		}
		pause := time.Duration(1+rand.IntN(10<<try)) * time.Millisecond
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func (p *cluster) attempt(ctx context.Context, soft bool, fn func(*Tx) error) (again bool, err error) {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return false, p.d.fail(err)
	}
	defer conn.Close()
	// The end of ctx ends fn's statements. It does not cut the commit, whose outcome would then be unknown.
	ptx, err := conn.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return false, p.d.fail(err)
	}
	t := &transaction{on: pgTx{ptx}, d: p.d}
	tx := &Tx{Reads: Reads{t, p.d}, ctx: ctx, now: p.now()}
	if soft {
		_, err = t.exec(ctx, "SET LOCAL synchronous_commit TO off")
	}
	if err == nil {
		err = run(fn, tx)
	}
	if err == nil && t.err != nil {
		err = p.d.fail(t.err)
	}
	if err != nil {
		_ = ptx.Rollback()
		return t.err != nil && p.d.classify(t.err) == classRetry, err
	}
	if err := ptx.Commit(); err != nil {
		if p.d.classify(err) != classRetry {
			runHooks(tx.hooks, p.log) // the server may have committed before the answer was lost
		}
		return p.d.classify(err) == classRetry, p.d.fail(err)
	}
	runHooks(tx.hooks, p.log)
	return false, nil
}

func (p *cluster) keep(ctx context.Context, repoID int64, b Blob, content []byte) error {
	return keepByUpdate(ctx, p, repoID, b, content)
}

func (p *cluster) check(ctx context.Context) error {
	if err := p.db.PingContext(ctx); err != nil {
		return p.d.fail(fmt.Errorf("ping: %w", err))
	}
	return nil
}

func (p *cluster) close() error { return p.db.Close() }

// pgTx is a transaction of PostgreSQL as a session. The driver prepares and caches statements per connection; behind
// a pooler that gives every transaction another one, the URL says default_query_exec_mode=exec.
type pgTx struct{ tx *sql.Tx }

func (s pgTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := s.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s pgTx) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return collect(rows, each)
}
