package identity_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

func TestContextWithoutPrincipal(t *testing.T) {
	if p := identity.From(t.Context()); p.Kind != identity.Nobody || p.Admin || p.Name != "" {
		t.Errorf("%+v", p)
	}
	p := identity.Principal{Kind: identity.User, Name: "alice"}
	if got := identity.From(identity.With(t.Context(), p)); !reflect.DeepEqual(got, p) {
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

func pattern(t *testing.T, s string) ref.Pattern {
	t.Helper()
	p, err := ref.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Grants of patterns, of projects that were made again, and of the registry.
func TestGrantsReach(t *testing.T) {
	g := &identity.Grants{List: []identity.Grant{
		{Pattern: pattern(t, "team/**"), Verbs: []identity.Verb{identity.Pull, identity.ProjectRead}},
		{Pattern: pattern(t, "bound/**"), Project: 7, Verbs: []identity.Verb{identity.Pull, identity.MemberRead}},
		{Repository: "one/app", Project: 8, Verbs: []identity.Verb{identity.Push, identity.ProjectRead}},
		{Registry: true, Verbs: []identity.Verb{identity.JobRead, identity.Pull}},
	}}
	for _, c := range []struct {
		got, want bool
		what      string
	}{
		{g.AllowIn(identity.Pull, "team/a/b", 1), true, "a pattern"},
		{g.AllowIn(identity.List, "team/a/b", 1), true, "a list of what can be pulled"},
		{g.AllowIn(identity.Push, "team/a", 1), false, "another verb"},
		{g.AllowIn(identity.Pull, "teams/a", 1), false, "beside a pattern"},
		{g.AllowIn(identity.Pull, "bound/a", 7), true, "the project it was made for"},
		{g.AllowIn(identity.Pull, "bound/a", 9), false, "a project made again"},
		{g.AllowIn(identity.Pull, "bound/a", 0), false, "a project that is gone"},
		{g.AllowIn(identity.Push, "one/app", 9), false, "a repository of a project made again"},
		{g.Allow(identity.Push, "one/app"), true, "whatever the project"},
		{g.Allow(identity.JobRead, ""), false, "a verb of the registry, of a repository"},
		{g.Allow(identity.Catalog, ""), false, "the catalog"},
		{g.AllowProject(identity.ProjectRead, "team", 3), true, "a whole project"},
		{g.AllowProject(identity.ProjectRead, "one", 8), false, "a project, by a grant on one repository"},
		{g.AllowProject(identity.MemberRead, "bound", 9), false, "a whole project made again"},
		{g.AllowRegistry(identity.JobRead), true, "the registry"},
		{g.AllowRegistry(identity.ProjectRead), false, "the registry, by a pattern"},
		{g.AllowRegistry(identity.Catalog), false, "the catalog as a verb"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", c.what, c.got)
		}
	}
}

// Each verb is of one level, and each role has all of the one before.
func TestVerbsAndRoles(t *testing.T) {
	seen := map[identity.Verb]bool{}
	for level, verbs := range map[identity.Level][]identity.Verb{
		identity.OfRepository: identity.RepositoryVerbs(), identity.OfProject: identity.ProjectVerbs(), identity.OfRegistry: identity.RegistryVerbs(),
	} {
		for _, v := range verbs {
			if seen[v] || identity.LevelOf(v) != level {
				t.Errorf("%s is of level %d, and %v", v, identity.LevelOf(v), seen)
			}
			seen[v] = true
		}
	}
	if identity.LevelOf("*") != identity.NoLevel || identity.LevelOf("") != identity.NoLevel {
		t.Error("what is no verb has a level")
	}
	var before []identity.Verb
	for _, r := range identity.BuiltinRoles() {
		for _, v := range before {
			if !slices.Contains(r.Verbs, v) {
				t.Errorf("%s lacks %s", r.Name, v)
			}
		}
		for _, v := range r.Verbs {
			if !seen[v] || identity.LevelOf(v) == identity.OfRegistry {
				t.Errorf("%s has %s", r.Name, v)
			}
		}
		if got, ok := identity.BuiltinRole(r.Name); !ok || !slices.Equal(got.Verbs, r.Verbs) || r.Description == "" {
			t.Errorf("%s is found as %v", r.Name, got)
		}
		before = r.Verbs
	}
	for _, v := range identity.AuditorVerbs() {
		if !seen[v] || v == identity.Pull || v == identity.Apply {
			t.Errorf("an auditor has %s", v)
		}
	}
	if _, ok := identity.BuiltinRole("none"); ok {
		t.Error("a role that nobody made")
	}
}
