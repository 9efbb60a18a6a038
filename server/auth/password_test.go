package auth_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

func TestPasswordHash(t *testing.T) {
	// From the tests of the reference implementation (phc-winner-argon2, src/test.c).
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := auth.VerifyPassword(reference, "password"); !ok || err != nil {
		t.Errorf("reference: %t, %v", ok, err)
	}
	a, err := auth.HashPassword("secret sauce")
	if err != nil {
		t.Fatal(err)
	}
	b, err := auth.HashPassword("secret sauce")
	if err != nil || a == b {
		t.Errorf("two hashes of one password are equal: no salt (%v)", err)
	}
	if !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s has other parameters", a)
	}
	for password, want := range map[string]bool{"secret sauce": true, "secret sauc": false, "": false} {
		if ok, err := auth.VerifyPassword(a, password); ok != want || err != nil {
			t.Errorf("%q: %t, %v", password, ok, err)
		}
	}
	if ok, err := auth.VerifyPassword(auth.DecoyHash, "any"); ok || err != nil {
		t.Errorf("decoy: %t, %v; it must be well-formed and match nothing", ok, err)
	}
}

func TestStoredHashIsNotTrusted(t *testing.T) {
	good, err := auth.HashPassword("x")
	if err != nil {
		t.Fatal(err)
	}
	tail := strings.SplitN(good, "$", 5)[4]
	for name, phc := range map[string]string{
		"empty": "", "plain": "x", "bcrypt": "$2a$10$......................................................", "argon2i": strings.Replace(good, "argon2id", "argon2i", 1),
		"other version": strings.Replace(good, "v=19", "v=16", 1), "memory": "$argon2id$v=19$m=4194304,t=2,p=1$" + tail,
		"time": "$argon2id$v=19$m=19456,t=4294967295,p=1$" + tail, "threads 0": "$argon2id$v=19$m=19456,t=2,p=0$" + tail,
		"negative": "$argon2id$v=19$m=19456,t=-2,p=1$" + tail, "no hash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$",
		"short hash": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAA", "extra": good + "$x", "parameter text": "$argon2id$v=19$m=19456,t=2,p=1 $" + tail,
	} {
		if ok, err := auth.VerifyPassword(phc, "x"); ok || err == nil {
			t.Errorf("%s: %t, %v; want an error", name, ok, err)
		}
	}
}

func TestCheckNewPassword(t *testing.T) {
	for _, password := range []string{"", "short", "admin", "Harbor12345", "HARBOR12345", "password", "Passw0rd", "12345678", "changeme", "aaaaaaaaaaaa",
		"good password\n", " good password", "operator", "Operator", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7", strings.Repeat("long", 2000)} {
		if err := auth.CheckNewPassword("operator", password); err == nil {
			t.Errorf("password %.20q was accepted", password)
		} else if strings.Contains(password, "12345") && strings.Contains(err.Error(), password) {
			t.Errorf("message repeats the password: %v", err)
		}
	}
	for _, password := range []string{"vq7M-Kd2x-9RtB", "eight888", "пароль密码密码", "correct horse battery staple"} {
		if err := auth.CheckNewPassword("operator", password); err != nil {
			t.Errorf("password %q: %v", password, err)
		}
	}
}

func TestEnsureAdmin(t *testing.T) {
	t.Run("generated once", func(t *testing.T) {
		b := open(t)
		password, err := b.EnsureAdmin(t.Context(), "")
		if err != nil || !regexp.MustCompile(`^[2-9A-HJ-NP-Za-km-z]{4}(-[2-9A-HJ-NP-Za-km-z]{4}){2}$`).MatchString(password) {
			t.Fatalf("generated %q, %v", password, err)
		}
		p, err := b.Login(t.Context(), "admin", password, here)
		if err != nil || !p.Admin || p.Name != "admin" || p.Kind != identity.User {
			t.Errorf("login: %+v, %v", p, err)
		}
		for _, s := range []*auth.Service{b.Service, b.again(t)} {
			if again, err := s.EnsureAdmin(t.Context(), ""); again != "" || err != nil {
				t.Errorf("again: %q, %v", again, err)
			}
		}
		if strings.Contains(b.log.String(), password) {
			t.Error("the password is in the log")
		}
	})
	t.Run("configured, on the first start only", func(t *testing.T) {
		b := open(t)
		if generated, err := b.EnsureAdmin(t.Context(), "a fine password"); generated != "" || err != nil {
			t.Fatalf("%q, %v", generated, err)
		}
		for _, later := range []string{"another password", "admin"} {
			if generated, err := b.EnsureAdmin(t.Context(), later); generated != "" || err != nil {
				t.Fatalf("%q, %v", generated, err)
			}
		}
		if _, err := b.Login(t.Context(), "admin", "a fine password", here); err != nil {
			t.Errorf("the first password: %v", err)
		}
		p, err := b.Login(t.Context(), "admin", "another password", here)
		refused(t, p, err)
		if log := b.log.String(); !strings.Contains(log, "not used") || strings.Contains(log, "another password") {
			t.Errorf("log:\n%s", log)
		}
	})
	t.Run("weak ones refused, nothing made", func(t *testing.T) {
		b := open(t)
		for _, weak := range []string{"admin", "Harbor12345", "password", "1234567"} {
			if _, err := b.EnsureAdmin(t.Context(), weak); err == nil {
				t.Errorf("password %q was accepted", weak)
			}
		}
		if _, err := b.db.Account(t.Context(), "admin"); err == nil {
			t.Error("an account was made")
		}
	})
	t.Run("another administrator is enough", func(t *testing.T) {
		b := open(t)
		b.put(t, metadb.Account{Name: "zoe", Admin: true}, "zoes password")
		if generated, err := b.EnsureAdmin(t.Context(), ""); generated != "" || err != nil {
			t.Errorf("%q, %v", generated, err)
		}
	})
	t.Run("name belongs to another source", func(t *testing.T) {
		b, _ := counted(t)
		b.put(t, metadb.Account{Name: "admin"}, "not an administrator")
		if generated, err := b.EnsureAdmin(t.Context(), ""); generated != "" || err != nil {
			t.Errorf("%q, %v", generated, err)
		}
		if _, err := b.EnsureAdmin(t.Context(), "a fine password"); err == nil {
			t.Error("a configured password that can never work was accepted")
		}
	})
	t.Run("replicas at once", func(t *testing.T) {
		b := open(t)
		type result struct {
			password string
			err      error
		}
		results := make(chan result)
		for range 4 {
			s := b.again(t)
			go func() { p, err := s.EnsureAdmin(t.Context(), ""); results <- result{p, err} }()
		}
		var made []string
		for range 4 {
			r := <-results
			if r.err != nil {
				t.Error(r.err)
			}
			if r.password != "" {
				made = append(made, r.password)
			}
		}
		if len(made) != 1 {
			t.Fatalf("%d replicas made an administrator", len(made))
		}
		if _, err := b.Login(t.Context(), "admin", made[0], here); err != nil {
			t.Error(err)
		}
	})
}
