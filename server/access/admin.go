package access

import (
	"context"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// CheckAdmin returns nil when the context's principal may administer the registry as a whole, and the fault to answer
// otherwise, in the terms of [Point.Check]: collection, integrity, backup, jobs and whatever else belongs to no
// repository. That is berthd itself, the local administrator, and an administrator who proved itself with a password.
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
	case !administrator(who):
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; administration of this registry is not allowed; ask an administrator of this registry", who)
	case who.Grants != nil:
		return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow administration of this registry; use the name and password of an administrator", who)
	}
	return nil
}

// administrator reports whether the subject, without its token, may everything.
func administrator(who identity.Principal) bool {
	switch who.Kind {
	case identity.System, identity.Local:
		return true
	case identity.User, identity.Robot:
		return who.Admin
	}
	return false
}
