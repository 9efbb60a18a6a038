package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/internal/durable"
)

// MaxPassword is the longest password that bcrypt reads, in bytes.
const MaxPassword = 72

// Set gives the user a new bcrypt entry, adding or replacing, and reports whether the user was there. A missing file is
// made, readable by its owner alone. The other lines stay byte for byte. The file is replaced as a whole and durably; two
// commands at the same moment may lose one of the changes, never the file.
func Set(path, user, password string) (replaced bool, err error) {
	if err := checkUser(user); err != nil {
		return false, err
	}
	switch {
	case password == "":
		return false, errors.New("password is empty")
	case len(password) > MaxPassword:
		return false, fmt.Errorf("password has %d bytes; bcrypt reads at most %d", len(password), MaxPassword)
	case strings.ContainsAny(password, "\x00\r\n"):
		return false, errors.New("password contains a line break or a NUL character")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), defaultCost)
	if err != nil {
		return false, fmt.Errorf("htpasswd: hash password: %w", err)
	}
	err = edit(path, true, func(lines [][]byte) [][]byte {
		line := []byte(user + ":" + string(hash) + "\n")
		var out [][]byte
		for _, l := range lines {
			switch {
			case !isEntry(l, user):
				out = append(out, l)
			case !replaced:
				out, replaced = append(out, line), true
			}
		}
		if !replaced {
			out = append(out, line)
		}
		return out
	})
	return replaced, err
}

// Remove drops the user's entries and reports whether there was one.
func Remove(path, user string) (existed bool, err error) {
	err = edit(path, false, func(lines [][]byte) [][]byte {
		var out [][]byte
		for _, l := range lines {
			if isEntry(l, user) {
				existed = true
				continue
			}
			out = append(out, l)
		}
		return out
	})
	return existed, err
}

// ErrMismatch is what Verify answers to a password that the entry does not match.
var ErrMismatch = errors.New("password does not match")

// Verify checks the password against the user's entry; the error says what is wrong.
func Verify(path, user, password string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	t, warnings, err := parse(data)
	if err != nil {
		return fmt.Errorf("htpasswd file %s: %w", path, err)
	}
	e, ok := t.entries[user]
	if !ok {
		return fmt.Errorf("user %s is not in %s", user, path)
	}
	if e.scheme == unusable {
		for _, w := range warnings {
			if w.line == e.line {
				return fmt.Errorf("entry of %s in line %d of %s %s; renew it with: berthd htpasswd add", user, e.line, path, w.problem)
			}
		}
	}
	if !e.matches(password) {
		return ErrMismatch
	}
	return nil
}

// checkUser refuses names that the file cannot hold or that Basic authorization cannot carry.
func checkUser(user string) error {
	switch {
	case user == "":
		return errors.New("user name is empty")
	case len(user) > 255:
		return fmt.Errorf("user name has %d bytes; at most 255 are allowed", len(user))
	case strings.Contains(user, ":"):
		return fmt.Errorf("user name %q contains a colon, which ends a name in the file", user)
	case strings.HasPrefix(user, "#"), strings.TrimSpace(user) != user,
		strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return fmt.Errorf("user name %q cannot be written to the file; avoid #, control characters and white space around it", user)
	}
	return nil
}

func isEntry(line []byte, user string) bool {
	return bytes.HasPrefix(line, []byte(user+":"))
}

// edit replaces the file by what change makes of its lines, each with its line break.
func edit(path string, create bool, change func(lines [][]byte) [][]byte) error {
	// A link (a mounted secret, say) is followed: its target is what must be replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	mode := fs.FileMode(0o600)
	before, err := os.Stat(path)
	var lines [][]byte
	switch {
	case err == nil:
		mode = before.Mode().Perm()
		data, err := readFile(path)
		if err != nil {
			return err
		}
		if _, _, err := parse(data); err != nil {
			return fmt.Errorf("htpasswd file %s: %w; correct it first", path, err)
		}
		for l := range bytes.Lines(data) {
			lines = append(lines, bytes.Clone(l))
		}
		if n := len(lines); n > 0 && !bytes.HasSuffix(lines[n-1], []byte("\n")) {
			lines[n-1] = append(lines[n-1], '\n')
		}
	case !errors.Is(err, fs.ErrNotExist) || !create:
		return fmt.Errorf("htpasswd: %w", err)
	}
	if err := durable.WriteFile(path, bytes.Join(change(lines), nil), mode); err != nil {
		return fmt.Errorf("htpasswd: replace %s: %w", path, err)
	}
	return keepOwner(path, before, mode)
}

// keepOwner restores what the replacement lost: whoever could read the file still can, and the user mask changed
// nothing.
func keepOwner(path string, before fs.FileInfo, mode fs.FileMode) error {
	after, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("htpasswd: %w", err)
	}
	if before == nil {
		return nil
	}
	if err := chown(path, before, after); err != nil {
		return fmt.Errorf("htpasswd file %s was changed, but it belongs to another user now: %w", path, err)
	}
	if after.Mode().Perm() != mode {
		if err := os.Chmod(path, mode); err != nil {
			return fmt.Errorf("htpasswd file %s was changed, but its permissions are %s now: %w", path, after.Mode().Perm(), err)
		}
	}
	return nil
}
