package access

import (
	"math/bits"
	"slices"

	"github.com/berth-registry/berth/server/identity"
)

// verbs is a set of verbs: one bit for each that this version knows, in the order of allVerbs.
type verbs uint64

// allVerbs are the verbs in the order of their bits, those of repositories first.
func allVerbs() []identity.Verb {
	return slices.Concat(identity.RepositoryVerbs(), identity.ProjectVerbs(), identity.RegistryVerbs())
}

// bit is the set of one verb; a verb that nobody knows is in no set. The repository's come first: they are asked for most.
func bit(v identity.Verb) verbs {
	switch v {
	case identity.Pull:
		return 1 << 0
	case identity.Push:
		return 1 << 1
	case identity.Delete:
		return 1 << 2
	case identity.List:
		return 1 << 3
	}
	if i := slices.Index(allVerbs(), v); i >= 0 {
		return 1 << i
	}
	return 0
}

// setOf is the set of verbs. "*" is all of them.
func setOf(list ...identity.Verb) (s verbs) {
	for _, v := range list {
		if v == "*" {
			return 1<<len(allVerbs()) - 1
		}
		s |= bit(v)
	}
	return s
}

// list are the verbs of the set, in the order in which people read them.
func (s verbs) list() []identity.Verb {
	out := make([]identity.Verb, 0, bits.OnesCount64(uint64(s)))
	for i, v := range allVerbs() {
		if s&(1<<i) != 0 {
			out = append(out, v)
		}
	}
	return out
}

func (s verbs) has(v identity.Verb) bool { return s&bit(v) != 0 }

// Sets that decisions need.
var (
	everyVerb  = setOf("*")
	ofRegistry = setOf(identity.RegistryVerbs()...)
	ofAuditor  = setOf(identity.AuditorVerbs()...)
	seeing     = setOf(identity.Pull, identity.List) // who has none of these is not told that a repository is there
	listing    = setOf(identity.List, identity.ProjectRead)
	pulling    = seeing | setOf(identity.ProjectRead, identity.Catalog)
	pushing    = pulling | setOf(identity.Push, identity.Restore)
	deleting   = pushing | setOf(identity.Delete)
)
