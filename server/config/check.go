package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Checker looks at what a configuration refers to: files, certificates, directories. Load does not,
// because a file that is missing now may be there when berthd starts.
type Checker struct {
	Now      func() time.Time                  // for the validity of certificates
	ReadFile func(name string) ([]byte, error) // nil: os.ReadFile
}

// check is one run of a Checker.
type check struct {
	Checker
	loaded   *Loaded
	problems Problems
}

// Check returns everything that would keep berthd from working, and, marked as warnings, what will do
// so later or surprises people. It creates one file in the data directory and removes it again.
func (c Checker) Check(ctx context.Context, l *Loaded) []Problem {
	if c.ReadFile == nil {
		c.ReadFile = os.ReadFile
	}
	run := &check{Checker: c, loaded: l}
	for _, part := range []func(){run.certificate, run.clientCAs, run.htpasswd, run.identities, run.directories} {
		if ctx.Err() != nil {
			break
		}
		part()
	}
	return run.problems.sorted()
}

func (c *check) add(warning bool, key, format string, args ...any) {
	o := c.loaded.Origin(key)
	c.problems = append(c.problems, Problem{File: o.Name, Line: o.Line, Col: o.Col, Key: key, Message: key + ": " + fmt.Sprintf(format, args...), Warning: warning})
}

func (c *check) fail(key, format string, args ...any) { c.add(false, key, format, args...) }
func (c *check) warn(key, format string, args ...any) { c.add(true, key, format, args...) }

// read reads a file that a key names; it reports a failure and returns nil.
func (c *check) read(key, name string) []byte {
	content, err := c.ReadFile(name)
	if err != nil {
		c.fail(key, "cannot read %s: %s", name, withoutName(err))
		return nil
	}
	return content
}

// directories tries to write where berthd will.
func (c *check) directories() {
	c.writable("berth.data", c.loaded.Config.Berth.Data)
	if f := c.loaded.Config.Storage.Filesystem; f != nil && f.RootDirectory != c.loaded.Config.Berth.Data {
		c.writable("storage.filesystem.rootdirectory", f.RootDirectory)
	}
}

// writable makes and removes a file in the directory, or, when the directory does not exist yet, in
// the nearest one above it that does: berthd makes the rest.
func (c *check) writable(key, directory string) {
	existing := directory
	for {
		info, err := os.Stat(existing)
		if err == nil && !info.IsDir() {
			c.fail(key, "%s is a file; a directory is needed", existing)
			return
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(existing)
		if !errors.Is(err, fs.ErrNotExist) || parent == existing {
			c.fail(key, "cannot use %s: %s", directory, withoutName(err))
			return
		}
		existing = parent
	}
	probe, err := os.CreateTemp(existing, ".berth-check-*")
	if err != nil {
		c.fail(key, "cannot write in %s: %s", existing, withoutName(err))
		return
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		c.fail(key, "cannot delete in %s: %s", existing, withoutName(err))
	}
}

// htpasswd looks at the kind of every hash.
func (c *check) htpasswd() {
	const key = "auth.htpasswd.path"
	h := c.loaded.Config.Auth.Htpasswd
	if h == nil {
		return
	}
	content, err := c.ReadFile(h.Path)
	if errors.Is(err, fs.ErrNotExist) {
		c.warn(key, "%s does not exist; nobody can log in through it. Add an account: berthd htpasswd add %s alice", h.Path, h.Path)
		return
	}
	if err != nil {
		c.fail(key, "cannot read %s: %s", h.Path, withoutName(err))
		return
	}
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if message, warning := checkHash(line); message != "" {
			c.problems = append(c.problems, Problem{File: h.Path, Line: i + 1, Col: 1, Key: key, Message: message, Warning: warning})
		}
	}
}

// checkHash judges one entry of an htpasswd file; no message means that it is good. It never quotes the
// hash, which may be a password in plain.
func checkHash(line string) (message string, warning bool) {
	name, hash, ok := strings.Cut(line, ":")
	switch {
	case !ok || name == "":
		return "not an entry of the form name:hash", false
	case strings.HasPrefix(hash, "$2y$"), strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"):
		return "", false
	case strings.HasPrefix(hash, "$apr1$"):
		return fmt.Sprintf("account %q has an MD5 hash (apr1), which is quickly guessed; renew it with bcrypt: htpasswd -B, or berthd htpasswd add", name), true
	case strings.HasPrefix(hash, "{SHA}"):
		return fmt.Sprintf("account %q has a SHA-1 hash without salt, which is quickly guessed; renew it with bcrypt: htpasswd -B, or berthd htpasswd add", name), true
	}
	return fmt.Sprintf("account %q has neither a bcrypt nor an apr1 or SHA hash (crypt and plain text are refused); renew it with bcrypt: htpasswd -B, or berthd htpasswd add", name), false
}
