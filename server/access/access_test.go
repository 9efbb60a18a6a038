package access_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
)

var update = flag.Bool("update", false, "write the golden files anew")

// projects knows one public and one private project.
type projects struct{ err error }

func (p projects) Lookup(_ context.Context, name string) (number int64, public bool, err error) {
	switch name {
	case "public":
		return 1, true, p.err
	case "private":
		return 2, false, p.err
	}
	return 0, false, p.err
}

func (p projects) Before(context.Context, string) (int64, error) { return 0, p.err }

var verbs = []identity.Verb{identity.Pull, identity.Push, identity.Delete}

func principals() []struct {
	name string
	p    identity.Principal
} {
	grants := func(v ...identity.Verb) *identity.Grants {
		g := &identity.Grants{}
		for _, project := range []string{"public", "private", "absent"} {
			g.List = append(g.List, identity.Grant{Repository: project + "/app", Verbs: v})
		}
		return g
	}
	type row = struct {
		name string
		p    identity.Principal
	}
	user := identity.Principal{Kind: identity.User, Name: "alice"}
	root := identity.Principal{Kind: identity.User, Name: "admin", Admin: true}
	narrowed := func(p identity.Principal, g *identity.Grants) identity.Principal { p.Grants = g; return p }
	return []row{
		{"nobody", identity.Principal{}},
		{"nobody, said to be admin", identity.Principal{Name: "x", Admin: true}},
		{"unknown kind", identity.Principal{Kind: 77, Admin: true}},
		{"anonymous", identity.Principal{Kind: identity.Anonymous}},
		{"anonymous, said to be admin", identity.Principal{Kind: identity.Anonymous, Admin: true}},
		{"anonymous with a token", narrowed(identity.Principal{Kind: identity.Anonymous}, grants(verbs...))},
		{"anonymous with an empty token", narrowed(identity.Principal{Kind: identity.Anonymous}, &identity.Grants{})},
		{"user", user},
		{"user with a token", narrowed(user, grants(verbs...))},
		{"user with a pull token", narrowed(user, grants(identity.Pull))},
		{"user with an empty token", narrowed(user, &identity.Grants{})},
		{"admin", root},
		{"admin with a pull token", narrowed(root, grants(identity.Pull))},
		{"system", identity.Principal{Kind: identity.System}},
		{"local", identity.Principal{Kind: identity.Local}},
	}
}

// cell is a decision in one word: ok, or the kind of the refusal.
func cell(err error) string {
	if err == nil {
		return "ok"
	}
	f := fault.Of(err)
	switch f.Kind {
	case fault.Unauthenticated:
		if f.Reason == fault.InsufficientScope {
			return "scope"
		}
		return "login"
	case fault.Denied:
		return "denied"
	case fault.NotFound:
		return "hidden"
	}
	return f.Message
}

// TestDecisions holds every decision of the room to testdata/decisions.golden. A line is a kind of caller, the setting,
// and its three verbs in the public, the private and the absent project, then the catalog and the base endpoint.
func TestDecisions(t *testing.T) {
	levels := []string{"none", "pull", "push", "delete"}
	var table strings.Builder
	for _, create := range []access.AutoCreate{access.AnyPusher, access.Admins, access.NoOne} {
		for _, anonymous := range levels {
			for _, users := range levels {
				a, _ := access.ParseLevel(anonymous)
				u, _ := access.ParseLevel(users)
				point := access.New(access.Options{Projects: projects{}, Anonymous: a, Users: u, AutoCreate: create})
				fmt.Fprintf(&table, "\nanonymous %s, users %s, projects made by %s\n", anonymous, users, [...]string{"any pusher", "admins", "no one"}[create])
				for _, who := range principals() {
					ctx := identity.With(t.Context(), who.p)
					fmt.Fprintf(&table, "  %-30s", who.name)
					for _, project := range []string{"public", "private", "absent"} {
						name, err := ref.ParseName(project + "/app")
						if err != nil {
							t.Fatal(err)
						}
						var cells []string
						for _, v := range verbs {
							cells = append(cells, cell(point.Check(ctx, v, name)))
						}
						fmt.Fprintf(&table, " %-21s", strings.Join(cells, " "))
					}
					scope, _, err := point.CheckCatalog(ctx)
					catalog := cell(err)
					if err == nil && !scope.All {
						catalog = "public"
					}
					fmt.Fprintf(&table, " %-7s %s\n", catalog, cell(point.CheckBase(ctx, false)))
				}
			}
		}
	}
	file := filepath.Join("testdata", "decisions.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, old := strings.Split(table.String(), "\n"), strings.Split(string(want), "\n")
	if len(got) != len(old) {
		t.Fatalf("%d lines, the golden file has %d; go test -update, and read what changed", len(got), len(old))
	}
	for i := range got {
		if got[i] != old[i] {
			t.Errorf("line %d\n got %s\nwant %s", i+1, got[i], old[i])
		}
	}
}

// TestLaws holds for every setting and caller, whatever the table says: levels include the ones before, a token only
// takes away, an account has no less than everybody, and what may not be read is like what is not there.
func TestLaws(t *testing.T) {
	for a := access.None; a <= access.Delete; a++ {
		for u := access.None; u <= access.Delete; u++ {
			for _, create := range []access.AutoCreate{access.AnyPusher, access.Admins, access.NoOne} {
				point := access.New(access.Options{Projects: projects{}, Anonymous: a, Users: u, AutoCreate: create})
				laws(t, point, fmt.Sprintf("anonymous %d users %d create %d", a, u, create))
			}
		}
	}
}

func laws(t *testing.T, point *access.Point, setting string) {
	may := func(p identity.Principal, v identity.Verb, project string) error {
		name, err := ref.ParseName(project + "/app")
		if err != nil {
			t.Fatal(err)
		}
		return point.Check(identity.With(t.Context(), p), v, name)
	}
	anonymous := identity.Principal{Kind: identity.Anonymous}
	for _, who := range principals() {
		for _, project := range []string{"public", "private", "absent"} {
			for i, v := range verbs {
				err := may(who.p, v, project)
				if err == nil && i > 0 && who.p.Grants == nil && may(who.p, verbs[i-1], project) != nil && project != "absent" {
					t.Errorf("%s: %s may %s but not %s in %s", setting, who.name, v, verbs[i-1], project)
				}
				if bare := who.p; err == nil && bare.Grants != nil {
					if bare.Grants = nil; may(bare, v, project) != nil {
						t.Errorf("%s: the token of %s gives it %s in %s", setting, who.name, v, project)
					}
				}
				if who.p.Kind == identity.User && who.p.Grants == nil && err != nil && may(anonymous, v, project) == nil {
					t.Errorf("%s: %s loses %s in %s by signing in: %v", setting, who.name, v, project, err)
				}
			}
		}
		// Who can make a project learns by that whether it is there. Nobody else does.
		bare := who.p
		bare.Grants = nil
		private, absent := may(who.p, identity.Pull, "private"), may(who.p, identity.Pull, "absent")
		if may(bare, identity.Push, "absent") != nil && answer(private) != answer(absent) {
			t.Errorf("%s: %s can tell a private project (%v) from one that is not there (%v)", setting, who.name, private, absent)
		}
	}
}

// answer is all that a caller sees of a decision, without the name that it asked for.
func answer(err error) string {
	if err == nil {
		return "ok"
	}
	f := fault.Of(err)
	return strings.NewReplacer("private", "NAME", "absent", "NAME").Replace(fmt.Sprint(f.Kind, f.Reason, f.Message, f.Scope))
}

// A challenge asks for the scope that would help, so that the client's next token has it.
func TestScopeOfRefusals(t *testing.T) {
	point := access.New(access.Options{Projects: projects{}, Anonymous: access.Pull, Users: access.Delete})
	empty := &identity.Grants{}
	name, _ := ref.ParseName("private/app")
	for _, who := range []identity.Principal{{Kind: identity.Anonymous}, {Kind: identity.User, Name: "alice", Grants: empty}} {
		ctx := identity.With(t.Context(), who)
		for v, want := range map[identity.Verb]string{
			identity.Pull: "repository:private/app:pull", identity.Push: "repository:private/app:pull,push", identity.Delete: "repository:private/app:delete",
		} {
			if err := point.Check(ctx, v, name); fault.Of(err).Scope != want {
				t.Errorf("%s as %s: scope %q, want %q", v, who, fault.Of(err).Scope, want)
			}
		}
	}
}

func TestNarrow(t *testing.T) {
	point := access.New(access.Options{Projects: projects{}, Anonymous: access.Pull, Users: access.Push})
	ask := []identity.Grant{
		{Repository: "public/app", Verbs: []identity.Verb{identity.Pull, identity.Push, identity.Delete}},
		{Repository: "private/app", Verbs: []identity.Verb{"*"}},
		{Repository: "absent/app", Verbs: []identity.Verb{identity.Pull}},
		{Repository: "../Bad", Verbs: []identity.Verb{identity.Pull}},
		{Catalog: true, Verbs: []identity.Verb{"*"}},
		{Repository: "public/other", Verbs: []identity.Verb{"made-up"}},
	}
	text := func(gs []identity.Grant) string {
		var out []string
		for _, g := range gs {
			name := g.Repository
			if g.Catalog {
				name = "catalog"
			}
			out = append(out, fmt.Sprint(name, g.Verbs))
		}
		return strings.Join(out, " ")
	}
	for _, test := range []struct {
		who  identity.Principal
		want string
	}{
		{identity.Principal{}, ""},
		{identity.Principal{Kind: identity.Anonymous}, "public/app[pull] catalog[catalog]"},
		{identity.Principal{Kind: identity.User, Name: "alice"}, "public/app[pull push] private/app[pull push] absent/app[pull] catalog[catalog]"},
		{identity.Principal{Kind: identity.User, Name: "alice", Grants: &identity.Grants{List: []identity.Grant{{Repository: "private/app", Verbs: []identity.Verb{identity.Pull}}}}}, "private/app[pull]"},
	} {
		got, err := point.Narrow(t.Context(), test.who, ask)
		if err != nil || text(got) != test.want {
			t.Errorf("%s: %s, %v; want %s", test.who, text(got), err, test.want)
		}
	}
	// An administrator may everything, also a verb that a later version made up; what a token may say is decided by the auth
	// room's closed list.
	got, err := point.Narrow(t.Context(), identity.Principal{Kind: identity.User, Name: "admin", Admin: true}, ask)
	if err != nil || !slices.ContainsFunc(got, func(g identity.Grant) bool { return g.Repository == "private/app" && len(g.Verbs) == 3 }) {
		t.Errorf("%s, %v", text(got), err)
	}
}

// When the projects cannot be read, nothing is allowed and nothing is said about why.
func TestProjectsFail(t *testing.T) {
	broken := errors.New("connection refused to db.internal")
	point := access.New(access.Options{Projects: projects{err: broken}, Anonymous: access.Delete, Users: access.Delete})
	name, _ := ref.ParseName("public/app")
	for _, who := range principals() {
		err := point.Check(identity.With(t.Context(), who.p), identity.Pull, name)
		if !errors.Is(err, broken) || strings.Contains(fault.Of(err).Message, "db.internal") {
			t.Errorf("%s: %v", who.name, err)
		}
	}
	if _, err := point.Narrow(t.Context(), identity.Principal{Kind: identity.User}, []identity.Grant{{Repository: "public/app", Verbs: verbs}}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestParseLevel(t *testing.T) {
	for i, s := range []string{"none", "pull", "push", "delete"} {
		if l, err := access.ParseLevel(s); err != nil || int(l) != i {
			t.Errorf("%s: %d, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "Pull", "all", "write"} {
		if l, err := access.ParseLevel(s); err == nil || l != access.None {
			t.Errorf("%q: %d, %v", s, l, err)
		}
	}
}
