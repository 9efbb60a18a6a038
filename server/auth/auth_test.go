package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/authtest"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

const (
	alice         = "alice"
	alicePassword = "correct horse battery"
	here          = "192.0.2.7"
)

// clock is a settable time.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// narrow is the access room of these tests: admins may everything, users pull and push, anonymous pulls below open/.
type narrow struct{}

func (narrow) Narrow(_ context.Context, p identity.Principal, asked []identity.Grant) ([]identity.Grant, error) {
	var out []identity.Grant
	for _, g := range asked {
		var verbs []identity.Verb
		for _, v := range g.Verbs {
			if p.Admin || p.Kind == identity.User && v != identity.Delete ||
				p.Kind == identity.Anonymous && v == identity.Pull && strings.HasPrefix(g.Repository, "open/") {
				verbs = append(verbs, v)
			}
		}
		if len(verbs) > 0 {
			out = append(out, identity.Grant{Repository: g.Repository, Catalog: g.Catalog, Verbs: verbs})
		}
	}
	return out, nil
}

// CheckSystem lets administrators do everything, and auditors read.
func (narrow) CheckGiveAll(context.Context, metadb.Subject) error { return nil }
func (narrow) CheckTakeAll(context.Context, metadb.Subject) error { return nil }

// CheckActAs lets administrators act as administrators and auditors, and everybody as everybody else.
func (narrow) CheckActAs(ctx context.Context, as identity.Principal) error {
	p := identity.From(ctx)
	if (as.Admin || as.Auditor) && !(p.Kind == identity.Local || p.Kind == identity.System || p.Admin && p.Grants == nil) {
		return fault.New(fault.Denied, fault.DeniedReason, "only an administrator may do that")
	}
	return nil
}

func (narrow) CheckSystem(ctx context.Context, v identity.Verb) error {
	p := identity.From(ctx)
	if p.Kind == identity.Local || (p.Kind == identity.User || p.Kind == identity.Robot) && p.Grants.AllowRegistry(v) &&
		(p.Admin || p.Auditor && slices.Contains(identity.AuditorVerbs(), v)) {
		return nil
	}
	return fault.New(fault.Denied, fault.DeniedReason, "%s of the registry is not allowed", v)
}

// CheckProject lets whoever is called "keeper-" and the project's name do everything in it.
func (narrow) CheckProject(ctx context.Context, v identity.Verb, project string) error {
	p := identity.From(ctx)
	if p.Kind == identity.Local || p.Kind == identity.User && (p.Admin || p.Name == "keeper-"+project) && p.Grants.AllowProject(v, project, identity.AnyProject) {
		return nil
	}
	return fault.New(fault.NotFound, fault.NameUnknown, "project %q is not known to this registry", project)
}

// bench is a service on a real database, with alice in it.
type bench struct {
	*auth.Service
	db    *metadb.DB
	clock *clock
	log   *bytes.Buffer
	slept []time.Duration
	o     auth.Options
}

func open(t testing.TB, change ...func(*auth.Options)) *bench {
	t.Helper()
	b := &bench{clock: &clock{t: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}, log: &bytes.Buffer{}}
	db, err := metadb.Open(t.Context(), metadb.Options{Path: metadbtest.File(t), Now: b.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b.db = db
	b.put(t, metadb.Account{Name: alice}, alicePassword)
	b.o = auth.Options{
		Store: db, Access: narrow{}, Service: "registry.example.com", Anonymous: true, Now: b.clock.Now,
		Log: slog.New(slog.NewTextHandler(&lockedWriter{w: b.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&b.o)
	}
	b.Service = b.again(t)
	return b
}

// again is another replica, or the process after a restart.
func (b *bench) again(t testing.TB) *auth.Service {
	t.Helper()
	s, err := auth.New(b.o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetSleep(func(_ context.Context, d time.Duration) error {
		b.slept = append(b.slept, d)
		b.clock.Advance(d)
		return nil
	})
	return s
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// put stores an account; without a password the hash stays what it was.
func (b *bench) put(t testing.TB, a metadb.Account, password string) {
	t.Helper()
	if password != "" {
		hash, err := auth.HashPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		a.PasswordHash = hash
	}
	err := b.db.Update(t.Context(), func(tx *metadb.Tx) error {
		if a.PasswordHash == "" {
			before, err := tx.Account(t.Context(), a.Name)
			if err != nil {
				return err
			}
			a.PasswordHash = before.PasswordHash
		}
		_, err := tx.PutAccount(a)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// refused checks that err is a refusal to identify, and returns its public text.
func refused(t *testing.T, p identity.Principal, err error) string {
	t.Helper()
	if !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("got %+v, %v; want an Unauthenticated fault", p, err)
		return ""
	}
	if p.Kind != identity.Nobody || p.Name != "" || p.Admin {
		t.Errorf("a refusal came with the principal %+v", p)
	}
	return fault.Of(err).Message
}

func TestAuthenticate(t *testing.T) {
	b := open(t)
	p, err := b.Authenticate(t.Context(), "", here)
	if err != nil || p.Kind != identity.Anonymous || p.Addr != here || p.Grants != nil {
		t.Errorf("no header: %+v, %v", p, err)
	}
	for _, header := range []string{basic(alice, alicePassword), "bAsIc   " + strings.TrimPrefix(basic(alice, alicePassword), "Basic ")} {
		p, err = b.Authenticate(t.Context(), header, here)
		if want := (identity.Principal{Kind: identity.User, ID: 1, Name: alice, Via: identity.ViaBasic, Addr: here}); err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%s: %+v, %v; want %+v", header, p, err, want)
		}
	}
}

func TestAuthenticateMalformed(t *testing.T) {
	b := open(t)
	for name, header := range map[string]string{
		"scheme only":         "Basic",
		"unknown scheme":      "Digest username=alice",
		"negotiate":           "Negotiate YII=",
		"no scheme":           strings.TrimPrefix(basic(alice, alicePassword), "Basic "),
		"not base64":          "Basic $$$",
		"url base64":          "Basic " + base64.RawURLEncoding.EncodeToString([]byte("al:\xff\xfe\xfd")),
		"no colon":            "Basic " + base64.StdEncoding.EncodeToString([]byte(alice)),
		"trailing bits":       "Basic YWI6Y5==",
		"two credentials":     basic(alice, alicePassword) + ", " + basic(alice, alicePassword),
		"bearer empty":        "Bearer ",
		"bearer a.b.c":        "Bearer a.b.c",
		"bearer dots":         "Bearer " + strings.Repeat(".", 8000),
		"bearer 60 KB":        "Bearer " + strings.Repeat("a", 60<<10),
		"basic 1 MB":          basic(alice, strings.Repeat("p", 1<<20)),
		"control characters":  "Basic\x00 abc",
		"name with a newline": basic("ali\nce", alicePassword),
		"empty name":          basic("", alicePassword),
		"empty password":      basic(alice, ""),
		"empty both":          basic("", ""),
		"not UTF-8 name":      basic("\xff\xfe", alicePassword),
		"name with a NUL":     basic("alice\x00", alicePassword),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := b.Authenticate(t.Context(), header, name) // an address each: this is not about throttling
			if text := refused(t, p, err); len(text) > 300 || strings.Contains(text, alicePassword) {
				t.Errorf("message %q is too long or repeats the password", text)
			}
		})
	}
}

func TestPasswordsOfAllKinds(t *testing.T) {
	b := open(t)
	for i, password := range []string{"with:colon:in it", ":starts with one", "Пароль密码🔑", "spaces  in  it", "p%20q+r&s=t", strings.Repeat("long", 1000)} {
		name := string(rune('a'+i)) + "-user"
		b.put(t, metadb.Account{Name: name}, password)
		if p, err := b.Authenticate(t.Context(), basic(name, password), here); err != nil && len(password) < 3000 || err == nil && p.Name != name {
			t.Errorf("password %.30q: %+v, %v", password, p, err)
		}
		if p, err := b.Login(t.Context(), name, password, here); err != nil || p.Name != name {
			t.Errorf("login with password %.30q: %+v, %v", password, p, err)
		}
		p, err := b.Login(t.Context(), name, password[:len(password)-1], here)
		refused(t, p, err)
	}
	if p, err := b.Login(t.Context(), alice, strings.Repeat("p", 1<<20), here); err == nil {
		t.Errorf("1 MB password: %+v", p)
	}
}

func TestWrongPasswordTellsNothing(t *testing.T) {
	b := open(t)
	p, err := b.Login(t.Context(), alice, "wrong", here)
	known := refused(t, p, err)
	p, err = b.Login(t.Context(), "mallory", "wrong", here)
	if unknown := refused(t, p, err); unknown != known {
		t.Errorf("an unknown name is answered %q, a known one %q", unknown, known)
	}
	for _, tell := range []string{alice, "mallory", "account", "exist"} {
		if strings.Contains(known, tell) {
			t.Errorf("message %q contains %q", known, tell)
		}
	}
	b.put(t, metadb.Account{Name: "carol", Disabled: true}, "carols password")
	p, err = b.Login(t.Context(), "carol", "wrong", here)
	if text := refused(t, p, err); text != known {
		t.Errorf("a wrong password of a disabled account is answered %q", text)
	}
	p, err = b.Login(t.Context(), "carol", "carols password", here)
	if text := refused(t, p, err); !strings.Contains(text, "disabled") {
		t.Errorf("the right password of a disabled account is answered %q", text)
	}
	for _, secret := range []string{"wrong", "carols", "mallory", alicePassword} {
		if strings.Contains(strings.ReplaceAll(b.log.String(), "wrong password", ""), secret) {
			t.Errorf("the log contains %q:\n%s", secret, b.log)
		}
	}
}

func TestUnknownNameTakesAsLong(t *testing.T) {
	b := open(t, func(o *auth.Options) { o.Throttle.Free = 1 << 20 })
	var ratio float64
	for range 3 {
		known, unknown := authtest.Medians(15, func() { _, _ = b.Login(t.Context(), alice, "wrong", here) },
			func() { _, _ = b.Login(t.Context(), "mallory", "wrong", here) })
		if ratio = float64(unknown) / float64(known); ratio > 0.7 && ratio < 1.4 {
			return
		}
	}
	t.Errorf("an unknown name takes %.2f times as long as a wrong password; want about 1", ratio)
}

// broken is a database that does not answer.
type broken struct{ *metadb.DB }

func (broken) Account(context.Context, string) (metadb.Account, error) {
	return metadb.Account{}, errors.New("connection refused")
}

func TestUnavailableIsNotWrong(t *testing.T) {
	b := open(t)
	b.o.Store = broken{b.db}
	s := b.again(t)
	if p, err := s.Login(t.Context(), alice, alicePassword, here); !fault.Is(err, fault.Unavailable) || p.Kind != identity.Nobody {
		t.Errorf("login without a database: %+v, %v; want Unavailable", p, err)
	} else if strings.Contains(fault.Of(err).Message, "refused") {
		t.Errorf("message %q shows the cause", fault.Of(err).Message)
	}
}

func TestLocalProvider(t *testing.T) {
	authtest.Run(t, func(t *testing.T) authtest.Fixture {
		b := open(t)
		return authtest.Fixture{Provider: b.Local(), Name: alice, Password: alicePassword, SetPassword: func(t *testing.T, password string) {
			b.put(t, metadb.Account{Name: alice}, password)
			b.Forget(alice)
		}}
	})
}
