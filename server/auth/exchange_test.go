package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/issuer"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// signing is somebody else's key with its public half as a key set.
func signing(t testing.TB) (set string, sign func(claims object) string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"theirs","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}]}`
	return set, func(claims object) string {
		return forge(t, object{"alg": "EdDSA", "typ": "JWT", "kid": "theirs"}, claims, func(s string) []byte { return ed25519.Sign(private, []byte(s)) })
	}
}

// exchanging is a bench that trusts issuers by their configuration.
func exchanging(t *testing.T) *bench {
	return open(t, func(o *auth.Options) {
		o.OpenIssuer = func(c auth.IssuerConfig) (auth.Issuer, error) {
			keys, err := issuer.ParseKeySet(c.KeySet)
			if err != nil {
				return nil, err
			}
			return issuer.New(issuer.Options{Issuer: c.Issuer, Audiences: c.Audiences, Keys: keys, Now: o.Now})
		}
	})
}

func (b *bench) trust(t testing.TB, name string, c auth.IssuerConfig) {
	t.Helper()
	if _, err := b.CreateIssuer(local(t), auth.TrustedIssuer{Name: name, Enabled: true, Config: c}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateIssuer(as(t, asAlice), auth.TrustedIssuer{Name: name, Enabled: true, Config: c}); !fault.Is(err, fault.Denied) {
		t.Errorf("anybody says whom to trust: %v", err)
	}
}

const (
	github     = "https://token.actions.githubusercontent.com"
	kubernetes = "https://kubernetes.default.svc.cluster.local"
)

func TestExchange(t *testing.T) {
	b := exchanging(t)
	githubKeys, byGitHub := signing(t)
	clusterKeys, byCluster := signing(t)
	pullPush := []identity.Verb{identity.Pull, identity.Push}
	b.trust(t, "github", auth.IssuerConfig{
		Issuer: github, Audiences: []string{"berth"}, KeySet: []byte(githubKeys),
		Rules: []auth.IssuerRule{
			{Name: "release", Claims: map[string]string{"repository": "octo/app", "ref": "refs/tags/*"}, Robot: "releaser", Lifetime: 600},
			{Name: "build", Claims: map[string]string{"repository": "octo/app", "ref": "refs/heads/**"}, Grants: []auth.TokenGrant{{Repositories: "octo/app", Verbs: pullPush}}},
		},
	})
	b.trust(t, "cluster", auth.IssuerConfig{
		Issuer: kubernetes, Audiences: []string{"berth"}, KeySet: []byte(clusterKeys),
		Rules: []auth.IssuerRule{{Name: "nodes", Claims: map[string]string{"kubernetes.io/serviceaccount/name": "puller", "kubernetes.io/namespace": "prod-*"},
			Grants: []auth.TokenGrant{{Repositories: "octo/**", Verbs: []identity.Verb{identity.Pull}}}}},
	})
	b.robot(t, auth.NewRobot{Name: "releaser"})
	now := b.clock.Now()
	claims := func(iss string, change object) object {
		c := object{"iss": iss, "aud": "berth", "sub": "subject", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
		maps.Copy(c, change)
		return c
	}
	push := func(ref string) object {
		return object{"repository": "octo/app", "ref": ref, "sub": "repo:octo/app:ref:" + ref}
	}
	pod := func(ns, name string) object {
		return object{"sub": "system:serviceaccount:" + ns + ":" + name, "kubernetes.io": object{"namespace": ns, "serviceaccount": object{"name": name}}}
	}
	build := byGitHub(claims(github, push("refs/heads/feature/x")))
	p, life, err := b.Exchange(t.Context(), build, here)
	if err != nil || p.Kind != identity.Robot || !p.Delegated || p.Name != "github:repo:octo/app:ref:refs/heads/feature/x" || life != 0 {
		t.Fatalf("build: %+v, %s, %v", p, life, err)
	}
	tok, err := b.Token(t.Context(), auth.Request{Principal: p, Scopes: []string{"repository:octo/app:pull,push,delete repository:other/x:pull registry:catalog:*"}, Offline: true})
	if err != nil || tok.Refresh != "" {
		t.Fatalf("%+v, %v; want no refresh token", tok, err)
	}
	if got := b.accepted(t, "bearer", "Bearer "+tok.Access); !got.Delegated || got.Name != p.Name {
		t.Errorf("%+v", got)
	}
	release, life, err := b.Exchange(t.Context(), byGitHub(claims(github, push("refs/tags/v1"))), here)
	if err != nil || release.Delegated || release.Name != "releaser" || release.Grants != nil || life != 10*time.Minute {
		t.Fatalf("release: %+v, %s, %v", release, life, err)
	}
	long, err := b.Token(t.Context(), auth.Request{Principal: release, Lifetime: life, Offline: true})
	if err != nil || long.ExpiresIn != 10*time.Minute || long.Refresh != "" {
		t.Errorf("%+v, %v", long, err)
	}
	if got := b.accepted(t, "docker login with the token of a cluster", basic("anything", byCluster(claims(kubernetes, pod("prod-1", "puller"))))); got.Name != "cluster:system:serviceaccount:prod-1:puller" ||
		!got.Grants.Allow(identity.Pull, "octo/app") || got.Grants.Allow(identity.Push, "octo/app") {
		t.Errorf("%+v", got)
	}
	for what, token := range map[string]string{
		"another repository":       byGitHub(claims(github, object{"repository": "octo/app2", "ref": "refs/heads/main"})),
		"a tag with a slash":       byGitHub(claims(github, push("refs/tags/v1/x"))),
		"a claim that is missing":  byGitHub(claims(github, object{"repository": "octo/app"})),
		"a claim of another kind":  byGitHub(claims(github, object{"repository": object{"octo/app": true}, "ref": "refs/heads/main"})),
		"another audience":         byGitHub(claims(github, maps2(push("refs/heads/main"), object{"aud": "other"}))),
		"expired":                  byGitHub(claims(github, maps2(push("refs/heads/main"), object{"exp": now.Add(-2 * time.Minute).Unix()}))),
		"another issuer's key":     byCluster(claims(github, push("refs/heads/main"))),
		"an issuer nobody trusts":  byGitHub(claims("https://evil.example", push("refs/heads/main"))),
		"an issuer's name, longer": byGitHub(claims(github+".evil.example", push("refs/heads/main"))),
		"another namespace":        byCluster(claims(kubernetes, pod("dev", "puller"))),
		"a namespace that is like": byCluster(claims(kubernetes, pod("xprod-1", "puller"))),
		"another service account":  byCluster(claims(kubernetes, pod("prod-1", "puller2"))),
		"our own access token":     tok.Access,
		"no token":                 "",
		"a password":               alicePassword,
		"endless":                  strings.Repeat("a.", 1<<16),
	} {
		if p, _, err := b.Exchange(t.Context(), token, here); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	// What was had by an exchange ends with the issuer's configuration, and with the robot.
	if err := b.DeleteRobot(local(t), "", "releaser", -1); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "token of a robot that is gone", "Bearer "+long.Access)
	list, err := b.Issuers(local(t), "", 10)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if _, err := b.UpdateIssuer(local(t), list[1], list[1].Generation); err != nil {
		t.Fatal(err)
	}
	b.rejected(t, "token of an issuer that was configured anew", "Bearer "+tok.Access)
	if err := b.DeleteIssuer(local(t), "github", -1); err != nil {
		t.Fatal(err)
	}
	if p, _, err := b.Exchange(t.Context(), build, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("of an issuer that is gone: %+v, %v", p, err)
	}
}

func maps2(a, b object) object { maps.Copy(a, b); return a }

func TestIssuerConfigs(t *testing.T) {
	grants := []auth.TokenGrant{{Repositories: "a/**", Verbs: []identity.Verb{identity.Pull}}}
	rule := func(change func(*auth.IssuerRule)) auth.IssuerConfig {
		r := auth.IssuerRule{Name: "r", Claims: map[string]string{"repository": "octo/*"}, Grants: grants}
		change(&r)
		return auth.IssuerConfig{Issuer: github, Audiences: []string{"berth"}, Rules: []auth.IssuerRule{r}}
	}
	if err := auth.CheckIssuer(rule(func(*auth.IssuerRule) {})); err != nil {
		t.Errorf("control: %v", err)
	}
	for what, c := range map[string]auth.IssuerConfig{
		"no audience":      {Issuer: github},
		"no issuer":        {Audiences: []string{"berth"}},
		"no claims":        rule(func(r *auth.IssuerRule) { r.Claims = nil }),
		"wildcards alone":  rule(func(r *auth.IssuerRule) { r.Claims = map[string]string{"repository": "**/*"} }),
		"the issuer alone": rule(func(r *auth.IssuerRule) { r.Claims = map[string]string{"iss": github, "aud": "berth"} }),
		"robot and grants": rule(func(r *auth.IssuerRule) { r.Robot = "x" }),
		"neither":          rule(func(r *auth.IssuerRule) { r.Grants = nil }),
		"a day":            rule(func(r *auth.IssuerRule) { r.Lifetime = 86400 }),
		"a second":         rule(func(r *auth.IssuerRule) { r.Lifetime = 1 }),
		"a verb of projects": rule(func(r *auth.IssuerRule) {
			r.Grants = []auth.TokenGrant{{Repositories: "a/**", Verbs: []identity.Verb{identity.MemberWrite}}}
		}),
		"administration": rule(func(r *auth.IssuerRule) { r.Grants = []auth.TokenGrant{{Verbs: []identity.Verb{identity.UserWrite}}} }),
		"a pattern that is no": rule(func(r *auth.IssuerRule) {
			r.Grants = []auth.TokenGrant{{Repositories: "A", Verbs: []identity.Verb{identity.Pull}}}
		}),
	} {
		if err := auth.CheckIssuer(c); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v; want Invalid", what, err)
		}
	}
}

// TestForeignTokens is distribution's auth.token: tokens of another server decide.
func TestForeignTokens(t *testing.T) {
	set, sign := signing(t)
	b := open(t, func(o *auth.Options) {
		keys, err := issuer.ParseKeySet([]byte(set))
		if err != nil {
			t.Fatal(err)
		}
		if o.Foreign, err = issuer.New(issuer.Options{Issuer: "auth.example.com", Audiences: []string{"registry.example.com"}, Keys: keys, Now: o.Now}); err != nil {
			t.Fatal(err)
		}
		o.ForeignKey = "auth.example.com"
	})
	now := b.clock.Now()
	token := func(change object) string {
		c := object{"iss": "auth.example.com", "aud": "registry.example.com", "sub": "bob", "nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
			"access": []object{{"type": "repository", "name": "team/app", "actions": []string{"pull", "fly"}}, {"type": "repository", "name": "own/**", "actions": []string{"pull"}},
				{"type": "repository(plugin)", "name": "team/plug", "actions": []string{"*"}}, {"type": "user", "name": "x", "actions": []string{"*"}}, {"type": "registry", "name": "catalog", "actions": []string{"*"}}}}
		return sign(maps2(c, change))
	}
	want := []identity.Grant{
		{Repository: "team/app", Verbs: []identity.Verb{identity.Pull}},
		{Repository: "team/plug", Verbs: []identity.Verb{identity.Pull, identity.Push, identity.Delete}},
		{Catalog: true, Verbs: []identity.Verb{identity.Catalog}},
	}
	for range 2 { // the second is remembered
		p := b.accepted(t, "token", "Bearer "+token(nil))
		if diff := cmp.Diff(want, p.Grants.List); diff != "" || p.Name != "bob" || !p.Delegated || p.Admin || p.ID != 0 {
			t.Errorf("%+v\n%s", p, diff)
		}
	}
	// The name of an administrator here is a name like any other there.
	b.put(t, metadb.Account{Name: "root2", Admin: true}, "roots password")
	if p := b.accepted(t, "an administrator's name", "Bearer "+token(object{"sub": "root2"})); p.Admin || p.ID != 0 || !p.Delegated {
		t.Errorf("%+v", p)
	}
	if p := b.accepted(t, "nobody's", "Bearer "+token(object{"sub": ""})); p.Kind != identity.Anonymous || !p.Delegated {
		t.Errorf("%+v", p)
	}
	b.accepted(t, "our own token beside it", "Bearer "+b.token(t, asAlice).Access)
	_, strange := signing(t)
	for what, text := range map[string]string{
		"another audience":      token(object{"aud": "other"}),
		"expired":               token(object{"exp": now.Add(-2 * time.Minute).Unix()}),
		"a stranger's key":      strange(object{"iss": "auth.example.com", "aud": "registry.example.com", "sub": "bob", "exp": now.Add(time.Minute).Unix()}),
		"our issuer":            token(object{"iss": "berth"}),
		"another issuer":        token(object{"iss": "auth.example.com."}),
		"access as text":        token(object{"access": "all"}),
		"as a refresh":          token(object{"typ": "refresh"}) + "x",
		"a subject with a line": token(object{"sub": "bob\nadmin"}),
	} {
		p, err := b.Authenticate(t.Context(), "Bearer "+text, here)
		refused(t, p, err)
		if fault.Of(err).Reason != auth.InvalidToken {
			t.Errorf("%s: reason %s", what, fault.Of(err).Reason)
		}
	}
	p := b.accepted(t, "token", "Bearer "+token(nil))
	if tok, err := b.Token(t.Context(), auth.Request{Principal: p}); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a token of another server became ours: %+v, %v", tok, err)
	}
}

func TestKeysRotate(t *testing.T) {
	b := open(t)
	other := b.again(t)
	before := b.token(t, asAlice, "repository:a:pull")
	old, err := b.Keys(local(t))
	if err != nil || len(old) != 1 {
		t.Fatal(old, err)
	}
	if _, err := b.RotateKeys(as(t, asAlice), false); !fault.Is(err, fault.Denied) {
		t.Errorf("by anybody: %v", err)
	}
	made, err := b.RotateKeys(local(t), false)
	if err != nil || made.ID == old[0].ID {
		t.Fatal(made, err)
	}
	after := b.token(t, asAlice, "repository:a:pull")
	b.clock.Advance(time.Second)
	for _, s := range []*auth.Service{b.Service, other} { // a replica that has only the old key learns of the new one
		for _, tok := range []auth.Token{before, after} {
			if _, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil {
				t.Errorf("in the overlap: %v", err)
			}
		}
	}
	set, err := b.JWKS(t.Context())
	if err != nil || strings.Count(string(set), `"kid"`) != 2 || !strings.Contains(string(set), made.ID) || strings.Contains(string(set), `"d"`) {
		t.Errorf("%s, %v", set, err)
	}
	// What others verify our tokens with is just this set.
	keys, err := issuer.ParseKeySet(set)
	if err != nil {
		t.Fatal(err)
	}
	v, err := issuer.New(issuer.Options{Issuer: "berth", Audiences: []string{"registry.example.com"}, Keys: keys, Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if said, err := v.Verify(t.Context(), after.Access); err != nil || said.Subject != alice {
		t.Errorf("by the published keys: %+v, %v", said, err)
	}
	b.clock.Advance(30*24*time.Hour + time.Hour)
	if err := b.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := b.Keys(local(t)); err != nil || len(left) != 1 || left[0].ID != made.ID {
		t.Errorf("after the last token ended: %+v, %v", left, err)
	}
	last := b.token(t, asAlice)
	if _, err := b.RotateKeys(local(t), true); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(time.Second)
	b.rejected(t, "token of a key that was deleted", "Bearer "+last.Access)
	b.accepted(t, "token of the new key", "Bearer "+b.token(t, asAlice).Access)
}
