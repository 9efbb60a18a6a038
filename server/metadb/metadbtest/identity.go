package metadbtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

// ptr is a filter's value.
func ptr[T any](v T) *T { return &v }

// made is what one change made.
func made[T any](t testing.TB, db *metadb.DB, fn func(tx *metadb.Tx) (T, error)) (v T) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) (err error) { v, err = fn(tx); return err })
	return v
}

func failed(t testing.TB, db *metadb.DB, fn func(tx *metadb.Tx) error) error {
	t.Helper()
	err := db.Update(t.Context(), fn)
	if err == nil {
		t.Fatal("a change was made that should be refused")
	}
	return err
}

func account(t testing.TB, db *metadb.DB, name string) metadb.Account {
	t.Helper()
	return made(t, db, func(tx *metadb.Tx) (metadb.Account, error) { return tx.CreateAccount(metadb.Account{Name: name}) })
}

func group(t testing.TB, db *metadb.DB, name string) metadb.Group {
	t.Helper()
	return made(t, db, func(tx *metadb.Tx) (metadb.Group, error) { return tx.CreateGroup(metadb.Group{Name: name}) })
}

func names[T any](list []T, name func(T) string) (all []string) {
	for _, v := range list {
		all = append(all, name(v))
	}
	return all
}

func testAccountChanges(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	a := made(t, db, func(tx *metadb.Tx) (metadb.Account, error) {
		return tx.CreateAccount(metadb.Account{Name: "alice", Email: "a@example.com", DisplayName: "Alice", Auditor: true, MustChange: true, ExpiresAt: until})
	})
	equal(t, "account", get[metadb.Account](t)(db.AccountByID(ctx, a.ID)), a)
	if a.Email != "a@example.com" || a.DisplayName != "Alice" || !a.Auditor || !a.MustChange || !a.ExpiresAt.Equal(until) {
		t.Fatalf("account: %+v", a)
	}
	if err := failed(t, db, func(tx *metadb.Tx) error { _, err := tx.CreateAccount(metadb.Account{Name: "alice"}); return err }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a name for two accounts: %v", err)
	}
	changed := a
	changed.Admin, changed.Disabled, changed.Source, changed.PasswordHash = true, true, "ldap", "h"
	b := made(t, db, func(tx *metadb.Tx) (metadb.Account, error) { return tx.UpdateAccount(changed, a.Generation) })
	if b.Generation != a.Generation+1 || !b.Admin || !b.Disabled || b.Source != "ldap" || b.PasswordHash != "h" || b.Email != a.Email {
		t.Fatalf("changed: %+v", b)
	}
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateAccount(changed, a.Generation); return err }), metadb.ErrChanged)
	changed.ID = 4711
	wantErr(t, "of nobody", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateAccount(changed, -1); return err }), metadb.ErrNotFound)
	update(t, db, func(tx *metadb.Tx) error { return tx.SetLastLogin(a.ID, until) })
	got := get[metadb.Account](t)(db.Account(ctx, "alice"))
	if !got.LastLoginAt.Equal(until) || got.Generation != b.Generation {
		t.Fatalf("after a login: %+v", got)
	}

	g := group(t, db, "g")
	bob := account(t, db, "Bob")
	account(t, db, "carol_x")
	update(t, db, func(tx *metadb.Tx) error { return tx.PutGroupMember(g.ID, bob.ID, "") })
	for what, c := range map[string]struct {
		f    metadb.AccountFilter
		want []string
	}{
		"all":      {metadb.AccountFilter{}, []string{"Bob", "alice", "carol_x"}},
		"contains": {metadb.AccountFilter{Contains: "BO"}, []string{"Bob"}},
		"itself":   {metadb.AccountFilter{Contains: "_"}, []string{"carol_x"}},
		"percent":  {metadb.AccountFilter{Contains: "%"}, nil},
		"admins":   {metadb.AccountFilter{Admin: ptr(true)}, []string{"alice"}},
		"disabled": {metadb.AccountFilter{Disabled: ptr(false)}, []string{"Bob", "carol_x"}},
		"source":   {metadb.AccountFilter{Source: ptr("ldap")}, []string{"alice"}},
		"local":    {metadb.AccountFilter{Source: ptr("")}, []string{"Bob", "carol_x"}},
		"group":    {metadb.AccountFilter{Group: g.ID}, []string{"Bob"}},
	} {
		list := get[[]metadb.Account](t)(db.FindAccounts(ctx, c.f, "", 10))
		equal(t, what, names(list, func(a metadb.Account) string { return a.Name }), c.want)
	}
}

func testGroups(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	alice, bob := account(t, db, "alice"), account(t, db, "bob")
	dev, ops := group(t, db, "dev"), group(t, db, "ops")
	if err := failed(t, db, func(tx *metadb.Tx) error { _, err := tx.CreateGroup(metadb.Group{Name: "dev"}); return err }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a name for two groups: %v", err)
	}
	dev.Description = "developers"
	dev = made(t, db, func(tx *metadb.Tx) (metadb.Group, error) { return tx.UpdateGroup(dev, dev.Generation) })
	equal(t, "group", get[metadb.Group](t)(db.GroupByName(ctx, "dev")), dev)
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateGroup(dev, 0); return err }), metadb.ErrChanged)
	update(t, db, func(tx *metadb.Tx) error {
		for _, id := range []int64{alice.ID, bob.ID, alice.ID} {
			if err := tx.PutGroupMember(dev.ID, id, ""); err != nil {
				return err
			}
		}
		return nil
	})
	wantErr(t, "member of no group", failed(t, db, func(tx *metadb.Tx) error { return tx.PutGroupMember(4711, bob.ID, "") }), metadb.ErrNotFound)
	wantErr(t, "nobody as a member", failed(t, db, func(tx *metadb.Tx) error { return tx.PutGroupMember(dev.ID, 4711, "") }), metadb.ErrNotFound)

	set := func(want bool, groups ...string) {
		t.Helper()
		equal(t, fmt.Sprintf("changed to %v", groups), made(t, db, func(tx *metadb.Tx) (bool, error) { return tx.SetGroupsOf(alice.ID, "idp", groups) }), want)
	}
	set(true, "dev", "ops", "new")
	set(false, "new", "ops", "dev", "dev")
	fresh := get[metadb.Group](t)(db.GroupByName(ctx, "new"))
	equal(t, "groups", get[[]int64](t)(db.GroupsOf(ctx, alice.ID)), []int64{dev.ID, ops.ID, fresh.ID})
	members := get[[]metadb.GroupMember](t)(db.GroupMembers(ctx, dev.ID, metadb.GroupMember{}, 2))
	equal(t, "members", members, []metadb.GroupMember{{AccountID: alice.ID, Account: "alice"}, {AccountID: alice.ID, Account: "alice", Source: "idp"}})
	equal(t, "next page", get[[]metadb.GroupMember](t)(db.GroupMembers(ctx, dev.ID, members[1], 2)), []metadb.GroupMember{{AccountID: bob.ID, Account: "bob"}})
	set(true, "ops")
	equal(t, "what the administrator said stays", get[[]int64](t)(db.GroupsOf(ctx, alice.ID)), []int64{dev.ID, ops.ID})
	update(t, db, func(tx *metadb.Tx) error {
		existed, err := tx.DeleteGroupMember(dev.ID, alice.ID, "idp")
		equal(t, "what the provider says no more", existed, false)
		return err
	})
	update(t, db, func(tx *metadb.Tx) error {
		existed, err := tx.DeleteGroupMember(dev.ID, alice.ID, "")
		equal(t, "was a member", existed, true)
		return err
	})
	list := get[[]metadb.Group](t)(db.Groups(ctx, metadb.GroupFilter{Account: alice.ID}, "", 10))
	equal(t, "groups of alice", names(list, func(g metadb.Group) string { return g.Name }), []string{"ops"})
	equal(t, "page", names(get[[]metadb.Group](t)(db.Groups(ctx, metadb.GroupFilter{}, "dev", 10)), func(g metadb.Group) string { return g.Name }), []string{"new", "ops"})
	equal(t, "found", len(get[[]metadb.Group](t)(db.Groups(ctx, metadb.GroupFilter{Contains: "EV"}, "", 10))), 1)

	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.CreateGrant(metadb.Grant{Subject: metadb.Subject{Kind: metadb.GroupSubject, ID: ops.ID}, Role: "guest"})
		return err
	})
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteGroup(ops.ID) })
	wantErr(t, "again", failed(t, db, func(tx *metadb.Tx) error { return tx.DeleteGroup(ops.ID) }), metadb.ErrNotFound)
	equal(t, "no group", get[[]int64](t)(db.GroupsOf(ctx, alice.ID)), []int64(nil))
	equal(t, "no grant", len(get[[]metadb.Grant](t)(db.Grants(ctx, metadb.GrantFilter{}, 0, 10))), 0)
	again := group(t, db, "ops")
	if again.ID <= ops.ID {
		t.Fatalf("the number of a deleted group was given again: %d after %d", again.ID, ops.ID)
	}
}

func testGrants(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	alice := account(t, db, "alice")
	robot := made(t, db, func(tx *metadb.Tx) (metadb.Robot, error) { return tx.CreateRobot(metadb.Robot{Name: "ci"}) })
	p := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.CreateProject(metadb.Project{Name: "team"}) })
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	subject := metadb.Subject{Kind: metadb.AccountSubject, ID: alice.ID}
	create := func(g metadb.Grant) metadb.Grant {
		t.Helper()
		return made(t, db, func(tx *metadb.Tx) (metadb.Grant, error) { return tx.CreateGrant(g) })
	}
	member := create(metadb.Grant{Subject: subject, Project: p.ID, Role: "developer", Until: until, CreatedBy: "root"})
	deny := create(metadb.Grant{Subject: subject, Project: p.ID, Pattern: "team/secret", Verbs: []string{"pull", "push"}, Deny: true})
	wide := create(metadb.Grant{Subject: metadb.Subject{Kind: metadb.EveryoneSubject}, Pattern: "open-*/**", Verbs: []string{"pull"}})
	machine := create(metadb.Grant{Subject: metadb.Subject{Kind: metadb.RobotSubject, ID: robot.ID}, Project: p.ID, Role: "guest"})
	equal(t, "grant", get[metadb.Grant](t)(db.Grant(ctx, deny.ID)), deny)
	if !member.Until.Equal(until) || member.CreatedBy != "root" || !slices.Equal(deny.Verbs, []string{"pull", "push"}) || !deny.Deny || len(member.Verbs) != 0 {
		t.Fatalf("grants: %+v %+v", member, deny)
	}
	if err := failed(t, db, func(tx *metadb.Tx) error {
		_, err := tx.CreateGrant(metadb.Grant{Subject: subject, Project: p.ID, Role: "developer"})
		return err
	}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("one grant twice: %v", err)
	}
	member.Role, member.Until = "maintainer", time.Time{}
	member = made(t, db, func(tx *metadb.Tx) (metadb.Grant, error) { return tx.UpdateGrant(member, member.Generation) })
	if member.Role != "maintainer" || !member.Until.IsZero() || member.Generation != member.CreatedAt.UnixMicro()+1 {
		t.Fatalf("changed: %+v", member)
	}
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateGrant(member, member.Generation-1); return err }), metadb.ErrChanged)
	equal(t, "of alice", get[[]metadb.Grant](t)(db.GrantsOf(ctx, subject)), []metadb.Grant{member, deny})
	for what, c := range map[string]struct {
		f    metadb.GrantFilter
		want []metadb.Grant
	}{
		"all":      {metadb.GrantFilter{}, []metadb.Grant{member, deny, wide, machine}},
		"project":  {metadb.GrantFilter{Project: &p.ID}, []metadb.Grant{member, deny, machine}},
		"registry": {metadb.GrantFilter{Project: ptr[int64](0)}, []metadb.Grant{wide}},
		"members":  {metadb.GrantFilter{Members: true}, []metadb.Grant{member, machine}},
		"subject":  {metadb.GrantFilter{Subject: subject, Members: true}, []metadb.Grant{member}},
		"role":     {metadb.GrantFilter{Role: "guest"}, []metadb.Grant{machine}},
	} {
		equal(t, what, get[[]metadb.Grant](t)(db.Grants(ctx, c.f, 0, 10)), c.want)
	}
	equal(t, "page", get[[]metadb.Grant](t)(db.Grants(ctx, metadb.GrantFilter{}, deny.ID, 1)), []metadb.Grant{wide})
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteGrant(wide.ID) })
	wantErr(t, "again", failed(t, db, func(tx *metadb.Tx) error { return tx.DeleteGrant(wide.ID) }), metadb.ErrNotFound)
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteRobot(robot.ID) })
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.DeleteAccount("alice"); return err })
	equal(t, "none is left of who is gone", len(get[[]metadb.Grant](t)(db.Grants(ctx, metadb.GrantFilter{}, 0, 10))), 0)
}

func testRoles(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := made(t, db, func(tx *metadb.Tx) (metadb.Role, error) {
		return tx.CreateRole(metadb.Role{Name: "pusher", Description: "d", Verbs: []string{"push"}})
	})
	equal(t, "role", get[metadb.Role](t)(db.Role(ctx, "pusher")), r)
	if err := failed(t, db, func(tx *metadb.Tx) error { _, err := tx.CreateRole(metadb.Role{Name: "pusher"}); return err }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a name for two roles: %v", err)
	}
	r.Verbs = nil
	r = made(t, db, func(tx *metadb.Tx) (metadb.Role, error) { return tx.UpdateRole(r, r.Generation) })
	equal(t, "verbs", len(r.Verbs), 0)
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateRole(r, r.Generation-1); return err }), metadb.ErrChanged)
	wantErr(t, "of none", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateRole(metadb.Role{Name: "none"}, -1); return err }), metadb.ErrNotFound)
	equal(t, "page", len(get[[]metadb.Role](t)(db.Roles(ctx, "pusher", 10))), 0)
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.CreateGrant(metadb.Grant{Subject: metadb.Subject{Kind: metadb.SignedInSubject}, Role: "pusher"})
		return err
	})
	for _, want := range []bool{true, false} {
		equal(t, "existed", made(t, db, func(tx *metadb.Tx) (bool, error) { return tx.DeleteRole("pusher") }), want)
	}
	equal(t, "no grant of it", len(get[[]metadb.Grant](t)(db.Grants(ctx, metadb.GrantFilter{}, 0, 10))), 0)
}

func testProjectChanges(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	p := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) {
		return tx.CreateProject(metadb.Project{Name: "team", Description: "d", Labels: map[string]string{"a": "b"}, CreatedBy: "root"})
	})
	equal(t, "project", get[metadb.Project](t)(db.ProjectByID(ctx, p.ID)), p)
	if p.Description != "d" || p.Labels["a"] != "b" || p.CreatedBy != "root" {
		t.Fatalf("project: %+v", p)
	}
	if err := failed(t, db, func(tx *metadb.Tx) error { _, err := tx.CreateProject(metadb.Project{Name: "team"}); return err }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a name for two projects: %v", err)
	}
	p.Public, p.Labels = true, nil
	p = made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.UpdateProject(p, p.Generation) })
	if !p.Public || len(p.Labels) != 0 || p.Generation != p.CreatedAt.UnixMicro()+1 || p.UpdatedAt.IsZero() {
		t.Fatalf("changed: %+v", p)
	}
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateProject(p, p.Generation-1); return err }), metadb.ErrChanged)
	secret := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.CreateProject(metadb.Project{Name: "secret"}) })
	other := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.CreateProject(metadb.Project{Name: "other"}) })
	repositoryIn(t, db, "secret", false, "secret/app")
	repositoryIn(t, db, "other", false, "other/app")
	repositoryIn(t, db, "team", true, "team/app")
	for what, c := range map[string]struct {
		f    metadb.ProjectFilter
		want []string
	}{
		"all":      {metadb.ProjectFilter{Scope: metadb.Scope{All: true}}, []string{"other", "secret", "team"}},
		"none":     {metadb.ProjectFilter{}, nil},
		"public":   {metadb.ProjectFilter{Scope: metadb.Scope{Public: true}}, []string{"team"}},
		"some":     {metadb.ProjectFilter{Scope: metadb.Scope{IDs: []int64{secret.ID}}}, []string{"secret"}},
		"and more": {metadb.ProjectFilter{Scope: metadb.Scope{Public: true, IDs: []int64{secret.ID}}}, []string{"secret", "team"}},
		"contains": {metadb.ProjectFilter{Scope: metadb.Scope{All: true}, Contains: "E"}, []string{"other", "secret", "team"}},
		"private":  {metadb.ProjectFilter{Scope: metadb.Scope{All: true}, Public: ptr(false)}, []string{"other", "secret"}},
	} {
		equal(t, what, names(get[[]metadb.Project](t)(db.FindProjects(ctx, c.f, "", 10)), func(p metadb.Project) string { return p.Name }), c.want)
		if c.f.Public == nil {
			list := get[[]metadb.Repository](t)(db.Repositories(ctx, metadb.RepositoryFilter{Scope: c.f.Scope, Contains: c.f.Contains}, "", 10))
			equal(t, what+", repositories", names(list, func(r metadb.Repository) string { return r.Project }), c.want)
		}
	}
	equal(t, "repositories", get[int64](t)(db.CountRepositories(ctx, secret.ID)), int64(1))

	robot := made(t, db, func(tx *metadb.Tx) (metadb.Robot, error) {
		return tx.CreateRobot(metadb.Robot{Name: "ci", Project: other.ID})
	})
	empty := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.CreateProject(metadb.Project{Name: "empty"}) })
	mine := made(t, db, func(tx *metadb.Tx) (metadb.Robot, error) {
		return tx.CreateRobot(metadb.Robot{Name: "mine", Project: empty.ID})
	})
	update(t, db, func(tx *metadb.Tx) error {
		for _, g := range []metadb.Grant{
			{Subject: metadb.Subject{Kind: metadb.SignedInSubject}, Project: empty.ID, Role: "guest"},
			{Subject: metadb.Subject{Kind: metadb.RobotSubject, ID: mine.ID}, Project: other.ID, Role: "guest"},
			{Subject: metadb.Subject{Kind: metadb.SignedInSubject}, Project: other.ID, Role: "guest"},
		} {
			if _, err := tx.CreateGrant(g); err != nil {
				return err
			}
		}
		return nil
	})
	repo := get[metadb.Repository](t)(db.Repository(ctx, "other/app"))
	d := putTagged(t, db, repo.ID, "v1", "content")
	if err := failed(t, db, func(tx *metadb.Tx) error { return tx.DeleteProject(other.ID) }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a project with a manifest: %v", err)
	}
	get[metadb.Robot](t)(db.Robot(ctx, robot.ID))
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteProject(empty.ID) })
	_, err := db.Robot(ctx, mine.ID)
	wantErr(t, "its robot", err, metadb.ErrNotFound)
	left := get[[]metadb.Grant](t)(db.Grants(ctx, metadb.GrantFilter{}, 0, 10))
	equal(t, "grants of others", len(left), 1)
	equal(t, "grants of others", left[0].Project, other.ID)
	wantErr(t, "again", failed(t, db, func(tx *metadb.Tx) error { return tx.DeleteProject(empty.ID) }), metadb.ErrNotFound)
	if again := made(t, db, func(tx *metadb.Tx) (metadb.Project, error) { return tx.CreateProject(metadb.Project{Name: "empty"}) }); again.ID <= empty.ID {
		t.Fatalf("the number of a deleted project was given again: %d after %d", again.ID, empty.ID)
	}

	// One that had content, and has no more.
	update(t, db, func(tx *metadb.Tx) error {
		if _, _, err := tx.DeleteTag(repo.ID, "v1", metadb.Origin{}); err != nil {
			return err
		}
		_, err := tx.DeleteManifest(repo.ID, d)
		return err
	})
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteProject(other.ID) })
	_, err = db.Repository(ctx, "other/app")
	wantErr(t, "its repository", err, metadb.ErrNotFound)
	_, err = db.ProjectByID(ctx, other.ID)
	wantErr(t, "by its number", err, metadb.ErrNotFound)
	equal(t, "projects", names(get[[]metadb.Project](t)(db.Projects(ctx, "", 10)), func(p metadb.Project) string { return p.Name }), []string{"empty", "secret", "team"})
	equal(t, "repositories", repositoryNames(t, db, metadb.Scope{All: true}, "", 10), []string{"secret/app", "team/app"})
	if err := failed(t, db, func(tx *metadb.Tx) error { // a push that found the repository before
		if _, err := putManifest(tx, metadb.Manifest{RepoID: repo.ID, Digest: d, MediaType: "m"}, "content"); err != nil {
			return err
		}
		return tx.SetListed(repo.ID, true)
	}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("a push to a project that is gone: %v", err)
	}
	if again := repositoryIn(t, db, "other", false, "other/app"); again.ID == repo.ID || again.ProjectID == other.ID {
		t.Fatalf("made again: %+v", again)
	}
}

func testRobots(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	account(t, db, "alice")
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	r := made(t, db, func(tx *metadb.Tx) (metadb.Robot, error) {
		return tx.CreateRobot(metadb.Robot{Name: "ci", Description: "d", ExpiresAt: soon, CreatedBy: "root", Project: 7})
	})
	equal(t, "robot", get[metadb.Robot](t)(db.RobotByName(ctx, "ci")), r)
	for _, fn := range []func(tx *metadb.Tx) error{
		func(tx *metadb.Tx) error { _, err := tx.CreateRobot(metadb.Robot{Name: "alice"}); return err },
		func(tx *metadb.Tx) error { _, err := tx.CreateRobot(metadb.Robot{Name: "ci"}); return err },
		func(tx *metadb.Tx) error { _, err := tx.CreateAccount(metadb.Account{Name: "ci"}); return err },
		func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "ci"}); return err },
	} {
		if err := failed(t, db, fn); !fault.Is(err, fault.Conflict) {
			t.Fatalf("a name for two: %v", err)
		}
	}
	r.Disabled = true
	r = made(t, db, func(tx *metadb.Tx) (metadb.Robot, error) { return tx.UpdateRobot(r, r.Generation) })
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateRobot(r, r.Generation-1); return err }), metadb.ErrChanged)
	update(t, db, func(tx *metadb.Tx) error { return tx.SetRobotUsed(r.ID, soon, "10.0.0.1") })
	got := get[metadb.Robot](t)(db.Robot(ctx, r.ID))
	if !got.LastUsedAt.Equal(soon) || got.LastUsedFrom != "10.0.0.1" || got.Generation != r.Generation || !got.Disabled {
		t.Fatalf("used: %+v", got)
	}
	equal(t, "in its project", len(get[[]metadb.Robot](t)(db.Robots(ctx, metadb.RobotFilter{Project: ptr[int64](7), Contains: "C"}, "", 10))), 1)
	equal(t, "of the registry", len(get[[]metadb.Robot](t)(db.Robots(ctx, metadb.RobotFilter{Project: ptr[int64](0)}, "", 10))), 0)
	equal(t, "expires", len(get[[]metadb.Robot](t)(db.Robots(ctx, metadb.RobotFilter{Expires: soon.Add(time.Second)}, "", 10))), 1)
	equal(t, "expires later", len(get[[]metadb.Robot](t)(db.Robots(ctx, metadb.RobotFilter{Expires: soon}, "", 10))), 0)

	secret := func(hash string) metadb.RobotSecret {
		t.Helper()
		return made(t, db, func(tx *metadb.Tx) (metadb.RobotSecret, error) {
			return tx.CreateRobotSecret(metadb.RobotSecret{RobotID: r.ID, Hash: hash, Prefix: "brs_"})
		})
	}
	one, two := secret("h1"), secret("h2")
	equal(t, "secret", get[metadb.RobotSecret](t)(db.RobotSecretByHash(ctx, "h1")), one)
	update(t, db, func(tx *metadb.Tx) error { return tx.ExpireRobotSecrets(r.ID, two.ID, soon) })
	list := get[[]metadb.RobotSecret](t)(db.RobotSecrets(ctx, r.ID))
	if len(list) != 2 || !list[0].ExpiresAt.Equal(soon) || !list[1].ExpiresAt.IsZero() {
		t.Fatalf("secrets: %+v", list)
	}
	if got := get[metadb.Robot](t)(db.Robot(ctx, r.ID)); got.Generation != r.Generation+3 {
		t.Fatalf("the generation does not tell of secrets: %+v", got)
	}
	wantErr(t, "another's secret", failed(t, db, func(tx *metadb.Tx) error { return tx.DeleteRobotSecret(4711, one.ID) }), metadb.ErrNotFound)
	equal(t, "trimmed", made(t, db, func(tx *metadb.Tx) (int, error) { return tx.TrimRobotSecrets(soon.Add(time.Second), 10) }), 1)
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteRobotSecret(r.ID, two.ID) })
	secret("h3")
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteRobot(r.ID) })
	_, err := db.RobotSecretByHash(ctx, "h3")
	wantErr(t, "secret of a deleted robot", err, metadb.ErrNotFound)
	wantErr(t, "secret of nobody", failed(t, db, func(tx *metadb.Tx) error {
		_, err := tx.CreateRobotSecret(metadb.RobotSecret{RobotID: r.ID, Hash: "h4"})
		return err
	}), metadb.ErrNotFound)
}

// testNameRace: accounts and robots of one name are never made at once.
func testNameRace(t *testing.T, db *metadb.DB) {
	for i := range 10 {
		name := fmt.Sprint("name", i)
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for n := range errs {
			wg.Go(func() {
				errs[n] = db.Update(background(), func(tx *metadb.Tx) (err error) {
					if n%2 == 0 {
						_, err = tx.CreateAccount(metadb.Account{Name: name})
					} else {
						_, err = tx.CreateRobot(metadb.Robot{Name: name})
					}
					return err
				})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !fault.Is(err, fault.Conflict) {
				t.Error(err)
			}
		}
		equal(t, "made", won, 1)
	}
}

func testTokensAndSessions(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	alice, bob := account(t, db, "alice"), account(t, db, "bob")
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	token := func(a metadb.Account, hash string) metadb.AccessToken {
		t.Helper()
		return made(t, db, func(tx *metadb.Tx) (metadb.AccessToken, error) {
			return tx.CreateAccessToken(metadb.AccessToken{AccountID: a.ID, Name: "laptop", Hash: hash, Prefix: "bpt_", Grants: "[]", ExpiresAt: soon})
		})
	}
	one, two := token(alice, "h1"), token(bob, "h2")
	equal(t, "token", get[metadb.AccessToken](t)(db.AccessTokenByHash(ctx, "h1")), one)
	equal(t, "token", get[metadb.AccessToken](t)(db.AccessToken(ctx, one.ID)), one)
	equal(t, "of alice", get[[]metadb.AccessToken](t)(db.AccessTokens(ctx, alice.ID, 0, 10)), []metadb.AccessToken{one})
	equal(t, "all", get[[]metadb.AccessToken](t)(db.AccessTokens(ctx, 0, one.ID, 10)), []metadb.AccessToken{two})
	update(t, db, func(tx *metadb.Tx) error { return tx.SetTokenUsed(one.ID, soon, "::1") })
	update(t, db, func(tx *metadb.Tx) error { return tx.RevokeAccessToken(one.ID) })
	first := get[metadb.AccessToken](t)(db.AccessToken(ctx, one.ID))
	update(t, db, func(tx *metadb.Tx) error { return tx.RevokeAccessToken(one.ID) })
	got := get[metadb.AccessToken](t)(db.AccessToken(ctx, one.ID))
	if got.RevokedAt.IsZero() || !got.RevokedAt.Equal(first.RevokedAt) || !got.LastUsedAt.Equal(soon) || got.LastUsedFrom != "::1" {
		t.Fatalf("revoked: %+v", got)
	}
	equal(t, "trimmed", made(t, db, func(tx *metadb.Tx) (int, error) { return tx.TrimAccessTokens(soon.Add(-time.Second), 10) }), 1)
	wantErr(t, "revoked nothing", failed(t, db, func(tx *metadb.Tx) error { return tx.RevokeAccessToken(one.ID) }), metadb.ErrNotFound)
	token(alice, "h3")

	session := func(a metadb.Account, hash, provider, subject, sid string) metadb.LoginSession {
		t.Helper()
		return made(t, db, func(tx *metadb.Tx) (metadb.LoginSession, error) {
			return tx.CreateLoginSession(metadb.LoginSession{Hash: hash, AccountID: a.ID, Via: "password", Provider: provider, Subject: subject, SID: sid, CSRF: "c", Addr: "::1", UserAgent: "ua", ExpiresAt: soon})
		})
	}
	s1, s2, s3, s4 := session(alice, "s1", "", "", ""), session(alice, "s2", "idp", "x", "1"), session(alice, "s3", "idp", "x", "2"), session(bob, "s4", "idp", "y", "3")
	equal(t, "session", get[metadb.LoginSession](t)(db.LoginSessionByHash(ctx, "s2")), s2)
	equal(t, "session", get[metadb.LoginSession](t)(db.LoginSession(ctx, s1.ID)), s1)
	equal(t, "of alice", get[[]metadb.LoginSession](t)(db.LoginSessions(ctx, alice.ID, s1.ID, 10)), []metadb.LoginSession{s2, s3})
	update(t, db, func(tx *metadb.Tx) error { return tx.SetSessionSeen(s1.ID, soon, "::2") })
	if got := get[metadb.LoginSession](t)(db.LoginSession(ctx, s1.ID)); !got.SeenAt.Equal(soon) || got.Addr != "::2" {
		t.Fatalf("seen: %+v", got)
	}
	end := func(f metadb.SessionFilter, want int) {
		t.Helper()
		equal(t, fmt.Sprintf("ended %+v", f), made(t, db, func(tx *metadb.Tx) (int, error) { return tx.DeleteSessions(f) }), want)
	}
	end(metadb.SessionFilter{}, 0)
	end(metadb.SessionFilter{Except: s1.ID}, 0)
	end(metadb.SessionFilter{Provider: "idp"}, 0)
	end(metadb.SessionFilter{Provider: "idp", SID: "2"}, 1)
	end(metadb.SessionFilter{Provider: "idp", Subject: "y", SID: "1"}, 0)
	end(metadb.SessionFilter{Provider: "idp", Subject: "y"}, 1)
	end(metadb.SessionFilter{Account: alice.ID, Except: s1.ID}, 1)
	end(metadb.SessionFilter{Seen: soon}, 0)
	end(metadb.SessionFilter{Expires: soon.Add(time.Second)}, 1)
	equal(t, "none", len(get[[]metadb.LoginSession](t)(db.LoginSessions(ctx, 0, 0, 10))), 0)
	_ = s4

	session(alice, "s5", "", "", "")
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.DeleteAccount("alice"); return err })
	equal(t, "tokens of who is gone", len(get[[]metadb.AccessToken](t)(db.AccessTokens(ctx, alice.ID, 0, 10))), 0)
	equal(t, "sessions of who is gone", len(get[[]metadb.LoginSession](t)(db.LoginSessions(ctx, alice.ID, 0, 10))), 0)
}

func testProviders(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	p := made(t, db, func(tx *metadb.Tx) (metadb.IdentityProvider, error) {
		return tx.CreateIdentityProvider(metadb.IdentityProvider{Name: "idp", Kind: "oidc", Enabled: true, Config: `{}`})
	})
	equal(t, "provider", get[metadb.IdentityProvider](t)(db.IdentityProvider(ctx, "idp")), p)
	p.Enabled, p.Config = false, `{"a":1}`
	p = made(t, db, func(tx *metadb.Tx) (metadb.IdentityProvider, error) {
		return tx.UpdateIdentityProvider(p, p.Generation)
	})
	wantErr(t, "from an old state", failed(t, db, func(tx *metadb.Tx) error { _, err := tx.UpdateIdentityProvider(p, p.Generation-1); return err }), metadb.ErrChanged)
	equal(t, "by kind", get[[]metadb.IdentityProvider](t)(db.IdentityProviders(ctx, "oidc", "", 10)), []metadb.IdentityProvider{p})
	equal(t, "of another kind", len(get[[]metadb.IdentityProvider](t)(db.IdentityProviders(ctx, "ldap", "", 10))), 0)
	equal(t, "any", len(get[[]metadb.IdentityProvider](t)(db.IdentityProviders(ctx, "", "", 10))), 1)

	alice := account(t, db, "alice")
	link := metadb.Link{Provider: "idp", Subject: "4711", AccountID: alice.ID, Login: "alice@idp"}
	update(t, db, func(tx *metadb.Tx) error { return tx.CreateLink(link) })
	if err := failed(t, db, func(tx *metadb.Tx) error { return tx.CreateLink(link) }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("one identity for two accounts: %v", err)
	}
	link.Email, link.LastLoginAt = "a@b", time.Now().UTC().Truncate(time.Microsecond)
	update(t, db, func(tx *metadb.Tx) error { return tx.UpdateLink(link) })
	got := get[metadb.Link](t)(db.Link(ctx, "idp", "4711"))
	link.CreatedAt = got.CreatedAt
	equal(t, "link", got, link)
	equal(t, "links", get[[]metadb.Link](t)(db.LinksOf(ctx, alice.ID)), []metadb.Link{link})
	unlink := func(account int64, want bool) {
		t.Helper()
		equal(t, "existed", made(t, db, func(tx *metadb.Tx) (bool, error) { return tx.DeleteLink("idp", "4711", account) }), want)
	}
	unlink(alice.ID+1, false)
	unlink(alice.ID, true)
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.CreateLink(link); err != nil {
			return err
		}
		if _, err := tx.SetGroupsOf(alice.ID, "idp", []string{"dev"}); err != nil {
			return err
		}
		_, err := tx.CreateLoginSession(metadb.LoginSession{Hash: "h", AccountID: alice.ID, Provider: "idp"})
		return err
	})
	for _, want := range []bool{true, false} {
		equal(t, "existed", made(t, db, func(tx *metadb.Tx) (bool, error) { return tx.DeleteIdentityProvider("idp") }), want)
	}
	equal(t, "links", len(get[[]metadb.Link](t)(db.LinksOf(ctx, alice.ID))), 0)
	equal(t, "groups", len(get[[]int64](t)(db.GroupsOf(ctx, alice.ID))), 0)
	equal(t, "sessions", len(get[[]metadb.LoginSession](t)(db.LoginSessions(ctx, alice.ID, 0, 10))), 0)
}

func testIdempotency(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	soon := time.Now().Add(time.Hour)
	begin := func(i metadb.Idempotency, want bool) metadb.Idempotency {
		t.Helper()
		return made(t, db, func(tx *metadb.Tx) (metadb.Idempotency, error) {
			got, began, err := tx.BeginIdempotency(i)
			equal(t, "began", began, want)
			return got, err
		})
	}
	i := metadb.Idempotency{Key: "k", Principal: "alice", Route: "POST /x", RequestHash: "h", ExpiresAt: soon}
	begin(i, true)
	equal(t, "being done", begin(i, false).Status, 0)
	other := i
	other.Principal = "bob"
	begin(other, true)
	i.Status, i.Header, i.Body = 201, "{}", []byte("made")
	update(t, db, func(tx *metadb.Tx) error { return tx.EndIdempotency(i) })
	again := i
	again.RequestHash = "another"
	got := begin(again, false)
	if got.Status != 201 || string(got.Body) != "made" || got.Header != "{}" || got.RequestHash != "h" {
		t.Fatalf("answered: %+v", got)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteIdempotency("bob", "k") })
	_, err := db.Idempotency(ctx, "bob", "k")
	wantErr(t, "given back", err, metadb.ErrNotFound)
	other.ExpiresAt = time.Now().Add(-time.Hour)
	begin(other, true)
	begin(other, true) // it has expired
	equal(t, "trimmed", made(t, db, func(tx *metadb.Tx) (int, error) { return tx.TrimIdempotency(time.Now(), 10) }), 1)
	get[metadb.Idempotency](t)(db.Idempotency(ctx, "alice", "k"))
	wantErr(t, "end of none", failed(t, db, func(tx *metadb.Tx) error { return tx.EndIdempotency(other) }), metadb.ErrNotFound)
}

func testLoginFailures(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	add := func(forget time.Duration, want int64) {
		t.Helper()
		f := made(t, db, func(tx *metadb.Tx) (metadb.LoginFailure, error) { return tx.AddLoginFailure("alice", forget) })
		equal(t, "failures", f.Failures, want)
	}
	add(time.Hour, 1)
	add(time.Hour, 2)
	add(-time.Hour, 1)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	update(t, db, func(tx *metadb.Tx) error { return tx.HoldLogins("alice", until) })
	if f := get[metadb.LoginFailure](t)(db.LoginFailure(ctx, "alice")); !f.HeldUntil.Equal(until) || f.Failures != 1 {
		t.Fatalf("held: %+v", f)
	}
	equal(t, "not old", made(t, db, func(tx *metadb.Tx) (int, error) { return tx.TrimLoginFailures(time.Now().Add(-time.Hour), 10) }), 0)
	for _, want := range []bool{true, false} {
		equal(t, "existed", made(t, db, func(tx *metadb.Tx) (bool, error) { return tx.ForgetLoginFailures("alice") }), want)
	}
	add(time.Hour, 1)
	equal(t, "old", made(t, db, func(tx *metadb.Tx) (int, error) { return tx.TrimLoginFailures(until, 10) }), 1)
	_, err := db.LoginFailure(ctx, "alice")
	wantErr(t, "trimmed", err, metadb.ErrNotFound)
}

// testWatchAll: who watches everything hears of this process's changes before who made them is answered, and of none that
// were not made.
func testWatchAll(t *testing.T, db *metadb.DB) {
	var mu sync.Mutex
	var heard []metadb.Change
	db.WatchAll(func(c metadb.Change) {
		mu.Lock()
		defer mu.Unlock()
		if c.Kind != metadb.Everything { // PostgreSQL: the connection for signals begins with that
			heard = append(heard, c)
		}
	})
	expect := func(what string, want ...metadb.Change) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		equal(t, what, heard, want)
		heard = nil
	}
	alice := account(t, db, "alice")
	expect("account", metadb.Change{Kind: metadb.AccountChanged, Key: "alice"})
	dev := group(t, db, "dev")
	expect("a group that is made")
	update(t, db, func(tx *metadb.Tx) error { return tx.PutGroupMember(dev.ID, alice.ID, "") })
	expect("member", metadb.Change{Kind: metadb.AccountChanged, Key: "alice"})
	g := made(t, db, func(tx *metadb.Tx) (metadb.Grant, error) {
		return tx.CreateGrant(metadb.Grant{Subject: metadb.Subject{Kind: metadb.GroupSubject, ID: dev.ID}, Role: "guest"})
	})
	expect("grant", metadb.Change{Kind: metadb.GrantsChanged, ID: dev.ID, Key: "group"})
	failed(t, db, func(tx *metadb.Tx) error {
		if err := tx.DeleteGrant(g.ID); err != nil {
			return err
		}
		return fault.New(fault.Conflict, fault.Unknown, "on purpose")
	})
	expect("what was undone")
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteGroup(dev.ID) })
	expect("group", metadb.Change{Kind: metadb.AccountChanged, Key: "alice"}, metadb.Change{Kind: metadb.GrantsChanged, ID: dev.ID, Key: "group"})
}
