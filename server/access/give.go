package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// CheckGive decides whether the context's principal may bring it about that grants hold which allow something, and that grants
// hold no more which deny something: in both cases somebody may then do what the grant says. Nobody gives what they may not do
// themselves, on all repositories of the grant's pattern, for all of its time, and with the token that they hold. Whether the
// caller may write grants there is another question, of [Point.CheckProject] and [Point.CheckSystem].
//
// It is what every change asks that gives rights or ends denials, by whatever road: grants, roles, groups, robots and accounts.
// One grant of the caller's has to allow all of what is given: what several allow together does not count. A denial of the
// caller's stands in the way when it can be about any of it, unless it binds who is given it as well: what is denied to
// everyone stays denied.
func (p *Point) CheckGive(ctx context.Context, grants ...metadb.Grant) error {
	who := identity.From(ctx)
	switch {
	case !known(who):
		return fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: this is denied")
	case who.Kind == identity.Anonymous:
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this needs a login")
	case unbound(&who) && who.Grants == nil:
		return nil
	case p.ledger == nil:
		return fault.New(fault.Denied, fault.DeniedReason, "nobody was granted anything here: there is nothing to give")
	}
	var mine []*rules
	if err := p.subjects(ctx, &who, func(r *rules) { mine = append(mine, r) }); err != nil {
		return err
	}
	for _, g := range grants {
		if err := p.checkGive(ctx, &who, mine, g); err != nil {
			return err
		}
	}
	return nil
}

// CheckGiveAll is CheckGive of all that is allowed to a subject: to put somebody into a group, for instance.
func (p *Point) CheckGiveAll(ctx context.Context, s metadb.Subject) error {
	return p.checkAll(ctx, false, "what is allowed to this "+s.Kind.String(), s)
}

// CheckTakeAll is CheckGive of all that is denied to a subject: to take somebody out of a group, or to remove it.
func (p *Point) CheckTakeAll(ctx context.Context, s metadb.Subject) error {
	return p.checkAll(ctx, true, "what is denied to this "+s.Kind.String(), s)
}

// CheckActAs decides whether the context's principal may get hold of what proves another account or robot, such as its password
// or secret: who has that may do all that the other may. What every account may by the configuration, or by what was granted to
// signed-in and everyone, is not asked for: an account to do that with can be made by who may write accounts at all.
func (p *Point) CheckActAs(ctx context.Context, as identity.Principal) error {
	who := identity.From(ctx)
	kind, subjects := metadb.RobotSubject, []metadb.Subject{{Kind: metadb.RobotSubject, ID: as.ID}}
	if as.Kind == identity.User {
		kind, subjects = metadb.AccountSubject, []metadb.Subject{{Kind: metadb.AccountSubject, ID: as.ID}}
		for _, id := range as.Groups {
			subjects = append(subjects, metadb.Subject{Kind: metadb.GroupSubject, ID: id})
		}
	}
	switch {
	case known(who) && unbound(&who) && who.Grants == nil:
		return nil
	case as.Admin || as.Auditor:
		return fault.New(fault.Denied, fault.DeniedReason, "%s %q is an administrator or auditor; only an administrator may do that", kind, as.Name)
	case who.Kind == as.Kind && who.ID == as.ID && who.ID != 0 && who.Grants == nil && !who.Delegated:
		return nil
	}
	return p.checkAll(ctx, false, fmt.Sprintf("all that %s %q may do", kind, as.Name), subjects...)
}

// checkAll asks for all grants of subjects that deny, or that allow. The refusal names none of them: who asks may not know them.
func (p *Point) checkAll(ctx context.Context, deny bool, what string, subjects ...metadb.Subject) error {
	who := identity.From(ctx)
	if known(who) && unbound(&who) && who.Grants == nil || p.ledger == nil {
		return nil
	}
	var grants []metadb.Grant
	for _, s := range subjects {
		list, err := p.ledger.store.GrantsOf(ctx, s)
		if err != nil {
			return fmt.Errorf("access: grants of %s %d: %w", s.Kind, s.ID, err)
		}
		for _, g := range list {
			if g.Deny == deny {
				grants = append(grants, g)
			}
		}
	}
	err := p.CheckGive(ctx, grants...)
	switch {
	case fault.Is(err, fault.Denied):
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s, who may not do %s; ask an administrator of this registry", who, what).Because(err)
	case fault.Has(err, fault.InsufficientScope):
		return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not reach %s; use a password, or a token that does", who, what).Because(err)
	}
	return err
}

// region is what a grant is about, and when.
type region struct {
	at       place // number 0 is the registry as a whole
	pattern  ref.Pattern
	from, to int64 // Unix microseconds; to 0 is for ever
}

func (p *Point) checkGive(ctx context.Context, who *identity.Principal, mine []*rules, g metadb.Grant) error {
	given, err := p.ledger.verbsOf(ctx, g, map[string]verbs{})
	if err != nil {
		return err
	}
	r := region{from: max(micros(g.From), p.now()), to: micros(g.Until)}
	if r.to != 0 && r.to <= r.from {
		return nil // it is over, and gives nothing
	}
	if g.Pattern != "" {
		if r.pattern, err = ref.ParsePattern(g.Pattern); err != nil {
			return err
		}
	}
	if g.Project != 0 {
		given &^= ofRegistry
		project, err := p.ledger.store.ProjectByID(ctx, g.Project)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil // nor does one in a project that is gone
		}
		if err != nil {
			return fmt.Errorf("access: project %d: %w", g.Project, err)
		}
		r.at = place{project.Name, project.ID, project.Public}
	}
	if g.Deny && given.has(identity.Pull) {
		given |= seeing // as a denial of it denied
	}
	for _, v := range given.list() {
		if !unbound(who) {
			denied, err := p.denied(ctx, mine, v, r, g)
			if err != nil {
				return err
			}
			if allowed, end := p.allows(who, mine, v, r); denied || !allowed {
				return refuseGive(*who, v, r, end, denied)
			}
		}
		if !unnarrowed(who) && !who.Grants.Covers(v, r.at.name, r.at.number, r.pattern) {
			return fault.New(fault.Unauthenticated, fault.InsufficientScope, "the token of %s does not allow %s of %s, so that it cannot give it; use a password, or a token that does", who, v, r)
		}
	}
	return nil
}

func refuseGive(who identity.Principal, v identity.Verb, r region, end int64, denied bool) error {
	switch {
	case denied:
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of %s cannot be given by who may not do it: some of it is denied to you; ask an administrator", who, v, r)
	case end != 0:
		return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of %s cannot be given beyond %s, when your own right to it ends; give it until then, or ask an administrator", who, v, r, time.UnixMicro(end).UTC().Format(time.RFC3339))
	}
	return fault.New(fault.Denied, fault.DeniedReason, "you are signed in as %s; %s of %s cannot be given by who may not do it; ask an administrator", who, v, r)
}

// String says what the region is to people.
func (r region) String() string {
	switch {
	case !r.pattern.IsZero():
		return r.pattern.String()
	case r.at.number == 0:
		return "this registry"
	}
	return "project " + r.at.name
}

// allows reports whether the caller may do v in all of the region. When it may, but not until the end, end is when it ends.
func (p *Point) allows(who *identity.Principal, mine []*rules, v identity.Verb, r region) (yes bool, end int64) {
	at := r.at
	if at.number == 0 {
		at.number = -1 // what holds in every project
	}
	held := p.general(who, at) &^ ofRegistry
	if who.Delegated {
		return held.has(v) || who.Grants != nil && who.Grants.Covers(v, r.at.name, r.at.number, r.pattern), 0
	}
	if who.Kind == identity.User && who.Auditor {
		held |= ofAuditor
	}
	if held.has(v) {
		return true, 0
	}
	covers := func(one rule, number int64) bool {
		switch {
		case one.deny || !one.verbs.has(v) || one.from > r.from || !one.includes(number, v, r):
		case one.until == 0 || r.to != 0 && r.to <= one.until:
			return true
		case one.until > r.from:
			end = max(end, one.until)
		}
		return false
	}
	for _, m := range mine {
		if m.any(r.at.number, covers) {
			return true, 0
		}
	}
	return false, end
}

// any reports whether fn says yes to a rule of the registry, or of the project with that number; 0 is no project.
func (r *rules) any(project int64, fn func(one rule, project int64) bool) (yes bool) {
	r.registry.all(func(one rule) { yes = yes || fn(one, 0) })
	if f := r.projects[project]; f != nil && project != 0 {
		f.all(func(one rule) { yes = yes || fn(one, project) })
	}
	return yes
}

// includes reports whether a rule of the registry (0) or of a project is about all of the region.
func (one *rule) includes(project int64, v identity.Verb, r region) bool {
	switch {
	case one.pattern.IsZero():
		return project == 0 || project == r.at.number
	case project != 0 && project != r.at.number, identity.LevelOf(v) == identity.OfRegistry:
		return false
	case !r.pattern.IsZero():
		return one.pattern.Includes(r.pattern)
	}
	return project == 0 && one.wholeOf(r.at)
}

// wholeOf reports whether a rule of the registry is about all of a project by its pattern: team/** is all of team.
func (one *rule) wholeOf(at place) bool {
	return at.number != 0 && at.name != ref.DefaultProject && one.pattern.String() == at.name+"/**"
}

// denied reports whether something denies v to the caller that can be about a part of the region. For a grant that allows, what
// denies it as well to who it is for does not count.
func (p *Point) denied(ctx context.Context, mine []*rules, v identity.Verb, r region, g metadb.Grant) (bool, error) {
	for _, m := range mine {
		if !g.Deny && bindsToo(m.of, g.Subject.Kind) {
			continue
		}
		against := func(one rule) bool {
			return one.deny && one.verbs.has(v) && (one.until == 0 || one.until > r.from) && (r.to == 0 || one.from < r.to)
		}
		found := false
		m.registry.all(func(one rule) { found = found || against(one) && one.meets(place{}, v, r) })
		if found {
			return true, nil
		}
		for number, f := range m.projects {
			if r.at.number != 0 && r.at.number != number {
				continue
			}
			any := false
			f.all(func(one rule) { any = any || against(one) })
			if !any {
				continue
			}
			project, err := p.ledger.store.ProjectByID(ctx, number)
			if errors.Is(err, metadb.ErrNotFound) {
				continue
			}
			if err != nil {
				return false, fmt.Errorf("access: project %d: %w", number, err)
			}
			f.all(func(one rule) {
				found = found || against(one) && one.meets(place{name: project.Name, number: number}, v, r)
			})
			if found {
				return true, nil
			}
		}
	}
	return false, nil
}

// bindsToo reports whether what is denied to a subject of one kind is denied to each of another.
func bindsToo(denied, to metadb.SubjectKind) bool {
	switch denied {
	case metadb.EveryoneSubject:
		return true
	case metadb.SignedInSubject:
		return to == metadb.AccountSubject || to == metadb.GroupSubject || to == metadb.SignedInSubject
	}
	return false
}

// meets reports whether a denial of the registry, or of a project, can be about a part of the region.
func (one *rule) meets(at place, v identity.Verb, r region) bool {
	whole := one.pattern.IsZero()
	switch identity.LevelOf(v) {
	case identity.OfRegistry:
		return whole && at.number == 0
	case identity.OfProject: // those with a pattern are about repositories, unless it is all of a project
		if !whole {
			name, rest := firstPart(one.pattern.String())
			return at.number == 0 && rest && one.pattern.String() == name+"/**" && (r.at.number == 0 || r.at.name == name)
		}
		return at.number == 0 || r.at.number == at.number || r.at.number == 0 && names(at, ref.Pattern{}).meet(names(r.at, r.pattern))
	}
	return names(at, one.pattern).meet(names(r.at, r.pattern))
}

// set is what repositories a rule or region is about, as patterns.
type set []ref.Pattern

// names are the repositories of a pattern, or with the zero Pattern all of a project, or of the registry.
func names(at place, pattern ref.Pattern) set {
	switch {
	case !pattern.IsZero():
		return set{pattern}
	case at.number == 0:
		return set{parsed("**")}
	case at.name == ref.DefaultProject:
		return set{parsed("*"), parsed(at.name + "/**")}
	}
	return set{parsed(at.name + "/**")}
}

func parsed(s string) ref.Pattern {
	p, err := ref.ParsePattern(s)
	if err != nil {
		return ref.Pattern{} // no project has such a name
	}
	return p
}

func (s set) meet(t set) bool {
	for _, a := range s {
		for _, b := range t {
			if a.Meets(b) {
				return true
			}
		}
	}
	return false
}
