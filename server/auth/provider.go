package auth

import (
	"context"
	"errors"
	"time"
)

// What a Provider answers when it cannot prove an identity. Any other error means that the source could not be asked.
var (
	ErrNoAccount = errors.New("auth: no such account")
	ErrPassword  = errors.New("auth: wrong password")
)

// Provider is one source of accounts. authtest holds the suite that every implementation passes.
//
// A name has one owner: the first provider that knows it. So two sources can never lend each other their rights, and
// a name in a record means one account.
type Provider interface {
	// Source names the provider in logs, for example "local" or "htpasswd".
	Source() string
	// Account returns the present state of the account, ErrNoAccount when the source does not know the name.
	// It is asked for every request and must be cheap; it may lag behind a change by less than MaxStale.
	Account(ctx context.Context, name string) (Account, error)
	// Login returns the account when the password is right and ErrPassword when it is not. A disabled account is
	// returned too, so that only who knows the password learns of it. Login of an unknown name is ErrNoAccount.
	Login(ctx context.Context, name, password string) (Account, error)
	// Decoy takes as long as Login with a wrong password takes, and decides nothing: it hides from a stranger which
	// names exist, and where.
	Decoy(ctx context.Context, password string)
}

// Account is what a provider knows of a caller.
type Account struct {
	Name     string
	Admin    bool
	Disabled bool
	// Stamp changes whenever the credentials or rights of the account change; credentials and tokens made under an
	// older stamp stop working. It is kept private: tokens carry a keyed hash of it.
	Stamp string

	// What berth keeps of an account, by whatever source it is proved. A provider leaves it as it is.
	ID         int64 // of the row; 0 without one
	Auditor    bool
	Groups     []int64 // ascending
	MustChange bool
	ExpiresAt  time.Time // zero for never
}

// over reports whether the account may not be used now.
func (a Account) over(now time.Time) bool { return a.Disabled || past(a.ExpiresAt, now) }

// owner finds the provider that owns the name.
func (s *Service) owner(ctx context.Context, name string) (Provider, Account, error) {
	for _, p := range s.providers {
		a, err := p.Account(ctx, name)
		if err == nil {
			if p != Provider(s.local) {
				a, err = s.local.join(ctx, p.Source(), a)
			}
			return p, a, err
		}
		if !errors.Is(err, ErrNoAccount) {
			return nil, Account{}, err
		}
	}
	return nil, Account{}, ErrNoAccount
}
