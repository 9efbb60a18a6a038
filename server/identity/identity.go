// Package identity says who is calling: the Principal, what a token narrows it to, and its place in a context. The verbs
// that rights are made of, and the roles that every registry has, are in verb.go.
//
// Faces and jobs put a Principal into the context; engines take it out and ask the access room. A context without one
// yields the empty principal, which may do nothing at all.
package identity

import (
	"context"
	"slices"

	"github.com/berth-registry/berth/oci/ref"
)

// Kind says how a principal came to be.
type Kind uint8

// The kinds of principals. The zero kind is nobody: denied everywhere.
const (
	Nobody    Kind = iota
	Anonymous      // a caller without credentials
	User           // a person, from any source of identities
	Robot          // a machine account
	System         // berthd itself: jobs, sweeps
	Local          // who the operating system lets use the data directory: an administrator without an account
)

// Principal is who is calling.
type Principal struct {
	Kind Kind
	ID   int64  // number of the account or robot in the database; 0 for a caller that has no row
	Name string // of the account or robot; "" for anonymous and nobody
	// Admin may everything. Auditor may read everything but content; see AuditorVerbs.
	Admin, Auditor bool
	// Groups are the numbers of the groups that the account is in, ascending. Rights of groups are looked up by these, so
	// that a right ends with the membership or the group.
	Groups []int64
	// Grants narrows the principal to what a token carries. nil means no narrowing: the caller proved itself with
	// a password, a session or a certificate. A token can only ever take rights away.
	Grants *Grants
	// Delegated says that somebody whom this registry trusts has decided what the principal may do, and that it is Grants: an
	// external token server, or a rule of token exchange. It has no other right than Grants; what is denied stays denied.
	Delegated bool
	Via       string // how it proved itself, for records; see the constants below
	// Origin is what a token made for the principal depends on besides the account, such as a robot's secret. It is for the auth
	// room alone, in whose form it is; "" for the account as a whole.
	Origin string
	// Addr is the caller's address without port, for records; "" when there is none.
	Addr string
}

// How a principal proved itself.
const (
	ViaBasic   = "basic"   // name and password
	ViaBearer  = "bearer"  // a token that this registry made for one who had proved itself
	ViaRefresh = "refresh" // a refresh token in the place of a password; it reaches the distribution API alone
	ViaToken   = "token"   // a personal access token, or the secret of a robot
	ViaSession = "session" // the cookie of a browser
	ViaMTLS    = "mtls"    // a client certificate
	ViaSocket  = "socket"  // the operating system
)

// Grants is what a token reaches.
type Grants struct {
	List []Grant
}

// Grant allows verbs: on one Repository, on the repositories of a Pattern, on the registry's list when Catalog is true, or, when
// Registry is true, on the registry as a whole. Exactly one of them is said.
type Grant struct {
	Repository string
	Pattern    ref.Pattern
	Catalog    bool
	Registry   bool
	// Project is the number of the project that owned the repository when the token was made; the grant is worthless in
	// another project of that name. 0 is not bound to any; a negative number is the access room's, for a project that was not
	// there then.
	Project int64
	Verbs   []Verb
}

// AnyProject says that it does not matter to which project a grant is bound.
const AnyProject int64 = -1

// Allow reports whether the list has the verb on the repository (or, for Catalog, on the registry's list), whatever project a
// grant is bound to. A nil list allows everything.
func (g *Grants) Allow(v Verb, repository string) bool { return g.AllowIn(v, repository, AnyProject) }

// AllowIn is Allow of a repository that belongs to the project of that number: 0 is one that does not exist.
func (g *Grants) AllowIn(v Verb, repository string, project int64) bool {
	if g == nil {
		return true
	}
	for i := range g.List {
		e := &g.List[i]
		switch {
		case e.Registry:
			continue
		case v == Catalog:
			if !e.Catalog {
				continue
			}
		case e.Catalog || !e.bound(project) || e.Repository != repository && !(e.Repository == "" && e.Pattern.MatchText(repository)):
			continue
		}
		if e.has(v) {
			return true
		}
	}
	return false
}

// AllowProject reports whether the list has the verb on the whole of a project, which only a pattern for all of it can.
func (g *Grants) AllowProject(v Verb, name string, project int64) bool {
	if g == nil {
		return true
	}
	for i := range g.List {
		e := &g.List[i]
		if whole := e.Pattern.String(); (whole == "**" || whole == name+"/**") && e.bound(project) && e.has(v) {
			return true
		}
	}
	return false
}

// Covers reports whether the list has the verb on all that a grant there is about: the repositories of the pattern, or with the
// zero Pattern all of the project. The project of number 0 is the registry as a whole. A nil list covers everything.
func (g *Grants) Covers(v Verb, project string, number int64, pattern ref.Pattern) bool {
	if g == nil {
		return true
	}
	whole := pattern.IsZero()
	if LevelOf(v) == OfRegistry {
		return number == 0 && whole && g.AllowRegistry(v)
	}
	return slices.ContainsFunc(g.List, func(e Grant) bool {
		if e.Registry || e.Catalog || !e.bound(number) || !e.has(v) {
			return false
		}
		if e.Repository != "" {
			name, one := pattern.Literal()
			return one && name.String() == e.Repository
		}
		all := e.Pattern.String()
		return whole && (all == "**" || number != 0 && project != ref.DefaultProject && all == project+"/**") || e.Pattern.Includes(pattern)
	})
}

// AllowRegistry reports whether the list has the verb on the registry as a whole.
func (g *Grants) AllowRegistry(v Verb) bool {
	if g == nil {
		return true
	}
	return slices.ContainsFunc(g.List, func(e Grant) bool {
		return (e.Registry || e.Catalog && v == Catalog) && e.has(v)
	})
}

func (e *Grant) bound(project int64) bool {
	return e.Project == 0 || project == AnyProject || e.Project == project
}

// has reports whether the grant has the verb. A token that reaches pull reaches the lists of what it pulls, and one that reaches
// push what moves tags back: the Docker token flow knows no other words. Whether the subject may is another question.
func (e *Grant) has(v Verb) bool {
	switch {
	case slices.Contains(e.Verbs, v), slices.Contains(e.Verbs, "*"):
		return true
	case v == List:
		return slices.Contains(e.Verbs, Pull)
	case v == Restore:
		return slices.Contains(e.Verbs, Push)
	}
	return false
}

// String names the principal for messages, logs and records. Two principals that are not the same have different names:
// an account may be called anonymous in an htpasswd file, and is then "user:anonymous" here. No account has a colon.
func (p Principal) String() string {
	switch p.Kind {
	case Anonymous:
		return "anonymous"
	case System:
		return "system"
	case Local:
		return "local"
	case User, Robot:
		switch p.Name {
		case "anonymous", "system", "local", "nobody":
			return "user:" + p.Name
		}
		return p.Name
	}
	return "nobody"
}

type key struct{}

// With returns a context that carries p.
func With(ctx context.Context, p Principal) context.Context { return context.WithValue(ctx, key{}, p) }

// From returns the principal of the context, or the empty one, which may do nothing.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(key{}).(Principal)
	return p
}
