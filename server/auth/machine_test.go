package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// as is a context of a caller; local of the operator at the machine.
func as(t testing.TB, p identity.Principal) context.Context { return identity.With(t.Context(), p) }

func local(t testing.TB) context.Context {
	return as(t, identity.Principal{Kind: identity.Local, Admin: true, Via: identity.ViaSocket})
}

// me is the context of an account that proved itself with its password.
func (b *bench) me(t testing.TB, name, password string) context.Context {
	t.Helper()
	p, err := b.Login(t.Context(), name, password, here)
	if err != nil {
		t.Fatal(err)
	}
	return as(t, p)
}

func (b *bench) robot(t testing.TB, n auth.NewRobot) (auth.Robot, string) {
	t.Helper()
	r, secret, err := b.CreateRobot(local(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return r, secret
}

// bearerOf exchanges a Basic login for a token.
func (b *bench) bearerOf(t testing.TB, name, password string) auth.Token {
	t.Helper()
	p, err := b.Authenticate(t.Context(), basic(name, password), here)
	if err != nil {
		t.Fatal(err)
	}
	return b.token(t, p, "repository:team/app:pull,push")
}

// rejected fails the test unless the header is refused as Unauthenticated.
func (b *bench) rejected(t testing.TB, what, header string) {
	t.Helper()
	if p, err := b.Authenticate(t.Context(), header, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("%s: %+v, %v; want Unauthenticated", what, p, err)
	}
}

func (b *bench) accepted(t testing.TB, what, header string) identity.Principal {
	t.Helper()
	p, err := b.Authenticate(t.Context(), header, here)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return p
}

func TestRobotLogin(t *testing.T) {
	b, c := counted(t)
	r, secret := b.robot(t, auth.NewRobot{Name: "ci-app", Description: "pushes the app"})
	for what, header := range map[string]string{
		"basic": basic("ci-app", secret), "without its name": basic("robot", secret), "docker's word": basic("<token>", secret), "bearer": "Bearer " + secret,
	} {
		if p := b.accepted(t, what, header); p.Kind != identity.Robot || p.ID != r.ID || p.Name != "ci-app" || p.Admin || p.Grants != nil {
			t.Errorf("%s: %+v", what, p)
		}
	}
	if n := c.logins.Load() + c.decoys.Load(); n != 0 {
		t.Errorf("a robot's login cost %d password hashes", n)
	}
	other, _ := b.robot(t, auth.NewRobot{Name: "other"})
	for what, header := range map[string]string{
		"another robot's name":  basic(other.Name, secret),
		"an account's name":     basic(alice, secret),
		"a changed character":   basic("ci-app", secret[:10]+"A"+secret[11:]+""),
		"cut":                   basic("ci-app", secret[:len(secret)-1]),
		"a made-up secret":      "Bearer " + auth.RobotSecret + strings.Repeat("A", 49),
		"the prefix alone":      "Bearer " + auth.RobotSecret,
		"as a personal token":   "Bearer " + auth.TokenSecret + strings.TrimPrefix(secret, auth.RobotSecret),
		"the name as a secret":  basic("ci-app", "ci-app"),
		"the stored hash":       basic("ci-app", rowHash(t, b, r.ID)),
		"the prefix that shows": basic("ci-app", r.Secrets[0].Prefix),
	} {
		b.rejected(t, what, header)
	}
	if strings.Contains(b.log.String(), secret) || strings.Contains(b.log.String(), secret[4:20]) {
		t.Error("the log has the secret")
	}
}

func rowHash(t testing.TB, b *bench, robot int64) string {
	t.Helper()
	rows, err := b.db.RobotSecrets(t.Context(), robot)
	if err != nil || len(rows) == 0 {
		t.Fatal(rows, err)
	}
	return rows[0].Hash
}

// TestRobotRotation follows two secrets through an overlap, and the tokens that were made by each.
func TestRobotRotation(t *testing.T) {
	b := open(t)
	_, first := b.robot(t, auth.NewRobot{Name: "ci"})
	byFirst := b.bearerOf(t, "ci", first)
	second, info, err := b.RotateRobot(local(t), "", "ci", time.Hour, time.Time{})
	if err != nil || info.Prefix == "" || !strings.HasPrefix(second, info.Prefix) {
		t.Fatal(info, err)
	}
	bySecond := b.bearerOf(t, "ci", second)
	for what, header := range map[string]string{"old": basic("ci", first), "new": basic("ci", second), "token of the old": "Bearer " + byFirst.Access, "of the new": "Bearer " + bySecond.Access} {
		b.accepted(t, what+" in the overlap", header)
	}
	if p, err := b.Refresh(t.Context(), byFirst.Refresh, here); err != nil || p.Kind != identity.Robot {
		t.Errorf("refresh in the overlap: %+v, %v", p, err)
	}
	b.clock.Advance(time.Hour)
	bySecond = b.bearerOf(t, "ci", second)
	b.rejected(t, "old secret after the overlap", basic("ci", first))
	if p, err := b.Refresh(t.Context(), byFirst.Refresh, here); err == nil {
		t.Errorf("a refresh token outlives the secret it was had by: %+v", p)
	}
	b.accepted(t, "new secret after the overlap", basic("ci", second))
	third, _, err := b.RotateRobot(local(t), "", "ci", 0, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "old secret without an overlap", basic("ci", second))
	b.rejected(t, "token of the old secret without an overlap", "Bearer "+bySecond.Access)
	byThird := b.bearerOf(t, "ci", third)
	if _, err := b.UpdateRobot(local(t), "", "ci", -1, auth.RobotChange{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "disabled", basic("ci", third))
	b.rejected(t, "token of a disabled robot", "Bearer "+byThird.Access)
	if _, err := b.UpdateRobot(local(t), "", "ci", -1, auth.RobotChange{Disabled: new(false), ExpiresAt: new(b.clock.Now().Add(time.Minute))}); err != nil {
		t.Fatal(err)
	}
	b.accepted(t, "token when enabled again", "Bearer "+byThird.Access)
	b.clock.Advance(time.Minute)
	b.rejected(t, "expired", basic("ci", third))
	if err := b.DeleteRobot(local(t), "", "ci", -1); err != nil {
		t.Fatal(err)
	}
	_, again := b.robot(t, auth.NewRobot{Name: "ci"})
	b.rejected(t, "secret of a robot that was made anew", basic("ci", third))
	b.rejected(t, "token of a robot that was made anew", "Bearer "+byThird.Access)
	b.accepted(t, "the new one's secret", basic("ci", again))
}

func TestRobotsBelongToProjects(t *testing.T) {
	b := open(t)
	b.put(t, metadb.Account{Name: "keeper-team"}, "keepers password")
	for _, project := range []string{"team", "other"} {
		if err := b.db.Update(t.Context(), func(tx *metadb.Tx) error { _, _, err := tx.EnsureProject(project, false); return err }); err != nil {
			t.Fatal(err)
		}
	}
	keeper := b.me(t, "keeper-team", "keepers password")
	if _, _, err := b.CreateRobot(keeper, auth.NewRobot{Name: "team-ci", Project: "team"}); err != nil {
		t.Fatal(err)
	}
	b.robot(t, auth.NewRobot{Name: "other-ci", Project: "other"})
	b.robot(t, auth.NewRobot{Name: "all-ci"})
	for what, err := range map[string]error{
		"make one elsewhere":      second(b.CreateRobot(keeper, auth.NewRobot{Name: "x", Project: "other"})),
		"make one of everything":  second(b.CreateRobot(keeper, auth.NewRobot{Name: "x"})),
		"see another project's":   first(b.Robot(keeper, "other", "other-ci")),
		"through its own project": first(b.Robot(keeper, "team", "other-ci")),
		"the registry's":          first(b.Robot(keeper, "team", "all-ci")),
		"rotate it":               second2(b.RotateRobot(keeper, "team", "other-ci", 0, time.Time{})),
		"remove it":               b.DeleteRobot(keeper, "team", "other-ci", -1),
		"disable it":              first(b.UpdateRobot(keeper, "team", "all-ci", -1, auth.RobotChange{Disabled: new(true)})),
		"list the registry's":     first(b.Robots(keeper, "", metadb.RobotFilter{}, "", 10)),
	} {
		if err == nil {
			t.Errorf("%s: allowed", what)
		}
	}
	list, err := b.Robots(keeper, "team", metadb.RobotFilter{}, "", 10)
	if err != nil || len(list) != 1 || list[0].Name != "team-ci" || list[0].CreatedBy != "keeper-team" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, name := range []string{alice, "team-ci", "", "a b", "system", "a:b", "-x", strings.Repeat("a", 200), "robot\n"} {
		if _, _, err := b.CreateRobot(local(t), auth.NewRobot{Name: name}); err == nil {
			t.Errorf("robot %q was made", name)
		}
	}
	if _, _, err := b.CreateUser(local(t), auth.NewUser{Name: "team-ci"}); !fault.Has(err, auth.NameTaken) {
		t.Errorf("account with a robot's name: %v", err)
	}
}

func first[A any](_ A, err error) error           { return err }
func second[A, B any](_ A, _ B, err error) error  { return err }
func second2[A, B any](_ A, _ B, err error) error { return err }

func TestAccessTokens(t *testing.T) {
	b := open(t)
	mine := b.me(t, alice, alicePassword)
	made, secret, err := b.CreateAccessToken(mine, "laptop", []auth.TokenGrant{{Repositories: "team/**", Verbs: []identity.Verb{identity.Pull}}}, b.clock.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for what, header := range map[string]string{"basic": basic(alice, secret), "docker's word": basic("<token>", secret), "bearer": "Bearer " + secret} {
		p := b.accepted(t, what, header)
		if p.Kind != identity.User || p.Name != alice || !p.Grants.Allow(identity.Pull, "team/app") || p.Grants.Allow(identity.Push, "team/app") ||
			p.Grants.Allow(identity.Pull, "other/app") || p.Grants.AllowRegistry(identity.UserRead) {
			t.Errorf("%s: %+v", what, p)
		}
	}
	// A bearer token made by it, and what is refreshed, reach no further.
	p := b.accepted(t, "basic", basic(alice, secret))
	tok := b.token(t, p, "repository:team/app:pull,push", "repository:other/app:pull")
	want := []identity.Grant{{Repository: "team/app", Verbs: []identity.Verb{identity.Pull}}}
	// The access room of these tests does not look at a token's grants, so this shows that auth alone keeps them.
	if diff := cmp.Diff(want, reach(t, b.Service, tok.Access)); diff != "" {
		t.Errorf("reach (-want +got):\n%s", diff)
	}
	refreshed, err := b.Refresh(t.Context(), tok.Refresh, here)
	if err != nil || refreshed.Grants == nil || refreshed.Grants.Allow(identity.Push, "team/app") {
		t.Errorf("refreshed: %+v, %v", refreshed, err)
	}
	wide := b.token(t, refreshed, "repository:team/app:pull,push,delete", "repository:other/app:pull")
	if diff := cmp.Diff(want, reach(t, b.Service, wide.Access)); diff != "" {
		t.Errorf("reach after a refresh (-want +got):\n%s", diff)
	}
	for what, err := range map[string]error{
		"a token makes a token":        second(b.CreateAccessToken(as(t, p), "more", nil, time.Time{})),
		"a token lists tokens":         first(b.MyTokens(as(t, p), 0, 10)),
		"a bearer makes a token":       second(b.CreateAccessToken(as(t, b.accepted(t, "", "Bearer "+tok.Access)), "more", nil, time.Time{})),
		"nobody makes a token":         second(b.CreateAccessToken(t.Context(), "more", nil, time.Time{})),
		"anonymous makes a token":      second(b.CreateAccessToken(as(t, asAnonymous), "more", nil, time.Time{})),
		"without a name":               second(b.CreateAccessToken(mine, " ", nil, time.Time{})),
		"an end that is over":          second(b.CreateAccessToken(mine, "x", nil, b.clock.Now())),
		"a pattern that is none":       second(b.CreateAccessToken(mine, "x", []auth.TokenGrant{{Repositories: "Team/**", Verbs: []identity.Verb{"pull"}}}, time.Time{})),
		"a verb that is none":          second(b.CreateAccessToken(mine, "x", []auth.TokenGrant{{Repositories: "team/**", Verbs: []identity.Verb{"fly"}}}, time.Time{})),
		"every verb by a star":         second(b.CreateAccessToken(mine, "x", []auth.TokenGrant{{Repositories: "team/**", Verbs: []identity.Verb{"*"}}}, time.Time{})),
		"a registry verb on a pattern": second(b.CreateAccessToken(mine, "x", []auth.TokenGrant{{Repositories: "team/**", Verbs: []identity.Verb{"user.write"}}}, time.Time{})),
	} {
		if err == nil {
			t.Errorf("%s: allowed", what)
		}
	}
	// Independent of the password and of the browser.
	if _, err := b.SetPassword(local(t), alice, "an other password", false); err != nil {
		t.Fatal(err)
	}
	b.accepted(t, "after the password changed", basic(alice, secret))
	b.accepted(t, "bearer made by it, after the password changed", "Bearer "+b.bearerOf(t, alice, secret).Access)
	tok = b.bearerOf(t, alice, secret)
	if err := b.RevokeAccessToken(b.me(t, alice, "an other password"), made.ID); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "revoked", basic(alice, secret))
	b.rejected(t, "bearer of a revoked token", "Bearer "+tok.Access)
	if _, err := b.Refresh(t.Context(), tok.Refresh, here); err == nil {
		t.Error("a refresh token outlives the personal token it was had by")
	}
}

func TestAccessTokenEnds(t *testing.T) {
	b := open(t)
	b.put(t, metadb.Account{Name: "bob"}, "bobs password")
	mine, bobs := b.me(t, alice, alicePassword), b.me(t, "bob", "bobs password")
	made, secret, err := b.CreateAccessToken(mine, "x", nil, b.clock.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	absent := b.RevokeAccessToken(bobs, 4711)
	if err := b.RevokeAccessToken(bobs, made.ID); !fault.Is(err, fault.NotFound) || !fault.Is(absent, fault.NotFound) ||
		strings.ReplaceAll(err.Error(), "1", "") != strings.ReplaceAll(absent.Error(), "4711", "") {
		t.Errorf("somebody else's token: %v; one that is not there: %v", err, absent)
	}
	b.clock.Advance(time.Minute)
	b.rejected(t, "expired", basic(alice, secret))
	_, secret, err = b.CreateAccessToken(b.me(t, alice, alicePassword), "y", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b.accepted(t, "before", basic(alice, secret))
	if _, err := b.UpdateUser(local(t), alice, -1, auth.UserChange{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "of a disabled account", basic(alice, secret))
	if err := b.DeleteUser(local(t), alice, -1); err != nil {
		t.Fatal(err)
	}
	b.put(t, metadb.Account{Name: alice}, alicePassword)
	b.rejected(t, "of an account that was made anew", basic(alice, secret))
}

// TestUses proves that requests write nothing, and that what was used is known after the batch.
func TestUses(t *testing.T) {
	b := open(t)
	r, secret := b.robot(t, auth.NewRobot{Name: "ci"})
	_, pat, err := b.CreateAccessToken(b.me(t, alice, alicePassword), "x", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(time.Second)
	for range 20 {
		b.accepted(t, "robot", basic("ci", secret))
		b.accepted(t, "token", "Bearer "+pat)
	}
	if row, err := b.db.Robot(t.Context(), r.ID); err != nil || !row.LastUsedAt.IsZero() {
		t.Errorf("a request wrote: %+v, %v", row, err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if row, err := b.db.Robot(t.Context(), r.ID); err != nil || !row.LastUsedAt.Equal(b.clock.Now()) || row.LastUsedFrom != here {
		t.Errorf("robot: %+v, %v", row, err)
	}
	tokens, err := b.MyTokens(b.me(t, alice, alicePassword), 0, 10)
	if err != nil || len(tokens) != 1 || !tokens[0].LastUsedAt.Equal(b.clock.Now()) || tokens[0].LastUsedFrom != here {
		t.Errorf("token: %+v, %v", tokens, err)
	}
	if u, err := b.User(local(t), alice); err != nil || u.LastLoginAt.IsZero() {
		t.Errorf("account: %+v, %v", u, err)
	}
}
