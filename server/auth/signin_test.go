package auth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// directory is an in-memory auth.Directory; the real one has its own suite.
type directory struct {
	entries map[string]auth.External // by login name
	away    bool
}

const directoryPassword = "the directory's password"

func (d *directory) Name() string { return "ldap" }

func (d *directory) Login(_ context.Context, name, password string) (auth.External, error) {
	x, ok := d.entries[name]
	switch {
	case d.away:
		return auth.External{}, errors.New("connection refused")
	case !ok:
		return auth.External{}, auth.ErrNoAccount
	case password != directoryPassword:
		return auth.External{}, auth.ErrPassword
	}
	return x, nil
}

func (d *directory) Lookup(_ context.Context, subject string) (auth.External, error) {
	for _, x := range d.entries {
		if x.Subject == subject {
			return x, nil
		}
	}
	if d.away {
		return auth.External{}, errors.New("connection refused")
	}
	return auth.External{}, auth.ErrNoAccount
}

func withDirectory(t *testing.T, change func(*auth.IdentityProvider)) (*bench, *directory) {
	t.Helper()
	b, d := open(t), &directory{entries: map[string]auth.External{"carol": {Provider: "ldap", Subject: "uuid-1", Name: "carol", Groups: []string{"a", "b"}}}}
	idp := auth.IdentityProvider{Name: "ldap", Kind: "ldap", Create: true, Groups: true, Directory: d}
	change(&idp)
	if err := b.Use([]auth.IdentityProvider{idp}); err != nil {
		t.Fatal(err)
	}
	return b, d
}

func groupID(t *testing.T, b *bench, name string) int64 {
	t.Helper()
	g, err := b.db.GroupByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// TestGroupIsGone follows a right that a group gave through everything that lives on: a session, a personal token, a bearer
// token and a refresh token.
func TestGroupIsGone(t *testing.T) {
	b, d := withDirectory(t, func(*auth.IdentityProvider) {})
	p, err := b.Login(t.Context(), "carol", directoryPassword, here)
	if err != nil || p.ID == 0 || len(p.Groups) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	opened, err := b.Open(t.Context(), p, "password", nil, "a browser")
	if err != nil {
		t.Fatal(err)
	}
	_, pat, err := b.CreateAccessToken(as(t, p), "x", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	tok := b.token(t, p, "repository:a:pull")
	groups := func(step string, want ...int64) {
		t.Helper()
		bySession, _, err1 := b.Resolve(t.Context(), opened.Cookie, here)
		byPAT, err2 := b.Authenticate(t.Context(), "Bearer "+pat, here)
		byToken, err3 := b.Authenticate(t.Context(), "Bearer "+tok.Access, here)
		byRefresh, err4 := b.Refresh(t.Context(), tok.Refresh, here)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		for way, p := range map[string]identity.Principal{"session": bySession, "personal token": byPAT, "bearer": byToken, "refresh": byRefresh} {
			if !slices.Equal(p.Groups, want) {
				t.Errorf("%s, by %s: groups %v, want %v", step, way, p.Groups, want)
			}
		}
	}
	a, second := groupID(t, b, "a"), groupID(t, b, "b")
	groups("at first", a, second)
	d.entries["carol"] = auth.External{Provider: "ldap", Subject: "uuid-1", Name: "carol", Groups: []string{"b"}}
	if _, err := b.SignIn(t.Context(), d.entries["carol"], identity.ViaBasic, here); err != nil {
		t.Fatal(err)
	}
	groups("after a login without group a", second)
	if err := b.AddGroupMember(local(t), "a", "carol"); err != nil {
		t.Fatal(err)
	}
	groups("put there by an administrator", a, second)
	if err := b.RemoveGroupMember(local(t), "b", "carol"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a membership that the directory says was removed: %v", err)
	}
	if err := b.DeleteGroup(local(t), "a", -1); err != nil {
		t.Fatal(err)
	}
	groups("after group a is gone", second)
	// Without a login: the directory is asked again about whoever uses the account.
	d.entries["carol"] = auth.External{Provider: "ldap", Subject: "uuid-1", Name: "carol", Groups: []string{}}
	b.clock.Advance(2 * time.Minute)
	b.accepted(t, "in use", "Bearer "+pat)
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	groups("after the directory took the group")
	delete(d.entries, "carol")
	b.clock.Advance(2 * time.Minute)
	b.accepted(t, "in use", "Bearer "+pat)
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "personal token after the directory lost the account", "Bearer "+pat)
	b.rejected(t, "bearer after the directory lost the account", "Bearer "+tok.Access)
	if _, _, err := b.Resolve(t.Context(), opened.Cookie, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("session after the directory lost the account: %v", err)
	}
	d.entries["carol"] = auth.External{Provider: "ldap", Subject: "uuid-1", Name: "carol"}
	if p, err := b.Login(t.Context(), "carol", directoryPassword, here); err != nil || len(p.Groups) != 0 {
		t.Errorf("back again: %+v, %v", p, err)
	}
}

func TestDirectoryLogins(t *testing.T) {
	b, d := withDirectory(t, func(*auth.IdentityProvider) {})
	for _, password := range []string{"", "wrong", alicePassword} {
		if p, err := b.Login(t.Context(), "carol", password, here); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("password %q: %+v, %v", password, p, err)
		}
	}
	// A name has one owner: the directory never proves an account of ours.
	d.entries[alice] = auth.External{Provider: "ldap", Subject: "uuid-2", Name: alice, Admin: true}
	if p, err := b.Login(t.Context(), alice, directoryPassword, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a local account by the directory's password: %+v, %v", p, err)
	}
	if p, err := b.SignIn(t.Context(), d.entries[alice], identity.ViaSession, here); !fault.Is(err, fault.Denied) {
		t.Errorf("a local account by a provider: %+v, %v", p, err)
	}
	if err := b.Link(local(t), alice, "ldap", "uuid-2"); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Login(t.Context(), alice, directoryPassword, "192.0.2.99"); err != nil || p.Name != alice || p.Admin {
		t.Errorf("linked: %+v, %v; want alice, whose rights the directory does not decide", p, err)
	}
	if p, err := b.Login(t.Context(), alice, alicePassword, "192.0.2.99"); err != nil || p.Name != alice {
		t.Errorf("linked, by its own password: %+v, %v", p, err)
	}
	if err := b.Link(local(t), "carol", "ldap", "uuid-2"); err == nil {
		t.Error("one identity became two accounts")
	}
	if err := b.Unlink(local(t), alice, "ldap", "uuid-2"); err != nil {
		t.Fatal(err)
	}
	d.away = true
	if _, err := b.Login(t.Context(), alice, alicePassword, "192.0.2.98"); err != nil {
		t.Errorf("a local account while the directory is away: %v", err)
	}
	if p, err := b.Login(t.Context(), "carol", directoryPassword, "192.0.2.98"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("its account while the directory is away: %+v, %v", p, err)
	}
}

func TestSignInPolicies(t *testing.T) {
	b, d := withDirectory(t, func(p *auth.IdentityProvider) { p.Create, p.Groups = false, false })
	x := d.entries["carol"]
	if _, err := b.SignIn(t.Context(), x, identity.ViaSession, here); !fault.Is(err, fault.Denied) {
		t.Errorf("a stranger: %v", err)
	}
	if p, err := b.Login(t.Context(), "carol", directoryPassword, here); !fault.Is(err, fault.Unauthenticated) { // 401: podman shows no other text
		t.Errorf("a stranger by password: %+v, %v", p, err)
	}
	if err := b.Use([]auth.IdentityProvider{{Name: "ldap", Adopt: true, Directory: d}}); err != nil {
		t.Fatal(err)
	}
	b.put(t, metadb.Account{Name: "carol"}, "carols password")
	b.put(t, metadb.Account{Name: "boss", Admin: true}, "boss password")
	if p, err := b.SignIn(t.Context(), x, identity.ViaSession, here); err != nil || p.Name != "carol" || len(p.Groups) != 0 {
		t.Errorf("adopted: %+v, %v", p, err)
	}
	if p, err := b.SignIn(t.Context(), auth.External{Provider: "ldap", Subject: "uuid-9", Name: "carol"}, identity.ViaSession, here); !fault.Is(err, fault.Denied) {
		t.Errorf("another identity of that name: %+v, %v", p, err)
	}
	if p, err := b.SignIn(t.Context(), auth.External{Provider: "ldap", Subject: "uuid-3", Name: "boss"}, identity.ViaSession, here); !fault.Is(err, fault.Denied) {
		t.Errorf("an administrator adopted by name: %+v, %v", p, err)
	}
	for _, x := range []auth.External{{Provider: "other", Subject: "s", Name: "n"}, {Provider: "ldap", Name: "n"}, {Provider: "ldap", Subject: "s", Name: "a:b"}, {Provider: "ldap", Subject: "s", Robot: "gone"}} {
		if p, err := b.SignIn(t.Context(), x, identity.ViaSession, here); !fault.Is(err, fault.Denied) {
			t.Errorf("%+v: %+v, %v", x, p, err)
		}
	}
}

func TestSessions(t *testing.T) {
	b := open(t)
	mine := b.me(t, alice, alicePassword)
	opened, err := b.Open(t.Context(), identity.From(mine), "password", nil, "a browser")
	if err != nil {
		t.Fatal(err)
	}
	if p, s, err := b.Resolve(t.Context(), opened.Cookie, here); err != nil || p.Name != alice || p.Via != identity.ViaSession || !s.Current {
		t.Fatalf("%+v, %+v, %v", p, s, err)
	}
	for what, csrf := range map[string]string{"none": "", "another": opened.CSRF + "x", "the cookie": opened.Cookie} {
		if _, _, err := b.Acts(t.Context(), opened.Cookie, csrf, here); !fault.Is(err, fault.Denied) {
			t.Errorf("CSRF token %s: %v", what, err)
		}
	}
	if _, _, err := b.Acts(t.Context(), opened.Cookie, opened.CSRF, here); err != nil {
		t.Error(err)
	}
	for what, cookie := range map[string]string{"none": "", "changed": opened.Cookie[:8] + "A" + opened.Cookie[9:], "of a robot": auth.RobotSecret + opened.Cookie[4:]} {
		if p, _, err := b.Resolve(t.Context(), cookie, here); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("cookie %s: %+v, %v", what, p, err)
		}
	}
	b.rejected(t, "a cookie as a bearer token", "Bearer "+opened.Cookie)
	b.rejected(t, "a cookie as a password", basic(alice, opened.Cookie))
	for range 6 { // in use: it does not become idle, and ends all the same
		b.clock.Advance(11 * time.Hour)
		if _, _, err := b.Resolve(t.Context(), opened.Cookie, here); err != nil {
			t.Fatalf("after %s: %v", b.clock.Now(), err)
		}
	}
	idle, err := b.Open(t.Context(), identity.From(mine), "password", nil, "another")
	if err != nil {
		t.Fatal(err)
	}
	list, err := b.MySessions(mine, 0, 10)
	if err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	b.clock.Advance(12 * time.Hour)
	if _, _, err := b.Resolve(t.Context(), idle.Cookie, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("idle: %v", err)
	}
	again, err := b.Open(t.Context(), identity.From(mine), "password", nil, "third")
	if err != nil {
		t.Fatal(err)
	}
	b.put(t, metadb.Account{Name: "bob"}, "bobs password")
	if err := b.Revoke(b.me(t, "bob", "bobs password"), again.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("somebody else's session: %v", err)
	}
	if err := b.Revoke(mine, again.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Resolve(t.Context(), again.Cookie, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("revoked: %v", err)
	}
	last, err := b.Open(t.Context(), identity.From(mine), "password", nil, "fourth")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetPassword(local(t), alice, "an other password", false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Resolve(t.Context(), last.Cookie, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after the password changed: %v", err)
	}
}

func TestUserRules(t *testing.T) {
	b := open(t)
	b.put(t, metadb.Account{Name: "root2", Admin: true}, "roots password")
	for _, password := range []string{"admin", "Harbor12345", "password123", "short", "aaaaaaaaaaaa", "newuser1", " spaces around ", "changeme"} {
		if _, _, err := b.CreateUser(local(t), auth.NewUser{Name: "newuser1", Password: password}); !fault.Has(err, auth.PasswordWeak) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	u, generated, err := b.CreateUser(local(t), auth.NewUser{Name: "newuser1", MustChange: true})
	if err != nil || len(generated) < 12 || u.Admin {
		t.Fatal(u, generated, err)
	}
	p, err := b.Login(t.Context(), "newuser1", generated, here)
	if refused(t, p, err); !fault.Has(err, auth.PasswordExpired) {
		t.Errorf("before the password was changed: %v", err)
	}
	if err := b.ChangePassword(t.Context(), "newuser1", "wrong", "my own password", here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("with a wrong old password: %v", err)
	}
	for _, password := range []string{generated, "", "docker123"} {
		if err := b.ChangePassword(t.Context(), "newuser1", generated, password, here); !fault.Has(err, auth.PasswordWeak) {
			t.Errorf("to %q: %v", password, err)
		}
	}
	if err := b.ChangePassword(t.Context(), "newuser1", generated, "my own password", here); err != nil {
		t.Fatal(err)
	}
	mine := b.me(t, "newuser1", "my own password")
	for what, err := range map[string]error{
		"nobody lists":            first(b.Users(t.Context(), metadb.AccountFilter{}, "", 10)),
		"a user lists":            first(b.Users(mine, metadb.AccountFilter{}, "", 10)),
		"a user makes one":        second(b.CreateUser(mine, auth.NewUser{Name: "x"})),
		"a user makes itself one": first(b.UpdateUser(mine, "newuser1", -1, auth.UserChange{Admin: new(true)})),
		"a user resets":           first(b.SetPassword(mine, "root2", "another password", false)),
		"a user removes":          b.DeleteUser(mine, "root2", -1),
		"a user unlocks":          b.Unlock(mine, alice),
	} {
		if !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v; want Denied", what, err)
		}
	}
	for what, err := range map[string]error{
		"removed":  b.DeleteUser(local(t), "root2", -1),
		"demoted":  first(b.UpdateUser(local(t), "root2", -1, auth.UserChange{Admin: new(false)})),
		"disabled": first(b.UpdateUser(local(t), "root2", -1, auth.UserChange{Disabled: new(true)})),
	} {
		if !fault.Has(err, auth.LastAdmin) {
			t.Errorf("the last administrator was %s: %v", what, err)
		}
	}
	if _, err := b.UpdateUser(local(t), "newuser1", u.Generation, auth.UserChange{Email: new("a@example.com")}); !fault.Has(err, auth.Changed) {
		t.Errorf("on what was read before another change: %v", err)
	}
}

// TestUnlock: an operator at another replica forgets the failed logins, and the next attempt is not delayed.
func TestUnlock(t *testing.T) {
	b := open(t)
	for range 8 {
		_, _ = b.Login(t.Context(), alice, "wrong", here)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u, err := b.User(local(t), alice); err != nil || u.Failures != 8 {
		t.Errorf("%+v, %v; want 8 failures", u, err)
	}
	slept := len(b.slept)
	_, _ = b.Login(t.Context(), alice, "wrong", here)
	if len(b.slept) == slept {
		t.Fatal("control: the ninth attempt was not delayed")
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.again(t).Unlock(local(t), alice); err != nil {
		t.Fatal(err)
	}
	slept = len(b.slept)
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil || len(b.slept) != slept {
		t.Errorf("after it was unlocked: %v, %d delays", err, len(b.slept)-slept)
	}
}
