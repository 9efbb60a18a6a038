package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// store is where grants and roles are. *metadb.DB has it.
type store interface {
	GrantsOf(ctx context.Context, s metadb.Subject) ([]metadb.Grant, error)
	Role(ctx context.Context, name string) (metadb.Role, error)
	ProjectByID(ctx context.Context, id int64) (metadb.Project, error)
	WatchAll(forget func(metadb.Change))
	Trust() func() recall.Trust
}

// rule is a grant, ready to be used.
type rule struct {
	pattern     ref.Pattern // zero: the whole of the project or registry
	deny        bool
	verbs       verbs
	from, until int64 // Unix microseconds; until 0 is for ever
}

// rules are the grants of one subject, filed so that a decision looks at few of them, however many there are: a grant on one
// repository under its name, one on a pattern under the first part of its names when that is always the same. Never
// changed once made, but for what it remembers.
type rules struct {
	of       metadb.SubjectKind
	projects map[int64]*filed
	registry filed
	size     uint32
	timed    bool // some hold for a time only

	mu   sync.RWMutex
	sums map[spot]sum // what was added up before, at most maxSums; not used when timed
}

// spot is a repository in a project.
type spot struct {
	project    int64
	repository string
}

// maxSums bounds what is remembered of one subject.
const maxSums = 1024

// at adds up what the rules say of a repository.
func (r *rules) at(name, first string, project, now int64) (s sum) {
	if r.size == 0 {
		return s
	}
	key := spot{project, name}
	if !r.timed {
		r.mu.RLock()
		s, ok := r.sums[key]
		r.mu.RUnlock()
		if ok {
			return s
		}
	}
	r.registry.repository(&s, name, first, now)
	if f := r.projects[project]; f != nil && project != 0 {
		f.repository(&s, name, first, now)
	}
	if r.timed {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sums) >= maxSums || r.sums == nil {
		r.sums = map[spot]sum{}
	}
	r.sums[key] = s
	return s
}

// filed are rules of one scope.
type filed struct {
	whole   []rule
	literal map[string][]rule
	first   map[string][]rule
	rest    []rule
}

func (f *filed) add(r rule) {
	if r.pattern.IsZero() {
		f.whole = append(f.whole, r)
		return
	}
	if name, ok := r.pattern.Literal(); ok {
		if f.literal == nil {
			f.literal = map[string][]rule{}
		}
		f.literal[name.String()] = append(f.literal[name.String()], r)
		return
	}
	first, _, _ := strings.Cut(r.pattern.String(), "/")
	if strings.Contains(first, "*") {
		f.rest = append(f.rest, r)
		return
	}
	if f.first == nil {
		f.first = map[string][]rule{}
	}
	f.first[first] = append(f.first[first], r)
}

// sum is what a set of rules comes to.
type sum struct{ allowed, denied verbs }

func (s *sum) take(list []rule, name string, now int64) {
	for i := range list {
		r := &list[i]
		if r.from > now || r.until != 0 && r.until <= now || !r.pattern.IsZero() && !r.pattern.MatchText(name) {
			continue
		}
		if r.deny {
			s.denied |= r.verbs
		} else {
			s.allowed |= r.verbs
		}
	}
}

// repository adds up what rules say of a repository; first is the first part of its name.
func (f *filed) repository(s *sum, name, first string, now int64) {
	s.take(f.whole, name, now)
	if f.literal != nil {
		s.take(f.literal[name], name, now)
	}
	if f.first != nil {
		s.take(f.first[first], name, now)
	}
	s.take(f.rest, name, now)
}

// scope adds up what rules say of the project or registry as a whole.
func (f *filed) scope(s *sum, now int64) { s.take(f.whole, "", now) }

// each calls fn with every rule that holds.
func (f *filed) each(now int64, fn func(rule)) {
	f.all(func(r rule) {
		if r.from <= now && (r.until == 0 || r.until > now) {
			fn(r)
		}
	})
}

// all calls fn with every rule, also those that do not hold yet, or no more.
func (f *filed) all(fn func(rule)) {
	use := func(list []rule) {
		for _, r := range list {
			fn(r)
		}
	}
	use(f.whole)
	for _, list := range f.literal {
		use(list)
	}
	for _, list := range f.first {
		use(list)
	}
	use(f.rest)
}

// ledger remembers the rules of subjects. What another replica changes is forgotten within metadb.TrustFor, what this one
// changes before the change is answered.
type ledger struct {
	store store
	cache *recall.Cache[metadb.Subject, *rules]
}

// ledgerSize bounds the rules that are remembered, by their number; a rule takes some 100 bytes.
const ledgerSize = 200_000

func newLedger(s store) *ledger {
	l := &ledger{store: s}
	l.cache = recall.New(recall.Options[metadb.Subject, *rules]{
		Max: ledgerSize, Weigh: func(_ metadb.Subject, r *rules) uint32 { return r.size + 1 }, Trust: s.Trust(),
	})
	s.WatchAll(l.forget)
	return l
}

func (l *ledger) forget(c metadb.Change) {
	switch c.Kind {
	case metadb.GrantsChanged:
		for _, k := range subjectKinds {
			if k.String() == c.Key {
				l.cache.Drop(metadb.Subject{Kind: k, ID: c.ID})
			}
		}
	case metadb.RoleChanged, metadb.Everything:
		l.cache.Clear()
	}
}

var subjectKinds = [...]metadb.SubjectKind{
	metadb.AccountSubject, metadb.GroupSubject, metadb.RobotSubject, metadb.SignedInSubject, metadb.EveryoneSubject,
}

func (l *ledger) of(ctx context.Context, s metadb.Subject) (*rules, error) {
	return l.cache.Get(ctx, s, func(ctx context.Context) (*rules, error) { return l.read(ctx, s) })
}

// read makes rules of a subject's grants.
func (l *ledger) read(ctx context.Context, s metadb.Subject) (*rules, error) {
	grants, err := l.store.GrantsOf(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("access: grants of %s %d: %w", s.Kind, s.ID, err)
	}
	out := &rules{of: s.Kind, size: uint32(len(grants))}
	roles := map[string]verbs{}
	for _, g := range grants {
		r := rule{deny: g.Deny, from: micros(g.From), until: micros(g.Until)}
		out.timed = out.timed || r.from != 0 || r.until != 0
		if r.verbs, err = l.verbsOf(ctx, g, roles); err != nil {
			return nil, err
		}
		if r.deny && r.verbs.has(identity.Pull) { // a list would tell of what may not be pulled
			r.verbs |= seeing
		}
		if g.Pattern != "" {
			if r.pattern, err = ref.ParsePattern(g.Pattern); err != nil {
				return nil, fmt.Errorf("access: grant %d: %w", g.ID, err)
			}
		}
		if g.Project == 0 {
			out.registry.add(r)
			continue
		}
		r.verbs &^= ofRegistry
		if out.projects == nil {
			out.projects = map[int64]*filed{}
		}
		f := out.projects[g.Project]
		if f == nil {
			f = &filed{}
			out.projects[g.Project] = f
		}
		f.add(r)
	}
	return out, nil
}

// verbsOf are the verbs of a grant. A role that is gone has none.
func (l *ledger) verbsOf(ctx context.Context, g metadb.Grant, known map[string]verbs) (verbs, error) {
	if g.Role == "" {
		return fromText(g.Verbs), nil
	}
	if v, ok := known[g.Role]; ok {
		return v, nil
	}
	v, err := l.role(ctx, g.Role)
	if err == nil {
		known[g.Role] = v
	}
	return v, err
}

func (l *ledger) role(ctx context.Context, name string) (verbs, error) {
	if r, ok := identity.BuiltinRole(name); ok {
		return setOf(r.Verbs...), nil
	}
	r, err := l.store.Role(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("access: role %s: %w", name, err)
	}
	return fromText(r.Verbs), nil
}

func fromText(list []string) (s verbs) {
	for _, v := range list {
		s |= setOf(identity.Verb(v))
	}
	return s
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
