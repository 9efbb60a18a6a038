package metadb

import (
	"context"
	"database/sql"
	"time"
)

// AccessToken is a personal access token: a secret that an account made for a purpose.
type AccessToken struct {
	ID           int64
	AccountID    int64
	Name         string
	Hash         string // of the secret, as its owner writes it; unique
	Prefix       string // the secret's first characters, for people
	Grants       string // JSON of its owner: what the token is narrowed to; "" for no narrowing
	CreatedAt    time.Time
	ExpiresAt    time.Time // zero for never
	RevokedAt    time.Time // zero while it holds
	LastUsedAt   time.Time // zero for never; see SetTokenUsed
	LastUsedFrom string
}

const tokenColumns = `id, account_id, name, hash, prefix, grants, created_at, expires_at, revoked_at, last_used_at, last_used_from`

func scanAccessToken(rows *sql.Rows, t *AccessToken) error {
	return rows.Scan(&t.ID, &t.AccountID, &t.Name, &t.Hash, &t.Prefix, &t.Grants, micros{&t.CreatedAt}, micros{&t.ExpiresAt},
		micros{&t.RevokedAt}, micros{&t.LastUsedAt}, &t.LastUsedFrom)
}

// AccessToken finds a token by number, or ErrNotFound.
func (r *Reads) AccessToken(ctx context.Context, id int64) (AccessToken, error) {
	return one(ctx, r.s, scanAccessToken, `SELECT `+tokenColumns+` FROM access_token WHERE id = $1`, id)
}

// AccessTokenByHash finds a token, or ErrNotFound.
func (r *Reads) AccessTokenByHash(ctx context.Context, hash string) (AccessToken, error) {
	return one(ctx, r.s, scanAccessToken, `SELECT `+tokenColumns+` FROM access_token WHERE hash = $1`, hash)
}

// AccessTokens are tokens of an account, or of all with account 0, behind the number after, in the order of their numbers.
func (r *Reads) AccessTokens(ctx context.Context, account, after int64, limit int) ([]AccessToken, error) {
	var w where
	w.and(`id > ?`, after)
	if account != 0 {
		w.and(`account_id = ?`, account)
	}
	query, args := w.page(`SELECT `+tokenColumns+` FROM access_token`, `id`, limit)
	return many(ctx, r.s, scanAccessToken, query, args...)
}

// CreateAccessToken makes a token and returns it.
func (tx *Tx) CreateAccessToken(t AccessToken) (AccessToken, error) {
	return one(tx.ctx, tx.s, scanAccessToken, `INSERT INTO access_token (account_id, name, hash, prefix, grants, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING `+tokenColumns, t.AccountID, t.Name, t.Hash, t.Prefix, t.Grants, toMicros(tx.now), toMicros(t.ExpiresAt))
}

// RevokeAccessToken ends a token, or says ErrNotFound.
func (tx *Tx) RevokeAccessToken(id int64) error {
	tx.changed(TokenChanged, id, "")
	n, err := tx.exec(`UPDATE access_token SET revoked_at = CASE WHEN revoked_at = 0 THEN $2 ELSE revoked_at END WHERE id = $1`, id, toMicros(tx.now))
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// SetTokenUsed records when a token was used last, and from where.
func (tx *Tx) SetTokenUsed(id int64, at time.Time, from string) error {
	_, err := tx.exec(`UPDATE access_token SET last_used_at = $2, last_used_from = $3 WHERE id = $1 AND last_used_at < $2`, id, toMicros(at), from)
	return err
}

// DeleteAccessToken removes a token, or says ErrNotFound.
func (tx *Tx) DeleteAccessToken(id int64) error {
	tx.changed(TokenChanged, id, "")
	n, err := tx.exec(`DELETE FROM access_token WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

func (tx *Tx) deleteTokensOf(accountID int64) error {
	ids, err := many(tx.ctx, tx.s, column[int64], `DELETE FROM access_token WHERE account_id = $1 RETURNING id`, accountID)
	for _, id := range ids {
		tx.changed(TokenChanged, id, "")
	}
	return err
}

// TrimAccessTokens removes up to limit tokens that ended before a time, by their end or by being revoked, and returns how
// many.
func (tx *Tx) TrimAccessTokens(before time.Time, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM access_token WHERE id IN (SELECT id FROM access_token
		WHERE expires_at > 0 AND expires_at < $1 OR revoked_at > 0 AND revoked_at < $1 LIMIT $2)`, toMicros(before), limit)
	return int(n), err
}
