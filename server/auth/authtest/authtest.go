// Package authtest is the contract of auth.Provider as a test suite. Every source of accounts runs it.
package authtest

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/auth"
)

// Fixture is a provider with one account.
type Fixture struct {
	Provider auth.Provider
	Name     string
	Password string
	// SetPassword changes the account's password in the source and returns when the provider may be expected to know.
	SetPassword func(t *testing.T, password string)
}

// Run proves the contract. open makes a fresh fixture.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Run("account", func(t *testing.T) { account(t, open(t)) })
	t.Run("login", func(t *testing.T) { login(t, open(t)) })
	t.Run("stamp changes with the password", func(t *testing.T) { stamp(t, open(t)) })
	t.Run("decoy takes as long as a wrong password", func(t *testing.T) { decoy(t, open(t)) })
	t.Run("concurrent use", func(t *testing.T) { concurrent(t, open(t)) })
}

func account(t *testing.T, f Fixture) {
	if f.Provider.Source() == "" {
		t.Error("the provider has no name")
	}
	a, err := f.Provider.Account(t.Context(), f.Name)
	if err != nil || a.Name != f.Name || a.Disabled {
		t.Fatalf("account of %s: %+v, %v", f.Name, a, err)
	}
	for _, name := range []string{"nobody-of-that-name", "", f.Name + " ", f.Name + "\n"} {
		if a, err := f.Provider.Account(t.Context(), name); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("account of %q: %+v, %v; want ErrNoAccount", name, a, err)
		}
	}
}

func login(t *testing.T, f Fixture) {
	got, err := f.Provider.Login(t.Context(), f.Name, f.Password)
	if err != nil || got.Name != f.Name {
		t.Fatalf("login with the right password: %+v, %v", got, err)
	}
	if present, err := f.Provider.Account(t.Context(), f.Name); err != nil || !reflect.DeepEqual(present, got) {
		t.Errorf("login gives %+v, the account is %+v (%v)", got, present, err)
	}
	for _, password := range []string{"", "wrong", f.Password + "x", f.Password[:len(f.Password)-1], " " + f.Password, f.Password + "\x00"} {
		if a, err := f.Provider.Login(t.Context(), f.Name, password); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("login with %q: %+v, %v; want ErrPassword", password, a, err)
		}
	}
	if a, err := f.Provider.Login(t.Context(), "nobody-of-that-name", f.Password); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login of an unknown name: %+v, %v; want ErrNoAccount", a, err)
	}
}

func stamp(t *testing.T, f Fixture) {
	before, err := f.Provider.Account(t.Context(), f.Name)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.Provider.Account(t.Context(), f.Name); err != nil || !reflect.DeepEqual(again, before) {
		t.Errorf("account without a change: %+v, then %+v (%v)", before, again, err)
	}
	const next = "another Passw0rt"
	f.SetPassword(t, next)
	after, err := f.Provider.Account(t.Context(), f.Name)
	if err != nil || after.Stamp == before.Stamp {
		t.Errorf("account after a change of password: %+v, %v; the stamp must differ from %q", after, err, before.Stamp)
	}
	if _, err := f.Provider.Login(t.Context(), f.Name, f.Password); !errors.Is(err, auth.ErrPassword) {
		t.Errorf("login with the old password: %v; want ErrPassword", err)
	}
	if _, err := f.Provider.Login(t.Context(), f.Name, next); err != nil {
		t.Errorf("login with the new password: %v", err)
	}
}

// decoy compares medians of measurements that alternate, and asks again when the machine was busy: a decoy that does
// nothing is a thousand times too fast, so the bounds can be wide.
func decoy(t *testing.T, f Fixture) {
	var ratio float64
	for range 3 {
		wrong, fake := Medians(7, func() { _, _ = f.Provider.Login(t.Context(), f.Name, "wrong") },
			func() { f.Provider.Decoy(t.Context(), "wrong") })
		if ratio = float64(fake) / float64(wrong); ratio > 0.6 && ratio < 1.7 {
			return
		}
	}
	t.Errorf("a decoy takes %.2f times as long as a wrong password; want about 1", ratio)
}

// Medians runs a and b alternately, n times each, and returns the median time of each.
func Medians(n int, a, b func()) (time.Duration, time.Duration) {
	var as, bs []time.Duration
	for range n {
		start := time.Now()
		a()
		middle := time.Now()
		b()
		as, bs = append(as, middle.Sub(start)), append(bs, time.Since(middle))
	}
	slices.Sort(as)
	slices.Sort(bs)
	return as[n/2], bs[n/2]
}

func concurrent(t *testing.T, f Fixture) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := f.Provider.Login(t.Context(), f.Name, f.Password); err != nil {
				t.Errorf("login: %v", err)
			}
			for range 50 {
				if _, err := f.Provider.Account(t.Context(), f.Name); err != nil {
					t.Errorf("account: %v", err)
				}
			}
		})
	}
	wg.Wait()
}
