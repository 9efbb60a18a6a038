package metadb

import (
	"context"
	"database/sql"
	"time"
)

// IdentityProvider is a source of identities, or an issuer of tokens that are exchanged.
type IdentityProvider struct {
	ID         int64
	Name       string
	Kind       string // such as ldap, oidc, mtls, spiffe, issuer
	Enabled    bool
	Config     string // JSON of its owner, who seals what is secret in it
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Generation int64
}

const providerColumns = `id, name, kind, enabled, config, created_at, updated_at, generation`

func scanProvider(rows *sql.Rows, p *IdentityProvider) error {
	return rows.Scan(&p.ID, &p.Name, &p.Kind, &p.Enabled, &p.Config, micros{&p.CreatedAt}, micros{&p.UpdatedAt}, &p.Generation)
}

// IdentityProvider finds a provider by name, or ErrNotFound.
func (r *Reads) IdentityProvider(ctx context.Context, name string) (IdentityProvider, error) {
	return one(ctx, r.s, scanProvider, `SELECT `+providerColumns+` FROM identity_provider WHERE name = $1`, name)
}

// IdentityProviders are providers of a kind, or all with "", behind the name after, in the order of their names.
func (r *Reads) IdentityProviders(ctx context.Context, kind, after string, limit int) ([]IdentityProvider, error) {
	var w where
	w.and(`name > ?`, after)
	if kind != "" {
		w.and(`kind = ?`, kind)
	}
	query, args := w.page(`SELECT `+providerColumns+` FROM identity_provider`, `name`, limit)
	return many(ctx, r.s, scanProvider, query, args...)
}

// CreateIdentityProvider makes a provider and returns it; a name that is in use is a Conflict.
func (tx *Tx) CreateIdentityProvider(p IdentityProvider) (IdentityProvider, error) {
	tx.changed(ProviderChanged, 0, p.Name)
	return one(tx.ctx, tx.s, scanProvider, `INSERT INTO identity_provider (name, kind, enabled, config, created_at, updated_at, generation) VALUES ($1, $2, $3, $4, $5, $5, $5)
		RETURNING `+providerColumns, p.Name, p.Kind, p.Enabled, p.Config, toMicros(tx.now))
}

// UpdateIdentityProvider changes Enabled and Config of the provider of that name; generation and errors are as of
// UpdateAccount.
func (tx *Tx) UpdateIdentityProvider(p IdentityProvider, generation int64) (IdentityProvider, error) {
	tx.changed(ProviderChanged, 0, p.Name)
	got, err := one(tx.ctx, tx.s, scanProvider, `UPDATE identity_provider SET enabled = $3, config = $4, updated_at = $5, generation = generation + 1
		WHERE name = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+providerColumns, p.Name, generation, p.Enabled, p.Config, toMicros(tx.now))
	return got, tx.whyNot(err, func() error { _, err := tx.IdentityProvider(tx.ctx, p.Name); return err })
}

// DeleteIdentityProvider removes a provider, with its links, and the memberships that it said; existed says whether there was
// one.
func (tx *Tx) DeleteIdentityProvider(name string) (existed bool, err error) {
	tx.changed(ProviderChanged, 0, name)
	n, err := tx.exec(`DELETE FROM identity_provider WHERE name = $1`, name)
	if err != nil {
		return false, err
	}
	if err := tx.ForgetProvider(name); err != nil {
		return false, err
	}
	return n == 1, nil
}

// ForgetProvider removes the links of a provider, the memberships that it said, and the sessions that it opened.
func (tx *Tx) ForgetProvider(name string) error {
	if name == "" { // what is local
		return nil
	}
	if err := tx.membersChanged(`SELECT a.name FROM account a WHERE a.id IN (SELECT account_id FROM account_link WHERE provider = $1)
		OR a.id IN (SELECT account_id FROM group_member WHERE source = $1 AND source <> '')`, name); err != nil {
		return err
	}
	for _, query := range []string{`DELETE FROM account_link WHERE provider = $1`, `DELETE FROM group_member WHERE source = $1 AND source <> ''`} {
		if _, err := tx.exec(query, name); err != nil {
			return err
		}
	}
	type row struct {
		id   int64
		hash string
	}
	gone, err := many(tx.ctx, tx.s, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.id, &r.hash) },
		`DELETE FROM login_session WHERE provider = $1 AND provider <> '' RETURNING id, hash`, name)
	for _, r := range gone {
		tx.changed(SessionChanged, r.id, r.hash)
	}
	return err
}
