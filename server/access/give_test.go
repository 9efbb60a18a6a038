package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// gives is the answer to who would make a grant hold.
func (h *house) gives(t *testing.T, who identity.Principal, in string, g metadb.Grant) error {
	t.Helper()
	g.Project = h.ids[in]
	return h.CheckGive(identity.With(t.Context(), who), g)
}

func toUser(verbs ...string) metadb.Grant {
	return metadb.Grant{Subject: metadb.Subject{Kind: metadb.AccountSubject, ID: 4711}, Verbs: verbs}
}

func of(pattern string, g metadb.Grant) metadb.Grant { g.Pattern = pattern; return g }

// TestCheckGive: nobody gives what they may not do, wherever the grant reaches.
func TestCheckGive(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	h.grant(t, "alice", "team", metadb.Grant{Verbs: []string{"project.read", "member.write", "pull"}})
	h.grant(t, "alice", "team", metadb.Grant{Pattern: "team/app-*", Verbs: []string{"push"}})
	h.grant(t, "bob", "", metadb.Grant{Verbs: []string{"role.write", "job.read"}})
	h.grant(t, "bob", "", metadb.Grant{Pattern: "other/**", Role: identity.Developer})
	h.grant(t, "dev", "other", metadb.Grant{Pattern: "other/secret", Verbs: []string{"pull"}, Deny: true})
	alice, bob, barred := h.user("alice"), h.user("bob"), h.user("bob", "dev")
	root := identity.Principal{Kind: identity.User, Name: "root", Admin: true}
	for _, c := range []struct {
		who  identity.Principal
		in   string
		give metadb.Grant
		want string
	}{
		{alice, "team", toUser("pull"), "ok"}, {alice, "team", toUser("pull", "push"), "denied"}, {alice, "team", toUser(), "ok"},
		{alice, "team", of("team/a/b", toUser("pull")), "ok"}, {alice, "team", of("team/app-1", toUser("push")), "ok"},
		{alice, "team", of("team/app-*", toUser("pull", "push")), "ok"}, {alice, "team", of("team/a*", toUser("push")), "denied"},
		{alice, "team", metadb.Grant{Role: identity.Admin}, "denied"}, {alice, "other", toUser("pull"), "denied"},
		{alice, "", toUser("pull"), "denied"}, {alice, "", of("team/**", toUser("pull")), "denied"}, // it would outlive the project
		{bob, "", toUser("job.read"), "ok"}, {bob, "", toUser("user.write"), "denied"}, {bob, "", toUser("pull"), "denied"},
		{bob, "", of("other/app", toUser("pull")), "ok"}, {bob, "other", toUser("pull"), "ok"}, {bob, "other", of("other/a*", toUser("push")), "ok"},
		{bob, "", of("**", toUser("pull")), "denied"}, {bob, "team", toUser("pull"), "denied"},
		{barred, "other", of("other/app", toUser("pull")), "ok"}, {barred, "other", toUser("pull"), "denied"}, {barred, "other", toUser("push"), "ok"},
		{barred, "other", of("other/s*", toUser("pull")), "denied"}, {barred, "", of("other/**", toUser("pull")), "denied"},
		{barred, "other", metadb.Grant{Pattern: "other/secret", Verbs: []string{"pull"}, Deny: true}, "denied"},
		{root, "", toUser("*"), "ok"}, {root, "team", toUser("*"), "ok"},
		{identity.Principal{}, "team", toUser("pull"), "denied"}, {identity.Principal{Kind: identity.Anonymous}, "open", toUser("pull"), "login"},
	} {
		if got := cell(h.gives(t, c.who, c.in, c.give)); got != c.want {
			t.Errorf("%s gives %v %s of %q in %q: %s, want %s", c.who, c.give.Verbs, c.give.Role, c.give.Pattern, c.in, got, c.want)
		}
	}
}

// TestGiveWhatIsDenied: a denial stands in the way on all of its pattern, of whatever kind it is, unless it binds the receiver too;
// and who is bound by one does not take it away.
func TestGiveWhatIsDenied(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	for _, who := range []string{"alice", "bob"} {
		h.grant(t, who, "team", metadb.Grant{Role: identity.Admin})
	}
	alice, bob := h.user("alice"), h.user("bob")
	h.grant(t, "alice", "team", metadb.Grant{Pattern: "team/secret", Verbs: []string{"pull", "push", "list"}, Deny: true})
	h.grant(t, "signed-in", "", metadb.Grant{Pattern: "**/prod", Verbs: []string{"delete"}, Deny: true})
	h.grant(t, "everyone", "", metadb.Grant{Pattern: "*/frozen", Verbs: []string{"push"}, Deny: true})
	robot := func(verbs ...string) metadb.Grant {
		return metadb.Grant{Subject: metadb.Subject{Kind: metadb.RobotSubject, ID: h.ids["ci"]}, Verbs: verbs}
	}
	lifted := func(pattern string, verbs ...string) metadb.Grant {
		return metadb.Grant{Pattern: pattern, Verbs: verbs, Deny: true}
	}
	for _, c := range []struct {
		who  identity.Principal
		give metadb.Grant
		want string
	}{
		{alice, of("team/secret", robot("pull")), "denied"}, {alice, of("team/sec*", robot("pull")), "denied"}, {alice, robot("pull"), "denied"},
		{alice, of("team/app", robot("pull")), "ok"}, {alice, of("team/secret", robot("delete")), "ok"}, {alice, robot("member.read"), "ok"},
		{alice, lifted("team/secret", "pull", "push", "list"), "denied"}, {alice, lifted("team/app", "pull"), "ok"},
		{bob, lifted("team/secret", "pull", "push", "list"), "ok"}, {bob, of("team/secret", robot("pull")), "ok"},
		{bob, toUser("delete"), "ok"}, {bob, robot("delete"), "denied"}, {bob, of("team/app", robot("delete")), "ok"}, {bob, lifted("team/prod", "delete"), "denied"},
		{bob, robot("push"), "ok"}, {bob, lifted("team/frozen", "push"), "denied"},
	} {
		if got := cell(h.gives(t, c.who, "team", c.give)); got != c.want {
			t.Errorf("%s gives %v of %q (deny %v) to a %s: %s, want %s", c.who, c.give.Verbs, c.give.Pattern, c.give.Deny, c.give.Subject.Kind, got, c.want)
		}
	}
}

// TestGiveWithAToken: a token gives no more than it reaches, also an administrator's.
func TestGiveWithAToken(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin})
	reach := func(who identity.Principal, list ...identity.Grant) identity.Principal {
		who.Grants = &identity.Grants{List: list}
		return who
	}
	on := func(pattern string, verbs ...identity.Verb) identity.Grant {
		p, err := ref.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return identity.Grant{Pattern: p, Verbs: verbs}
	}
	root := identity.Principal{Kind: identity.User, ID: 99, Name: "root", Admin: true}
	narrow := reach(h.user("alice"), on("team/**", identity.MemberWrite, identity.ProjectRead), on("team/app-*", identity.Pull))
	writer := reach(root, identity.Grant{Registry: true, Verbs: []identity.Verb{identity.RoleWrite}})
	all := reach(root, on("**", "*"), identity.Grant{Registry: true, Verbs: []identity.Verb{"*"}})
	bound := reach(root, identity.Grant{Repository: "team/app", Project: h.ids["other"], Verbs: []identity.Verb{identity.Pull}})
	lent := reach(h.user("alice"), on("team/**", identity.MemberWrite, identity.Pull))
	lent.Delegated = true
	for _, c := range []struct {
		who  identity.Principal
		in   string
		give metadb.Grant
		want string
	}{
		{narrow, "team", toUser("pull", "push"), "scope"}, {narrow, "team", toUser("member.write"), "ok"}, {narrow, "team", of("team/app-1", toUser("pull")), "ok"},
		{narrow, "team", of("team/a*", toUser("pull")), "scope"}, {narrow, "other", toUser("member.write"), "denied"},
		{writer, "", toUser("role.write"), "ok"}, {writer, "", toUser("user.write"), "scope"}, {writer, "", toUser("pull"), "scope"}, {writer, "team", toUser("pull"), "scope"},
		{all, "", toUser("*"), "ok"}, {all, "team", metadb.Grant{Role: identity.Admin}, "ok"}, {bound, "team", of("team/app", toUser("pull")), "scope"},
		{lent, "team", toUser("pull"), "ok"}, {lent, "team", toUser("push"), "denied"}, // its rights are what somebody decided, not the account's
	} {
		if got := cell(h.gives(t, c.who, c.in, c.give)); got != c.want {
			t.Errorf("a token gives %v of %q in %q: %s, want %s", c.give.Verbs, c.give.Pattern, c.in, got, c.want)
		}
	}
}

// TestGiveForATime: nobody gives for longer than they have it themselves.
func TestGiveForATime(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	at := func(hours int) time.Time {
		return h.now.Add(time.Duration(hours) * time.Hour).Truncate(time.Microsecond)
	}
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin, Until: at(10)})
	h.grant(t, "bob", "team", metadb.Grant{Role: identity.Admin})
	h.grant(t, "bob", "team", metadb.Grant{Pattern: "team/later", Verbs: []string{"pull"}, Deny: true, From: at(5), Until: at(6)})
	alice, bob := h.user("alice"), h.user("bob")
	during := func(from, until int, g metadb.Grant) metadb.Grant {
		if from != 0 {
			g.From = at(from)
		}
		if until != 0 {
			g.Until = at(until)
		}
		return g
	}
	for _, c := range []struct {
		who  identity.Principal
		give metadb.Grant
		want string
	}{
		{alice, toUser("pull"), "denied"}, {alice, during(0, 10, toUser("pull")), "ok"}, {alice, during(0, 11, toUser("pull")), "denied"},
		{alice, during(9, 10, toUser("pull")), "ok"}, {alice, during(11, 12, toUser("pull")), "denied"}, {alice, during(11, 0, toUser("pull")), "denied"},
		{bob, toUser("pull"), "denied"}, {bob, during(0, 5, toUser("pull")), "ok"}, {bob, during(6, 0, toUser("pull")), "ok"}, {bob, during(5, 6, toUser("pull")), "denied"},
		{bob, of("team/app", toUser("pull")), "ok"},
	} {
		if got := cell(h.gives(t, c.who, "team", c.give)); got != c.want {
			t.Errorf("%s gives %q from %v until %v: %s, want %s", c.who, c.give.Pattern, c.give.From, c.give.Until, got, c.want)
		}
	}
	err := h.gives(t, alice, "team", toUser("pull"))
	if want := at(10).UTC().Format(time.RFC3339); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want it to name %s", err, want)
	}
	h.now = h.now.Add(11 * time.Hour)
	if err := h.gives(t, alice, "team", during(0, 20, toUser("pull"))); !fault.Is(err, fault.Denied) {
		t.Errorf("after the end: %v", err)
	}
}

// TestActAs: who gets hold of another's password or secret may do all that the other may already.
func TestActAs(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins, Users: access.Pull})
	h.grant(t, "alice", "team", metadb.Grant{Role: identity.Admin})
	h.grant(t, "alice", "", metadb.Grant{Verbs: []string{"user.write", "group.write"}})
	h.grant(t, "ci", "team", metadb.Grant{Pattern: "team/app", Role: identity.Developer})
	h.grant(t, "dev", "", metadb.Grant{Verbs: []string{"export"}})
	denial := h.grant(t, "dev", "other", metadb.Grant{Verbs: []string{"pull"}, Deny: true})
	alice, bob := h.user("alice"), h.user("bob")
	robot := identity.Principal{Kind: identity.Robot, ID: h.ids["ci"], Name: "ci"}
	auditor := bob
	auditor.Auditor = true
	narrowed := alice
	narrowed.Grants = &identity.Grants{List: []identity.Grant{{Registry: true, Verbs: []identity.Verb{identity.UserWrite}}}}
	root := identity.Principal{Kind: identity.User, ID: 99, Name: "root", Admin: true}
	barred := root
	barred.Grants = narrowed.Grants
	for _, c := range []struct {
		what    string
		who, as identity.Principal
		want    string
	}{
		{"an account without rights of its own", alice, bob, "ok"}, {"one of a group that may more", alice, h.user("bob", "dev"), "denied"},
		{"an auditor", alice, auditor, "denied"}, {"an administrator", alice, root, "denied"}, {"herself", alice, alice, "ok"},
		{"a robot that may less", alice, robot, "ok"}, {"a robot that may more", bob, robot, "denied"}, {"an account that may more", bob, alice, "denied"},
		{"the robot itself", robot, robot, "ok"}, {"the account itself, with a token", narrowed, alice, "scope"}, {"nobody, with a token", narrowed, bob, "ok"},
		{"anybody, as an administrator", root, auditor, "ok"}, {"anybody, with a token of one", barred, robot, "scope"}, {"an administrator, with a token of one", barred, root, "denied"},
		{"an account of a robot's number", robot, identity.Principal{Kind: identity.User, ID: h.ids["alice"], Name: "alice"}, "denied"},
	} {
		if got := cell(h.CheckActAs(identity.With(t.Context(), c.who), c.as)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	group := metadb.Subject{Kind: metadb.GroupSubject, ID: h.ids["dev"]}
	ctx := identity.With(t.Context(), alice)
	if err := h.CheckGiveAll(ctx, group); !fault.Is(err, fault.Denied) || strings.Contains(fault.Of(err).Message, "export") {
		t.Errorf("into the group: %v", err)
	}
	if err := h.CheckTakeAll(ctx, group); err != nil { // every account may pull
		t.Errorf("out of the group: %v", err)
	}
	if err := h.CheckTakeAll(identity.With(t.Context(), h.user("alice", "dev")), group); !fault.Is(err, fault.Denied) {
		t.Errorf("out of the group that bars her: %v", err)
	}
	h.change(t, func(tx *metadb.Tx) error { return tx.DeleteGrant(denial) })
	if err := h.CheckTakeAll(identity.With(t.Context(), h.user("alice", "dev")), group); err != nil {
		t.Errorf("out of a group that denies nothing: %v", err)
	}
}
