package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// refreshAccount is the age at which a remembered account is read again, although nobody said that it has changed. It stands
// in when the database does not answer, so an outage does not log everybody out: until MaxStale on SQLite, and on PostgreSQL
// for metadb.Options.Outage.
const refreshAccount = 30 * time.Second

// maxAccounts bounds the accounts that are remembered, some 200 bytes each.
const maxAccounts = 10_000

// local is the provider of the accounts that berth keeps itself.
type local struct {
	store    store
	now      func() time.Time
	accounts *otter.Cache[string, *remembered]
	trust    func() recall.Trust // nil without replicas
	forgets  atomic.Uint64       // how often forget was called: a read that began before must not be remembered after
}

// remembered is an account as it was at a time.
type remembered struct {
	acc        Account
	source     string // of the row
	at         time.Time
	refreshing atomic.Bool // one caller reads it again; the others do not wait
}

func newLocal(s store, now func() time.Time) (*local, error) {
	c, err := otter.New(&otter.Options[string, *remembered]{MaximumSize: maxAccounts})
	if err != nil {
		return nil, fmt.Errorf("auth: remembered accounts: %w", err)
	}
	return &local{store: s, now: now, accounts: c, trust: s.Trust()}, nil
}

// trusted says how far an account of this age may be used: as it is, or in place of an answer that does not come.
func (l *local) trusted(age time.Duration) (asItIs, instead bool) {
	asItIs, instead = age <= refreshAccount && age >= 0, age < MaxStale
	if l.trust != nil {
		t := l.trust()
		asItIs, instead = asItIs && t == recall.Current, t != recall.Expired
	}
	return asItIs, instead
}

// outage says that what is remembered stands in for a database that does not answer.
func (l *local) outage() bool { return l.trust != nil && l.trust() != recall.Expired }

func (l *local) Source() string { return "local" }

// Account is of accounts that no other source proves: those with a password here, and those that came from an identity
// provider.
func (l *local) Account(ctx context.Context, name string) (Account, error) {
	acc, source, err := l.row(ctx, name)
	if err == nil && source == fileSource {
		return Account{}, ErrNoAccount
	}
	return acc, err
}

// fileSource is the source of rows about accounts that an htpasswd file proves.
const fileSource = "htpasswd"

// join adds to an account of another source what the row of the same name says, if that row is about that source: groups, and
// rights that an administrator gave. A local account of the name lends it nothing.
func (l *local) join(ctx context.Context, source string, a Account) (Account, error) {
	row, of, err := l.row(ctx, a.Name)
	if errors.Is(err, ErrNoAccount) || err == nil && of != source {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	a.ID, a.Auditor, a.Groups, a.ExpiresAt = row.ID, row.Auditor, row.Groups, row.ExpiresAt
	a.Admin, a.Disabled = a.Admin || row.Admin, a.Disabled || row.Disabled
	a.Stamp += "/" + row.Stamp
	return a, nil
}

// row answers from memory for refreshAccount. Names without an account are not remembered: a new account works at once, and
// strangers cannot fill the memory.
func (l *local) row(ctx context.Context, name string) (acc Account, source string, err error) {
	r, ok := l.accounts.GetIfPresent(name)
	instead := false
	if ok {
		var asItIs bool
		if asItIs, instead = l.trusted(l.now().Sub(r.at)); asItIs {
			return r.acc, r.source, nil
		}
		if instead && l.mayWait() && !r.refreshing.CompareAndSwap(false, true) {
			return r.acc, r.source, nil
		}
	}
	kept, acc, err := l.read(ctx, name)
	if err == nil || errors.Is(err, ErrNoAccount) {
		return acc, kept.Source, err
	}
	if ok {
		r.refreshing.Store(false)
		if instead {
			return r.acc, r.source, nil
		}
	}
	return Account{}, "", err
}

// mayWait says that an account that is due to be read again may be used while another caller reads it.
func (l *local) mayWait() bool { return l.trust == nil || l.trust() == recall.Current }

// read asks the database and remembers the answer, with the time at which the question was asked.
func (l *local) read(ctx context.Context, name string) (metadb.Account, Account, error) {
	at, forgets := l.now(), l.forgets.Load()
	row, err := l.store.Account(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) {
		l.accounts.Invalidate(name)
		return metadb.Account{}, Account{}, ErrNoAccount
	}
	if err != nil {
		return metadb.Account{}, Account{}, fmt.Errorf("auth: account %s: %w", name, err)
	}
	groups, err := l.store.GroupsOf(ctx, row.ID)
	if err != nil {
		return metadb.Account{}, Account{}, fmt.Errorf("auth: groups of %s: %w", name, err)
	}
	// With the row's id: an account that was deleted and made again is another one.
	acc := Account{
		Name: row.Name, Admin: row.Admin, Disabled: row.Disabled, Stamp: fmt.Sprintf("%d.%d", row.ID, row.Generation),
		ID: row.ID, Auditor: row.Auditor, Groups: groups, MustChange: row.MustChange, ExpiresAt: row.ExpiresAt,
	}
	l.accounts.Set(name, &remembered{acc: acc, source: row.Source, at: at})
	if l.forgets.Load() != forgets {
		l.accounts.Invalidate(name)
	}
	return row, acc, nil
}

// Login reads the account anew: the caller who changed a password a moment ago on another replica may log in.
func (l *local) Login(ctx context.Context, name, password string) (Account, error) {
	row, acc, err := l.read(ctx, name)
	if err != nil {
		return Account{}, err
	}
	if row.Source == fileSource {
		return Account{}, ErrNoAccount
	}
	if row.PasswordHash == "" { // of an identity provider; as slow as another wrong one
		l.Decoy(ctx, password)
		return Account{}, ErrPassword
	}
	ok, err := verifyPassword(row.PasswordHash, password)
	if err != nil {
		return Account{}, fmt.Errorf("auth: account %s: %w", name, err)
	}
	if !ok {
		return Account{}, ErrPassword
	}
	return acc, nil
}

// Decoy computes the hash that a wrong password would have cost. Its result is not used by anybody.
func (l *local) Decoy(_ context.Context, password string) {
	_, _ = verifyPassword(decoyHash, password) // well-formed: a test verifies it
}

// decoyHash belongs to no account; its parameters are those of new hashes.
const decoyHash = "$argon2id$v=19$m=19456,t=2,p=1$YmVydGggZGVjb3kgc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func (l *local) forget(name string) {
	l.forgets.Add(1)
	l.accounts.Invalidate(name)
}

func (l *local) forgetAll() {
	l.forgets.Add(1)
	l.accounts.InvalidateAll()
}
