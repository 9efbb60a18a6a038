package metadb

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// maxRetries bounds how often a transaction is run again: after a deadlock or serialization failure, or because its
// connection was lost before the commit, when the server has undone it.
const maxRetries = 5

func (p *cluster) update(ctx context.Context, soft bool, fn func(*Tx) error) error {
	limited, stop := context.WithTimeout(ctx, updateWithin)
	defer stop()
	for try := 0; ; try++ {
		if err := p.signals.unreachable(); err != nil {
			return err
		}
		again, err := p.attempt(limited, soft, fn)
		if !again || try == maxRetries {
			return p.timely(ctx, err)
		}
		pause := time.Duration(1+rand.IntN(10<<try)) * time.Millisecond
		if sleep(limited, pause) != nil {
			return p.timely(ctx, err)
		}
	}
}

// attempt runs the transaction once; again says that another attempt may succeed.
func (p *cluster) attempt(ctx context.Context, soft bool, fn func(*Tx) error) (again bool, err error) {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return p.undone(err), p.d.fail(err)
	}
	defer func() { _ = conn.Close() }() // one with a transaction still open is thrown away by the driver
	begin := "BEGIN"
	if soft {
		begin = "BEGIN; SET LOCAL synchronous_commit TO off"
	}
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return p.undone(err), p.d.fail(err)
	}
	t := &transaction{on: pgTx{conn}, d: p.d}
	tx := &Tx{Reads: Reads{t, p.d}, ctx: ctx, now: p.now(), skew: time.Duration(p.signals.offset.Load()), grace: p.grace}
	err = run(fn, tx)
	if err == nil && t.err == nil && len(tx.changes) > 0 {
		err = tx.announceChanges(p.signals.origin.Load())
	}
	if err == nil && t.err != nil {
		err = p.d.fail(t.err)
	}
	if err != nil {
		p.rollback(ctx, conn)
		return t.err != nil && p.undone(t.err), err
	}
	return p.commit(ctx, conn, tx)
}

// commit is not cut by the end of ctx: the outcome would be unknown.
func (p *cluster) commit(ctx context.Context, conn *sql.Conn, tx *Tx) (again bool, err error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), commitWithin)
	defer stop()
	_, err = conn.ExecContext(ctx, "COMMIT")
	if err != nil && p.d.classify(err) == classRetry {
		return true, p.d.fail(err)
	}
	if err != nil && !refusedCommit(err) {
		// The server may have committed before the answer was lost, or do so at any moment.
		p.signals.estrange()
		f := fault.New(fault.Unavailable, fault.UnavailableReason, "metadata database was lost in the moment of the commit; it is not known whether the change was made; try again").Because(err)
		f.After = 2
		err = f
	}
	if err == nil || fault.Is(err, fault.Unavailable) {
		runHooks(tx.hooks, p.log)
	}
	if len(tx.changes) > 0 {
		p.signals.poke()
	}
	return false, p.d.fail(err)
}

// refusedCommit says that the server answered, and that it did not commit.
func refusedCommit(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && !lostConnection(err)
}

func (p *cluster) rollback(ctx context.Context, conn *sql.Conn) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), rollbackWithin)
	defer stop()
	_, _ = conn.ExecContext(ctx, "ROLLBACK")
}

// undone says that nothing of a transaction with this error has happened and that it may be run again.
func (p *cluster) undone(err error) bool {
	if lostConnection(err) {
		p.dropIdle()
		return true
	}
	return p.d.classify(err) == classRetry
}

func (p *cluster) keepLink(ctx context.Context, repoID int64, d oci.Digest, lease time.Time, _ Mark) error {
	return linkByUpdate(ctx, p, repoID, d, lease)
}

func (p *cluster) mark() Mark { return Mark{} }

func (p *cluster) keep(ctx context.Context, repoID int64, b Blob, content []byte) error {
	return keepByUpdate(ctx, p, repoID, b, content)
}

// pgTx is a transaction of PostgreSQL as a session. The driver prepares and caches statements per connection; behind
// a pooler that gives every transaction another one, the URL says default_query_exec_mode=exec.
type pgTx struct{ conn *sql.Conn }

func (s pgTx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := s.conn.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s pgTx) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return collect(rows, each)
}
