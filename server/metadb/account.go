package metadb

import (
	"context"
	"database/sql"
	"time"
)

// Account is a local account.
type Account struct {
	ID           int64
	Name         string
	PasswordHash string // in PHC form; this room does not look into it
	Admin        bool
	Disabled     bool
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Generation   int64 // grows with every change: tokens issued under an older one can be refused
}

const accountColumns = `id, name, password_hash, admin, disabled, created_at, updated_at, generation`

func scanAccount(rows *sql.Rows, a *Account) error {
	return rows.Scan(&a.ID, &a.Name, &a.PasswordHash, &a.Admin, &a.Disabled, micros{&a.CreatedAt}, micros{&a.UpdatedAt}, &a.Generation)
}

// Account finds an account by name, or ErrNotFound.
func (r *Reads) Account(ctx context.Context, name string) (Account, error) {
	return one(ctx, r.s, scanAccount, `SELECT `+accountColumns+` FROM account WHERE name = $1`, name)
}

// Accounts are accounts behind the name after, in the order of their names.
func (r *Reads) Accounts(ctx context.Context, after string, limit int) ([]Account, error) {
	return many(ctx, r.s, scanAccount, `SELECT `+accountColumns+` FROM account WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// CountAccounts is how many accounts there are.
func (r *Reads) CountAccounts(ctx context.Context) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT COUNT(*) FROM account`)
}

// PutAccount makes the account or changes the one of that name, and returns it. ID, times and Generation of a are not
// used.
func (tx *Tx) PutAccount(a Account) (Account, error) {
	tx.changed(AccountChanged, 0, a.Name)
	return one(tx.ctx, tx.s, scanAccount, `INSERT INTO account (name, password_hash, admin, disabled, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, admin = excluded.admin,
		disabled = excluded.disabled, updated_at = excluded.updated_at, generation = account.generation + 1 RETURNING `+accountColumns,
		a.Name, a.PasswordHash, a.Admin, a.Disabled, toMicros(tx.now))
}

// DeleteAccount removes an account; existed says whether there was one.
func (tx *Tx) DeleteAccount(name string) (existed bool, err error) {
	tx.changed(AccountChanged, 0, name)
	n, err := tx.exec(`DELETE FROM account WHERE name = $1`, name)
	return n == 1, err
}
