package project

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Role is a set of verbs with a name.
type Role struct {
	Name        string
	Description string
	Verbs       []identity.Verb
	Builtin     bool // cannot be changed
	Generation  int64
}

func ofRow(r metadb.Role) Role {
	out := Role{Name: r.Name, Description: r.Description, Generation: r.Generation}
	for _, v := range r.Verbs {
		out.Verbs = append(out.Verbs, identity.Verb(v))
	}
	return out
}

// Roles are the roles of this registry: those that every registry has, and those that were made, which come behind the name
// after, up to limit. Anyone who is signed in may read them: whoever adds a member needs their names.
func (s *Service) Roles(ctx context.Context, after string, limit int) (builtin, made []Role, err error) {
	if err := s.o.Access.CheckSignedIn(ctx); err != nil {
		return nil, nil, err
	}
	for _, r := range identity.BuiltinRoles() {
		builtin = append(builtin, Role{Name: r.Name, Description: r.Description, Verbs: r.Verbs, Builtin: true})
	}
	rows, err := s.o.DB.Roles(ctx, after, limit)
	for _, r := range rows {
		made = append(made, ofRow(r))
	}
	return builtin, made, err
}

// Role finds a role.
func (s *Service) Role(ctx context.Context, name string) (Role, error) {
	if err := s.o.Access.CheckSignedIn(ctx); err != nil {
		return Role{}, err
	}
	return s.role(ctx, name)
}

func (s *Service) role(ctx context.Context, name string) (Role, error) {
	if r, ok := identity.BuiltinRole(name); ok {
		return Role{Name: r.Name, Description: r.Description, Verbs: r.Verbs, Builtin: true}, nil
	}
	row, err := s.o.DB.Role(ctx, name)
	return ofRow(row), unknown(err, "role %s is not known to this registry", name)
}

// CreateRole makes a role. It asks for role.write, and for all that the role gives.
func (s *Service) CreateRole(ctx context.Context, r Role) (Role, error) {
	if err := s.mayWriteRole(ctx, r); err != nil {
		return Role{}, err
	}
	var row metadb.Role
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) { row, err = tx.CreateRole(r.row()); return err })
	if fault.Is(err, fault.Conflict) {
		err = fault.New(fault.Conflict, Taken, "role %s is there already", r.Name).At("name").Because(err)
	}
	return ofRow(row), err
}

// UpdateRole changes description and verbs of a role that was made. Whoever has it has the new verbs from then on; to whom it is
// denied, the old ones are denied no more. It asks for what CreateRole asks, and for all that it so gives.
func (s *Service) UpdateRole(ctx context.Context, r Role, generation int64) (Role, error) {
	if err := s.mayWriteRole(ctx, r); err != nil {
		return Role{}, err
	}
	var freed []string
	before, err := s.o.DB.Role(ctx, r.Name)
	for _, v := range before.Verbs {
		if !slices.Contains(r.Verbs, identity.Verb(v)) {
			freed = append(freed, v)
		}
	}
	if err == nil {
		err = s.mayFree(ctx, r.Name, freed)
	}
	if err == nil && generation < 0 {
		generation = before.Generation // it was decided about that one
	}
	var row metadb.Role
	if err == nil {
		err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) { row, err = tx.UpdateRole(r.row(), generation); return err })
	}
	return ofRow(row), unknown(err, "role %s is not known to this registry", r.Name)
}

// DeleteRole removes a role that was made, and every grant of it. It asks for role.write, and where the role is denied to
// somebody, for all that is denied so.
func (s *Service) DeleteRole(ctx context.Context, name string, generation int64) error {
	if err := s.o.Access.CheckSystem(ctx, identity.RoleWrite); err != nil {
		return err
	}
	if _, ok := identity.BuiltinRole(name); ok {
		return fault.New(fault.Conflict, Builtin, "role %s is one that every registry has; it cannot be deleted", name).At("role")
	}
	before, err := s.o.DB.Role(ctx, name)
	if err == nil && generation >= 0 && before.Generation != generation {
		err = metadb.ErrChanged
	}
	if err == nil {
		err = s.mayFree(ctx, name, before.Verbs)
	}
	if err == nil {
		err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			r, err := tx.Role(ctx, name)
			if err != nil {
				return err
			}
			if r.Generation != before.Generation {
				return metadb.ErrChanged
			}
			_, err = tx.DeleteRole(name)
			return err
		})
	}
	return unknown(err, "role %s is not known to this registry", name)
}

// mayWriteRole asks for role.write and looks at the role: to change what a role may is to give it to all who have it, wherever
// they have it.
func (s *Service) mayWriteRole(ctx context.Context, r Role) error {
	if err := s.o.Access.CheckSystem(ctx, identity.RoleWrite); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	return s.o.Access.CheckGive(ctx, metadb.Grant{Verbs: r.row().Verbs})
}

// mayFree asks for what is denied by a role no more: the verbs, wherever the role is denied to somebody.
func (s *Service) mayFree(ctx context.Context, role string, verbs []string) error {
	const page = 500
	for after := int64(0); len(verbs) > 0; {
		grants, err := s.o.DB.Grants(ctx, metadb.GrantFilter{Role: role}, after, page)
		if err != nil {
			return err
		}
		for _, g := range grants {
			after = g.ID
			if !g.Deny {
				continue
			}
			g.Role, g.Verbs = "", verbs
			err := s.o.Access.CheckGive(ctx, g)
			if fault.Is(err, fault.Denied) { // without a word of where, which the caller may not know
				err = fault.New(fault.Denied, fault.DeniedReason, "role %s denies something that %s may not do; ask an administrator of this registry", role, identity.From(ctx)).Because(err)
			}
			if err != nil {
				return err
			}
		}
		if len(grants) < page {
			break
		}
	}
	return nil
}

func (r Role) row() metadb.Role {
	out := metadb.Role{Name: r.Name, Description: r.Description}
	for _, v := range r.Verbs {
		out.Verbs = append(out.Verbs, string(v))
	}
	return out
}

func (r Role) check() error {
	if _, ok := identity.BuiltinRole(r.Name); ok {
		return fault.New(fault.Conflict, Builtin, "role %s is one that every registry has; choose another name", r.Name).At("name")
	}
	if n, err := ref.ParseName(r.Name); err != nil || n.Project() != ref.DefaultProject {
		return fault.New(fault.Invalid, fault.NameInvalid, "role name %.100q is invalid; use lowercase letters and digits, joined by one of . _ __ -", r.Name).At("name")
	}
	if err := checkDescription(r.Description); err != nil {
		return err
	}
	return checkVerbs(r.Verbs)
}

// checkVerbs refuses a list that is empty, has a verb twice, or one that nobody knows or that is not to be given.
func checkVerbs(verbs []identity.Verb) error {
	if len(verbs) == 0 {
		return fault.New(fault.Invalid, fault.Unknown, "no verbs are given; name at least one, such as pull").At("verbs")
	}
	for i, v := range verbs {
		if identity.LevelOf(v) == identity.NoLevel {
			return fault.New(fault.Invalid, fault.Unknown, "verb %.60q is not known", v).At(fmt.Sprintf("verbs[%d]", i))
		}
		if !identity.Grantable(v) {
			return fault.New(fault.Invalid, fault.Unknown, "verb %s cannot be granted; it is for administrators of this registry alone", v)
		}
		if slices.Contains(verbs[:i], v) {
			return fault.New(fault.Invalid, fault.Unknown, "verb %s is given twice", v).At(fmt.Sprintf("verbs[%d]", i))
		}
	}
	return nil
}
