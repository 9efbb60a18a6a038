package authtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/berth-registry/berth/server/auth"
)

// DirectoryFixture is a directory with one entry, in one group.
type DirectoryFixture struct {
	Directory auth.Directory
	Name      string
	Password  string
	Group     string // as External.Groups names it
	// Leave takes the entry out of its group, in the directory itself.
	Leave func(t *testing.T)
	// Remove removes the entry.
	Remove func(t *testing.T)
	// Stop makes the directory unreachable.
	Stop func(t *testing.T)
}

// Directory proves the contract of auth.Directory. open makes a fresh fixture.
func Directory(t *testing.T, open func(t *testing.T) DirectoryFixture) {
	t.Run("login", func(t *testing.T) { directoryLogin(t, open(t)) })
	t.Run("names are not patterns", func(t *testing.T) { directoryEscapes(t, open(t)) })
	t.Run("lookup", func(t *testing.T) { directoryLookup(t, open(t)) })
	t.Run("away", func(t *testing.T) { directoryAway(t, open(t)) })
	t.Run("concurrent use", func(t *testing.T) { directoryConcurrent(t, open(t)) })
}

func directoryLogin(t *testing.T, f DirectoryFixture) {
	got, err := f.Directory.Login(t.Context(), f.Name, f.Password)
	if err != nil {
		t.Fatalf("login with the right password: %v", err)
	}
	if got.Provider != f.Directory.Name() || got.Provider == "" {
		t.Errorf("provider is %q; want the directory's name %q", got.Provider, f.Directory.Name())
	}
	if got.Subject == "" || got.Name != f.Name || !slices.Contains(got.Groups, f.Group) || got.Robot != "" {
		t.Errorf("login gives %+v; want subject, name %s and group %s", got, f.Name, f.Group)
	}
	for _, password := range []string{"", "\x00", "wrong", f.Password + "x", f.Password[:len(f.Password)-1], f.Password + "\x00"} {
		if got, err := f.Directory.Login(t.Context(), f.Name, password); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("login with password %q: %+v, %v; want ErrPassword", password, got, err)
		}
	}
	for _, password := range []string{f.Password, ""} {
		if got, err := f.Directory.Login(t.Context(), "nobody-of-that-name", password); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("login of an unknown name with password %q: %+v, %v; want ErrNoAccount", password, got, err)
		}
	}
}

// directoryEscapes offers what means something in filters and in distinguished names.
func directoryEscapes(t *testing.T, f DirectoryFixture) {
	for _, name := range []string{"*", f.Name[:1] + "*", f.Name + ")(objectClass=*", f.Name + ")(|(uid=*", "(" + f.Name + ")",
		f.Name + "\x00", f.Name + ",", "uid=" + f.Name, `\2a`, "", " "} {
		if got, err := f.Directory.Login(t.Context(), name, f.Password); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("login as %q: %+v, %v; want ErrNoAccount", name, got, err)
		}
	}
}

func directoryLookup(t *testing.T, f DirectoryFixture) {
	login, err := f.Directory.Login(t.Context(), f.Name, f.Password)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Directory.Lookup(t.Context(), login.Subject)
	if err != nil || got.Subject != login.Subject || got.Name != login.Name || !slices.Equal(got.Groups, login.Groups) || got.Admin != login.Admin {
		t.Fatalf("lookup gives %+v, %v; login gave %+v", got, err, login)
	}
	f.Leave(t)
	if got, err := f.Directory.Lookup(t.Context(), login.Subject); err != nil || slices.Contains(got.Groups, f.Group) || got.Groups == nil {
		t.Errorf("lookup after the entry left its group: %+v, %v; want groups without %s, and not nil", got, err, f.Group)
	}
	f.Remove(t)
	if got, err := f.Directory.Lookup(t.Context(), login.Subject); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("lookup after the entry was removed: %+v, %v; want ErrNoAccount", got, err)
	}
	if got, err := f.Directory.Login(t.Context(), f.Name, f.Password); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login after the entry was removed: %+v, %v; want ErrNoAccount", got, err)
	}
}

func directoryAway(t *testing.T, f DirectoryFixture) {
	ended, end := context.WithCancel(t.Context())
	end()
	if got, err := f.Directory.Login(ended, f.Name, f.Password); err == nil || errors.Is(err, auth.ErrNoAccount) || errors.Is(err, auth.ErrPassword) {
		t.Errorf("login in a context that has ended: %+v, %v; want another error than a refusal", got, err)
	}
	f.Stop(t)
	for _, password := range []string{f.Password, "wrong"} {
		if got, err := f.Directory.Login(t.Context(), f.Name, password); err == nil || errors.Is(err, auth.ErrNoAccount) || errors.Is(err, auth.ErrPassword) {
			t.Errorf("login while the directory is away: %+v, %v; want another error than a refusal", got, err)
		}
	}
}

func directoryConcurrent(t *testing.T, f DirectoryFixture) {
	login, err := f.Directory.Login(t.Context(), f.Name, f.Password)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 5 {
				if got, err := f.Directory.Lookup(t.Context(), login.Subject); err != nil || got.Name != f.Name {
					t.Errorf("lookup: %+v, %v", got, err)
				}
				password := f.Password
				if i%2 == 1 {
					password = "wrong"
				}
				if _, err := f.Directory.Login(t.Context(), f.Name, password); (err == nil) != (i%2 == 0) {
					t.Errorf("login with password %q: %v", password, err)
				}
			}
		})
	}
	wg.Wait()
}
