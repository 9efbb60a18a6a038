package htpasswd_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/authtest"
	"github.com/berth-registry/berth/server/auth/htpasswd"
)

// Made by "openssl passwd -apr1" and "openssl dgst -sha1": other people's programs.
const (
	apr1Long  = "$apr1$abcd1234$RzTmlqIR77tma0AU1zthU."
	apr1Short = "$apr1$x$c1lfMpyyDm.graHWYyv3p/"
	apr1UTF8  = "$apr1$mE1mdnLx$cN04ioYG46POZTK4eYGyQ1"
	shaWord   = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=" // password
)

func hash(t testing.TB, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// source is an open file with a clock and a log.
type source struct {
	*htpasswd.File
	path string
	log  *bytes.Buffer
	mu   sync.Mutex
	now  time.Time
}

func (s *source) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func open(t *testing.T, content string, admins ...string) *source {
	t.Helper()
	s := &source{path: filepath.Join(t.TempDir(), "htpasswd"), log: &bytes.Buffer{}, now: time.Now()}
	write(t, s.path, content)
	f, err := htpasswd.Open(htpasswd.Options{Path: s.path, Admins: admins, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Now: func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	s.File = f
	return s
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProvider(t *testing.T) {
	authtest.Run(t, func(t *testing.T) authtest.Fixture {
		s := open(t, "alice:"+hash(t, "correct horse", 8)+"\n")
		return authtest.Fixture{Provider: s, Name: "alice", Password: "correct horse", SetPassword: func(t *testing.T, password string) {
			if _, err := htpasswd.Set(s.path, "alice", password); err != nil {
				t.Fatal(err)
			}
			s.advance(2 * time.Second)
		}}
	})
}

func TestSchemes(t *testing.T) {
	plain := "topsecret1"
	s := open(t, strings.Join([]string{
		"# a comment", "", "  ",
		"bcrypt:" + hash(t, "password", 4),
		"bcrypt2y:" + strings.Replace(hash(t, "password", 4), "$2a$", "$2y$", 1),
		"fields:" + hash(t, "password", 4) + ":more:fields",
		"apr1:" + apr1Long, "apr1short:" + apr1Short, "apr1utf8:" + apr1UTF8,
		"sha:" + shaWord,
		"plain:" + plain, "des:rqXexS6ZhobKA", "md5crypt:$1$abc$BXBqpb9BZcZhXLgbee.0s/", "sha512crypt:$6$salt$x", "empty:",
		"ssha:{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "cut:$2y$05$abc", "dear:$2y$31$" + strings.Repeat(".", 53),
		"with space:" + hash(t, "password", 4) + "\r",
	}, "\n"))
	for _, c := range []struct{ name, password string }{
		{"bcrypt", "password"}, {"bcrypt2y", "password"}, {"fields", "password"}, {"apr1", "correct horse battery staple and a good deal more"},
		{"apr1short", "pw"}, {"apr1utf8", "p密:码"}, {"sha", "password"}, {"with space", "password"},
	} {
		if a, err := s.Login(t.Context(), c.name, c.password); err != nil || a.Name != c.name || a.Admin {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
		if _, err := s.Login(t.Context(), c.name, c.password+"x"); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("%s with a wrong password: %v", c.name, err)
		}
	}
	for name, why := range map[string]string{
		"plain": "plain-text", "des": "DES crypt", "md5crypt": "MD5 crypt", "sha512crypt": "SHA crypt", "empty": "no password",
		"ssha": "not supported", "cut": "complete bcrypt", "dear": "cost 31",
	} {
		for _, password := range []string{"password", plain, "", "rqXexS6ZhobKA"} {
			if a, err := s.Login(t.Context(), name, password); !errors.Is(err, auth.ErrPassword) {
				t.Errorf("%s with %q: %+v, %v", name, password, a, err)
			}
		}
		found := false
		for line := range strings.Lines(s.log.String()) {
			found = found || strings.Contains(line, "principal="+name+" ") && strings.Contains(line, why)
		}
		if !found {
			t.Errorf("no warning says of %s: %s\n%s", name, why, s.log)
		}
	}
	if strings.Contains(s.log.String(), plain) {
		t.Error("the log contains a plain-text password")
	}
	for _, name := range []string{"apr1", "sha"} {
		_, _ = s.Login(t.Context(), name, "once more")
		if n := strings.Count(s.log.String(), "entry is weak; renew it with berthd htpasswd add\" principal="+name+" "); n != 1 {
			t.Errorf("%s was warned of %d times, want once", name, n)
		}
	}
}

func TestAdmins(t *testing.T) {
	s := open(t, "alice:"+hash(t, "password", 4)+"\nbob:"+hash(t, "password", 4)+"\n", "alice")
	for name, want := range map[string]bool{"alice": true, "bob": false} {
		if a, err := s.Login(t.Context(), name, "password"); err != nil || a.Admin != want {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestDuplicateTakesTheLast(t *testing.T) {
	s := open(t, "alice:"+hash(t, "first", 4)+"\nalice:"+hash(t, "second", 4)+"\n")
	if _, err := s.Login(t.Context(), "alice", "second"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.log.String(), "replaces the one in line 1") {
		t.Errorf("log:\n%s", s.log)
	}
}

func TestChangesAreNoticed(t *testing.T) {
	first, second := hash(t, "first", 4), hash(t, "other", 4) // of equal length, so the size tells nothing
	s := open(t, "alice:"+first+"\n")
	is := func(password string) {
		t.Helper()
		if _, err := s.Login(t.Context(), "alice", password); err != nil {
			t.Errorf("password %s: %v", password, err)
		}
	}
	is("first")
	write(t, s.path, "alice:"+second+"\n")
	is("first") // looked at within the last second
	s.advance(1100 * time.Millisecond)
	is("other")

	// In place, of the same size and with its old time stamp: noticed while the file is young.
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.path, "alice:"+first+"\n")
	if err := os.Chtimes(s.path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	s.advance(1100 * time.Millisecond)
	is("first")

	// Broken or gone: the users stay, one line says why, and a repaired file is used.
	for _, damage := range []func(){
		func() { write(t, s.path, "alice\n") },
		func() { write(t, s.path, "# half of it\n\x7fELF\x00\x01\n:x\n") },
		func() {
			if err := os.Remove(s.path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s.log.Reset()
		damage()
		for range 3 {
			s.advance(1100 * time.Millisecond)
			is("first")
		}
		if n := strings.Count(s.log.String(), "cannot be used"); n != 1 {
			t.Errorf("%d lines about a broken file, want 1:\n%s", n, s.log)
		}
		if err := s.Reload(); err == nil {
			t.Error("reload of a broken file succeeded")
		}
	}
	write(t, s.path, "bob:"+first+"\n")
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	if _, err := s.Account(t.Context(), "alice"); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("alice after her line went: %v", err)
	}
	if _, err := s.Login(t.Context(), "bob", "first"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := htpasswd.Open(htpasswd.Options{Path: filepath.Join(dir, "none")}); err == nil || !strings.Contains(err.Error(), "berthd htpasswd add") {
		t.Errorf("missing file: %v; want an error that says how to make it", err)
	}
	broken := filepath.Join(dir, "broken")
	write(t, broken, "# fine\nalice:x\nno colon here\n")
	if _, err := htpasswd.Open(htpasswd.Options{Path: broken}); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("broken file: %v; want an error with the line", err)
	}
	if _, err := htpasswd.Open(htpasswd.Options{Path: dir}); err == nil {
		t.Error("a directory was accepted")
	}
}

func TestEdit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	if replaced, err := htpasswd.Set(path, "alice", "first password"); err != nil || replaced {
		t.Fatalf("%t, %v", replaced, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file: %v, %v; want mode 0600", info, err)
	}
	before := "# comment\r\nbob:" + shaWord + "\nalice:" + apr1Long + "\nalice:again\nalice2:" + shaWord // without a line break at the end
	write(t, path, before)
	if err := os.Chmod(path, 0o664); err != nil { // more than the user mask would leave
		t.Fatal(err)
	}
	if replaced, err := htpasswd.Set(path, "alice", "p密:码 with colon"); err != nil || !replaced {
		t.Fatalf("%t, %v", replaced, err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(after), "\n")
	if len(lines) != 5 || lines[0] != "# comment\r\n" || lines[1] != "bob:"+shaWord+"\n" || !strings.HasPrefix(lines[2], "alice:$2a$10$") || lines[3] != "alice2:"+shaWord+"\n" {
		t.Errorf("after the change:\n%s", after)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o664 {
		t.Errorf("mode %v, %v; want what it was", info.Mode(), err)
	}
	if err := htpasswd.Verify(path, "alice", "p密:码 with colon"); err != nil {
		t.Errorf("verify: %v", err)
	}
	if err := htpasswd.Verify(path, "alice", "other"); !errors.Is(err, htpasswd.ErrMismatch) {
		t.Errorf("verify with a wrong password: %v", err)
	}
	if err := htpasswd.Verify(path, "carol", "other"); err == nil || errors.Is(err, htpasswd.ErrMismatch) {
		t.Errorf("verify of an unknown user: %v", err)
	}
	if existed, err := htpasswd.Remove(path, "alice"); err != nil || !existed {
		t.Errorf("remove: %t, %v", existed, err)
	}
	if existed, err := htpasswd.Remove(path, "alice"); err != nil || existed {
		t.Errorf("remove again: %t, %v", existed, err)
	}
	if after, _ = os.ReadFile(path); string(after) != "# comment\r\nbob:"+shaWord+"\nalice2:"+shaWord+"\n" {
		t.Errorf("after the removal:\n%s", after)
	}
	if _, err := htpasswd.Remove(path+"x", "alice"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove from a missing file: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestEditFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	write(t, target, "")
	if err := os.Symlink("target", link); err != nil {
		t.Skip(err)
	}
	if _, err := htpasswd.Set(link, "alice", "a password"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
	if err := htpasswd.Verify(target, "alice", "a password"); err != nil {
		t.Error(err)
	}
}

func TestEditRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htpasswd")
	for _, c := range []struct{ user, password string }{
		{"", "password"}, {"a:b", "password"}, {"#a", "password"}, {"a\nb", "password"}, {" a", "password"}, {"a\x00", "password"}, {strings.Repeat("a", 256), "password"}, {"\xff", "password"},
		{"alice", ""}, {"alice", strings.Repeat("p", 73)}, {"alice", "two\nlines"},
	} {
		if _, err := htpasswd.Set(path, c.user, c.password); err == nil {
			t.Errorf("user %q with password %q was accepted", c.user, c.password)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused user made a file")
	}
	write(t, path, "this is no htpasswd file\n")
	if _, err := htpasswd.Set(path, "alice", "password"); err == nil {
		t.Error("a file that is something else was changed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("alice:" + apr1Long + "\n#x\n\nbob:" + shaWord)
	f.Add("\xef\xbb\xbfa:$2y$05$" + strings.Repeat(".", 53))
	f.Add("a:$apr1$")
	path := filepath.Join(f.TempDir(), "htpasswd")
	f.Fuzz(func(t *testing.T, content string) {
		if strings.Contains(content, "$2") {
			return // real bcrypt at a random cost says nothing about parsing
		}
		write(t, path, content)
		file, err := htpasswd.Open(htpasswd.Options{Path: path})
		if err != nil {
			return
		}
		for line := range strings.Lines(content) {
			name, _, _ := strings.Cut(line, ":")
			if _, err := file.Account(t.Context(), name); err == nil {
				_ = htpasswd.Verify(path, name, "password")
			}
		}
	})
}
