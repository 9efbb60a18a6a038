package access

import (
	"context"
	"strings"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// place is a project as far as decisions need it; number 0 is one that does not exist.
type place struct {
	name   string
	number int64
	public bool
}

// subjects calls fn with the rules of everyone that the principal is. A caller that has no row, such as one whose rights
// somebody else decided, has those of classes alone.
func (p *Point) subjects(ctx context.Context, who *identity.Principal, fn func(*rules)) error {
	if p.ledger == nil {
		return nil
	}
	use := func(kind metadb.SubjectKind, id int64) error {
		r, err := p.ledger.of(ctx, metadb.Subject{Kind: kind, ID: id})
		if err == nil {
			fn(r)
		}
		return err
	}
	switch {
	case who.Kind == identity.User && !who.Delegated:
		if who.ID != 0 {
			if err := use(metadb.AccountSubject, who.ID); err != nil {
				return err
			}
		}
		for _, g := range who.Groups {
			if err := use(metadb.GroupSubject, g); err != nil {
				return err
			}
		}
	case who.Kind == identity.Robot && !who.Delegated && who.ID != 0:
		if err := use(metadb.RobotSubject, who.ID); err != nil {
			return err
		}
	}
	if who.Kind == identity.User { // also when delegated: what is denied to every account is
		if err := use(metadb.SignedInSubject, 0); err != nil {
			return err
		}
	}
	return use(metadb.EveryoneSubject, 0)
}

// rights is what the subject, whatever token it holds, may do to a repository of a project.
//
// What is denied is denied, however it was allowed, to all but administrators.
func (p *Point) rights(ctx context.Context, who *identity.Principal, name ref.Name, at place) (verbs, error) {
	if unbound(who) {
		return everyVerb, nil
	}
	if !known(*who) {
		return 0, nil
	}
	total := sum{allowed: p.general(who, at)}
	text := name.String()
	first, _, _ := strings.Cut(text, "/")
	now := p.now()
	err := p.subjects(ctx, who, func(r *rules) {
		one := r.at(text, first, at.number, now)
		total.allowed |= one.allowed
		total.denied |= one.denied
	})
	if err != nil {
		return 0, err
	}
	if who.Delegated {
		total.allowed = p.delegated(who, at, text)
		if waits(who, text) {
			number, err := p.unborn(ctx, at.name)
			if err != nil {
				return 0, err
			}
			total.allowed |= p.delegated(who, place{name: at.name, number: number}, text)
		}
	}
	return total.allowed &^ total.denied, nil
}

// inProject is what the subject may do to a project as a whole, and to all that is in it.
func (p *Point) inProject(ctx context.Context, who *identity.Principal, at place) (verbs, error) {
	if unbound(who) {
		return everyVerb, nil
	}
	if !known(*who) {
		return 0, nil
	}
	total := sum{allowed: p.general(who, at)}
	now := p.now()
	err := p.subjects(ctx, who, func(r *rules) {
		r.registry.scope(&total, now)
		if first := r.registry.first[at.name]; first != nil { // team/** is all of team
			for _, one := range first {
				if one.pattern.String() == at.name+"/**" {
					total.take([]rule{{deny: one.deny, verbs: one.verbs, from: one.from, until: one.until}}, "", now)
				}
			}
		}
		if f := r.projects[at.number]; f != nil && at.number != 0 {
			f.scope(&total, now)
		}
	})
	if err != nil {
		return 0, err
	}
	if who.Delegated {
		total.allowed = 0
		for _, v := range allVerbs() {
			if who.Grants != nil && who.Grants.AllowProject(v, at.name, at.number) {
				total.allowed |= bit(v)
			}
		}
	}
	return total.allowed &^ total.denied, nil
}

// inRegistry is what the subject may do to the registry as a whole.
func (p *Point) inRegistry(ctx context.Context, who *identity.Principal) (verbs, error) {
	if unbound(who) {
		return everyVerb, nil
	}
	if !known(*who) || who.Kind == identity.Anonymous || who.Delegated {
		return 0, nil
	}
	var total sum
	reach := ofRegistry
	if who.Auditor {
		total.allowed, reach = ofAuditor, ofRegistry|bit(identity.RobotRead) // also of robots that belong to no project
	}
	now := p.now()
	err := p.subjects(ctx, who, func(r *rules) { r.registry.scope(&total, now) })
	return total.allowed &^ total.denied & reach, err
}

// unbound reports whether rules do not bind the principal: berthd itself, who has the machine, and administrators.
func unbound(who *identity.Principal) bool {
	switch who.Kind {
	case identity.System, identity.Local:
		return true
	case identity.User, identity.Robot:
		return who.Admin && !who.Delegated
	}
	return false
}

// general is what the configuration and the project's visibility allow, without any grant.
func (p *Point) general(who *identity.Principal, at place) verbs {
	allowed := p.everybody(at)
	if who.Kind == identity.User && !who.Delegated {
		allowed |= levelSet(p.o.Users)
		if who.Auditor {
			allowed |= ofAuditor
		}
	}
	return allowed
}

// delegated is what a token says by which somebody else has decided, and what everybody may.
func (p *Point) delegated(who *identity.Principal, at place, name string) (allowed verbs) {
	allowed = p.everybody(at)
	for _, v := range identity.RepositoryVerbs() {
		if who.Grants != nil && who.Grants.AllowIn(v, name, at.number) {
			allowed |= bit(v)
		}
	}
	return allowed
}

func levelSet(l Level) verbs {
	return [...]verbs{None: 0, Pull: pulling, Push: pushing, Delete: deleting}[l]
}

// everybody is the right of callers without credentials. A project that is not there is like a public one where their
// push would make it, and is then public; elsewhere it is like a private one, so that nobody can tell the two apart.
// Nobody loses by signing in what everybody has.
func (p *Point) everybody(at place) verbs {
	if at.public || at.number == 0 && p.o.Anonymous >= Push && p.o.AutoCreate == AnyPusher {
		return levelSet(p.o.Anonymous)
	}
	return 0
}
