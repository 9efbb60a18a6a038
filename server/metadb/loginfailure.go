package metadb

import (
	"context"
	"database/sql"
	"time"
)

// LoginFailure is how often logins to an account failed since one succeeded.
type LoginFailure struct {
	Subject   string // name of the account
	Failures  int64
	LastAt    time.Time
	HeldUntil time.Time // no login before; zero for no such time
}

func scanLoginFailure(rows *sql.Rows, f *LoginFailure) error {
	return rows.Scan(&f.Subject, &f.Failures, micros{&f.LastAt}, micros{&f.HeldUntil})
}

// LoginFailure finds the failures of a name, or ErrNotFound.
func (r *Reads) LoginFailure(ctx context.Context, subject string) (LoginFailure, error) {
	return one(ctx, r.s, scanLoginFailure, `SELECT subject, failures, last_at, held_until FROM login_failure WHERE subject = $1`, subject)
}

// AddLoginFailure counts one more failure, and returns the count. When the last one is older than forget it begins anew.
func (tx *Tx) AddLoginFailure(subject string, forget time.Duration) (LoginFailure, error) {
	return one(tx.ctx, tx.s, scanLoginFailure, `INSERT INTO login_failure (subject, failures, last_at) VALUES ($1, 1, $2)
		ON CONFLICT (subject) DO UPDATE SET failures = CASE WHEN login_failure.last_at < $3 THEN 1 ELSE login_failure.failures + 1 END, last_at = excluded.last_at
		RETURNING subject, failures, last_at, held_until`, subject, toMicros(tx.now), toMicros(tx.now.Add(-forget)))
}

// HoldLogins lets nobody log in to an account whose logins failed before that time.
func (tx *Tx) HoldLogins(subject string, until time.Time) error {
	_, err := tx.exec(`UPDATE login_failure SET held_until = $2 WHERE subject = $1`, subject, toMicros(until))
	return err
}

// ForgetLoginFailures forgets the failures of a name; existed says whether there were some.
func (tx *Tx) ForgetLoginFailures(subject string) (existed bool, err error) {
	n, err := tx.exec(`DELETE FROM login_failure WHERE subject = $1`, subject)
	if n == 1 {
		tx.changed(AccountChanged, 0, subject)
	}
	return n == 1, err
}

// TrimLoginFailures removes up to limit names whose last failure was before a time, and returns how many.
func (tx *Tx) TrimLoginFailures(before time.Time, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM login_failure WHERE subject IN (SELECT subject FROM login_failure WHERE last_at < $1 ORDER BY last_at LIMIT $2)`, toMicros(before), limit)
	return int(n), err
}
