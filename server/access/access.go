// Package access decides whether a principal may do a verb to a repository. It is the one authorization point: engines
// ask it on the first line of every method, so no face, job or proxy fill can forget it. What no rule allows is denied.
//
// A decision has two halves. The subject's right: may this user, whatever it holds in its hand, do this? And the
// token's reach: a bearer token can only narrow the subject. The refusal differs, because the client's next step does:
// a token that does not reach far enough is answered 401 so that the client asks for a better one; a subject without
// the right is answered 403; and who may not even know of a repository is told that it is not there.
//
// Start reading at [Point.Check].
package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

// Level is how far a class of callers may go; each level includes the ones before.
type Level uint8

// The levels of auth.anonymous and auth.users.
const (
	None Level = iota
	Pull
	Push
	Delete
)

// ParseLevel reads the names of the levels as configurations write them.
func ParseLevel(s string) (Level, error) {
	if i := slices.Index([]string{"none", "pull", "push", "delete"}, s); i >= 0 {
		return Level(i), nil
	}
	return None, fmt.Errorf("access level %q is not one of none, pull, push, delete", s)
}

// allows reports whether the level reaches the verb.
func (l Level) allows(v identity.Verb) bool {
	switch v {
	case identity.Pull, identity.Catalog:
		return l >= Pull
	case identity.Push:
		return l >= Push
	case identity.Delete:
		return l >= Delete
	}
	return false
}

// projects is what a decision needs to know of the project that owns a repository.
type projects interface {
	Visibility(ctx context.Context, project string) (exists, public bool, err error)
}

// Options configure a Point.
type Options struct {
	Projects  projects
	Anonymous Level // what callers without credentials may do, in public projects only
	Users     Level // what every signed-in user may do, until roles say otherwise

	AutoCreate AutoCreate // whose push makes a project that does not exist
}

// AutoCreate says whose push makes a project that does not exist.
type AutoCreate uint8

// The rules of berth.projects.autocreate. AnyPusher includes anonymous callers where they may push.
const (
	AnyPusher AutoCreate = iota
	Admins
	NoOne
)

// Point is the authorization point. Safe for concurrent use.
type Point struct{ o Options }

// New returns a Point.
func New(o Options) *Point { return &Point{o} }

// Anonymous is the level of callers without credentials.
func (p *Point) Anonymous() Level { return p.o.Anonymous }

// Check returns nil when the context's principal may do v to the repository, and the fault to answer otherwise.
// A context without a principal is denied.
func (p *Point) Check(ctx context.Context, v identity.Verb, name ref.Name) error {
	who := identity.From(ctx)
	exists, public, err := p.o.Projects.Visibility(ctx, name.Project())
	if err != nil {
		return fmt.Errorf("access: project of %s: %w", name, err)
	}
	right := p.right(who, v, exists, public)
	if right && v == identity.Push && !exists && !p.mayCreate(who) {
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; project %q does not exist, and its first push does not make it (berth.projects.autocreate); ask an administrator of this registry to create it", who, name.Project())
	}
	if right && who.Grants.Allow(v, name.String()) {
		return nil
	}
	scope := "repository:" + name.String() + ":" + scopeVerbs(v)
	switch {
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: %s of %s is denied", v, name)
	case right: // the token is too narrow, the subject is not
		f := fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow %s of %s; ask for a new one", who, v, name)
		f.Scope = scope
		return f
	case who.Kind == identity.Anonymous:
		f := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s of %s needs a login; run docker login or podman login for this registry first", v, name)
		f.Scope = scope
		return f
	case !p.right(who, identity.Pull, exists, public) && v == identity.Pull:
		return fault.New(fault.NotFound, fault.NameUnknown, "repository %s is not known to this registry", name)
	}
	return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of %s is not allowed; ask an administrator of this registry", who, v, name)
}

// right is the subject's right, without its token.
func (p *Point) right(who identity.Principal, v identity.Verb, exists, public bool) bool {
	switch who.Kind {
	case identity.System, identity.Local:
		return true
	case identity.User, identity.Robot:
		// Nobody loses by signing in what everybody has.
		return who.Admin || p.o.Users.allows(v) || p.everybody(v, exists, public)
	case identity.Anonymous:
		return p.everybody(v, exists, public)
	}
	return false
}

// known reports whether the principal is of a kind that this room has rules for.
func known(who identity.Principal) bool {
	switch who.Kind {
	case identity.Anonymous, identity.User, identity.Robot, identity.System, identity.Local:
		return true
	}
	return false
}

// everybody is the right of callers without credentials. A project that is not there is like a public one where their
// push would make it, and is then public; elsewhere it is like a private one, so that nobody can tell the two apart.
func (p *Point) everybody(v identity.Verb, exists, public bool) bool {
	return p.o.Anonymous.allows(v) && (public || !exists && p.o.Anonymous >= Push && p.o.AutoCreate == AnyPusher)
}

func (p *Point) mayCreate(who identity.Principal) bool {
	switch p.o.AutoCreate {
	case AnyPusher:
		return true
	case Admins:
		return administrator(who)
	}
	return who.Kind == identity.System
}

// scopeVerbs are the actions that a client should ask for: a push always reads too.
func scopeVerbs(v identity.Verb) string {
	if v == identity.Push {
		return "pull,push"
	}
	return string(v)
}

// CheckCatalog decides whether the caller may list repositories, and whether all of them or only those in public
// projects.
func (p *Point) CheckCatalog(ctx context.Context) (publicOnly bool, err error) {
	who := identity.From(ctx)
	// A caller may list what it may pull: who has no right in private projects sees only the public ones.
	if p.right(who, identity.Catalog, true, true) && who.Grants.Allow(identity.Catalog, "") {
		return !p.right(who, identity.Catalog, true, false), nil
	}
	if !known(who) {
		return false, fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: the catalog is denied")
	}
	if who.Kind == identity.Anonymous || who.Grants != nil {
		f := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the list of repositories needs a login")
		f.Scope = "registry:catalog:*"
		return false, f
	}
	return false, fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; listing the repositories of this registry is not allowed", who)
}

// CheckBase decides the answer of the API's base endpoint: whether this caller needs to show credentials there. Clients
// that are answered 200 without credentials never send any later, so unless anonymous callers may do everything, they
// are challenged, even though they may pull.
//
// A probe, which is a HEAD, is answered 200 where anonymous callers may pull: no client logs in by one, but health
// checks use it.
func (p *Point) CheckBase(ctx context.Context, probe bool) error {
	who := identity.From(ctx)
	if probe && who.Kind == identity.Anonymous && p.o.Anonymous >= Pull {
		return nil
	}
	if !known(who) || who.Kind == identity.Anonymous && who.Grants == nil && p.o.Anonymous < Delete {
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this registry needs a token; a client without a login gets one for what is public")
	}
	return nil
}

// Narrow returns what the principal may really do of what a client asks a token for. Verbs that are not allowed are
// dropped without a word, as the Docker token protocol wants it; "*" stands for all that is allowed.
func (p *Point) Narrow(ctx context.Context, who identity.Principal, asked []identity.Grant) ([]identity.Grant, error) {
	out := make([]identity.Grant, 0, len(asked))
	for _, g := range asked {
		verbs := g.Verbs
		if slices.Contains(verbs, "*") {
			verbs = []identity.Verb{identity.Pull, identity.Push, identity.Delete}
			if g.Catalog {
				verbs = []identity.Verb{identity.Catalog}
			}
		}
		exists, public := true, true // the catalog itself; the list is filtered
		if !g.Catalog {
			name, err := ref.ParseName(g.Repository)
			if err != nil {
				continue
			}
			if exists, public, err = p.o.Projects.Visibility(ctx, name.Project()); err != nil {
				return nil, err
			}
		}
		kept := identity.Grant{Repository: g.Repository, Catalog: g.Catalog}
		for _, v := range verbs {
			if p.right(who, v, exists, public) && who.Grants.Allow(v, g.Repository) {
				kept.Verbs = append(kept.Verbs, v)
			}
		}
		if len(kept.Verbs) > 0 {
			out = append(out, kept)
		}
	}
	return out, nil
}
