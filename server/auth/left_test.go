package auth_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/htpasswd"
	"github.com/berth-registry/berth/server/identity"
)

// TestLeftTheFile: tokens and sessions of a name that leaves the file do not come back with the name, also when nobody asked for it
// meanwhile, or berthd did not look.
func TestLeftTheFile(t *testing.T) {
	const first, second = "the first hana's word", "the second hana's word"
	file := filepath.Join(t.TempDir(), "htpasswd")
	set := func(name, password string) {
		t.Helper()
		if _, err := htpasswd.Set(file, name, password); err != nil {
			t.Fatal(err)
		}
	}
	set("hana", first)
	set("ida", first)
	p, err := htpasswd.Open(htpasswd.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, func(o *auth.Options) { o.Providers = []auth.Provider{p} })
	reload := func() {
		t.Helper()
		if err := p.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	make := func(name, password string) (secret, cookie string) {
		t.Helper()
		me := b.me(t, name, password)
		_, secret, err := b.CreateAccessToken(me, "ci", nil, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := b.Open(me, identity.From(me), "password", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		b.accepted(t, "its token", basic(name, secret))
		return secret, opened.Cookie
	}
	leave := func(name string) {
		t.Helper()
		if _, err := htpasswd.Remove(file, name); err != nil {
			t.Fatal(err)
		}
		reload()
	}
	token, cookie := make("hana", first)
	others, _ := make("ida", first)
	leave("hana")
	set("hana", second)
	reload()
	b.rejected(t, "the token of the first", basic("hana", token))
	if _, _, err := b.Resolve(t.Context(), cookie, here); err == nil {
		t.Error("the session of the first lives")
	}
	again, _ := make("hana", second)
	b.accepted(t, "the token of the second", basic("hana", again))
	b.accepted(t, "the token of another", basic("ida", others))

	set("ida", second) // a password that changes ends no token
	reload()
	b.accepted(t, "a token after a change of password", basic("ida", others))

	// While berthd is down.
	if _, err := htpasswd.Remove(file, "ida"); err != nil {
		t.Fatal(err)
	}
	q, err := htpasswd.Open(htpasswd.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	o := b.o
	o.Providers = []auth.Provider{q}
	s, err := auth.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	set("ida", second)
	if err := q.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Authenticate(t.Context(), basic("ida", others), here); err == nil {
		t.Error("a token of a name that left while berthd was down came back")
	}
}
