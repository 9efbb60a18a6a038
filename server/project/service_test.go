package project_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// room is the service as berthd assembles it, with people: boss administers the registry, lead and worker are accounts, builders
// is a group, ci a robot of the project team, and roamer one of the registry.
type room struct {
	*project.Service
	db *metadb.DB
	id map[string]int64 // of accounts
}

func bothDatabases(t *testing.T, test func(t *testing.T, r room)) {
	databases := map[string]func(testing.TB) string{"sqlite": func(testing.TB) string { return "" }}
	if !testing.Short() {
		databases["postgres"] = testkit.Postgres
	}
	for which, url := range databases {
		t.Run(which, func(t *testing.T) {
			db := open(t, url(t))
			d := service(t, project.DirectoryOptions{DB: db, Public: []string{"open-*"}})
			now := func() time.Time { return noon }
			r := room{db: db, id: map[string]int64{}, Service: project.New(project.Options{
				DB: db, Access: access.New(access.Options{Projects: d, Grants: db, Anonymous: access.Pull, Now: now}), Directory: d, Now: now,
			})}
			r.must(t, db.Update(t.Context(), func(tx *metadb.Tx) error {
				for _, name := range []string{"boss", "lead", "worker"} {
					a, err := tx.CreateAccount(metadb.Account{Name: name, PasswordHash: "x", Admin: name == "boss"})
					if err != nil {
						return err
					}
					r.id[name] = a.ID
				}
				_, err := tx.CreateGroup(metadb.Group{Name: "builders"})
				return err
			}))
			_, err := r.Create(r.as("boss"), "team", project.Settings{})
			r.must(t, err)
			team, err := db.Project(t.Context(), "team")
			r.must(t, err)
			r.must(t, db.Update(t.Context(), func(tx *metadb.Tx) error {
				if _, err := tx.CreateRobot(metadb.Robot{Name: "ci", Project: team.ID}); err != nil {
					return err
				}
				_, err := tx.CreateRobot(metadb.Robot{Name: "roamer"})
				return err
			}))
			r.grant(t, "boss", member("team", "lead", identity.Admin))
			test(t, r)
		})
	}
}

func (r room) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r room) as(who string) context.Context {
	return identity.With(context.Background(), identity.Principal{Kind: identity.User, ID: r.id[who], Name: who, Admin: who == "boss"})
}

func (r room) grant(t *testing.T, by string, g project.Grant) project.Grant {
	t.Helper()
	made, err := r.CreateGrant(r.as(by), g)
	r.must(t, err)
	return made
}

func member(in, who, role string) project.Grant {
	return project.Grant{Project: in, SubjectKind: metadb.AccountSubject, Subject: who, Role: role}
}

// refused holds an error against its kind and a part of its text.
func refused(t *testing.T, what string, err error, kind fault.Kind, text string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want kind %v with %q", what, err, kind, text)
	}
}

func TestCreate(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		yes, no := true, false
		long, bad := strings.Repeat("x", project.MaxDescription+1), "\xff"
		for _, test := range []struct {
			name string
			set  project.Settings
			kind fault.Kind
			want string
		}{
			{"Upper", project.Settings{}, fault.Invalid, "name"},
			{"two/parts", project.Settings{}, fault.Invalid, "name"},
			{"", project.Settings{}, fault.Invalid, "name"},
			{"~1", project.Settings{}, fault.Invalid, "name"}, // how rows of deleted ones are called
			{"team", project.Settings{}, fault.Conflict, "there already"},
			{"new", project.Settings{Description: &long}, fault.Invalid, "at most 4096 of UTF-8"},
			{"new", project.Settings{Description: &bad}, fault.Invalid, "UTF-8"},
			{"new", project.Settings{Labels: map[string]string{"-bad": "x"}}, fault.Invalid, "label"},
			{"new", project.Settings{Labels: map[string]string{"good": long}}, fault.Invalid, "label"},
		} {
			_, err := r.Create(r.as("boss"), test.name, test.set)
			refused(t, test.name, err, test.kind, test.want)
		}
		for _, test := range []struct {
			name   string
			set    project.Settings
			public bool
		}{
			{"closed", project.Settings{}, false},
			{"open-one", project.Settings{}, true}, // by the configured pattern
			{"open-two", project.Settings{Public: &no}, false},
			{"shown", project.Settings{Public: &yes, Labels: map[string]string{"cost": "7"}}, true},
		} {
			p, err := r.Create(r.as("boss"), test.name, test.set)
			if err != nil || p.Public != test.public || p.ID == 0 || p.Labels["cost"] != test.set.Labels["cost"] {
				t.Errorf("%s: %+v, %v", test.name, p, err)
			}
		}
		_, err := r.Create(r.as("worker"), "mine", project.Settings{})
		refused(t, "without a right to", err, fault.Denied, "project.create")
		_, err = r.Create(context.Background(), "mine", project.Settings{})
		refused(t, "nobody", err, fault.Denied, "nobody is calling")

		// Who may make one rules it then, and no other.
		r.grant(t, "boss", project.Grant{SubjectKind: metadb.AccountSubject, Subject: "worker", Verbs: []identity.Verb{identity.ProjectCreate}})
		_, err = r.Create(r.as("worker"), "mine", project.Settings{})
		r.must(t, err)
		if _, err := r.CreateGrant(r.as("worker"), member("mine", "lead", "guest")); err != nil {
			t.Errorf("its maker cannot add a member: %v", err)
		}
		_, err = r.CreateGrant(r.as("worker"), member("team", "worker", "guest"))
		refused(t, "another project", err, fault.NotFound, "team is not known")
	})
}

func TestUpdate(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		yes, words := true, "what the team makes"
		p, err := r.Update(r.as("lead"), "team", project.Settings{Description: &words, Labels: map[string]string{"a": "1", "b": "2"}}, -1)
		r.must(t, err)
		q, err := r.Update(r.as("lead"), "team", project.Settings{Public: &yes}, p.Generation)
		if err != nil || !q.Public || q.Description != words || len(q.Labels) != 2 || q.Generation <= p.Generation {
			t.Errorf("what was not said did not stay: %+v, %v", q, err)
		}
		_, err = r.Update(r.as("lead"), "team", project.Settings{Public: &yes}, p.Generation)
		refused(t, "an old generation", err, fault.Conflict, "changed by somebody else")
		q, err = r.Update(r.as("lead"), "team", project.Settings{Labels: map[string]string{"c": "3"}}, q.Generation)
		if err != nil || len(q.Labels) != 1 || q.Labels["c"] != "3" {
			t.Errorf("labels %v, %v", q.Labels, err)
		}
		_, err = r.Update(r.as("boss"), "nowhere", project.Settings{Public: &yes}, -1)
		refused(t, "unknown", err, fault.NotFound, "nowhere is not known")
		r.grant(t, "lead", member("team", "worker", "developer"))
		_, err = r.Update(r.as("worker"), "team", project.Settings{Public: &yes}, -1)
		refused(t, "a developer", err, fault.Denied, "project.update")
		if got, err := r.Get(r.as("worker"), "team"); err != nil || got.Generation != q.Generation {
			t.Errorf("a refused change changed something: %+v, %v", got, err)
		}
	})
}

func TestDelete(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		p, err := r.Get(r.as("boss"), "team")
		r.must(t, err)
		refused(t, "an old generation", r.Delete(r.as("boss"), "team", p.Generation+1), fault.Conflict, "changed by somebody else")
		refused(t, "the one that is always there", r.Delete(r.as("boss"), "library", -1), fault.Conflict, "cannot be deleted")
		refused(t, "unknown", r.Delete(r.as("boss"), "nowhere", -1), fault.NotFound, "not known")
		r.grant(t, "lead", member("team", "worker", "maintainer"))
		refused(t, "a maintainer", r.Delete(r.as("worker"), "team", -1), fault.Denied, "project.delete")
		r.must(t, r.Delete(r.as("lead"), "team", p.Generation))

		// One that is made under its name has nothing of it.
		again, err := r.Create(r.as("boss"), "team", project.Settings{})
		if err != nil || again.ID == p.ID {
			t.Fatalf("%+v, %v", again, err)
		}
		if all, err := r.Grants(r.as("boss"), "team", project.GrantFilter{}, 0, 10); err != nil || len(all) != 0 {
			t.Errorf("grants %+v, %v", all, err)
		}
		_, err = r.Get(r.as("lead"), "team")
		refused(t, "its administrator before", err, fault.NotFound, "not known")
		_, err = r.CreateGrant(r.as("boss"), project.Grant{Project: "team", SubjectKind: metadb.RobotSubject, Subject: "ci", Role: "guest"})
		refused(t, "its robot", err, fault.NotFound, "robot ci is not known")
	})
}

func TestList(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		yes := true
		for _, name := range []string{"a-closed", "b-open", "c-closed"} {
			set := project.Settings{}
			if name == "b-open" {
				set.Public = &yes
			}
			_, err := r.Create(r.as("boss"), name, set)
			r.must(t, err)
		}
		r.grant(t, "boss", member("c-closed", "worker", "guest"))
		r.grant(t, "boss", project.Grant{Project: "b-open", SubjectKind: metadb.AccountSubject, Subject: "worker", Role: "guest", Deny: true})
		for who, want := range map[string]string{
			"boss": "a-closed b-open c-closed library team", "lead": "b-open library team", "worker": "c-closed library",
		} {
			for limit := 1; limit <= 3; limit++ { // the pages make the list, whatever their size
				var got []string
				for after := ""; ; {
					page, err := r.List(r.as(who), project.Filter{}, after, limit)
					r.must(t, err)
					for _, p := range page {
						after = p.Name
						got = append(got, p.Name)
					}
					if len(page) < limit {
						break
					}
				}
				if strings.Join(got, " ") != want {
					t.Errorf("%s sees %v in pages of %d, want %s", who, got, limit, want)
				}
			}
		}
		page, err := r.List(r.as("boss"), project.Filter{Contains: "CLOSED"}, "", 10)
		if err != nil || len(page) != 2 {
			t.Errorf("by a part of the name: %+v, %v", page, err)
		}
		if page, err = r.List(r.as("boss"), project.Filter{Public: &yes}, "", 10); err != nil || len(page) != 2 {
			t.Errorf("public ones: %+v, %v", page, err)
		}
		_, err = r.List(context.Background(), project.Filter{}, "", 10)
		refused(t, "nobody", err, fault.Denied, "nobody is calling")
	})
}

// TestGrantRefused has a line for everything that a grant may not be.
func TestGrantRefused(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		user := func(g project.Grant) project.Grant {
			g.SubjectKind, g.Subject = metadb.AccountSubject, "worker"
			return g
		}
		pull := []identity.Verb{identity.Pull}
		r.grant(t, "boss", member("team", "worker", "guest"))
		for name, test := range map[string]struct {
			g    project.Grant
			kind fault.Kind
			want string
		}{
			"neither role nor verbs": {user(project.Grant{Project: "team"}), fault.Invalid, "either a role or verbs"},
			"role and verbs":         {user(project.Grant{Project: "team", Role: "guest", Verbs: pull}), fault.Invalid, "either a role or verbs"},
			"unknown role":           {user(project.Grant{Project: "team", Role: "king"}), fault.NotFound, "role king is not known"},
			"unknown verb":           {user(project.Grant{Project: "team", Verbs: []identity.Verb{"fly"}}), fault.Invalid, `verb "fly" is not known`},
			"a verb twice":           {user(project.Grant{Project: "team", Verbs: []identity.Verb{"pull", "pull"}}), fault.Invalid, "given twice"},
			"a verb of the registry": {user(project.Grant{Project: "team", Verbs: []identity.Verb{identity.UserWrite}}), fault.Invalid, "about the registry as a whole"},
			"over already":           {user(project.Grant{Project: "team", Verbs: pull, Until: noon}), fault.Invalid, "which is over"},
			"ends before it begins":  {user(project.Grant{Project: "team", Verbs: pull, From: noon.Add(2 * time.Hour), Until: noon.Add(time.Hour)}), fault.Invalid, "ends before it begins"},
			"beyond the project":     {user(project.Grant{Project: "team", Verbs: pull, Pattern: "other/**"}), fault.Invalid, "reaches beyond project team"},
			"no pattern at all":      {user(project.Grant{Project: "team", Verbs: pull, Pattern: "team/[x"}), fault.Invalid, "pattern"},
			"unknown project":        {user(project.Grant{Project: "nowhere", Verbs: pull}), fault.NotFound, "nowhere is not known"},
			"unknown account":        {project.Grant{Project: "team", SubjectKind: metadb.AccountSubject, Subject: "ghost", Role: "guest"}, fault.NotFound, "user ghost is not known"},
			"unknown group":          {project.Grant{Project: "team", SubjectKind: metadb.GroupSubject, Subject: "ghosts", Role: "guest"}, fault.NotFound, "group ghosts is not known"},
			"no subject":             {project.Grant{Project: "team", Role: "guest"}, fault.Invalid, "needs a user, a group, a robot"},
			"everyone, by name":      {project.Grant{Project: "team", SubjectKind: metadb.EveryoneSubject, Subject: "worker", Role: "guest"}, fault.Invalid, "names nobody else"},
			"another project's robot": {project.Grant{Project: "library", SubjectKind: metadb.RobotSubject, Subject: "ci", Role: "guest"},
				fault.NotFound, "robot ci is not known"},
			"a project's robot in all": {project.Grant{SubjectKind: metadb.RobotSubject, Subject: "ci", Verbs: pull}, fault.NotFound, "robot ci is not known"},
			"there already":            {member("team", "worker", "guest"), fault.Conflict, "has this grant already"},
		} {
			_, err := r.CreateGrant(r.as("boss"), test.g)
			refused(t, name, err, test.kind, test.want)
		}
		if all, err := r.Grants(r.as("boss"), "team", project.GrantFilter{}, 0, 100); err != nil || len(all) != 2 {
			t.Errorf("refused grants left something: %+v, %v", all, err)
		}
	})
}

func TestGrants(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		// What is said in several ways is kept in one.
		for pattern, want := range map[string]string{"team/**": "", "team/app-*": "team/app-*"} {
			g := r.grant(t, "lead", project.Grant{Project: "team", SubjectKind: metadb.GroupSubject, Subject: "builders", Pattern: pattern, Verbs: []identity.Verb{identity.Push, identity.Pull}})
			if g.Pattern != want || g.Subject != "builders" || !slices.Equal(g.Verbs, []identity.Verb{identity.Pull, identity.Push}) || g.CreatedBy != "lead" {
				t.Errorf("%s: %+v", pattern, g)
			}
		}
		m := r.grant(t, "lead", member("team", "worker", "guest"))
		robot := r.grant(t, "lead", project.Grant{Project: "team", SubjectKind: metadb.RobotSubject, Subject: "ci", Role: "developer"})
		members, err := r.Grants(r.as("lead"), "team", project.GrantFilter{Members: true}, 0, 10)
		if err != nil || len(members) != 3 || !members[1].Member() || members[2].Subject != "ci" {
			t.Errorf("members %+v, %v", members, err)
		}
		next, err := r.Grants(r.as("lead"), "team", project.GrantFilter{}, m.ID, 10)
		if err != nil || len(next) != 1 || next[0].ID != robot.ID {
			t.Errorf("behind %d: %+v, %v", m.ID, next, err)
		}

		m.Role = "maintainer"
		changed, err := r.UpdateGrant(r.as("lead"), m, m.Generation)
		if err != nil || changed.Role != "maintainer" || changed.Subject != "worker" {
			t.Errorf("changed to %+v, %v", changed, err)
		}
		_, err = r.UpdateGrant(r.as("lead"), m, m.Generation)
		refused(t, "an old generation", err, fault.Conflict, "changed by somebody else")
		refused(t, "an old generation", r.DeleteGrant(r.as("lead"), "team", m.ID, m.Generation), fault.Conflict, "changed by somebody else")
		r.must(t, r.DeleteGrant(r.as("lead"), "team", m.ID, changed.Generation))
		refused(t, "gone", r.DeleteGrant(r.as("lead"), "team", m.ID, -1), fault.NotFound, "not known here")

		// A grant of another project is not there, by whatever number it is asked for, and for whoever asks.
		other := r.grant(t, "boss", member("library", "worker", "guest"))
		for _, who := range []string{"lead", "boss"} {
			_, err := r.Grant(r.as(who), "team", other.ID)
			refused(t, "read by "+who, err, fault.NotFound, "not known here")
			other.Project = "team"
			_, err = r.UpdateGrant(r.as(who), other, -1)
			refused(t, "changed by "+who, err, fault.NotFound, "not known here")
			refused(t, "deleted by "+who, r.DeleteGrant(r.as(who), "team", other.ID, -1), fault.NotFound, "not known here")
		}
		_, err = r.Grants(r.as("lead"), "", project.GrantFilter{}, 0, 10)
		refused(t, "grants of the registry", err, fault.Denied, "role.read")
	})
}

// TestNobodyGivesMore: who may write members gives what it has, and takes away no denial of anything else.
func TestNobodyGivesMore(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		role, err := r.CreateRole(r.as("boss"), project.Role{Name: "clerk", Verbs: []identity.Verb{identity.ProjectRead, identity.MemberRead, identity.MemberWrite, identity.Pull}})
		r.must(t, err)
		r.grant(t, "boss", member("team", "worker", role.Name))
		give := func(g project.Grant) error {
			g.Project, g.SubjectKind, g.Subject = "team", metadb.GroupSubject, "builders"
			_, err := r.CreateGrant(r.as("worker"), g)
			return err
		}
		refused(t, "a role with more", give(project.Grant{Role: "developer"}), fault.Denied, "cannot be given by who may not do it")
		refused(t, "a verb", give(project.Grant{Verbs: []identity.Verb{identity.Push}}), fault.Denied, "push of project team cannot be given")
		r.must(t, give(project.Grant{Role: role.Name}))
		r.must(t, give(project.Grant{Verbs: []identity.Verb{identity.Push}, Deny: true})) // to deny gives nothing

		denial := r.grant(t, "lead", project.Grant{Project: "team", SubjectKind: metadb.GroupSubject, Subject: "builders", Verbs: []identity.Verb{identity.Delete}, Deny: true})
		refused(t, "to take a denial away", r.DeleteGrant(r.as("worker"), "team", denial.ID, -1), fault.Denied, "delete of project team cannot be given")
		denial.Verbs = []identity.Verb{identity.Pull}
		_, err = r.UpdateGrant(r.as("worker"), denial, -1)
		refused(t, "to change it into another", err, fault.Denied, "delete of project team cannot be given")
		r.must(t, r.DeleteGrant(r.as("lead"), "team", denial.ID, -1))

		// An administrator of a project is none of the registry.
		_, err = r.CreateGrant(r.as("lead"), project.Grant{SubjectKind: metadb.AccountSubject, Subject: "lead", Verbs: []identity.Verb{identity.Pull}})
		refused(t, "a grant on everything", err, fault.Denied, "role.write")
	})
}

func TestRoles(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		verbs := []identity.Verb{identity.Pull, identity.Restore}
		for name, test := range map[string]struct {
			role project.Role
			kind fault.Kind
			want string
		}{
			"a built-in name": {project.Role{Name: identity.Admin, Verbs: verbs}, fault.Conflict, "every registry has"},
			"a bad name":      {project.Role{Name: "Big Boss", Verbs: verbs}, fault.Invalid, "role name"},
			"two parts":       {project.Role{Name: "a/b", Verbs: verbs}, fault.Invalid, "role name"},
			"no verbs":        {project.Role{Name: "idle"}, fault.Invalid, "no verbs"},
			"unknown verb":    {project.Role{Name: "flyer", Verbs: []identity.Verb{"fly"}}, fault.Invalid, "not known"},
		} {
			_, err := r.CreateRole(r.as("boss"), test.role)
			refused(t, name, err, test.kind, test.want)
		}
		_, err := r.CreateRole(r.as("lead"), project.Role{Name: "mine", Verbs: verbs})
		refused(t, "by the administrator of a project", err, fault.Denied, "role.write")

		made, err := r.CreateRole(r.as("boss"), project.Role{Name: "restorer", Description: "brings back", Verbs: verbs})
		r.must(t, err)
		_, err = r.CreateRole(r.as("boss"), made)
		refused(t, "twice", err, fault.Conflict, "there already")
		r.grant(t, "lead", member("team", "worker", made.Name))
		builtin, own, err := r.Roles(r.as("worker"), "", 10)
		if err != nil || len(builtin) != len(identity.BuiltinRoles()) || len(own) != 1 || own[0].Name != "restorer" {
			t.Errorf("roles %v %v, %v", builtin, own, err)
		}
		made.Verbs = []identity.Verb{identity.ProjectRead}
		changed, err := r.UpdateRole(r.as("boss"), made, made.Generation)
		r.must(t, err)
		if _, err := r.Get(r.as("worker"), "team"); err != nil {
			t.Errorf("who has the role has not its new verbs: %v", err)
		}
		_, err = r.UpdateRole(r.as("boss"), made, made.Generation)
		refused(t, "an old generation", err, fault.Conflict, "changed by somebody else")
		refused(t, "an old generation", r.DeleteRole(r.as("boss"), "restorer", made.Generation), fault.Conflict, "changed by somebody else")
		refused(t, "a built-in one", r.DeleteRole(r.as("boss"), identity.Admin, -1), fault.Conflict, "every registry has")
		refused(t, "unknown", r.DeleteRole(r.as("boss"), "nothing", -1), fault.NotFound, "not known")
		r.must(t, r.DeleteRole(r.as("boss"), "restorer", changed.Generation))
		_, err = r.Get(r.as("worker"), "team")
		refused(t, "after the role", err, fault.NotFound, "not known")
		_, err = r.Role(r.as("worker"), "restorer")
		refused(t, "the role", err, fault.NotFound, "restorer is not known")
	})
}

// TestDenialsBindWhoManages: who is bound by a denial does not take it away: not the grant, nor the role that it denies by; and who may do what was denied takes it away.
func TestDenialsBindWhoManages(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		boss, lead, worker := r.as("boss"), r.as("lead"), r.as("worker")
		role, err := r.CreateRole(boss, project.Role{Name: "nopull", Verbs: []identity.Verb{identity.Pull, identity.List}})
		r.must(t, err)
		r.grant(t, "boss", project.Grant{SubjectKind: metadb.AccountSubject, Subject: "worker", Verbs: []identity.Verb{identity.RoleWrite, identity.Pull, identity.List, identity.Push}})
		r.grant(t, "boss", project.Grant{SubjectKind: metadb.AccountSubject, Subject: "worker", Pattern: "team/**", Role: "nopull", Deny: true})
		denial := r.grant(t, "boss", project.Grant{Project: "team", SubjectKind: metadb.AccountSubject, Subject: "lead", Pattern: "team/secret", Verbs: []identity.Verb{identity.Pull}, Deny: true})

		robot := project.Grant{Project: "team", SubjectKind: metadb.RobotSubject, Subject: "ci", Pattern: "team/secret", Verbs: []identity.Verb{identity.Pull}}
		_, err = r.CreateGrant(lead, robot)
		refused(t, "a robot that may what lead may not", err, fault.Denied, "denied to you")
		refused(t, "the denial away", r.DeleteGrant(lead, "team", denial.ID, -1), fault.Denied, "denied to you")
		less := denial
		less.Pattern = "team/none"
		_, err = r.UpdateGrant(lead, less, -1)
		refused(t, "the denial of less", err, fault.Denied, "denied to you")
		shown := true
		_, err = r.Update(lead, "team", project.Settings{Public: &shown}, -1)
		refused(t, "public", err, fault.Denied, "denied to you")
		robot.Pattern = "team/app"
		if _, err := r.CreateGrant(lead, robot); err != nil {
			t.Errorf("another repository: %v", err)
		}

		refused(t, "the role away", r.DeleteRole(worker, "nopull", -1), fault.Denied, "nopull")
		_, err = r.UpdateRole(worker, project.Role{Name: "nopull", Verbs: []identity.Verb{identity.Push}}, -1)
		refused(t, "the role of less", err, fault.Denied, "nopull")
		if _, err := r.UpdateRole(worker, project.Role{Name: "nopull", Verbs: []identity.Verb{identity.Pull, identity.List, identity.Push}}, role.Generation); err == nil {
			t.Error("who may not pull everywhere changed a role that pulls")
		}
		r.must(t, r.DeleteGrant(boss, "team", denial.ID, -1))
		r.must(t, r.DeleteRole(boss, "nopull", -1))
		if _, err := r.Update(lead, "team", project.Settings{Public: &shown}, -1); err != nil {
			t.Errorf("public, when nothing is denied: %v", err)
		}
	})
}
