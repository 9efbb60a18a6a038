package metadb

import (
	"context"
	"database/sql"
	"time"
)

// Link says which account an identity at a provider is.
type Link struct {
	Provider    string
	Subject     string // the provider's own, unchanging name of the identity
	AccountID   int64
	Login       string // how the provider shows it, for people
	Email       string
	CreatedAt   time.Time
	LastLoginAt time.Time
}

const linkColumns = `provider, subject, account_id, login, email, created_at, last_login_at`

func scanLink(rows *sql.Rows, l *Link) error {
	return rows.Scan(&l.Provider, &l.Subject, &l.AccountID, &l.Login, &l.Email, micros{&l.CreatedAt}, micros{&l.LastLoginAt})
}

// Link finds the link of an identity, or ErrNotFound.
func (r *Reads) Link(ctx context.Context, provider, subject string) (Link, error) {
	return one(ctx, r.s, scanLink, `SELECT `+linkColumns+` FROM account_link WHERE provider = $1 AND subject = $2`, provider, subject)
}

// LinksOf are the links of an account, by provider and subject.
func (r *Reads) LinksOf(ctx context.Context, accountID int64) ([]Link, error) {
	return many(ctx, r.s, scanLink, `SELECT `+linkColumns+` FROM account_link WHERE account_id = $1 ORDER BY provider, subject`, accountID)
}

// CreateLink links an identity; one that is linked already is a Conflict.
func (tx *Tx) CreateLink(l Link) error {
	_, err := tx.exec(`INSERT INTO account_link (provider, subject, account_id, login, email, created_at, last_login_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		l.Provider, l.Subject, l.AccountID, l.Login, l.Email, toMicros(tx.now), toMicros(l.LastLoginAt))
	return err
}

// UpdateLink records what the provider said last, and when; ErrNotFound when there is no such link.
func (tx *Tx) UpdateLink(l Link) error {
	n, err := tx.exec(`UPDATE account_link SET login = $3, email = $4, last_login_at = $5 WHERE provider = $1 AND subject = $2`,
		l.Provider, l.Subject, l.Login, l.Email, toMicros(l.LastLoginAt))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// DeleteLink unlinks an identity; the account must be the one it is linked to. existed says whether it was.
func (tx *Tx) DeleteLink(provider, subject string, accountID int64) (existed bool, err error) {
	if err := tx.membersChanged(`SELECT name FROM account WHERE id = $1`, accountID); err != nil {
		return false, err
	}
	n, err := tx.exec(`DELETE FROM account_link WHERE provider = $1 AND subject = $2 AND account_id = $3`, provider, subject, accountID)
	return n == 1, err
}
