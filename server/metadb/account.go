package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
)

// Account is a person's account.
type Account struct {
	ID           int64
	Name         string
	PasswordHash string // in PHC form; this room does not look into it; "" for no password
	Admin        bool
	Auditor      bool // may read everything but content of private projects
	Disabled     bool
	DisplayName  string
	Email        string
	Source       string    // "" for a local account, else the identity provider it was made for
	MustChange   bool      // the password is to be changed before anything else
	ExpiresAt    time.Time // zero for never
	LastLoginAt  time.Time // zero for never; see SetLastLogin
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Generation   int64 // grows with every change: tokens issued under an older one can be refused
}

const accountColumns = `id, name, password_hash, admin, auditor, disabled, display_name, email, source, must_change, expires_at,
	last_login_at, created_at, updated_at, generation`

func scanAccount(rows *sql.Rows, a *Account) error {
	return rows.Scan(&a.ID, &a.Name, &a.PasswordHash, &a.Admin, &a.Auditor, &a.Disabled, &a.DisplayName, &a.Email, &a.Source, &a.MustChange,
		micros{&a.ExpiresAt}, micros{&a.LastLoginAt}, micros{&a.CreatedAt}, micros{&a.UpdatedAt}, &a.Generation)
}

// Account finds an account by name, or ErrNotFound.
func (r *Reads) Account(ctx context.Context, name string) (Account, error) {
	return one(ctx, r.s, scanAccount, `SELECT `+accountColumns+` FROM account WHERE name = $1`, name)
}

// AccountByID finds an account by number, or ErrNotFound.
func (r *Reads) AccountByID(ctx context.Context, id int64) (Account, error) {
	return one(ctx, r.s, scanAccount, `SELECT `+accountColumns+` FROM account WHERE id = $1`, id)
}

// Accounts are accounts behind the name after, in the order of their names.
func (r *Reads) Accounts(ctx context.Context, after string, limit int) ([]Account, error) {
	return r.FindAccounts(ctx, AccountFilter{}, after, limit)
}

// AccountFilter chooses accounts. The zero filter chooses all.
type AccountFilter struct {
	Contains string // in the name, in any case
	Admin    *bool
	Disabled *bool
	Source   *string
	Group    int64 // members of this group; 0 for no matter
	Order    Order // by name or created
}

// FindAccounts are accounts that the filter chooses, behind the key after, in the filter's order.
func (r *Reads) FindAccounts(ctx context.Context, f AccountFilter, after string, limit int) ([]Account, error) {
	var w where
	order, err := w.behind(f.Order, after, ordered{name: `name`, id: `id`})
	if err != nil {
		return nil, err
	}
	w.contains(`LOWER(name)`, f.Contains)
	if f.Admin != nil {
		w.and(`admin = ?`, *f.Admin)
	}
	if f.Disabled != nil {
		w.and(`disabled = ?`, *f.Disabled)
	}
	if f.Source != nil {
		w.and(`source = ?`, *f.Source)
	}
	if f.Group != 0 {
		w.and(`id IN (SELECT account_id FROM group_member WHERE group_id = ?)`, f.Group)
	}
	query, args := w.page(`SELECT `+accountColumns+` FROM account`, order, limit)
	return many(ctx, r.s, scanAccount, query, args...)
}

// CountAccounts is how many accounts there are.
func (r *Reads) CountAccounts(ctx context.Context) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT COUNT(*) FROM account`)
}

// takeName keeps anybody else from giving a name to an account or robot until the transaction ends, and is a Conflict when
// it is taken: names of accounts and robots are one space, because a client that logs in says nothing but a name.
func (tx *Tx) takeName(name string, taken ...func() error) error {
	if tx.d.lockText != "" {
		if _, err := tx.exec(tx.d.lockText, "principal "+name); err != nil {
			return err
		}
	}
	for _, find := range taken {
		switch err := find(); {
		case err == nil:
			return fault.New(fault.Conflict, fault.Unknown, "name %q is already in use by an account or robot; choose another", name)
		case !errors.Is(err, ErrNotFound):
			return err
		}
	}
	return nil
}

// SameNameInAnyCase is the name of an account or robot that is the name but for its case, "" for none. The lock of the name in
// lower case is taken, so that two that differ in it are not made at once.
func (tx *Tx) SameNameInAnyCase(ctx context.Context, name string) (string, error) {
	lower := strings.ToLower(name)
	if tx.d.lockText != "" {
		if _, err := tx.exec(tx.d.lockText, "principal in any case "+lower); err != nil {
			return "", err
		}
	}
	// SQLite knows the case of ASCII alone, so other letters are compared here.
	ascii := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return r
		}
		return '%'
	}, escapeLike(lower))
	found, err := many(ctx, tx.s, column[string], `SELECT name FROM account WHERE LOWER(name) LIKE $1 ESCAPE '\'
		UNION ALL SELECT name FROM robot WHERE LOWER(name) LIKE $1 ESCAPE '\'`, ascii)
	for _, other := range found {
		if strings.EqualFold(other, name) {
			return other, err
		}
	}
	return "", err
}

func (tx *Tx) accountTaken(name string) func() error {
	return func() error { _, err := tx.Account(tx.ctx, name); return err }
}

func (tx *Tx) robotTaken(name string) func() error {
	return func() error { _, err := tx.RobotByName(tx.ctx, name); return err }
}

// CreateAccount makes the account and returns it. ID, times of creation and change, and Generation of a are not used. A name
// that an account or robot has is a Conflict.
func (tx *Tx) CreateAccount(a Account) (Account, error) {
	if err := tx.takeName(a.Name, tx.accountTaken(a.Name), tx.robotTaken(a.Name)); err != nil {
		return Account{}, err
	}
	return tx.PutAccount(a)
}

// PutAccount makes the account or changes the one of that name, and returns it. ID, times of creation and change, and
// Generation of a are not used. The name of a robot is a Conflict.
func (tx *Tx) PutAccount(a Account) (Account, error) {
	if err := tx.takeName(a.Name, tx.robotTaken(a.Name)); err != nil {
		return Account{}, err
	}
	tx.changed(AccountChanged, 0, a.Name)
	return one(tx.ctx, tx.s, scanAccount, `INSERT INTO account (name, password_hash, admin, auditor, disabled, display_name, email, source, must_change,
			expires_at, last_login_at, created_at, updated_at, generation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12) ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash,
		admin = excluded.admin, auditor = excluded.auditor, disabled = excluded.disabled, display_name = excluded.display_name, email = excluded.email,
		source = excluded.source, must_change = excluded.must_change, expires_at = excluded.expires_at, updated_at = excluded.updated_at,
		generation = account.generation + 1 RETURNING `+accountColumns,
		a.Name, a.PasswordHash, a.Admin, a.Auditor, a.Disabled, a.DisplayName, a.Email, a.Source, a.MustChange, toMicros(a.ExpiresAt),
		toMicros(a.LastLoginAt), toMicros(tx.now))
}

// UpdateAccount changes the account with a's ID from that generation on, and returns it; a negative generation is any. Its
// name, times of creation and change, and last login stay. ErrNotFound when it is gone, ErrChanged when its generation is another.
func (tx *Tx) UpdateAccount(a Account, generation int64) (Account, error) {
	got, err := one(tx.ctx, tx.s, scanAccount, `UPDATE account SET password_hash = $3, admin = $4, auditor = $5, disabled = $6, display_name = $7,
		email = $8, source = $9, must_change = $10, expires_at = $11, updated_at = $12, generation = generation + 1
		WHERE id = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+accountColumns,
		a.ID, generation, a.PasswordHash, a.Admin, a.Auditor, a.Disabled, a.DisplayName, a.Email, a.Source, a.MustChange, toMicros(a.ExpiresAt), toMicros(tx.now))
	if err == nil {
		tx.changed(AccountChanged, 0, got.Name)
	}
	return got, tx.whyNot(err, func() error { _, err := tx.AccountByID(tx.ctx, a.ID); return err })
}

// whyNot tells a row that has changed from one that is gone, when an update found none.
func (tx *Tx) whyNot(err error, find func() error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := find(); err != nil {
		return err
	}
	return ErrChanged
}

// SetLastLogin records when an account last logged in. It is not a change of the account: its generation stays.
func (tx *Tx) SetLastLogin(accountID int64, at time.Time) error {
	_, err := tx.exec(`UPDATE account SET last_login_at = $2 WHERE id = $1 AND last_login_at < $2`, accountID, toMicros(at))
	return err
}

// DeleteAccount removes an account with its grants, memberships, links, tokens and sessions; existed says whether there was one.
func (tx *Tx) DeleteAccount(name string) (existed bool, err error) {
	tx.changed(AccountChanged, 0, name)
	id, err := one(tx.ctx, tx.s, column[int64], `DELETE FROM account WHERE name = $1 RETURNING id`, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := tx.DeleteSessions(SessionFilter{Account: id}); err != nil {
		return true, err
	}
	if err := tx.deleteTokensOf(id); err != nil {
		return true, err
	}
	if err := tx.deleteGrantsOf(Subject{AccountSubject, id}); err != nil {
		return true, err
	}
	for _, query := range []string{
		`DELETE FROM group_member WHERE account_id = $1`,
		`DELETE FROM account_link WHERE account_id = $1`,
	} {
		if _, err := tx.exec(query, id); err != nil {
			return true, err
		}
	}
	return true, nil
}
