package metadb

import (
	"context"
	"database/sql"
	"time"
)

// Role is a set of verbs that an administrator named. Those that berth knows by itself have no row.
type Role struct {
	ID          int64
	Name        string // does not change: grants name roles
	Description string
	Verbs       []string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Generation  int64
}

const roleColumns = `id, name, description, verbs, created_at, updated_at, generation`

func scanRole(rows *sql.Rows, r *Role) error {
	return rows.Scan(&r.ID, &r.Name, &r.Description, jsonText{&r.Verbs}, micros{&r.CreatedAt}, micros{&r.UpdatedAt}, &r.Generation)
}

// Role finds a role by name, or ErrNotFound.
func (r *Reads) Role(ctx context.Context, name string) (Role, error) {
	return one(ctx, r.s, scanRole, `SELECT `+roleColumns+` FROM role WHERE name = $1`, name)
}

// Roles are roles behind the name after, in the order of their names.
func (r *Reads) Roles(ctx context.Context, after string, limit int) ([]Role, error) {
	return many(ctx, r.s, scanRole, `SELECT `+roleColumns+` FROM role WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// CreateRole makes a role and returns it; a name that is in use is a Conflict.
func (tx *Tx) CreateRole(r Role) (Role, error) {
	tx.changed(RoleChanged, 0, r.Name)
	return one(tx.ctx, tx.s, scanRole, `INSERT INTO role (name, description, verbs, created_at, updated_at, generation) VALUES ($1, $2, $3, $4, $4, $4) RETURNING `+roleColumns,
		r.Name, r.Description, toJSON(nonNil(r.Verbs)), toMicros(tx.now))
}

// UpdateRole changes description and verbs of the role of that name; generation and errors are as of UpdateAccount.
func (tx *Tx) UpdateRole(r Role, generation int64) (Role, error) {
	tx.changed(RoleChanged, 0, r.Name)
	got, err := one(tx.ctx, tx.s, scanRole, `UPDATE role SET description = $3, verbs = $4, updated_at = $5, generation = generation + 1
		WHERE name = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+roleColumns, r.Name, generation, r.Description, toJSON(nonNil(r.Verbs)), toMicros(tx.now))
	return got, tx.whyNot(err, func() error { _, err := tx.Role(tx.ctx, r.Name); return err })
}

// DeleteRole removes a role with the grants of it; existed says whether there was one.
func (tx *Tx) DeleteRole(name string) (existed bool, err error) {
	tx.changed(RoleChanged, 0, name)
	n, err := tx.exec(`DELETE FROM role WHERE name = $1`, name)
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.deleteGrants(`DELETE FROM access_grant WHERE role = $1 RETURNING `+grantColumns, name)
}

// nonNil is the list, and an empty one for none: its JSON is [] and not null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
