package metadb

import (
	"context"
	"database/sql"
	"time"
)

// SigningKey signs tokens.
type SigningKey struct {
	ID        string
	Algorithm string
	Private   []byte // encoded by its owner; this room does not look into it
	CreatedAt time.Time
	RetiredAt time.Time // zero while it may sign
}

// SigningKeys are all keys, newest first.
func (r *Reads) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	return many(ctx, r.s, func(rows *sql.Rows, k *SigningKey) error {
		return rows.Scan(&k.ID, &k.Algorithm, &k.Private, micros{&k.CreatedAt}, micros{&k.RetiredAt})
	}, `SELECT id, algorithm, private, created_at, retired_at FROM signing_key ORDER BY created_at DESC, id`)
}

// AddSigningKey adds a key, created now. An id that is in use is a Conflict.
func (tx *Tx) AddSigningKey(k SigningKey) error {
	tx.changed(KeysChanged, 0, "")
	_, err := tx.exec(`INSERT INTO signing_key (id, algorithm, private, created_at) VALUES ($1, $2, $3, $4)`, k.ID, k.Algorithm, k.Private, toMicros(tx.now))
	return err
}

// RetireSigningKey ends a key's use for signing.
func (tx *Tx) RetireSigningKey(id string) error {
	tx.changed(KeysChanged, 0, "")
	_, err := tx.exec(`UPDATE signing_key SET retired_at = $2 WHERE id = $1 AND retired_at = 0`, id, toMicros(tx.now))
	return err
}

// DeleteSigningKey removes a key.
func (tx *Tx) DeleteSigningKey(id string) error {
	tx.changed(KeysChanged, 0, "")
	_, err := tx.exec(`DELETE FROM signing_key WHERE id = $1`, id)
	return err
}
