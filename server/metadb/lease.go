package metadb

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Lease is the right to do something that only one replica may do at a time, until a time by the database's clock.
type Lease struct {
	Name   string
	Holder string
	Token  int64 // grows whenever it goes to somebody
	Until  time.Time
}

func scanLease(rows *sql.Rows, l *Lease) error {
	return rows.Scan(&l.Name, &l.Holder, &l.Token, micros{&l.Until})
}

// Lease finds the lease, also one that has run out, or ErrNotFound.
func (r *Reads) Lease(ctx context.Context, name string) (Lease, error) {
	return one(ctx, r.s, scanLease, `SELECT name, holder, token, held_until FROM lease WHERE name = $1`, name)
}

// TakeLease takes a lease that nobody holds; held is false when somebody does, also when that is the same holder.
func (tx *Tx) TakeLease(name, holder string, hold time.Duration) (l Lease, held bool, err error) {
	now := tx.clock()
	l, err = one(tx.ctx, tx.s, scanLease, `INSERT INTO lease (name, holder, token, held_until) VALUES ($1, $2, 1, $3)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = lease.token + 1, held_until = excluded.held_until
		WHERE lease.held_until <= $4 RETURNING name, holder, token, held_until`, name, holder, toMicros(now.Add(hold)), toMicros(now))
	if errors.Is(err, ErrNotFound) {
		return Lease{}, false, nil
	}
	return l, err == nil, err
}

// RenewLease extends a lease from now; ErrLost when it went to somebody else.
func (tx *Tx) RenewLease(l Lease, hold time.Duration) error {
	n, err := tx.exec(`UPDATE lease SET held_until = $3 WHERE name = $1 AND token = $2`, l.Name, l.Token, toMicros(tx.clock().Add(hold)))
	if err == nil && n == 0 {
		err = ErrLost
	}
	return err
}

// HoldLease makes sure that nobody else gets the lease until the transaction ends; ErrLost when somebody has.
func (tx *Tx) HoldLease(l Lease) error {
	_, err := one(tx.ctx, tx.s, scanLease, `SELECT name, holder, token, held_until FROM lease WHERE name = $1 AND token = $2`+tx.d.forUpdate, l.Name, l.Token)
	if errors.Is(err, ErrNotFound) {
		err = ErrLost
	}
	return err
}

// EndLease gives a lease back before its time; one that is lost is left alone.
func (tx *Tx) EndLease(l Lease) error {
	_, err := tx.exec(`UPDATE lease SET held_until = 0 WHERE name = $1 AND token = $2`, l.Name, l.Token)
	return err
}
