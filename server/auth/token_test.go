package auth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

var (
	asAlice     = identity.Principal{Kind: identity.User, Name: alice}
	asAnonymous = identity.Principal{Kind: identity.Anonymous}
)

// token asks for one with the scopes.
func (b *bench) token(t testing.TB, p identity.Principal, scopes ...string) auth.Token {
	t.Helper()
	tok, err := b.Token(t.Context(), auth.Request{Principal: p, Scopes: scopes, Service: "registry.example.com", Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// reach is what a token allows, as the service itself reads it.
func reach(t testing.TB, s *auth.Service, token string) []identity.Grant {
	t.Helper()
	p, err := s.Authenticate(t.Context(), "Bearer "+token, here)
	if err != nil {
		t.Fatal(err)
	}
	if p.Grants == nil {
		t.Fatal("a bearer token does not narrow its principal")
	}
	return p.Grants.List
}

func TestTokenReach(t *testing.T) {
	b := open(t)
	const pull, push, del = identity.Pull, identity.Push, identity.Delete
	grant := func(name string, verbs ...identity.Verb) identity.Grant {
		return identity.Grant{Repository: name, Verbs: verbs}
	}
	admin := identity.Principal{Kind: identity.User, Name: "root2", Admin: true}
	b.put(t, metadb.Account{Name: "root2", Admin: true}, "roots password")
	for _, c := range []struct {
		name   string
		who    identity.Principal
		scopes []string
		want   []identity.Grant
	}{
		{"pull and push", asAlice, []string{"repository:team/app:pull,push"}, []identity.Grant{grant("team/app", pull, push)}},
		{"several in one parameter", asAlice, []string{"repository:a:pull repository:b/c:push"}, []identity.Grant{grant("a", pull), grant("b/c", push)}},
		{"several parameters", asAlice, []string{"repository:a:pull", "repository:b:pull"}, []identity.Grant{grant("a", pull), grant("b", pull)}},
		{"the same twice", asAlice, []string{"repository:a:pull", "repository:a:push,pull"}, []identity.Grant{grant("a", pull, push)}},
		{"narrowed", asAlice, []string{"repository:a:pull,delete"}, []identity.Grant{grant("a", pull)}},
		{"everything", asAlice, []string{"repository:a:*"}, []identity.Grant{grant("a", pull, push)}},
		{"everything as admin", admin, []string{"repository:a:*"}, []identity.Grant{grant("a", pull, push, del)}},
		{"plugin", asAlice, []string{"repository(plugin):a/b:pull"}, []identity.Grant{grant("a/b", pull)}},
		{"catalog", asAlice, []string{"registry:catalog:*"}, []identity.Grant{{Catalog: true, Verbs: []identity.Verb{identity.Catalog}}}},
		{"anonymous", asAnonymous, []string{"repository:open/x:pull,push repository:team/app:pull"}, []identity.Grant{grant("open/x", pull)}},
		{"nothing asked", asAlice, nil, []identity.Grant{}},
		{"unknown action", asAlice, []string{"repository:a:fly,pull"}, []identity.Grant{grant("a", pull)}},
		{"nothing understood", asAlice, []string{"", " ", "repository", "repository:a", "repository::pull", "repository:a:", ":::", "repository:A:pull",
			"repository:../a:pull", "repository:host:5000/a:pull", "registry:catalog:pull", "registry:x:*", "user:alice:pull", "repository(:a:pull",
			"repository:*:pull", "repository:a:PULL", "repository:a\x00:pull"}, []identity.Grant{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok := b.token(t, c.who, c.scopes...)
			if diff := cmp.Diff(c.want, reach(t, b.Service, tok.Access)); diff != "" {
				t.Errorf("reach (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTokenClaims(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:team/app:pull", "registry:catalog:*")
	parts := strings.Split(tok.Access, ".")
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	if header["alg"] != "EdDSA" || header["typ"] != "JWT" || header["kid"] == "" || len(header) != 3 {
		t.Errorf("header %v", header)
	}
	now := float64(b.clock.Now().Unix())
	for name, want := range map[string]any{"iss": "berth", "sub": alice, "exp": now + 300, "nbf": now, "iat": now} {
		if claims[name] != want {
			t.Errorf("claim %s is %v, want %v", name, claims[name], want)
		}
	}
	want := []any{
		map[string]any{"type": "repository", "name": "team/app", "actions": []any{"pull"}},
		map[string]any{"type": "registry", "name": "catalog", "actions": []any{"*"}},
	}
	if diff := cmp.Diff(want, claims["access"]); diff != "" {
		t.Errorf("access (-want +got):\n%s", diff)
	}
	if id, _ := claims["jti"].(string); len(id) < 20 {
		t.Errorf("jti is %v", claims["jti"])
	}
	if tok.ExpiresIn != 5*time.Minute || !tok.IssuedAt.Equal(b.clock.Now()) || tok.Scope != "repository:team/app:pull registry:catalog:*" {
		t.Errorf("answer %+v", tok)
	}
	again := b.token(t, asAlice, "repository:team/app:pull", "registry:catalog:*")
	if again.Access == tok.Access {
		t.Error("two tokens are the same: jti does not differ")
	}
}

func TestTokenRefusals(t *testing.T) {
	b := open(t, func(o *auth.Options) { o.Anonymous = false })
	narrowed := asAlice
	narrowed.Grants = &identity.Grants{}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf("repository:r%d:pull", i))
	}
	long := []string{}
	for i := range 90 {
		long = append(long, fmt.Sprintf("repository:%s%d:pull,push", strings.Repeat("x", 100), i))
	}
	for name, c := range map[string]struct {
		q    auth.Request
		kind fault.Kind
	}{
		"nobody":                 {auth.Request{}, fault.Denied},
		"system":                 {auth.Request{Principal: identity.Principal{Kind: identity.System}}, fault.Denied},
		"anonymous, closed":      {auth.Request{Principal: asAnonymous}, fault.Unauthenticated},
		"token for a token":      {auth.Request{Principal: narrowed}, fault.Unauthenticated},
		"no such account":        {auth.Request{Principal: identity.Principal{Kind: identity.User, Name: "gone"}}, fault.Unauthenticated},
		"101 scopes":             {auth.Request{Principal: asAlice, Scopes: many}, fault.Invalid},
		"101 scopes in one":      {auth.Request{Principal: asAlice, Scopes: []string{strings.Join(many, " ")}}, fault.Invalid},
		"longer than the header": {auth.Request{Principal: asAlice, Scopes: long}, fault.Invalid},
	} {
		if tok, err := b.Token(t.Context(), c.q); !fault.Is(err, c.kind) || tok.Access != "" {
			t.Errorf("%s: %+v, %v; want kind %d", name, tok, err, c.kind)
		}
	}
	// The account became an administrator between login and token: what was proved was not an administrator.
	b.put(t, metadb.Account{Name: alice, Admin: true}, "")
	b.Forget(alice)
	if tok, err := b.Token(t.Context(), auth.Request{Principal: asAlice}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a token for an account that changed meanwhile: %+v, %v", tok, err)
	}
}

// generous is an access room with a bug: it allows what nobody asked for.
type generous struct{ narrow }

func (generous) Narrow(context.Context, identity.Principal, []identity.Grant) ([]identity.Grant, error) {
	return []identity.Grant{
		{Repository: "team/app", Verbs: []identity.Verb{identity.Pull, identity.Push, identity.Delete, "*"}},
		{Repository: "other/secret", Verbs: []identity.Verb{identity.Pull}}, {Catalog: true, Verbs: []identity.Verb{"*"}},
	}, nil
}

func TestTokenIsNeverWiderThanAsked(t *testing.T) {
	b := open(t, func(o *auth.Options) { o.Access = generous{} })
	tok := b.token(t, asAlice, "repository:team/app:pull")
	want := []identity.Grant{{Repository: "team/app", Verbs: []identity.Verb{identity.Pull}}}
	if diff := cmp.Diff(want, reach(t, b.Service, tok.Access)); diff != "" {
		t.Errorf("reach (-want +got):\n%s", diff)
	}
}

func TestTokenLifetimes(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:a:pull")
	for _, step := range []struct {
		forward time.Duration
		valid   bool
	}{{0, true}, {4 * time.Minute, true}, {time.Minute, true}, {59 * time.Second, true}, {2 * time.Second, false}} {
		b.clock.Advance(step.forward)
		p, err := b.Authenticate(t.Context(), "Bearer "+tok.Access, here)
		if step.valid && err != nil {
			t.Errorf("at %s: %v", b.clock.Now().Sub(tok.IssuedAt), err)
		}
		if !step.valid {
			if text := refused(t, p, err); !strings.Contains(text, "expired") || fault.Of(err).Reason != auth.InvalidToken {
				t.Errorf("an expired token is answered %q with reason %s", text, fault.Of(err).Reason)
			}
		}
	}
	if _, err := auth.New(auth.Options{Store: b.db, Access: narrow{}, TokenLifetime: 59 * time.Second}); err == nil {
		t.Error("a lifetime below a minute was accepted")
	}
}

func TestRefreshToken(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:a:pull")
	if tok.Refresh == "" {
		t.Fatal("no refresh token although it was asked for")
	}
	b.clock.Advance(29 * 24 * time.Hour)
	p, err := b.Refresh(t.Context(), tok.Refresh, here)
	if want := (identity.Principal{Kind: identity.User, ID: 1, Name: alice, Via: identity.ViaBasic, Addr: here}); err != nil || !reflect.DeepEqual(p, want) {
		t.Fatalf("refresh: %+v, %v; want %+v", p, err, want)
	}
	if diff := cmp.Diff([]identity.Grant{{Repository: "b", Verbs: []identity.Verb{identity.Push}}},
		reach(t, b.Service, b.token(t, p, "repository:b:push").Access)); diff != "" {
		t.Errorf("token after a refresh (-want +got):\n%s", diff)
	}
	for _, name := range []string{alice, "<token>"} {
		p, err := b.Authenticate(t.Context(), basic(name, tok.Refresh), here)
		if err != nil || p.Name != alice || p.Grants == nil {
			t.Fatalf("refresh token as the password of %s: %+v, %v", name, p, err)
		}
		if !p.Grants.Allow(identity.Purge, "any/app") || !p.Grants.Allow(identity.Catalog, "") { // the distribution API …
			t.Errorf("%s does not reach repositories: %+v", name, p.Grants)
		}
		if p.Grants.AllowProject(identity.MemberWrite, "any", 1) || p.Grants.AllowProject(identity.ProjectRead, "any", 1) || p.Grants.AllowRegistry(identity.UserWrite) {
			t.Errorf("%s reaches beyond repositories: %+v", name, p.Grants)
		}
		if _, _, err := b.CreateAccessToken(as(t, p), "ever", nil, time.Time{}); !fault.Is(err, fault.Denied) {
			t.Errorf("%s makes a token of its own: %v", name, err)
		}
		if diff := cmp.Diff([]identity.Grant{{Repository: "b", Verbs: []identity.Verb{identity.Push}}}, reach(t, b.Service, b.token(t, p, "repository:b:push").Access)); diff != "" {
			t.Errorf("%s: token (-want +got):\n%s", name, diff) // … and further tokens
		}
	}
	p, err = b.Authenticate(t.Context(), basic("bob", tok.Refresh), here)
	refused(t, p, err)
	b.clock.Advance(25 * time.Hour)
	p, err = b.Refresh(t.Context(), tok.Refresh, here)
	refused(t, p, err)

	fresh := b.token(t, asAlice)
	p, err = b.Authenticate(t.Context(), "Bearer "+fresh.Refresh, here)
	refused(t, p, err) // a refresh token is no access token …
	p, err = b.Refresh(t.Context(), fresh.Access, here)
	refused(t, p, err) // … nor the other way round
	p, err = b.Authenticate(t.Context(), basic(alice, fresh.Access), here)
	refused(t, p, err)

	if anonymous := b.token(t, asAnonymous); anonymous.Refresh != "" {
		t.Error("an anonymous caller got a refresh token")
	}
	b.o.RefreshLifetime = -1
	if tok, err := b.again(t).Token(t.Context(), auth.Request{Principal: asAlice, Offline: true}); err != nil || tok.Refresh != "" {
		t.Errorf("refresh tokens are switched off: %+v, %v", tok, err)
	}
}

func TestPasswordThatLooksLikeAToken(t *testing.T) {
	b := open(t)
	password := "eyJ" + strings.Repeat("x", 100) + ".eyJ.sig"
	b.put(t, metadb.Account{Name: "bob"}, password)
	if p, err := b.Authenticate(t.Context(), basic("bob", password), here); err != nil || p.Name != "bob" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestDeletedAccountMadeAgainIsAnother(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:a:pull")
	if err := b.db.Update(t.Context(), func(tx *metadb.Tx) error { _, err := tx.DeleteAccount(alice); return err }); err != nil {
		t.Fatal(err)
	}
	b.put(t, metadb.Account{Name: alice}, alicePassword)
	b.Forget(alice)
	p, err := b.Authenticate(t.Context(), "Bearer "+tok.Access, here)
	refused(t, p, err)
	p, err = b.Refresh(t.Context(), tok.Refresh, here)
	refused(t, p, err)
}

func TestKeysAreSharedAndSurvive(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:a:pull")
	other := b.again(t)
	if _, err := other.Authenticate(t.Context(), "Bearer a.b.c", here); err == nil {
		t.Error("a.b.c was accepted")
	}
	reach(t, other, tok.Access) // a restart, or another replica

	keys, err := b.db.SigningKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v; want 1", len(keys), err)
	}
	// Rotation: a second key signs, the first still verifies, until it is deleted.
	b.clock.Advance(time.Minute)
	second := metadb.SigningKey{ID: "second", Algorithm: "EdDSA", Private: []byte(strings.Repeat("s", 32))}
	future := metadb.SigningKey{ID: "third", Algorithm: "ML-DSA", Private: []byte("of a later version")}
	update := func(fn func(tx *metadb.Tx) error) {
		t.Helper()
		if err := b.db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *metadb.Tx) error { return tx.AddSigningKey(second) })
	update(func(tx *metadb.Tx) error { return tx.AddSigningKey(future) })
	b.clock.Advance(time.Minute)
	next := b.token(t, asAlice, "repository:a:pull")
	if head, _ := base64.RawURLEncoding.DecodeString(strings.Split(next.Access, ".")[0]); !strings.Contains(string(head), `"second"`) {
		t.Errorf("the newest key does not sign: %s", head)
	}
	reach(t, other, tok.Access)
	reach(t, other, next.Access)
	update(func(tx *metadb.Tx) error { return tx.DeleteSigningKey(keys[0].ID) })
	b.clock.Advance(31 * time.Second)
	p, err := other.Authenticate(t.Context(), "Bearer "+tok.Access, here)
	refused(t, p, err)
	reach(t, other, next.Access)
	update(func(tx *metadb.Tx) error { return tx.RetireSigningKey("second") })
	b.clock.Advance(31 * time.Second)
	reach(t, other, next.Access) // retired: signs no more, verifies still
	last := b.token(t, asAlice)
	if head, _ := base64.RawURLEncoding.DecodeString(strings.Split(last.Access, ".")[0]); strings.Contains(string(head), `"second"`) {
		t.Errorf("a retired key signs: %s", head)
	}
}
