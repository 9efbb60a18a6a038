package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// recheckAfter is how old what a directory said of somebody may be while that one goes on using the account: when it is
// older, the directory is asked again, beside the request.
const recheckAfter = time.Minute

// maxExternalGroups bounds what one provider may say of one person.
const maxExternalGroups = 5000

// Use sets the identity providers, all of them: those that were there and are not named any more prove nobody from now on.
func (s *Service) Use(providers []IdentityProvider) error {
	names := map[string]bool{"": true, "local": true, "htpasswd": true}
	for _, p := range providers {
		if names[p.Name] {
			return fmt.Errorf("identity provider %q has a name that is in use; choose another", p.Name)
		}
		names[p.Name] = true
	}
	list := slices.Clone(providers)
	s.idps.Store(&list)
	return nil
}

// IdentityProviders are the providers in use, for a login page: names and labels are public.
func (s *Service) IdentityProviders() []IdentityProvider { return slices.Clone(*s.idps.Load()) }

func (s *Service) idp(name string) (IdentityProvider, bool) {
	list := *s.idps.Load()
	i := slices.IndexFunc(list, func(p IdentityProvider) bool { return p.Name == name })
	if i < 0 {
		return IdentityProvider{}, false
	}
	return list[i], true
}

// SignIn turns what an identity provider has proved into a principal: the account that the identity is linked to, or one that
// is made, as far as the provider may. What the provider says of groups and of administration replaces what it said before,
// as a whole and in the same transaction, so what it does not say any more is gone from live sessions and tokens too.
//
// Errors: Denied, with a text for the caller, when there is no account and none is made, or it is disabled; Unavailable.
func (s *Service) SignIn(ctx context.Context, x External, via, addr string) (identity.Principal, error) {
	idp, ok := s.idp(x.Provider)
	if !ok || x.Subject == "" {
		return identity.Principal{}, fault.New(fault.Denied, fault.DeniedReason, "identity provider %q is not in use here", x.Provider)
	}
	s.heard.note(ctx, idp.Name, nil, s.o.Now())
	if x.Robot != "" {
		return s.signInRobot(ctx, x, via, addr)
	}
	a, err := s.accept(ctx, idp, x)
	if err != nil {
		return identity.Principal{}, err
	}
	_, acc, err := s.owner(ctx, a.Name)
	switch {
	case errors.Is(err, ErrNoAccount), err == nil && acc.ID != a.ID:
		return identity.Principal{}, fault.New(fault.Denied, fault.DeniedReason, "account %s is hidden by another source of accounts; ask an administrator of this registry", a.Name)
	case err != nil:
		return identity.Principal{}, unavailableError(err)
	case acc.Disabled || past(acc.ExpiresAt, s.o.Now()):
		return identity.Principal{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "account %s is disabled; ask an administrator of this registry", a.Name)
	}
	s.used.login(acc.ID)
	return principal(acc, via, addr), nil
}

func (s *Service) signInRobot(ctx context.Context, x External, via, addr string) (identity.Principal, error) {
	row, err := s.o.Store.RobotByName(ctx, x.Robot)
	if errors.Is(err, metadb.ErrNotFound) {
		return identity.Principal{}, fault.New(fault.Denied, fault.DeniedReason, "identity provider %s maps the caller to robot %q, which is not there; ask an administrator of this registry", x.Provider, x.Robot)
	}
	if err != nil {
		return identity.Principal{}, unavailableError(err)
	}
	r, err := s.robot(ctx, row.ID)
	if err != nil {
		return identity.Principal{}, secretError(err)
	}
	p, able := s.robotPrincipal(r, originOf(fromRobot, r.ID), via, addr)
	if !able {
		return identity.Principal{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "robot %s is disabled or has expired; ask who manages it", r.Name)
	}
	s.used.robot(r.ID, addr)
	return p, nil
}

// accept finds or makes the account of an identity and takes over what the provider says of it. When nothing of that is new,
// it writes nothing.
func (s *Service) accept(ctx context.Context, idp IdentityProvider, x External) (metadb.Account, error) {
	if len(x.Groups) > maxExternalGroups {
		return metadb.Account{}, fault.New(fault.Denied, fault.DeniedReason, "identity provider %s says that you are in %d groups; at most %d are taken", idp.Name, len(x.Groups), maxExternalGroups)
	}
	var a metadb.Account
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		link, err := tx.Link(ctx, idp.Name, x.Subject)
		switch {
		case err == nil:
			if a, err = tx.AccountByID(ctx, link.AccountID); err != nil {
				return err
			}
		case errors.Is(err, metadb.ErrNotFound):
			if a, err = s.newcomer(ctx, tx, idp, x); err != nil {
				return err
			}
			link = metadb.Link{Provider: idp.Name, Subject: x.Subject, AccountID: a.ID}
			if err := tx.CreateLink(link); err != nil {
				return err
			}
		default:
			return err
		}
		link.Login, link.Email, link.LastLoginAt = x.Name, x.Email, tx.Now()
		if err := tx.UpdateLink(link); err != nil {
			return err
		}
		if a, err = takeOver(tx, a, x); err != nil {
			return err
		}
		return s.takeGroups(ctx, tx, idp, a.ID, x.Groups)
	})
	if err != nil {
		if f := (*fault.Error)(nil); !errors.As(err, &f) {
			err = unavailableError(err)
		}
		return metadb.Account{}, fmt.Errorf("auth: sign in of %s at %s: %w", x.Subject, idp.Name, err)
	}
	s.local.forget(a.Name)
	return a, nil
}

// takeOver changes an account that this provider made to what the provider says of it. Of an account that was made otherwise
// and is only linked, administrators decide.
func takeOver(tx *metadb.Tx, a metadb.Account, x External) (metadb.Account, error) {
	if a.Source != x.Provider {
		return a, nil
	}
	next := a
	next.DisplayName, next.Email, next.Admin = x.DisplayName, x.Email, x.Admin
	if past(a.ExpiresAt, tx.Now()) { // the directory had lost it, and has it again
		next.ExpiresAt = time.Time{}
	}
	if next == a {
		return a, nil
	}
	return tx.UpdateAccount(next, -1)
}

// newcomer is the account of an identity that has no link yet.
func (s *Service) newcomer(ctx context.Context, tx *metadb.Tx, idp IdentityProvider, x External) (metadb.Account, error) {
	if err := checkName(x.Name); err != nil {
		return metadb.Account{}, fault.New(fault.Denied, fault.DeniedReason, "identity provider %s gives you the name %.80q, which no account can have; ask an administrator of this registry", idp.Name, x.Name).Because(err)
	}
	a, err := tx.Account(ctx, x.Name)
	switch {
	case err == nil:
		links, err := tx.LinksOf(ctx, a.ID)
		if err != nil {
			return a, err
		}
		if !idp.Adopt || a.Admin || a.Auditor || slices.ContainsFunc(links, func(l metadb.Link) bool { return l.Provider == idp.Name }) {
			return a, fault.New(fault.Denied, fault.DeniedReason, "account %s exists and is not linked to your identity at %s; ask an administrator of this registry to link it", x.Name, idp.Name)
		}
		return a, nil
	case !errors.Is(err, metadb.ErrNotFound):
		return a, err
	}
	if owner, err := s.foreignOwner(ctx, x.Name); err != nil || owner != "" {
		return a, errors.Join(err, fault.New(fault.Denied, fault.DeniedReason, "name %s belongs to the %s accounts; ask an administrator of this registry", x.Name, owner))
	}
	if !idp.Create {
		return a, fault.New(fault.Denied, fault.DeniedReason, "%s has no account here, and %s makes none; ask an administrator of this registry", x.Name, idp.Name)
	}
	return tx.CreateAccount(metadb.Account{Name: x.Name, DisplayName: x.DisplayName, Email: x.Email, Admin: x.Admin, Source: idp.Name})
}

// takeGroups replaces what the provider said of groups. nil says nothing.
func (s *Service) takeGroups(ctx context.Context, tx *metadb.Tx, idp IdentityProvider, account int64, groups []string) error {
	if groups == nil {
		return nil
	}
	var names []string
	for _, name := range groups {
		if checkGroup(name) != nil {
			continue // of no use here: no group can be called so
		}
		if !idp.Groups {
			if _, err := tx.GroupByName(ctx, name); errors.Is(err, metadb.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
		}
		names = append(names, name)
	}
	_, err := tx.SetGroupsOf(account, idp.Name, names)
	return err
}

// recheck asks the directories again about an account that was used.
func (s *Service) recheck(ctx context.Context, account int64) error {
	links, err := s.o.Store.LinksOf(ctx, account)
	if err != nil {
		return fmt.Errorf("auth: links: %w", err)
	}
	for _, l := range links {
		idp, ok := s.idp(l.Provider)
		if !ok || idp.Directory == nil || s.o.Now().Sub(l.LastLoginAt) < recheckAfter {
			continue
		}
		x, err := idp.Directory.Lookup(ctx, l.Subject)
		s.heard.note(ctx, idp.Name, err, s.o.Now())
		switch {
		case err == nil:
			x.Provider, x.Subject = l.Provider, l.Subject
			if _, err := s.accept(ctx, idp, x); err != nil {
				s.o.Log.WarnContext(ctx, "what a directory says of an account could not be taken over", "provider", l.Provider, "subject", l.Subject, "error", err)
			}
		case errors.Is(err, ErrNoAccount):
			if err := s.lost(ctx, idp, l); err != nil {
				return err
			}
		default:
			s.o.Log.WarnContext(ctx, "directory could not be asked again", "provider", l.Provider, "error", err)
		}
	}
	return nil
}

// lost takes away what a directory gave to somebody whom it does not know any more. An account that it made ends; one that is
// only linked goes on without the groups.
func (s *Service) lost(ctx context.Context, idp IdentityProvider, l metadb.Link) error {
	var a metadb.Account
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		if a, err = tx.AccountByID(ctx, l.AccountID); err != nil {
			return err
		}
		if _, err := tx.SetGroupsOf(a.ID, idp.Name, nil); err != nil {
			return err
		}
		if _, err := tx.DeleteSessions(metadb.SessionFilter{Account: a.ID}); err != nil || a.Source != idp.Name || past(a.ExpiresAt, tx.Now()) {
			return err
		}
		a.ExpiresAt, a.Admin = tx.Now(), false
		_, err = tx.UpdateAccount(a, -1)
		return err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("auth: account %d that %s does not know any more: %w", l.AccountID, idp.Name, err)
	}
	s.local.forget(a.Name)
	s.o.Log.InfoContext(ctx, "account has left its directory", "principal", a.Name, "provider", idp.Name)
	return nil
}

// Logout ends the sessions that a provider's back-channel logout token names.
func (s *Service) Logout(ctx context.Context, provider, token string) (int, error) {
	idp, ok := s.idp(provider)
	if !ok || idp.Logout == nil {
		return 0, absent("identity provider %q logs nobody out here", provider)
	}
	subject, sid, err := idp.Logout.Logout(ctx, token)
	if err != nil || subject == "" && sid == "" {
		return 0, s.driverError(ctx, idp, err)
	}
	return s.endSessions(ctx, metadb.SessionFilter{Provider: idp.Name, Subject: subject, SID: sid})
}

// driverError is what a caller is told of a driver's error; the cause is logged.
func (s *Service) driverError(ctx context.Context, idp IdentityProvider, err error) error {
	s.heard.note(ctx, idp.Name, err, s.o.Now())
	var f *fault.Error
	switch {
	case errors.As(err, &f), err != nil && abandoned(err):
		return err
	case err == nil, errors.Is(err, ErrRefused), errors.Is(err, ErrNoAccount), errors.Is(err, ErrPassword), errors.Is(err, ErrExpired):
		s.o.Log.InfoContext(ctx, "identity provider refuses", "provider", idp.Name, "error", err)
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s does not say who you are; log in again", idp.Name).Because(err)
	}
	s.o.Log.WarnContext(ctx, "identity provider cannot be asked", "provider", idp.Name, "error", err)
	return fault.New(fault.Unavailable, fault.UnavailableReason, "identity provider %s cannot be asked now; try again later", idp.Name).Because(err)
}
