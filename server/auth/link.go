package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Links lists which identities are an account, by provider and subject. One's own needs nothing more; of another it asks for
// user.read.
func (s *Service) Links(ctx context.Context, account string) ([]metadb.Link, error) {
	a, err := s.ownOr(ctx, account, identity.UserRead)
	if err != nil {
		return nil, err
	}
	return s.o.Store.LinksOf(ctx, a.ID)
}

// ownOr is the caller's own account, or another one for whom the verb is allowed.
func (s *Service) ownOr(ctx context.Context, account string, v identity.Verb) (metadb.Account, error) {
	if a, err := s.self(ctx); err == nil && a.Name == account {
		return a, nil
	}
	if err := s.o.Access.CheckSystem(ctx, v); err != nil {
		return metadb.Account{}, err
	}
	return s.account(ctx, account)
}

// Link makes an identity one of an account. It asks for user.write, and for all that the account may do: who is that identity is
// then that account. An administrator's asks for an administrator. An identity that is linked is a Conflict.
func (s *Service) Link(ctx context.Context, account, provider, subject string) error {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return err
	}
	if _, ok := s.idp(provider); !ok || subject == "" || len(subject) > 1024 {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "an identity is a provider in use here and its subject; got %.80q and %.80q", provider, subject).At("provider")
	}
	a, err := s.account(ctx, account)
	if err != nil {
		return err
	}
	if err := s.mayActAs(ctx, a); err != nil {
		return err
	}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		now, err := tx.Account(ctx, account)
		if err != nil {
			return err
		}
		if now.ID != a.ID || now.Admin != a.Admin || now.Auditor != a.Auditor { // it was decided about another one
			return metadb.ErrChanged
		}
		return tx.CreateLink(metadb.Link{Provider: provider, Subject: subject, AccountID: a.ID})
	})
	if fault.Is(err, fault.Conflict) {
		return fault.New(fault.Conflict, NameTaken, "identity %.80q at %s is linked to an account already", subject, provider).At("subject").Because(err)
	}
	return changed(err, "account", account)
}

// Unlink takes an identity from an account, with the groups that its provider gave and the sessions that it opened. Of another
// account than one's own it asks for user.write; and of any, for all that is denied to those groups.
func (s *Service) Unlink(ctx context.Context, account, provider, subject string) error {
	a, err := s.ownOr(ctx, account, identity.UserWrite)
	if err != nil {
		return err
	}
	if (a.Admin || a.Auditor) && !administrator(ctx) && identity.From(ctx).ID != a.ID {
		return fault.New(fault.Denied, fault.DeniedReason, "account %q is an administrator or auditor; only an administrator unlinks it", account)
	}
	groups, err := s.groupsBy(ctx, a, provider)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := s.o.Access.CheckTakeAll(ctx, metadb.Subject{Kind: metadb.GroupSubject, ID: g}); err != nil {
			return err
		}
	}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		existed, err := tx.DeleteLink(provider, subject, a.ID)
		if err != nil {
			return err
		}
		if !existed {
			return absent("account %q has no identity %.80q at %s", account, subject, provider)
		}
		if _, err := tx.SetGroupsOf(a.ID, provider, nil); err != nil {
			return err
		}
		_, err = tx.DeleteSessions(metadb.SessionFilter{Provider: provider, Subject: subject})
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: unlink %s: %w", account, err)
	}
	s.local.forget(a.Name)
	return nil
}

// groupsBy are the groups that an account is in because a provider says so.
func (s *Service) groupsBy(ctx context.Context, a metadb.Account, provider string) (found []int64, err error) {
	groups, err := s.o.Store.GroupsOf(ctx, a.ID)
	if err != nil {
		return nil, fmt.Errorf("auth: groups of %s: %w", a.Name, err)
	}
	for _, g := range groups {
		members, err := s.o.Store.GroupMembers(ctx, g, metadb.GroupMember{Account: a.Name}, maxIssuers)
		if err != nil {
			return nil, fmt.Errorf("auth: groups of %s: %w", a.Name, err)
		}
		for _, m := range members { // those behind the account's own name and the source "" begin with the account's
			if m.AccountID == a.ID && m.Source == provider {
				found = append(found, g)
			}
		}
	}
	return found, nil
}

// Merge gives everything that is linked to one account to another, and removes the first: for a person who came by two ways
// and has two accounts. Rights, groups and tokens of the first are not taken along. It asks for an administrator.
func (s *Service) Merge(ctx context.Context, from, into string) error {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return err
	}
	if !administrator(ctx) {
		return fault.New(fault.Denied, fault.DeniedReason, "only an administrator merges accounts")
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		a, err := tx.Account(ctx, from)
		if err != nil {
			return changed(err, "account", from)
		}
		b, err := tx.Account(ctx, into)
		if err != nil {
			return changed(err, "account", into)
		}
		if a.ID == b.ID {
			return fault.New(fault.Invalid, fault.UnsupportedReason, "account %q cannot be merged into itself", from)
		}
		if able(a) {
			if err := anotherAdmin(ctx, tx, from); err != nil {
				return err
			}
		}
		links, err := tx.LinksOf(ctx, a.ID)
		if err != nil {
			return err
		}
		if _, err := tx.DeleteAccount(from); err != nil {
			return err
		}
		for _, l := range links {
			l.AccountID = b.ID
			if err := tx.CreateLink(l); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("auth: merge %s into %s: %w", from, into, err)
	}
	s.local.forget(from)
	s.local.forget(into)
	return nil
}

// Me is the caller's own account with the names of its groups.
func (s *Service) Me(ctx context.Context) (User, []string, error) {
	p := identity.From(ctx)
	if p.Kind != identity.User || p.ID == 0 {
		_, err := s.self(ctx)
		if err == nil {
			err = fault.New(fault.Denied, fault.DeniedReason, "%s has no account that berth keeps", p)
		}
		return User{}, nil, err
	}
	a, err := s.account(ctx, p.Name)
	if err != nil {
		return User{}, nil, err
	}
	var groups []string
	for _, id := range p.Groups {
		g, err := s.o.Store.Group(ctx, id)
		if errors.Is(err, metadb.ErrNotFound) {
			continue
		}
		if err != nil {
			return User{}, nil, fmt.Errorf("auth: groups of %s: %w", p.Name, err)
		}
		groups = append(groups, g.Name)
	}
	return userOf(a), groups, nil
}
