package access

import (
	"context"
	"maps"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// sight is which repositories a caller sees in lists.
type sight struct {
	scope metadb.Scope
	// sees decides about a repository of the scope; nil: all of it is seen.
	sees func(project metadb.Project, name string) bool
}

// maxNamed bounds how many projects a list asks for by number, and maxPatterns by how many patterns; with more it looks at
// all, and decides one by one.
const maxNamed, maxPatterns = 500, 20

// CheckCatalog decides whether the caller may list repositories, and which: those of the scope for which sees is nil or
// true. sees needs the project's number and visibility, and the repository's name.
func (p *Point) CheckCatalog(ctx context.Context) (scope metadb.Scope, sees func(project metadb.Project, name string) bool, err error) {
	who := identity.From(ctx)
	s, err := p.catalog(ctx, &who)
	return s.scope, s.sees, err
}

func (p *Point) catalog(ctx context.Context, who *identity.Principal) (sight, error) {
	if !known(*who) {
		return sight{}, fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: the catalog is denied")
	}
	s, any, err := p.sight(ctx, who)
	if err != nil {
		return sight{}, err
	}
	reach := who.Grants == nil || who.Delegated || who.Grants.Allow(identity.Catalog, "")
	if !reach && any && lists(who.Grants) { // a token of one's own making: the list of what it reaches
		inner := s.sees
		s.sees = func(project metadb.Project, name string) bool {
			return who.Grants.AllowIn(identity.List, name, project.ID) && (inner == nil || inner(project, name))
		}
		reach = true
	}
	if any && reach {
		return s, nil
	}
	if who.Kind == identity.Anonymous || who.Grants != nil {
		f := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the list of repositories needs a login")
		f.Scope = "registry:catalog:*"
		return sight{}, f
	}
	return sight{}, fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; listing the repositories of this registry is not allowed", who)
}

// lists reports whether a token reaches repositories by patterns, which those of the Docker token flow never do.
func lists(g *identity.Grants) bool {
	for i := range g.List {
		if !g.List[i].Pattern.IsZero() {
			return true
		}
	}
	return false
}

// sight gathers what a subject sees; any is false when it can see nothing.
func (p *Point) sight(ctx context.Context, who *identity.Principal) (s sight, any bool, err error) {
	if unbound(who) {
		return sight{scope: metadb.Scope{All: true}}, true, nil
	}
	s.scope.Public = levelSet(p.o.Anonymous).has(identity.List)
	s.scope.All = p.general(who, place{number: -1}).has(identity.List) // in a private project
	var mine []*rules
	if err := p.subjects(ctx, who, func(r *rules) { mine = append(mine, r) }); err != nil {
		return s, false, err
	}
	exact := true // the scope says it all
	now := p.now()
	projects := map[int64]bool{}
	names := map[string]bool{}
	if who.Delegated {
		exact = false
		s.scope.All = true
	}
	for _, r := range mine {
		r.registry.each(now, func(one rule) {
			switch {
			case one.verbs&listing == 0:
			case one.deny:
				exact = false
			case one.pattern.IsZero():
				s.scope.All, exact = true, exact && one.verbs.has(identity.List)
			default:
				exact = false
				p.named(one.pattern, names, &s.scope)
			}
		})
		for number, f := range r.projects {
			f.each(now, func(one rule) {
				switch {
				case one.verbs&listing == 0:
				case one.deny:
					exact = false
				default:
					projects[number] = true
					exact = exact && one.pattern.IsZero() && one.verbs.has(identity.List)
				}
			})
		}
	}
	if err := p.scopeOf(ctx, &s.scope, projects, names); err != nil {
		return s, false, err
	}
	any = s.scope.All || s.scope.Public || len(s.scope.IDs) > 0 || len(names) > 0 || len(s.scope.Patterns) > 0
	if !exact {
		caller := *who
		s.sees = func(project metadb.Project, name string) bool { return p.sees(&caller, mine, project, name, now) }
	}
	return s, any, nil
}

// named takes note of the project that a pattern is about, or of the pattern when it may be about many.
func (p *Point) named(pattern ref.Pattern, names map[string]bool, scope *metadb.Scope) {
	if name, ok := pattern.Literal(); ok {
		names[name.Project()] = true
		return
	}
	first, rest := firstPart(pattern.String())
	if first == "" {
		scope.Patterns = append(scope.Patterns, pattern)
	} else if rest {
		names[first] = true
	} else {
		names[ref.DefaultProject] = true
	}
}

// firstPart is the first part of a pattern when it is always the same, and whether others follow.
func firstPart(pattern string) (first string, more bool) {
	for i := range len(pattern) {
		switch pattern[i] {
		case '*':
			return "", false
		case '/':
			return pattern[:i], true
		}
	}
	return pattern, false
}

// scopeOf makes numbers of what was gathered.
func (p *Point) scopeOf(ctx context.Context, scope *metadb.Scope, projects map[int64]bool, names map[string]bool) error {
	if scope.All || len(projects)+len(names) > maxNamed || len(scope.Patterns) > maxPatterns {
		*scope = metadb.Scope{All: true, Public: scope.Public}
		return nil
	}
	for name := range names {
		number, _, err := p.o.Projects.Lookup(ctx, name)
		if err != nil {
			return err
		}
		if number != 0 {
			projects[number] = true
		}
	}
	scope.IDs = slices.Sorted(maps.Keys(projects))
	return nil
}

// sees decides about one repository by rules that were gathered.
func (p *Point) sees(who *identity.Principal, mine []*rules, project metadb.Project, name string, now int64) bool {
	at := place{project.Name, project.ID, project.Public}
	first, _ := firstPart(name)
	total := sum{allowed: p.general(who, at)}
	for _, r := range mine {
		r.registry.repository(&total, name, first, now)
		if f := r.projects[at.number]; f != nil {
			f.repository(&total, name, first, now)
		}
	}
	if who.Delegated {
		total.allowed = p.delegated(who, at, name)
	}
	return (total.allowed &^ total.denied).has(identity.List)
}

// Projects decides which projects the caller sees in lists: those of the scope for which sees is nil or true.
func (p *Point) Projects(ctx context.Context) (scope metadb.Scope, sees func(metadb.Project) bool, err error) {
	who := identity.From(ctx)
	if !known(who) {
		return scope, nil, fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: the list of projects is denied")
	}
	s, _, err := p.sight(ctx, &who)
	if err != nil || unbound(&who) && who.Grants == nil {
		return s.scope, nil, err
	}
	if len(s.scope.Patterns) > 0 { // of repositories, in any project
		s.scope = metadb.Scope{All: true}
	}
	return s.scope, func(project metadb.Project) bool {
		at := place{project.Name, project.ID, project.Public}
		rights, err := p.inProject(ctx, &who, at)
		return err == nil && rights.has(identity.ProjectRead) && (unnarrowed(&who) || who.Grants.AllowProject(identity.ProjectRead, project.Name, project.ID))
	}, nil
}
