package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Groups lists groups behind the name after, in the order of their names. It asks for group.read.
func (s *Service) Groups(ctx context.Context, f metadb.GroupFilter, after string, limit int) ([]metadb.Group, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupRead); err != nil {
		return nil, err
	}
	return s.o.Store.Groups(ctx, f, after, limit)
}

// Group finds a group. It asks for group.read.
func (s *Service) Group(ctx context.Context, name string) (metadb.Group, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupRead); err != nil {
		return metadb.Group{}, err
	}
	return s.group(ctx, name)
}

func (s *Service) group(ctx context.Context, name string) (metadb.Group, error) {
	g, err := s.o.Store.GroupByName(ctx, name)
	return g, changed(err, "group", name)
}

// CreateGroup makes a group. It asks for group.write; a name that is in use is a Conflict.
func (s *Service) CreateGroup(ctx context.Context, name, description string) (g metadb.Group, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupWrite); err != nil {
		return g, err
	}
	if err := cmp.Or(checkGroup(name), checkText("description", &description, true)); err != nil {
		return g, err
	}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		g, err = tx.CreateGroup(metadb.Group{Name: name, Description: description})
		return err
	})
	if fault.Is(err, fault.Conflict) {
		err = fault.New(fault.Conflict, NameTaken, "group %q exists already", name).At("name").Because(err)
	}
	return g, err
}

// checkGroup allows what directories call groups: spaces, commas and slashes are common there.
func checkGroup(name string) error {
	if !plausible(name, "-") || len(name) > 200 {
		return fault.New(fault.Invalid, fault.NameInvalid, "group name %.80q is not text of 1 to 200 bytes without control characters and colons", name).At("name")
	}
	return nil
}

// UpdateGroup changes name and description of a group that still has the generation; a negative one is any. It asks for
// group.write. Grants stay the group's: they know it by number. Another name is another group to identity providers, so that
// a change of it asks for all that the group is allowed and denied.
func (s *Service) UpdateGroup(ctx context.Context, name string, generation int64, newName, description *string) (g metadb.Group, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupWrite); err != nil {
		return g, err
	}
	if newName != nil {
		if err := checkGroup(*newName); err != nil {
			return g, err
		}
		if *newName != name {
			if err := s.mayChangeMembers(ctx, name, true, true); err != nil {
				return g, err
			}
		}
	}
	if err := checkText("description", description, true); err != nil {
		return g, err
	}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		if g, err = tx.GroupByName(ctx, name); err != nil {
			return err
		}
		set(&g.Name, newName)
		set(&g.Description, description)
		g, err = tx.UpdateGroup(g, generation)
		return err
	})
	if newName != nil && fault.Is(err, fault.Conflict) && !errors.Is(err, metadb.ErrChanged) {
		err = fault.New(fault.Conflict, NameTaken, "group %q exists already", *newName).At("name").Because(err)
	}
	return g, changed(err, "group", name)
}

// DeleteGroup removes a group that still has the generation; a negative one is any. It asks for group.write, and for all that is denied
// to the group, which its members may then do. What the group gave is gone with it, also for live sessions and tokens.
func (s *Service) DeleteGroup(ctx context.Context, name string, generation int64) error {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupWrite); err != nil {
		return err
	}
	if err := s.mayChangeMembers(ctx, name, false, true); err != nil {
		return err
	}
	return s.changeGroup(ctx, name, func(tx *metadb.Tx, g metadb.Group) error {
		if generation >= 0 && g.Generation != generation {
			return metadb.ErrChanged
		}
		return tx.DeleteGroup(g.ID)
	})
}

// mayChangeMembers asks for what accounts get that come into a group: all that it is allowed; and for what they get that leave
// it: all that it is denied.
func (s *Service) mayChangeMembers(ctx context.Context, name string, come, leave bool) error {
	g, err := s.group(ctx, name)
	if err != nil {
		return fmt.Errorf("auth: change group %s: %w", name, err)
	}
	subject := metadb.Subject{Kind: metadb.GroupSubject, ID: g.ID}
	if come {
		err = s.o.Access.CheckGiveAll(ctx, subject)
	}
	if err == nil && leave {
		err = s.o.Access.CheckTakeAll(ctx, subject)
	}
	return err
}

func (s *Service) changeGroup(ctx context.Context, name string, change func(tx *metadb.Tx, g metadb.Group) error) error {
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		g, err := tx.GroupByName(ctx, name)
		if err != nil {
			return err
		}
		return change(tx, g)
	})
	if err != nil {
		return fmt.Errorf("auth: change group %s: %w", name, changed(err, "group", name))
	}
	return nil
}

// GroupMembers lists members behind (account, source), in that order. It asks for group.read.
func (s *Service) GroupMembers(ctx context.Context, name string, after metadb.GroupMember, limit int) ([]metadb.GroupMember, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupRead); err != nil {
		return nil, err
	}
	g, err := s.group(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.o.Store.GroupMembers(ctx, g.ID, after, limit)
}

// AddGroupMember puts an account into a group; saying it again changes nothing. It asks for group.write, and for all that the
// group is allowed.
func (s *Service) AddGroupMember(ctx context.Context, group, account string) error {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupWrite); err != nil {
		return err
	}
	if err := s.mayChangeMembers(ctx, group, true, false); err != nil {
		return err
	}
	return s.changeGroup(ctx, group, func(tx *metadb.Tx, g metadb.Group) error {
		a, err := tx.Account(ctx, account)
		if errors.Is(err, metadb.ErrNotFound) {
			return absent("account %q is not known to this registry", account)
		}
		if err != nil {
			return err
		}
		return tx.PutGroupMember(g.ID, a.ID, "")
	})
}

// RemoveGroupMember takes an account out of a group that somebody put it into. It asks for group.write, and for all that the group
// is denied. Who is in the group because an identity provider says so stays until the provider says otherwise: that is a Conflict.
func (s *Service) RemoveGroupMember(ctx context.Context, group, account string) error {
	if err := s.o.Access.CheckSystem(ctx, identity.GroupWrite); err != nil {
		return err
	}
	if err := s.mayChangeMembers(ctx, group, false, true); err != nil {
		return err
	}
	return s.changeGroup(ctx, group, func(tx *metadb.Tx, g metadb.Group) error {
		a, err := tx.Account(ctx, account)
		if errors.Is(err, metadb.ErrNotFound) {
			return absent("account %q is not known to this registry", account)
		}
		if err != nil {
			return err
		}
		if existed, err := tx.DeleteGroupMember(g.ID, a.ID, ""); err != nil || existed {
			return err
		}
		groups, err := tx.GroupsOf(ctx, a.ID)
		if err != nil {
			return err
		}
		for _, id := range groups {
			if id == g.ID {
				return fault.New(fault.Conflict, fault.UnsupportedReason, "account %q is in group %q because its identity provider says so; take it out there", account, group)
			}
		}
		return absent("account %q is not in group %q", account, group)
	})
}
