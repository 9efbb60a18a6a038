package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

// maxScopes is how many resources one token may name. Clients ask for one or two, a mount for three.
const maxScopes = 100

// resource is one entry of a token's access claim.
//
// Spec: distribution, "Docker Registry v2 authentication: JSON Web Token".
type resource struct {
	Type    string   `json:"type"`
	Class   string   `json:"class,omitempty"` // of type "repository(plugin)"; carried by others' tokens, not used
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
	// Project is the number of the project that owned the repository when the token was made. A token is worthless in a
	// project that was made after another one of its name was deleted.
	Project int64 `json:"project,omitempty"`
}

// parseScopes reads the scope parameters of a token request: each holds scopes separated by spaces, each scope is
// type:name:action[,action…], for example repository:team/app:pull,push or registry:catalog:*. What is not understood
// is left out instead of refused: the token then simply does not reach there, and the client learns it from the
// request it makes, whose answer can say what was wrong with the name.
func parseScopes(params []string) ([]identity.Grant, error) {
	var grants []identity.Grant
	for _, param := range params {
		for scope := range strings.FieldsSeq(param) {
			if g, ok := parseScope(scope); ok {
				grants = merge(grants, g)
			}
			if len(grants) > maxScopes {
				return nil, fault.New(fault.Invalid, fault.UnsupportedReason,
					"token request names more than %d repositories; ask for fewer at a time", maxScopes)
			}
		}
	}
	return grants, nil
}

// parseScope takes the name from between the first and the last colon, as distribution does.
func parseScope(scope string) (identity.Grant, bool) {
	kind, rest, ok := strings.Cut(scope, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 0 {
		return identity.Grant{}, false
	}
	name, actions := rest[:i], strings.Split(rest[i+1:], ",")
	if kind == "registry" {
		// docker search asks for "search", which is the catalog in other words.
		if name != "catalog" || !slices.Contains(actions, "*") && !slices.Contains(actions, "search") {
			return identity.Grant{}, false
		}
		return identity.Grant{Catalog: true, Verbs: []identity.Verb{identity.Catalog}}, true
	}
	if kind, class, ok := strings.Cut(kind, "("); kind != "repository" || ok && !strings.HasSuffix(class, ")") {
		return identity.Grant{}, false
	}
	if _, err := ref.ParseName(name); err != nil {
		return identity.Grant{}, false
	}
	g := identity.Grant{Repository: name}
	for _, a := range actions {
		switch v := identity.Verb(a); v {
		case "*":
			g.Verbs = addVerbs(g.Verbs, identity.Pull, identity.Push, identity.Delete)
		case identity.Pull, identity.Push, identity.Delete:
			g.Verbs = addVerbs(g.Verbs, v)
		}
	}
	return g, len(g.Verbs) > 0
}

func addVerbs(list []identity.Verb, verbs ...identity.Verb) []identity.Verb {
	for _, v := range verbs {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list
}

// merge adds g, so that a resource is in the list once.
func merge(list []identity.Grant, g identity.Grant) []identity.Grant {
	for i := range list {
		if list[i].Catalog == g.Catalog && list[i].Repository == g.Repository {
			list[i].Verbs = addVerbs(list[i].Verbs, g.Verbs...)
			return list
		}
	}
	return append(list, g)
}

// intersect keeps of want what given allows too. The access room is trusted to narrow and never to widen; this is
// what makes that trust unnecessary.
func intersect(want, given []identity.Grant) []identity.Grant {
	allowed := &identity.Grants{List: given}
	var out []identity.Grant
	for _, w := range want {
		g := identity.Grant{Repository: w.Repository, Catalog: w.Catalog}
		for _, v := range w.Verbs {
			if allowed.Allow(v, w.Repository) {
				g.Verbs = append(g.Verbs, v)
			}
		}
		for _, given := range given {
			if given.Repository == w.Repository && given.Catalog == w.Catalog {
				g.Project = given.Project
			}
		}
		if len(g.Verbs) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// within keeps what a caller who is narrowed already, by a personal access token or a rule of an issuer, reaches.
func within(grants []identity.Grant, reach *identity.Grants) []identity.Grant {
	if reach == nil {
		return grants
	}
	var out []identity.Grant
	for _, g := range grants {
		g.Verbs = slices.DeleteFunc(slices.Clone(g.Verbs), func(v identity.Verb) bool { return !reach.Allow(v, g.Repository) })
		if len(g.Verbs) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// toAccess is the access claim of the grants.
func toAccess(grants []identity.Grant) []resource {
	out := make([]resource, 0, len(grants))
	for _, g := range grants {
		if g.Catalog {
			out = append(out, resource{Type: "registry", Name: "catalog", Actions: []string{"*"}})
			continue
		}
		r := resource{Type: "repository", Name: g.Repository, Project: g.Project}
		for _, v := range g.Verbs {
			r.Actions = append(r.Actions, string(v))
		}
		out = append(out, r)
	}
	return out
}

// fromAccess is strict, the opposite of parseScopes: a token was made by this code or is not accepted.
func fromAccess(access []resource) (*identity.Grants, error) {
	if len(access) > maxScopes {
		return nil, fmt.Errorf("auth: access claim has %d entries", len(access))
	}
	grants := &identity.Grants{List: make([]identity.Grant, 0, len(access))}
	for _, r := range access {
		g := identity.Grant{}
		switch {
		case r.Type == "registry" && r.Name == "catalog" && slices.Equal(r.Actions, []string{"*"}):
			g.Catalog, g.Verbs = true, []identity.Verb{identity.Catalog}
		case r.Type == "repository" && len(r.Actions) > 0:
			if _, err := ref.ParseName(r.Name); err != nil {
				return nil, fmt.Errorf("auth: access claim: %w", err)
			}
			g.Repository, g.Project = r.Name, r.Project
			for _, a := range r.Actions {
				switch v := identity.Verb(a); v {
				case identity.Pull, identity.Push, identity.Delete:
					g.Verbs = append(g.Verbs, v)
				default:
					return nil, fmt.Errorf("auth: access claim has action %.20q", a)
				}
			}
		default:
			return nil, fmt.Errorf("auth: access claim has type %.20q", r.Type)
		}
		grants.List = append(grants.List, g)
	}
	return grants, nil
}

// scopeText is the grants as a scope parameter, for the OAuth answer.
func scopeText(grants []identity.Grant) string {
	var parts []string
	for _, r := range toAccess(grants) {
		parts = append(parts, r.Type+":"+r.Name+":"+strings.Join(r.Actions, ","))
	}
	return strings.Join(parts, " ")
}
