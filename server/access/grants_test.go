package access_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
)

// house is a point over a real database.
type house struct {
	*access.Point
	db  *metadb.DB
	now time.Time
	ids map[string]int64 // projects, accounts, groups and robots by name
}

func newHouse(t testing.TB, o access.Options) *house {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{Path: metadbtest.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	directory, err := project.NewDirectory(t.Context(), project.DirectoryOptions{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{db: db, now: time.Now(), ids: map[string]int64{}}
	o.Projects, o.Grants, o.Now = directory, db, func() time.Time { return h.now }
	h.Point = access.New(o)
	h.change(t, func(tx *metadb.Tx) error {
		for name, public := range map[string]bool{"team": false, "other": false, "open": true} {
			p, err := tx.CreateProject(metadb.Project{Name: name, Public: public})
			if err != nil {
				return err
			}
			h.ids[name] = p.ID
		}
		for _, name := range []string{"alice", "bob"} {
			a, err := tx.CreateAccount(metadb.Account{Name: name})
			if err != nil {
				return err
			}
			h.ids[name] = a.ID
		}
		g, err := tx.CreateGroup(metadb.Group{Name: "dev"})
		if err != nil {
			return err
		}
		h.ids["dev"] = g.ID
		r, err := tx.CreateRobot(metadb.Robot{Name: "ci"})
		h.ids["ci"] = r.ID
		return err
	})
	return h
}

func (h *house) change(t testing.TB, fn func(tx *metadb.Tx) error) {
	t.Helper()
	if err := h.db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// grant gives a subject a role or verbs: "alice", "dev" (a group), "ci" (a robot), "signed-in", "everyone".
func (h *house) grant(t testing.TB, subject, in string, g metadb.Grant) (id int64) {
	t.Helper()
	g.Subject = map[string]metadb.Subject{
		"dev": {Kind: metadb.GroupSubject, ID: h.ids["dev"]}, "ci": {Kind: metadb.RobotSubject, ID: h.ids["ci"]},
		"signed-in": {Kind: metadb.SignedInSubject}, "everyone": {Kind: metadb.EveryoneSubject},
	}[subject]
	if g.Subject == (metadb.Subject{}) {
		g.Subject = metadb.Subject{Kind: metadb.AccountSubject, ID: h.ids[subject]}
	}
	g.Project = h.ids[in]
	h.change(t, func(tx *metadb.Tx) error {
		made, err := tx.CreateGrant(g)
		id = made.ID
		return err
	})
	return id
}

func (h *house) user(name string, groups ...string) identity.Principal {
	p := identity.Principal{Kind: identity.User, ID: h.ids[name], Name: name}
	for _, g := range groups {
		p.Groups = append(p.Groups, h.ids[g])
	}
	return p
}

// may are the verbs of repositories that a principal has there, in a row of letters: p pull, P push, d delete, l list, r restore,
// x purge.
func (h *house) may(t testing.TB, who identity.Principal, repository string) string {
	t.Helper()
	name, err := ref.ParseName(repository)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, v := range identity.RepositoryVerbs() {
		if h.Check(identity.With(t.Context(), who), v, name) == nil {
			b.WriteByte("pPdlrx"[i])
		}
	}
	return b.String()
}

func (h *house) expect(t testing.TB, who identity.Principal, want map[string]string) {
	t.Helper()
	for repository, verbs := range want {
		if got := h.may(t, who, repository); got != verbs {
			t.Errorf("%s may %q to %s, want %q", who, got, repository, verbs)
		}
	}
}

// TestRoles: each built-in role gives what its list of verbs says, in its project and nowhere else.
func TestRoles(t *testing.T) {
	h := newHouse(t, access.Options{Anonymous: access.Pull, AutoCreate: access.Admins})
	alice := h.user("alice")
	h.expect(t, alice, map[string]string{"team/app": "", "open/app": "pl", "absent/app": "", "app": "pl"})
	for role, want := range map[string]string{
		identity.LimitedGuest: "p", identity.Guest: "pl", identity.Developer: "pPl", identity.Maintainer: "pPdlr", identity.Admin: "pPdlrx",
	} {
		id := h.grant(t, "alice", "team", metadb.Grant{Role: role})
		h.expect(t, alice, map[string]string{"team/app": want, "team/a/b": want, "other/app": "", "open/app": "pl"})
		h.expect(t, h.user("bob"), map[string]string{"team/app": ""})
		h.change(t, func(tx *metadb.Tx) error { return tx.DeleteGrant(id) })
		h.expect(t, alice, map[string]string{"team/app": ""})
	}
}

// TestGrantKinds: patterns, groups, robots, classes, verbs, times and custom roles.
func TestGrantKinds(t *testing.T) {
	h := newHouse(t, access.Options{Anonymous: access.Pull, AutoCreate: access.Admins})
	alice, ci := h.user("alice"), identity.Principal{Kind: identity.Robot, ID: h.ids["ci"], Name: "ci"}
	anonymous := identity.Principal{Kind: identity.Anonymous}

	h.grant(t, "alice", "team", metadb.Grant{Pattern: "team/app-*", Role: identity.Developer})
	h.grant(t, "alice", "team", metadb.Grant{Pattern: "team/one", Verbs: []string{"pull"}})
	h.grant(t, "alice", "", metadb.Grant{Pattern: "other/**/test", Role: identity.Guest})
	h.expect(t, alice, map[string]string{"team/app-1": "pPl", "team/app": "", "team/app-1/x": "", "team/one": "p", "team/one/x": "", "other/test": "pl", "other/a/test": "pl", "other/a": ""})

	h.grant(t, "dev", "other", metadb.Grant{Role: identity.Developer})
	h.expect(t, h.user("bob"), map[string]string{"other/app": ""})
	h.expect(t, h.user("bob", "dev"), map[string]string{"other/app": "pPl"})

	h.grant(t, "ci", "team", metadb.Grant{Role: identity.Developer})
	h.expect(t, ci, map[string]string{"team/app": "pPl", "other/app": "", "open/app": "pl"})

	h.grant(t, "signed-in", "team", metadb.Grant{Pattern: "team/base", Role: identity.Guest})
	h.grant(t, "everyone", "team", metadb.Grant{Pattern: "team/free", Role: identity.Guest})
	h.expect(t, h.user("bob"), map[string]string{"team/base": "pl", "team/free": "pl"})
	h.expect(t, anonymous, map[string]string{"team/base": "", "team/free": "pl"})
	h.expect(t, identity.Principal{Kind: identity.User, Name: "htpasswd"}, map[string]string{"team/base": "pl", "team/free": "pl"})

	h.grant(t, "alice", "other", metadb.Grant{Role: identity.Guest, From: h.now.Add(time.Hour), Until: h.now.Add(2 * time.Hour)})
	h.expect(t, alice, map[string]string{"other/app": ""})
	h.now = h.now.Add(90 * time.Minute)
	h.expect(t, alice, map[string]string{"other/app": "pl"})
	h.now = h.now.Add(30 * time.Minute)
	h.expect(t, alice, map[string]string{"other/app": ""})

	h.change(t, func(tx *metadb.Tx) error {
		_, err := tx.CreateRole(metadb.Role{Name: "cleaner", Verbs: []string{"delete", "list", "a.verb.of.a.later.version"}})
		return err
	})
	h.grant(t, "alice", "other", metadb.Grant{Role: "cleaner"})
	h.expect(t, alice, map[string]string{"other/app": "dl"})
	h.change(t, func(tx *metadb.Tx) error {
		_, err := tx.UpdateRole(metadb.Role{Name: "cleaner", Verbs: []string{"list"}}, -1)
		return err
	})
	h.expect(t, alice, map[string]string{"other/app": "l"})
	h.change(t, func(tx *metadb.Tx) error { _, err := tx.DeleteRole("cleaner"); return err })
	h.expect(t, alice, map[string]string{"other/app": ""})
}

// TestDeny: what is denied is denied, however it was allowed, to all but administrators.
func TestDeny(t *testing.T) {
	h := newHouse(t, access.Options{Anonymous: access.Pull, Users: access.Delete, AutoCreate: access.Admins})
	alice := h.user("alice", "dev")
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin})
	h.grant(t, "dev", "team", metadb.Grant{Pattern: "team/secret/**", Verbs: []string{"pull", "push"}, Deny: true})
	h.grant(t, "everyone", "open", metadb.Grant{Pattern: "open/draft-*", Verbs: []string{"pull"}, Deny: true})
	h.grant(t, "signed-in", "", metadb.Grant{Pattern: "**/prod", Verbs: []string{"delete", "purge"}, Deny: true})
	h.expect(t, alice, map[string]string{"team/app": "pPdlrx", "team/secret/a": "drx", "team/secret": "pPdlrx", "team/prod": "pPlr", "open/draft-1": "Pdr"})
	h.expect(t, h.user("alice"), map[string]string{"team/secret/a": "pPdlrx"})
	h.expect(t, identity.Principal{Kind: identity.Anonymous}, map[string]string{"open/app": "pl", "open/draft-1": ""})
	root := identity.Principal{Kind: identity.User, ID: 99, Name: "root", Admin: true}
	h.expect(t, root, map[string]string{"team/secret/a": "pPdlrx", "team/prod": "pPdlrx", "open/draft-1": "pPdlrx"})
	// Who may not pull is told that it is not there.
	name, _ := ref.ParseName("team/secret/a")
	if err := h.Check(identity.With(t.Context(), alice), identity.Pull, name); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

// TestGoneIsGone: a right that a group gave ends with the group, whoever still carries its number; one of a project that was
// deleted does not come back with its name.
func TestGoneIsGone(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	bob := h.user("bob", "dev")
	bob.Grants = &identity.Grants{List: []identity.Grant{{Repository: "team/app", Project: h.ids["team"], Verbs: []identity.Verb{identity.Pull}}}}
	h.grant(t, "dev", "team", metadb.Grant{Role: identity.Guest})
	h.expect(t, bob, map[string]string{"team/app": "pl"})
	h.change(t, func(tx *metadb.Tx) error { return tx.DeleteGroup(h.ids["dev"]) })
	h.expect(t, bob, map[string]string{"team/app": ""})

	h.grant(t, "bob", "team", metadb.Grant{Role: identity.Guest})
	h.expect(t, bob, map[string]string{"team/app": "pl"})
	h.change(t, func(tx *metadb.Tx) error { return tx.DeleteProject(h.ids["team"]) })
	h.expect(t, bob, map[string]string{"team/app": ""})
	h.change(t, func(tx *metadb.Tx) error {
		p, err := tx.CreateProject(metadb.Project{Name: "team"})
		h.ids["team"] = p.ID
		return err
	})
	h.expect(t, bob, map[string]string{"team/app": ""})
	h.grant(t, "bob", "team", metadb.Grant{Role: identity.Guest})
	h.expect(t, bob, map[string]string{"team/app": ""}) // the token was made for the other project
	name, _ := ref.ParseName("team/app")
	if err := h.Check(identity.With(t.Context(), bob), identity.Pull, name); !fault.Has(err, fault.InsufficientScope) {
		t.Errorf("a client is not told to ask for another token: %v", err)
	}
	again, err := h.Narrow(t.Context(), h.user("bob"), []identity.Grant{{Repository: "team/app", Verbs: []identity.Verb{"*"}}})
	if err != nil || len(again) != 1 || again[0].Project != h.ids["team"] || !slices.Equal(again[0].Verbs, []identity.Verb{identity.Pull}) {
		t.Errorf("%+v, %v", again, err)
	}
	bob.Grants = &identity.Grants{List: again}
	h.expect(t, bob, map[string]string{"team/app": "pl"})
}

// TestDelegated: who has rights by somebody else's decision has these, and no others.
func TestDelegated(t *testing.T) {
	h := newHouse(t, access.Options{Anonymous: access.Pull, Users: access.Delete, AutoCreate: access.Admins})
	h.grant(t, "signed-in", "team", metadb.Grant{Pattern: "team/secret", Verbs: []string{"pull"}, Deny: true})
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin})
	who := h.user("alice")
	who.Delegated, who.Admin = true, true
	who.Grants = &identity.Grants{List: []identity.Grant{
		{Repository: "team/app", Verbs: []identity.Verb{identity.Pull, identity.Push}}, {Repository: "team/secret", Verbs: []identity.Verb{identity.Pull}},
		{Repository: "gone/app", Project: 4711, Verbs: []identity.Verb{identity.Pull}},
	}}
	h.expect(t, who, map[string]string{"team/app": "pPlr", "team/other": "", "team/secret": "", "open/app": "pl", "gone/app": ""})
	if err := h.CheckSystem(identity.With(t.Context(), who), identity.JobRead); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
	if err := h.CheckAdmin(identity.With(t.Context(), who)); err == nil {
		t.Error("somebody else's decision made an administrator")
	}
	who.Grants = nil
	h.expect(t, who, map[string]string{"team/app": "", "open/app": "pl"})
}

// TestSystemRoles: administrators, auditors, and who was granted verbs of the registry.
func TestSystemRoles(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	auditor := h.user("bob")
	auditor.Auditor = true
	h.grant(t, "alice", "", metadb.Grant{Verbs: []string{"job.read", "gc.write", "project.create"}})
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin})
	alice := h.user("alice")
	for v, want := range map[identity.Verb]string{
		identity.JobRead: "ok ok denied", identity.GCWrite: "ok denied denied", identity.UserRead: "denied ok denied", identity.UserWrite: "denied denied denied",
		identity.ProjectCreate: "ok denied denied", identity.Export: "denied ok denied", identity.Apply: "denied denied denied",
	} {
		var cells []string
		for _, p := range []identity.Principal{alice, auditor, {Kind: identity.User, Name: "x"}} {
			cells = append(cells, cell(h.CheckSystem(identity.With(t.Context(), p), v)))
		}
		if got := strings.Join(cells, " "); got != want {
			t.Errorf("%s: %s, want %s", v, got, want)
		}
		for name, p := range map[string]identity.Principal{"root": {Kind: identity.User, Admin: true}, "local": {Kind: identity.Local}, "system": {Kind: identity.System}} {
			if err := h.CheckSystem(identity.With(t.Context(), p), v); err != nil {
				t.Errorf("%s of %s: %v", v, name, err)
			}
		}
	}
	h.expect(t, auditor, map[string]string{"team/app": "l"})
	narrowed := alice
	narrowed.Grants = &identity.Grants{List: []identity.Grant{{Registry: true, Verbs: []identity.Verb{identity.JobRead, identity.UserRead}}}}
	for v, want := range map[identity.Verb]string{identity.JobRead: "ok", identity.GCWrite: "scope", identity.UserRead: "denied"} {
		if got := cell(h.CheckSystem(identity.With(t.Context(), narrowed), v)); got != want {
			t.Errorf("with a token, %s: %s, want %s", v, got, want)
		}
	}
	// project.create makes projects by pushing, too; a right to push does not.
	name, _ := ref.ParseName("fresh/app")
	h.grant(t, "signed-in", "", metadb.Grant{Verbs: []string{"push", "pull"}})
	if err := h.Check(identity.With(t.Context(), alice), identity.Push, name); err != nil {
		t.Errorf("%v", err)
	}
	if err := h.Check(identity.With(t.Context(), auditor), identity.Push, name); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v", err)
	}
}

// TestProjects: what may be done to a project as a whole; a hidden one is answered as one that is not there.
func TestProjects(t *testing.T) {
	h := newHouse(t, access.Options{Anonymous: access.Pull, AutoCreate: access.Admins})
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Maintainer})
	h.grant(t, "bob", "team", metadb.Grant{Pattern: "team/app", Role: identity.Admin})
	alice, bob := h.user("alice"), h.user("bob")
	for _, c := range []struct {
		who     identity.Principal
		verb    identity.Verb
		project string
		want    string
	}{
		{alice, identity.ProjectRead, "team", "ok"}, {alice, identity.MemberRead, "team", "ok"}, {alice, identity.MemberWrite, "team", "denied"},
		{alice, identity.ProjectDelete, "team", "denied"}, {alice, identity.ProjectRead, "other", "hidden"}, {alice, identity.ProjectDelete, "other", "hidden"},
		{alice, identity.ProjectRead, "absent", "hidden"}, {alice, identity.ProjectRead, "open", "ok"}, {alice, identity.MemberRead, "open", "denied"},
		{bob, identity.ProjectUpdate, "team", "hidden"}, // on one repository, not on the project
		{identity.Principal{Kind: identity.Anonymous}, identity.ProjectRead, "open", "ok"},
		{identity.Principal{Kind: identity.Anonymous}, identity.ProjectRead, "team", "login"},
		{identity.Principal{Kind: identity.Anonymous}, identity.ProjectRead, "absent", "login"},
		{identity.Principal{}, identity.ProjectRead, "open", "denied"},
	} {
		if got := cell(h.CheckProject(identity.With(t.Context(), c.who), c.verb, c.project)); got != c.want {
			t.Errorf("%s of project %s by %s: %s, want %s", c.verb, c.project, c.who, got, c.want)
		}
	}
	for _, who := range []identity.Principal{alice, bob, {Kind: identity.Anonymous}, {Kind: identity.User, Name: "x"}} {
		for _, v := range identity.ProjectVerbs() {
			hidden, absent := h.CheckProject(identity.With(t.Context(), who), v, "other"), h.CheckProject(identity.With(t.Context(), who), v, "absent")
			if a, b := fault.Of(hidden), fault.Of(absent); a.Kind != b.Kind || a.Reason != b.Reason || strings.ReplaceAll(a.Message, "other", "N") != strings.ReplaceAll(b.Message, "absent", "N") {
				t.Errorf("%s can tell a hidden project from none: %v, %v", who, hidden, absent)
			}
		}
	}
}

// TestLists: a list has what can be read one by one, and nothing else, whoever asks and whatever was granted.
func TestLists(t *testing.T) {
	for _, anonymous := range []access.Level{access.None, access.Pull} {
		for _, users := range []access.Level{access.None, access.Pull} {
			h := newHouse(t, access.Options{Anonymous: anonymous, Users: users, AutoCreate: access.Admins})
			repositories := []string{"team/app", "team/one", "team/a/test", "other/app", "other/secret", "open/app", "open/draft", "single"}
			h.change(t, func(tx *metadb.Tx) error {
				for _, repository := range repositories {
					name, err := ref.ParseName(repository)
					if err != nil {
						return err
					}
					p, err := tx.Project(t.Context(), name.Project())
					if err != nil {
						return err
					}
					r, err := tx.EnsureRepository(p.ID, repository)
					if err != nil {
						return err
					}
					if err := tx.SetListed(r.ID, true); err != nil {
						return err
					}
				}
				return nil
			})
			pattern, err := ref.ParsePattern("team/**")
			if err != nil {
				t.Fatal(err)
			}
			own := h.user("alice")
			own.Grants = &identity.Grants{List: []identity.Grant{{Pattern: pattern, Verbs: []identity.Verb{identity.Pull}}}}
			docker := h.user("alice")
			docker.Grants = &identity.Grants{List: []identity.Grant{{Catalog: true, Verbs: []identity.Verb{identity.Catalog}}}}
			auditor := h.user("bob")
			auditor.Auditor = true
			callers := map[string]identity.Principal{
				"anonymous": {Kind: identity.Anonymous}, "alice": h.user("alice"), "bob": h.user("bob"), "bob of dev": h.user("bob", "dev"), "root": {Kind: identity.User, Admin: true},
				"ci": {Kind: identity.Robot, ID: h.ids["ci"], Name: "ci"}, "a token of alice": own, "a docker token of alice": docker, "auditor": auditor,
			}
			for i, grow := range []func(){
				func() {},
				func() { h.grant(t, "alice", "team", metadb.Grant{Role: identity.Guest}) },
				func() { h.grant(t, "dev", "other", metadb.Grant{Pattern: "other/app", Role: identity.Guest}) },
				func() { h.grant(t, "ci", "", metadb.Grant{Pattern: "**/test", Role: identity.Guest}) },
				func() { h.grant(t, "ci", "", metadb.Grant{Pattern: "other/secret", Role: identity.Guest}) },
				func() { h.grant(t, "bob", "", metadb.Grant{Pattern: "single", Role: identity.Guest}) },
				func() { h.grant(t, "bob", "", metadb.Grant{Pattern: "o*/**", Role: identity.Guest}) },
				func() {
					h.grant(t, "alice", "team", metadb.Grant{Pattern: "team/one", Verbs: []string{"pull"}, Deny: true})
				},
				func() {
					h.grant(t, "everyone", "", metadb.Grant{Pattern: "*/draft", Verbs: []string{"pull"}, Deny: true})
				},
				func() { h.grant(t, "signed-in", "", metadb.Grant{Role: identity.Guest}) },
			} {
				grow()
				for who, p := range callers {
					h.sameList(t, fmt.Sprintf("anonymous %d, users %d, step %d, %s", anonymous, users, i, who), p, repositories, who == "a docker token of alice")
				}
			}
		}
	}
}

// sameList compares the list with what is decided about each. The token of the Docker flow is for the list alone.
func (h *house) sameList(t *testing.T, what string, p identity.Principal, repositories []string, bare bool) {
	t.Helper()
	ctx := identity.With(t.Context(), p)
	var listed []string
	scope, sees, err := h.CheckCatalog(ctx)
	if err == nil {
		rows, err := h.db.Repositories(ctx, metadb.RepositoryFilter{Scope: scope}, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if sees == nil || sees(metadb.Project{ID: r.ProjectID, Name: r.Project, Public: r.Public}, r.Name) {
				listed = append(listed, r.Name)
			}
		}
	}
	if bare {
		p.Grants = nil
	}
	var want []string
	for _, repository := range repositories {
		if strings.Contains(h.may(t, p, repository), "l") {
			want = append(want, repository)
		}
	}
	if slices.Sort(want); !slices.Equal(listed, want) {
		t.Errorf("%s: listed %v, may list %v (%v)", what, listed, want, err)
	}
	projects, pred, err := h.Projects(identity.With(context.Background(), p))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	rows, err := h.db.FindProjects(ctx, metadb.ProjectFilter{Scope: projects}, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, row := range rows {
		got[row.Name] = pred == nil || pred(row)
	}
	for _, project := range []string{"team", "other", "open", "library"} {
		if may := h.CheckProject(identity.With(t.Context(), p), identity.ProjectRead, project) == nil; may != got[project] {
			t.Errorf("%s: project %s is listed: %v, may be read: %v", what, project, got[project], may)
		}
	}
}
