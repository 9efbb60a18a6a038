// Package identity says who is calling: the Principal, what a token narrows it to, and its place in a context.
//
// Faces and jobs put a Principal into the context; engines take it out and ask the access room. A context without one
// yields the empty principal, which may do nothing at all.
package identity

import (
	"context"
	"slices"
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

// Verb is one thing that can be done to a repository or to the registry.
type Verb string

// The verbs of the distribution API. Later rooms add theirs here, so that one list names them all.
const (
	Pull    Verb = "pull"
	Push    Verb = "push"
	Delete  Verb = "delete"
	Catalog Verb = "catalog" // list repositories; the list itself is filtered by what may be pulled
)

// Principal is who is calling.
type Principal struct {
	Kind  Kind
	Name  string // account name; "" for anonymous and nobody
	Admin bool   // may everything
	// Grants narrows the principal to what a token carries. nil means no narrowing: the caller proved itself with
	// a password. A token can only ever take rights away.
	Grants *Grants
	// Addr is the caller's address without port, for records; "" when there is none.
	Addr string
}

// Grants is the access list of a bearer token.
type Grants struct {
	List []Grant
}

// Grant allows verbs on one repository, or on the catalog when Catalog is true.
type Grant struct {
	Repository string
	Catalog    bool
	Verbs      []Verb
}

// Allow reports whether the list contains the verb on the repository. A nil list allows everything.
func (g *Grants) Allow(v Verb, repository string) bool {
	if g == nil {
		return true
	}
	for i := range g.List {
		e := &g.List[i]
		if (v == Catalog) != e.Catalog || (v != Catalog && e.Repository != repository) {
			continue
		}
		if slices.Contains(e.Verbs, v) || slices.Contains(e.Verbs, "*") {
			return true
		}
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
