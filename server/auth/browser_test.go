package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
)

// site is an identity provider with a browser login and a device login, in memory; the real one has its own suite.
type site struct {
	redirect, state, nonce, verifier string // as it was asked last
	who                              auth.External
	away                             bool
	polls                            []error // answers to polls; after them it is who
}

const siteCode = "the code of the site"

func (s *site) Name() string   { return "site" }
func (s *site) Issuer() string { return "https://site.example" }

func (s *site) Begin(_ context.Context, redirect, state, nonce, verifier string) (string, error) {
	if s.away {
		return "", errors.New("connection refused by 192.0.2.9")
	}
	s.redirect, s.state, s.nonce, s.verifier = redirect, state, nonce, verifier
	return "https://site.example/authorize?state=" + state, nil
}

func (s *site) Finish(_ context.Context, redirect, code, nonce, verifier string) (auth.External, error) {
	switch {
	case s.away:
		return auth.External{}, errors.New("connection refused by 192.0.2.9")
	case redirect != s.redirect || code != siteCode || nonce != s.nonce || verifier != s.verifier:
		return auth.External{}, auth.ErrRefused
	}
	return s.who, nil
}

func (s *site) BeginDevice(context.Context) (auth.DeviceLogin, error) {
	if s.away {
		return auth.DeviceLogin{}, errors.New("connection refused by 192.0.2.9")
	}
	return auth.DeviceLogin{Code: "device", UserCode: "ABCD"}, nil
}

func (s *site) PollDevice(_ context.Context, code string) (auth.External, error) {
	if code != "device" {
		return auth.External{}, auth.ErrRefused
	}
	if len(s.polls) > 0 {
		err := s.polls[0]
		s.polls = s.polls[1:]
		return auth.External{}, err
	}
	return s.who, nil
}

func withSite(t *testing.T) (*bench, *site) {
	t.Helper()
	b, s := open(t), &site{who: auth.External{Provider: "site", Subject: "sub-1", Name: "carol", SID: "sid-1"}}
	if err := b.Use([]auth.IdentityProvider{{Name: "site", Kind: "oidc", Create: true, Browser: s, Device: s}, {Name: "files", Kind: "mtls", Create: true}}); err != nil {
		t.Fatal(err)
	}
	return b, s
}

const comesBack = "https://registry.example.com/api/v1/login/site/callback"

// TestBrowserLogin: only the answer to what this browser has begun, at the provider that it was sent to, opens a session.
func TestBrowserLogin(t *testing.T) {
	b, s := withSite(t)
	_, begun, err := b.BeginLogin(t.Context(), "site", comesBack)
	if err != nil {
		t.Fatal(err)
	}
	if begun.Provider != "site" || begun.State != s.state || begun.Nonce != s.nonce || begun.Verifier != s.verifier || s.redirect != comesBack {
		t.Errorf("begun %+v, the site was asked %+v", begun, s)
	}
	if len(begun.State) < 26 || len(begun.Nonce) < 26 || len(begun.Verifier) < 43 || begun.State == begun.Nonce {
		t.Errorf("%+v can be guessed", begun)
	}
	_, other, err := b.BeginLogin(t.Context(), "site", comesBack)
	if err != nil || other.State == begun.State || other.Nonce == begun.Nonce || other.Verifier == begun.Verifier {
		t.Fatalf("a second login is the first: %+v, %v", other, err)
	}
	right := auth.Answer{State: other.State, Code: siteCode}
	for what, test := range map[string]struct {
		pending  auth.Pending
		redirect string
		answer   auth.Answer
		kind     fault.Kind
	}{
		"nothing was begun":             {auth.Pending{Provider: "site"}, comesBack, auth.Answer{Code: siteCode}, fault.Denied},
		"another browser's state":       {other, comesBack, auth.Answer{State: begun.State, Code: siteCode}, fault.Denied},
		"no state":                      {other, comesBack, auth.Answer{Code: siteCode}, fault.Denied},
		"a longer state":                {other, comesBack, auth.Answer{State: other.State + "x", Code: siteCode}, fault.Denied},
		"an answer of another provider": {other, comesBack, auth.Answer{State: other.State, Code: siteCode, Issuer: "https://evil.example"}, fault.Denied},
		"the provider's no":             {other, comesBack, auth.Answer{State: other.State, Code: siteCode, Error: "access_denied"}, fault.Unauthenticated},
		"a code of somebody else":       {other, comesBack, auth.Answer{State: other.State, Code: "another"}, fault.Unauthenticated},
		"no code":                       {other, comesBack, auth.Answer{State: other.State}, fault.Unauthenticated},
		"another nonce":                 {auth.Pending{Provider: "site", State: other.State, Nonce: begun.Nonce, Verifier: other.Verifier}, comesBack, right, fault.Unauthenticated},
		"another verifier":              {auth.Pending{Provider: "site", State: other.State, Nonce: other.Nonce, Verifier: begun.Verifier}, comesBack, right, fault.Unauthenticated},
		"come back elsewhere":           {other, "https://evil.example/callback", right, fault.Unauthenticated},
		"a provider that is not there":  {auth.Pending{Provider: "gone", State: other.State}, comesBack, right, fault.NotFound},
		"a provider without browsers":   {auth.Pending{Provider: "files", State: other.State}, comesBack, right, fault.NotFound},
	} {
		if o, err := b.FinishLogin(t.Context(), test.pending, test.redirect, test.answer, here, "a browser"); !fault.Is(err, test.kind) || o.Cookie != "" {
			t.Errorf("%s: %+v, %v", what, o, err)
		}
	}
	if rows, err := b.db.Account(t.Context(), "carol"); err == nil {
		t.Errorf("a login that was refused made an account: %+v", rows)
	}
	right.Issuer = s.Issuer()
	o, err := b.FinishLogin(t.Context(), other, comesBack, right, here, "a browser")
	if err != nil || o.Account != "carol" || o.Via != "oidc" || o.Provider != "site" || o.Addr != here || o.UserAgent != "a browser" {
		t.Fatalf("%+v, %v", o, err)
	}
	if p, _, err := b.Resolve(t.Context(), o.Cookie, here); err != nil || p.Name != "carol" || p.Via != identity.ViaSession || p.Admin {
		t.Errorf("%+v, %v", p, err)
	}
	// A provider that vouches for less time than a session has ends it.
	s.who.ExpiresAt = b.clock.Now().Add(time.Minute)
	short, err := b.FinishLogin(t.Context(), other, comesBack, right, here, "")
	if err != nil || !short.ExpiresAt.Equal(s.who.ExpiresAt) {
		t.Errorf("ends %s, want %s: %v", short.ExpiresAt, s.who.ExpiresAt, err)
	}
	// Away, it tells nobody of its address; and nobody comes in who it does not know any more.
	s.away = true
	_, _, err = b.BeginLogin(t.Context(), "site", comesBack)
	_, err2 := b.FinishLogin(t.Context(), other, comesBack, right, here, "")
	for _, err := range []error{err, err2} {
		if f := fault.Of(err); f.Kind != fault.Unavailable || f.Message != "identity provider site cannot be asked now; try again later" {
			t.Errorf("away: %v", err)
		}
	}
	for _, name := range []string{"gone", "files", "local"} {
		if _, _, err := b.BeginLogin(t.Context(), name, comesBack); !fault.Is(err, fault.NotFound) {
			t.Errorf("begin at %s: %v", name, err)
		}
	}
}

// TestDisabledAtTheBrowser: a provider proves who somebody is, not that the account may be used.
func TestDisabledAtTheBrowser(t *testing.T) {
	b, s := withSite(t)
	finish := func() (auth.Opened, error) {
		t.Helper()
		_, begun, err := b.BeginLogin(t.Context(), "site", comesBack)
		if err != nil {
			t.Fatal(err)
		}
		return b.FinishLogin(t.Context(), begun, comesBack, auth.Answer{State: begun.State, Code: siteCode}, here, "")
	}
	o, err := finish()
	if err != nil {
		t.Fatal(err)
	}
	disabled := true
	u, err := b.User(local(t), "carol")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.UpdateUser(local(t), "carol", u.Generation, auth.UserChange{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	if p, _, err := b.Resolve(t.Context(), o.Cookie, here); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the session of a disabled account: %+v, %v", p, err)
	}
	if o, err := finish(); !fault.Is(err, fault.Unauthenticated) || o.Cookie != "" {
		t.Errorf("login of a disabled account: %+v, %v", o, err)
	}
	s.who = auth.External{Provider: "site", Subject: "sub-2", Name: alice}
	if o, err := finish(); !fault.Is(err, fault.Denied) {
		t.Errorf("an account of that name is somebody else's: %+v, %v", o, err)
	}
}

// TestDeviceLogin: what a program polls for comes as it is, and is worth something only when a person has answered.
func TestDeviceLogin(t *testing.T) {
	b, s := withSite(t)
	d, err := b.BeginDevice(t.Context(), "site")
	if err != nil || d.UserCode != "ABCD" {
		t.Fatalf("%+v, %v", d, err)
	}
	s.polls = []error{auth.ErrPending, auth.ErrSlowDown, auth.ErrExpired}
	for _, want := range s.polls {
		if p, err := b.FinishDevice(t.Context(), "site", d.Code, here); !errors.Is(err, want) || p.Kind != identity.Nobody {
			t.Errorf("%+v, %v; want %v", p, err, want)
		}
	}
	if p, err := b.FinishDevice(t.Context(), "site", "another", here); !fault.Is(err, fault.Unauthenticated) || p.Kind != identity.Nobody {
		t.Errorf("the code of nobody: %+v, %v", p, err)
	}
	p, err := b.FinishDevice(t.Context(), "site", d.Code, here)
	if err != nil || p.Name != "carol" || p.Kind != identity.User || p.ID == 0 || p.Addr != here {
		t.Errorf("%+v, %v", p, err)
	}
	for _, name := range []string{"gone", "files"} {
		_, err1 := b.BeginDevice(t.Context(), name)
		_, err2 := b.FinishDevice(t.Context(), name, d.Code, here)
		if !fault.Is(err1, fault.NotFound) || !fault.Is(err2, fault.NotFound) {
			t.Errorf("%s: %v, %v", name, err1, err2)
		}
	}
	s.away = true
	if _, err := b.BeginDevice(t.Context(), "site"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("away: %v", err)
	}
	ways := b.LoginWays()
	if len(ways) != 1 || ways[0].Name != "site" {
		t.Errorf("people choose from %+v", ways)
	}
}
