package metadb

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// session runs statements: on some connection of a pool, or inside one transaction.
type session interface {
	// exec returns the number of rows that were changed.
	exec(ctx context.Context, query string, args ...any) (int64, error)
	// query calls each once per row.
	query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error
}

// Reads are the questions that can be put to the database. A DB answers them on its own, one statement each; a Tx
// answers them with what its transaction has written.
type Reads struct {
	s session
	d *dialect
}

// Tx is a transaction in progress: all questions of a DB, and every change. It is used by the function that received
// it, until that returns, and by one goroutine.
//
// After a statement of a transaction failed, every later one fails with the same error and nothing is committed, also
// when the function returns nil. ErrNotFound and ErrClaimed are answers, not failed statements.
type Tx struct {
	Reads
	ctx   context.Context
	now   time.Time
	hooks []func()

	changes []Change      // what caches have to forget; see signal.go
	skew    time.Duration // of the database's clock from now
	grace   time.Duration // Options.Grace
}

// Now is the time of the transaction: what its rows say was their creation or update.
func (tx *Tx) Now() time.Time { return tx.now }

// clock is the time by the database's clock, by which replicas whose clocks differ agree on how long a claim holds.
func (tx *Tx) clock() time.Time { return tx.now.Add(tx.skew) }

// AfterCommit registers f to be run when the transaction is durable, before the caller of Update is answered, also when
// that caller has gone away. A transaction that is not committed runs none. f must be quick: on SQLite all writers wait
// for it. It is the place to drop cached entries.
func (tx *Tx) AfterCommit(f func()) { tx.hooks = append(tx.hooks, f) }

func (tx *Tx) exec(query string, args ...any) (int64, error) {
	return tx.s.exec(tx.ctx, query, args...)
}

// transaction is the session of a Tx: it remembers the first failure, because a statement after a failed one could
// otherwise find itself outside the transaction that SQLite has already rolled back.
type transaction struct {
	on    session
	d     *dialect
	claim func() error                 // before a claim of a blob; nil where that needs nothing
	hurt  func(digest string, is bool) // tells the intake what is damaged; nil where there is none
	wrote bool                         // something may have been changed
	err   error                        // of the driver, as it came
}

// beginClaim comes before the first question of a method that claims a blob for deletion.
func (tx *Tx) beginClaim() error {
	t, ok := tx.s.(*transaction)
	if !ok || t.claim == nil || t.err != nil {
		return nil
	}
	t.err = t.claim()
	return t.d.fail(t.err)
}

func (t *transaction) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err = t.err; err == nil {
		n, err = t.on.exec(ctx, query, args...)
		t.wrote = t.wrote || n > 0 || err != nil
	}
	t.err = err
	return n, t.d.fail(err)
}

func (t *transaction) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	err := t.err
	if err == nil {
		t.wrote = t.wrote || !strings.HasPrefix(query, "SELECT")
		err = t.on.query(ctx, each, query, args...)
	}
	t.err = err
	return t.d.fail(err)
}

// one reads a single row; without one it is ErrNotFound.
func one[T any](ctx context.Context, s session, scan func(*sql.Rows, *T) error, query string, args ...any) (T, error) {
	var v T
	found := false
	err := s.query(ctx, func(rows *sql.Rows) error {
		found = true
		return scan(rows, &v)
	}, query, args...)
	if err == nil && !found {
		err = ErrNotFound
	}
	return v, err
}

// many reads all rows. No row is a nil slice.
func many[T any](ctx context.Context, s session, scan func(*sql.Rows, *T) error, query string, args ...any) ([]T, error) {
	var all []T
	err := s.query(ctx, func(rows *sql.Rows) error {
		var v T
		if err := scan(rows, &v); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	}, query, args...)
	return all, err
}

// column scans a row of one column.
func column[T any](rows *sql.Rows, v *T) error { return rows.Scan(v) }

// collect hands the rows of an open result to each, and closes it.
func collect(rows *sql.Rows, each func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// digest scans a digest column; an empty text is no digest.
type digest struct{ d *oci.Digest }

// Scan implements sql.Scanner.
func (s digest) Scan(v any) error {
	text, err := scanText(v)
	if err != nil || text == "" {
		*s.d = oci.Digest{}
		return err
	}
	*s.d, err = oci.ParseDigest(text)
	return err
}

// micros scans a time column; 0 is the zero time.
type micros struct{ t *time.Time }

// Scan implements sql.Scanner.
func (s micros) Scan(v any) error {
	n, err := scanInt(v)
	if err != nil || n == 0 {
		*s.t = time.Time{}
		return err
	}
	*s.t = time.UnixMicro(n).UTC()
	return nil
}

// toMicros is the column value of a time.
func toMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
