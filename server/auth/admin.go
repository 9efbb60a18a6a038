package auth

import (
	"context"
	"errors"
	"fmt"
)

// FirstAdmin is the name of the administrator that EnsureAdmin makes.
const FirstAdmin = "admin"

// EnsureAdmin makes the first administrator when there is none, once in the life of a database.
//
// With a password, that one is set, after CheckNewPassword; without, one is generated and returned, to be shown once:
// only its hash is kept. When an administrator exists already nothing changes, whatever password is given: the setting
// is for the first start, so a stale environment variable can never undo a later change of the password. The log says
// that it was not used.
//
// When another source of accounts owns the name "admin" (an htpasswd file of registry:2 often does), no account is
// made, since its password could never work; a configured password is then an error.
func (s *Service) EnsureAdmin(ctx context.Context, password string) (generated string, err error) {
	exists, err := hasAdmin(ctx, s.o.Store)
	if err != nil {
		return "", fmt.Errorf("auth: first administrator: %w", err)
	}
	owner, err := s.foreignOwner(ctx, FirstAdmin)
	if err != nil {
		return "", fmt.Errorf("auth: first administrator: %w", err)
	}
	if exists {
		if password != "" {
			s.o.Log.InfoContext(ctx, "configured admin password not used: an administrator exists already")
		}
		if owner != "" {
			s.o.Log.WarnContext(ctx, "local account is hidden by another source of accounts", "principal", FirstAdmin, "source", owner)
		}
		return "", nil
	}
	if owner != "" {
		if password != "" {
			return "", fmt.Errorf("account %s is in the %s accounts, so the configured admin password cannot be set; remove the account there, or the setting", FirstAdmin, owner)
		}
		s.o.Log.WarnContext(ctx, "no local administrator made: the name belongs to another source of accounts", "principal", FirstAdmin, "source", owner)
		return "", nil
	}
	if password == "" {
		if generated, err = generatePassword(); err != nil {
			return "", err
		}
		password = generated
	} else if err := CheckNewPassword(FirstAdmin, password); err != nil {
		return "", err
	}
	hash, err := hashPassword(password)
	if err != nil {
		return "", err
	}
	created, err := createAdmin(ctx, s.o.Store, FirstAdmin, hash)
	if err != nil {
		return "", fmt.Errorf("auth: first administrator: %w", err)
	}
	if !created {
		s.o.Log.WarnContext(ctx, "first administrator not made: an account of that name is there already", "principal", FirstAdmin)
		return "", nil
	}
	s.local.forget(FirstAdmin)
	s.o.Log.DebugContext(ctx, "first administrator made", "principal", FirstAdmin, "generated", generated != "")
	return generated, nil
}

// foreignOwner is the source, other than the local accounts, that owns the name; "" when none does.
func (s *Service) foreignOwner(ctx context.Context, name string) (string, error) {
	for _, p := range s.o.Providers {
		switch _, err := p.Account(ctx, name); {
		case err == nil:
			return p.Source(), nil
		case !errors.Is(err, ErrNoAccount):
			return "", err
		}
	}
	return "", nil
}
