// Package access decides whether a principal may do a verb to a repository. It is the one authorization point: engines
// ask it on the first line of every method, so no face, job or proxy fill can forget it. What no rule allows is denied.
//
// A decision has two halves. The subject's right: may this user, whatever it holds in its hand, do this? That is what
// grants allow to it, to its groups and to the classes that it is in, what the configuration allows, and what a public
// project allows to everybody, without what a grant denies; administrators are bound by none of it. And the token's
// reach: a bearer token can only narrow the subject. The refusal differs, because the client's next step does:
// a token that does not reach far enough is answered 401 so that the client asks for a better one; a subject without
// the right is answered 403; and who may not even know of a repository is told that it is not there.
//
// Rights are looked up for every request, by the numbers of the account and its groups, and never put into a token: what was
// taken away is gone at once, for whoever holds what. Start reading at [Point.Check], then decide.go; what may be given to others,
// and taken from them, is in give.go.
package access

import (
	"context"
	"fmt"
	"slices"
	"time"

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

// projects is what a decision needs to know of the project that owns a repository: its number, 0 when it does not exist.
type projects interface {
	Lookup(ctx context.Context, project string) (number int64, public bool, err error)
	// Before is the number of the last project of that name that was deleted, 0 when none was.
	Before(ctx context.Context, project string) (number int64, err error)
}

// Options configure a Point.
type Options struct {
	Projects  projects
	Grants    store // *metadb.DB; nil: nobody was granted anything
	Anonymous Level // what callers without credentials may do, in public projects only
	Users     Level // what every account may do in all projects, besides what roles and grants say

	AutoCreate AutoCreate // whose push makes a project that does not exist
	Now        func() time.Time
}

// AutoCreate says whose push makes a project that does not exist.
type AutoCreate uint8

// The rules of berth.projects.autocreate. AnyPusher includes anonymous callers where they may push.
const (
	AnyPusher AutoCreate = iota
	Admins               // and who was granted project.create
	NoOne
)

// Point is the authorization point. Safe for concurrent use.
type Point struct {
	o      Options
	ledger *ledger // nil without Options.Grants
}

// New returns a Point.
func New(o Options) *Point {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Point{o: o}
	if o.Grants != nil {
		p.ledger = newLedger(o.Grants)
	}
	return p
}

func (p *Point) now() int64 { return p.o.Now().UnixMicro() }

// Anonymous is the level of callers without credentials.
func (p *Point) Anonymous() Level { return p.o.Anonymous }

// where finds the project of a name.
func (p *Point) where(ctx context.Context, project string) (place, error) {
	number, public, err := p.o.Projects.Lookup(ctx, project)
	if err != nil {
		return place{}, fmt.Errorf("access: project %s: %w", project, err)
	}
	return place{project, number, public && number != 0}, nil
}

// Check returns nil when the context's principal may do v to the repository, and the fault to answer otherwise.
// A context without a principal is denied. What a caller may not know of is answered as what is not there.
func (p *Point) Check(ctx context.Context, v identity.Verb, name ref.Name) error {
	who := identity.From(ctx)
	at, err := p.where(ctx, name.Project())
	if err != nil {
		return err
	}
	rights, err := p.rights(ctx, &who, name, at)
	if err != nil {
		return err
	}
	right := rights.has(v)
	if right && v == identity.Push && at.number == 0 {
		may, err := p.mayCreate(ctx, &who)
		if err != nil {
			return err
		}
		if !may {
			return fault.New(fault.Denied, fault.DeniedReason, "%s; project %q does not exist, and its first push does not make it (berth.projects.autocreate); ask an administrator of this registry to create it", signedIn(who), name.Project())
		}
	}
	if right {
		reached, err := p.reaches(ctx, &who, v, name.String(), at)
		if reached || err != nil {
			return err
		}
	}
	return p.refuse(who, v, name, rights)
}

// reaches reports whether what the caller holds in its hand allows v on the repository.
func (p *Point) reaches(ctx context.Context, who *identity.Principal, v identity.Verb, name string, at place) (bool, error) {
	if unnarrowed(who) || who.Grants.AllowIn(v, name, at.number) {
		return true, nil
	}
	if !waits(who, name) {
		return false, nil
	}
	number, err := p.unborn(ctx, at.name)
	return err == nil && who.Grants.AllowIn(v, name, number), err
}

// unborn is what a token is bound to that was asked for before there was a project of the name, so that it makes the project and
// goes on in it: to the next one of the name. Once that is deleted, before is another one, and the token worthless.
func unborn(before int64) int64 { return identity.AnyProject - 1 - before }

// waits reports whether the caller's token was asked for before the repository's project was there.
func waits(who *identity.Principal, name string) bool {
	return who.Grants != nil && slices.ContainsFunc(who.Grants.List, func(g identity.Grant) bool { return g.Project <= unborn(0) && g.Repository == name })
}

func (p *Point) unborn(ctx context.Context, project string) (int64, error) {
	before, err := p.o.Projects.Before(ctx, project)
	if err != nil {
		return 0, fmt.Errorf("access: projects before %s: %w", project, err)
	}
	return unborn(before), nil
}

// unnarrowed reports whether nothing narrows the subject: also the grants of a delegated caller, which are its rights already.
func unnarrowed(who *identity.Principal) bool { return who.Grants == nil || who.Delegated }

// refuse is the answer to who may not do v to a repository, whose rights are those.
func (p *Point) refuse(who identity.Principal, v identity.Verb, name ref.Name, rights verbs) error {
	scope := "repository:" + name.String() + ":" + scopeVerbs(v)
	switch {
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: %s of %s is denied", v, name)
	case rights.has(v): // the token is too narrow, the subject is not
		f := fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow %s of %s; ask for a new one", who, v, name)
		f.Scope = scope
		return f
	case who.Kind == identity.Anonymous:
		f := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s of %s needs a login; run docker login or podman login for this registry first", v, name)
		f.Scope = scope
		return f
	case seeing.has(v) && rights&seeing == 0:
		return fault.New(fault.NotFound, fault.NameUnknown, "repository %s is not known to this registry", name)
	}
	return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of %s is not allowed; ask an administrator of this registry", who, v, name)
}

func signedIn(who identity.Principal) string {
	if who.Kind == identity.Anonymous {
		return "you are not signed in"
	}
	return "you are signed in as " + who.String()
}

// known reports whether the principal is of a kind that this room has rules for.
func known(who identity.Principal) bool {
	switch who.Kind {
	case identity.Anonymous, identity.User, identity.Robot, identity.System, identity.Local:
		return true
	}
	return false
}

func (p *Point) mayCreate(ctx context.Context, who *identity.Principal) (bool, error) {
	switch p.o.AutoCreate {
	case AnyPusher:
		return true, nil
	case Admins:
		rights, err := p.inRegistry(ctx, who)
		return rights.has(identity.ProjectCreate), err
	}
	return who.Kind == identity.System, nil
}

// scopeVerbs are the actions that a client should ask for: a push always reads too, and a list is read by pulling.
func scopeVerbs(v identity.Verb) string {
	switch v {
	case identity.Push, identity.Restore:
		return "pull,push"
	case identity.List:
		return "pull"
	case identity.Purge:
		return "delete"
	}
	return string(v)
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

// Narrow returns what the principal may really do of what a client asks a token for, bound to the projects as they are now.
// Verbs that are not allowed are dropped without a word, as the Docker token protocol wants it; "*" stands for all that is
// allowed.
func (p *Point) Narrow(ctx context.Context, who identity.Principal, asked []identity.Grant) ([]identity.Grant, error) {
	out := make([]identity.Grant, 0, len(asked))
	for _, g := range asked {
		kept, err := p.narrowOne(ctx, &who, g)
		if err != nil {
			return nil, err
		}
		if len(kept.Verbs) > 0 {
			out = append(out, kept)
		}
	}
	return out, nil
}

func (p *Point) narrowOne(ctx context.Context, who *identity.Principal, g identity.Grant) (kept identity.Grant, err error) {
	kept = identity.Grant{Repository: g.Repository, Catalog: g.Catalog}
	if g.Catalog {
		_, err := p.catalog(ctx, who)
		if err == nil {
			kept.Verbs = []identity.Verb{identity.Catalog}
		} else if fault.Of(err).Kind == fault.Internal || fault.Is(err, fault.Unavailable) {
			return kept, err
		}
		return kept, nil
	}
	name, err := ref.ParseName(g.Repository)
	if err != nil {
		return kept, nil // the request that it is made for will say what is wrong with the name
	}
	at, err := p.where(ctx, name.Project())
	if err != nil {
		return kept, err
	}
	rights, err := p.rights(ctx, who, name, at)
	if err != nil {
		return kept, err
	}
	verbs := g.Verbs
	if slices.Contains(verbs, "*") {
		verbs = []identity.Verb{identity.Pull, identity.Push, identity.Delete}
	}
	if kept.Project = at.number; at.number == 0 {
		if kept.Project, err = p.unborn(ctx, at.name); err != nil {
			return kept, err
		}
	}
	for _, v := range verbs {
		if !rights.has(v) {
			continue
		}
		reached, err := p.reaches(ctx, who, v, g.Repository, at)
		if err != nil {
			return kept, err
		}
		if reached {
			kept.Verbs = append(kept.Verbs, v)
		}
	}
	return kept, nil
}
