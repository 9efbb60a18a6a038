package access

import (
	"context"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// CheckAdmin returns nil when the context's principal may administer the registry as a whole, and the fault to answer
// otherwise, in the terms of [Point.Check]: what no role gives, such as making administrators. That is berthd itself, the
// local administrator, and an administrator who proved itself with a password.
//
// A token of an administrator is not enough, whatever it carries: tokens reach repositories, they are handed to build
// machines, and no scope of them says "everything".
func (p *Point) CheckAdmin(ctx context.Context) error {
	who := identity.From(ctx)
	switch {
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: administration of this registry is denied")
	case who.Kind == identity.Anonymous:
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "administration of this registry needs a login; use the name and password of an administrator")
	case !unbound(&who):
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; administration of this registry is not allowed; ask an administrator of this registry", who)
	case who.Grants != nil:
		return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow administration of this registry; use the name and password of an administrator", who)
	}
	return nil
}

// CheckSystem returns nil when the context's principal may do v, a verb of the registry as a whole, and the fault to answer
// otherwise: collection, integrity, backup, jobs, accounts and whatever else belongs to no project. Administrators may all of
// it, auditors what reads, others what a grant on the whole registry says.
func (p *Point) CheckSystem(ctx context.Context, v identity.Verb) error {
	who := identity.From(ctx)
	rights, err := p.inRegistry(ctx, &who)
	switch {
	case err != nil:
		return err
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: %s of this registry is denied", v)
	case who.Kind == identity.Anonymous:
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "administration of this registry needs a login; use the name and password of an administrator")
	case !rights.has(v):
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of this registry is not allowed; ask an administrator of this registry", who, v)
	case !who.Grants.AllowRegistry(v):
		return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow %s of this registry; use a password, or a token that does", who, v)
	}
	return nil
}

// CheckProject returns nil when the context's principal may do v to a project as a whole, and the fault to answer otherwise.
// Who may not read the project is told that it is not there, as for one that is not.
func (p *Point) CheckProject(ctx context.Context, v identity.Verb, project string) error {
	who := identity.From(ctx)
	at, err := p.where(ctx, project)
	if err != nil {
		return err
	}
	rights, err := p.inProject(ctx, &who, at)
	if err != nil {
		return err
	}
	if at.number == 0 && !unbound(&who) {
		rights = 0 // nobody is to learn that it is not there, nor has anybody a right to it
	}
	reach := unnarrowed(&who) || who.Grants.AllowProject(v, project, at.number)
	switch {
	case rights.has(v) && reach:
		return nil
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: %s of project %s is denied", v, project)
	case who.Kind == identity.Anonymous && !rights.has(identity.ProjectRead):
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "project %s needs a login", project)
	case who.Kind == identity.Anonymous:
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s of project %s needs a login", v, project)
	case !rights.has(identity.ProjectRead):
		return UnknownProject(project)
	case rights.has(v):
		return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow %s of project %s; use a password, or a token that does", who, v, project)
	}
	return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of project %s is not allowed; ask an administrator of the project", who, v, project)
}

// UnknownProject is the answer about a project that is not there, or that the caller may not know of.
func UnknownProject(project string) error {
	return fault.New(fault.NotFound, fault.NameUnknown, "project %s is not known to this registry", project)
}

// Effective are the verbs that a principal has in a project as a whole, whatever its token; "" is the registry.
func (p *Point) Effective(ctx context.Context, who identity.Principal, project string) ([]identity.Verb, error) {
	if project == "" {
		rights, err := p.inRegistry(ctx, &who)
		return (rights & ofRegistry).list(), err
	}
	at, err := p.where(ctx, project)
	if err != nil {
		return nil, err
	}
	rights, err := p.inProject(ctx, &who, at)
	return (rights &^ ofRegistry).list(), err
}

// CheckSignedIn lets in whoever has proved to be somebody: for what every user of the registry may know.
func (p *Point) CheckSignedIn(ctx context.Context) error {
	who := identity.From(ctx)
	switch {
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: this is denied")
	case who.Kind == identity.Anonymous:
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this needs a login")
	}
	return nil
}
