package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Idempotency is the answer to a request that named a key.
type Idempotency struct {
	Key         string
	Principal   string // who asked: keys of others are others
	Route       string
	RequestHash string // of what was asked
	Status      int    // of the answer; 0 while it is being done
	Header      string // JSON of its owner
	Body        []byte
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

const idempotencyColumns = `key, principal, route, request_hash, status, header, body, created_at, expires_at`

func scanIdempotency(rows *sql.Rows, i *Idempotency) error {
	return rows.Scan(&i.Key, &i.Principal, &i.Route, &i.RequestHash, &i.Status, &i.Header, &i.Body, micros{&i.CreatedAt}, micros{&i.ExpiresAt})
}

// Idempotency finds the answer to a key of a principal, or ErrNotFound; also one that has expired and is not trimmed yet.
func (r *Reads) Idempotency(ctx context.Context, principal, key string) (Idempotency, error) {
	return one(ctx, r.s, scanIdempotency, `SELECT `+idempotencyColumns+` FROM idempotency WHERE principal = $1 AND key = $2`, principal, key)
}

// BeginIdempotency takes a key for a request that is about to be done. began is false when it is taken and has not expired:
// then i is what it was taken for.
func (tx *Tx) BeginIdempotency(i Idempotency) (got Idempotency, began bool, err error) {
	got, err = one(tx.ctx, tx.s, scanIdempotency, `INSERT INTO idempotency (key, principal, route, request_hash, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (principal, key) DO UPDATE SET route = excluded.route, request_hash = excluded.request_hash, status = 0,
		header = '', body = NULL, created_at = excluded.created_at, expires_at = excluded.expires_at WHERE idempotency.expires_at < excluded.created_at
		RETURNING `+idempotencyColumns, i.Key, i.Principal, i.Route, i.RequestHash, toMicros(tx.now), toMicros(i.ExpiresAt))
	if errors.Is(err, ErrNotFound) {
		got, err = tx.Idempotency(tx.ctx, i.Principal, i.Key)
		return got, false, err
	}
	return got, err == nil, err
}

// EndIdempotency keeps the answer of a request that began, until it expires.
func (tx *Tx) EndIdempotency(i Idempotency) error {
	n, err := tx.exec(`UPDATE idempotency SET status = $3, header = $4, body = $5, expires_at = $6 WHERE principal = $1 AND key = $2`,
		i.Principal, i.Key, i.Status, i.Header, i.Body, toMicros(i.ExpiresAt))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// DeleteIdempotency gives a key back: nothing was done.
func (tx *Tx) DeleteIdempotency(principal, key string) error {
	_, err := tx.exec(`DELETE FROM idempotency WHERE principal = $1 AND key = $2`, principal, key)
	return err
}

// TrimIdempotency removes up to limit answers that expired before a time, and returns how many.
func (tx *Tx) TrimIdempotency(before time.Time, limit int) (int, error) {
	type row struct{ principal, key string }
	old, err := many(tx.ctx, tx.s, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.principal, &r.key) },
		`SELECT principal, key FROM idempotency WHERE expires_at < $1 ORDER BY expires_at LIMIT $2`, toMicros(before), limit)
	for _, r := range old {
		if err == nil {
			err = tx.DeleteIdempotency(r.principal, r.key)
		}
	}
	return len(old), err
}
