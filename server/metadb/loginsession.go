package metadb

import (
	"context"
	"database/sql"
	"time"
)

// LoginSession is a session of a browser.
type LoginSession struct {
	ID        int64
	Hash      string // of the cookie's secret, as its owner writes it; unique
	AccountID int64
	Via       string // how the person logged in
	Provider  string // at which identity provider; "" for a local login
	Subject   string // what the provider calls the person
	SID       string // and the session
	CSRF      string
	Addr      string
	UserAgent string
	CreatedAt time.Time
	SeenAt    time.Time // last use; see SetSessionSeen
	ExpiresAt time.Time // at the latest
}

const sessionColumns = `id, hash, account_id, via, provider, subject, sid, csrf, addr, user_agent, created_at, seen_at, expires_at`

func scanLoginSession(rows *sql.Rows, s *LoginSession) error {
	return rows.Scan(&s.ID, &s.Hash, &s.AccountID, &s.Via, &s.Provider, &s.Subject, &s.SID, &s.CSRF, &s.Addr, &s.UserAgent,
		micros{&s.CreatedAt}, micros{&s.SeenAt}, micros{&s.ExpiresAt})
}

// LoginSession finds a session by number, or ErrNotFound.
func (r *Reads) LoginSession(ctx context.Context, id int64) (LoginSession, error) {
	return one(ctx, r.s, scanLoginSession, `SELECT `+sessionColumns+` FROM login_session WHERE id = $1`, id)
}

// LoginSessionByHash finds a session, or ErrNotFound.
func (r *Reads) LoginSessionByHash(ctx context.Context, hash string) (LoginSession, error) {
	return one(ctx, r.s, scanLoginSession, `SELECT `+sessionColumns+` FROM login_session WHERE hash = $1`, hash)
}

// LoginSessions are sessions of an account, or of all with account 0, behind the number after, in the order of their numbers.
func (r *Reads) LoginSessions(ctx context.Context, account, after int64, limit int) ([]LoginSession, error) {
	var w where
	w.and(`id > ?`, after)
	if account != 0 {
		w.and(`account_id = ?`, account)
	}
	query, args := w.page(`SELECT `+sessionColumns+` FROM login_session`, `id`, limit)
	return many(ctx, r.s, scanLoginSession, query, args...)
}

// CreateLoginSession opens a session and returns it.
func (tx *Tx) CreateLoginSession(s LoginSession) (LoginSession, error) {
	return one(tx.ctx, tx.s, scanLoginSession, `INSERT INTO login_session (hash, account_id, via, provider, subject, sid, csrf, addr, user_agent, created_at, seen_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11) RETURNING `+sessionColumns,
		s.Hash, s.AccountID, s.Via, s.Provider, s.Subject, s.SID, s.CSRF, s.Addr, s.UserAgent, toMicros(tx.now), toMicros(s.ExpiresAt))
}

// SetSessionSeen records the last use of a session.
func (tx *Tx) SetSessionSeen(id int64, at time.Time, addr string) error {
	_, err := tx.exec(`UPDATE login_session SET seen_at = $2, addr = $3 WHERE id = $1 AND seen_at < $2`, id, toMicros(at), addr)
	return err
}

// SessionFilter says which sessions to end; the zero filter ends none.
type SessionFilter struct {
	ID      int64 // that one
	Account int64 // those of this account
	Except  int64 // but not that one
	// Those that a provider opened: of a subject, or of one SID, or of a subject under that SID.
	Provider, Subject, SID string
	Seen                   time.Time // that were used last before
	Expires                time.Time // that ended before
}

// DeleteSessions ends the sessions that the filter says, and returns how many there were.
func (tx *Tx) DeleteSessions(f SessionFilter) (int, error) {
	var w where
	if f.ID != 0 {
		w.and(`id = ?`, f.ID)
	}
	if f.Account != 0 {
		w.and(`account_id = ?`, f.Account)
	}
	if f.Provider != "" && (f.Subject != "" || f.SID != "") {
		w.and(`provider = ? AND provider <> ''`, f.Provider)
		if f.Subject != "" {
			w.and(`subject = ?`, f.Subject)
		}
		if f.SID != "" {
			w.and(`sid = ?`, f.SID)
		}
	}
	if !f.Seen.IsZero() {
		w.and(`seen_at < ?`, toMicros(f.Seen))
	}
	if !f.Expires.IsZero() {
		w.and(`expires_at < ?`, toMicros(f.Expires))
	}
	if w.text.Len() == 0 {
		return 0, nil
	}
	if f.Except != 0 {
		w.and(`id <> ?`, f.Except)
	}
	type row struct {
		id   int64
		hash string
	}
	gone, err := many(tx.ctx, tx.s, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.id, &r.hash) },
		`DELETE FROM login_session WHERE `+w.text.String()+` RETURNING id, hash`, w.args...)
	for _, r := range gone {
		tx.changed(SessionChanged, r.id, r.hash)
	}
	return len(gone), err
}
