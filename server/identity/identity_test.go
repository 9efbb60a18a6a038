package identity_test

import (
	"testing"

	"github.com/berth-registry/berth/server/identity"
)

func TestContextWithoutPrincipal(t *testing.T) {
	if p := identity.From(t.Context()); p.Kind != identity.Nobody || p.Admin || p.Name != "" {
		t.Errorf("%+v", p)
	}
	p := identity.Principal{Kind: identity.User, Name: "alice"}
	if got := identity.From(identity.With(t.Context(), p)); got != p {
		t.Errorf("%+v", got)
	}
}

// Uploads belong to whom a name says, and records are read by it: two principals must not share one.
func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]identity.Principal{}
	for _, p := range []identity.Principal{
		{}, {Kind: identity.Anonymous}, {Kind: identity.System}, {Kind: identity.Local},
		{Kind: identity.User, Name: "alice"}, {Kind: identity.User, Name: "anonymous"}, {Kind: identity.User, Name: "system"}, {Kind: identity.User, Name: "local"}, {Kind: identity.User, Name: "nobody"},
	} {
		if before, twice := seen[p.String()]; twice {
			t.Errorf("%+v and %+v are both called %s", before, p, p)
		}
		seen[p.String()] = p
	}
}

func TestGrantsAllow(t *testing.T) {
	var open *identity.Grants
	if !open.Allow(identity.Delete, "a/b") || !open.Allow(identity.Catalog, "") {
		t.Error("no narrowing narrows")
	}
	if (&identity.Grants{}).Allow(identity.Pull, "a/b") {
		t.Error("an empty list allows")
	}
	g := &identity.Grants{List: []identity.Grant{
		{Repository: "a/b", Verbs: []identity.Verb{identity.Pull}},
		{Repository: "a/b", Verbs: []identity.Verb{identity.Push}},
		{Repository: "all", Verbs: []identity.Verb{"*"}},
	}}
	for _, test := range []struct {
		verb identity.Verb
		repo string
		want bool
	}{
		{identity.Pull, "a/b", true}, {identity.Push, "a/b", true}, {identity.Delete, "a/b", false}, {identity.Pull, "a", false},
		{identity.Pull, "a/b/c", false}, {identity.Pull, "", false}, {identity.Delete, "all", true}, {identity.Catalog, "", false},
		{identity.Catalog, "all", false}, {identity.Catalog, "a/b", false},
	} {
		if g.Allow(test.verb, test.repo) != test.want {
			t.Errorf("%s of %q: %v", test.verb, test.repo, !test.want)
		}
	}
	c := &identity.Grants{List: []identity.Grant{{Catalog: true, Verbs: []identity.Verb{"*"}}}}
	if !c.Allow(identity.Catalog, "") || c.Allow(identity.Pull, "") {
		t.Error("the catalog is the catalog and nothing else")
	}
}
