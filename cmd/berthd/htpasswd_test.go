package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// htpasswdRun runs the sub-command with a standard input and returns what it printed.
func htpasswdRun(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	c := htpasswdCommand()
	var out bytes.Buffer
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestHtpasswdCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	for _, step := range []struct {
		stdin string
		args  []string
		out   string // part of the output, or of the error when it begins with "!"
	}{
		{"a password\n", []string{"add", file, "alice"}, "user alice added to"},
		{"a password\n", []string{"verify", file, "alice"}, "password of alice is right"},
		{"a password", []string{"verify", file, "alice"}, "right"},
		{"a password\r\nmore\n", []string{"verify", file, "alice"}, "right"},
		{"another\n", []string{"verify", file, "alice"}, "!password of alice is wrong"},
		{"another\n", []string{"add", file, "alice"}, "user alice changed in"},
		{"another\n", []string{"verify", file, "alice"}, "right"},
		{"x\n", []string{"verify", file, "bob"}, "!user bob is not in"},
		{"\n", []string{"add", file, "bob"}, "!password is empty"},
		{"", []string{"add", file, "bob"}, "!password is empty"},
		{"x\n", []string{"add", file, "b:b"}, "!colon"},
		{"", []string{"rm", file, "alice"}, "user alice removed from"},
		{"", []string{"rm", file, "alice"}, "!user alice is not in"},
		{"x\n", []string{"add", file}, "!accepts 2 arg"},
	} {
		out, err := htpasswdRun(t, step.stdin, step.args...)
		want, fails := strings.CutPrefix(step.out, "!")
		if fails && (err == nil || !strings.Contains(err.Error(), want)) || !fails && (err != nil || !strings.Contains(out, want)) {
			t.Errorf("%v with %q: %q, %v; want %q", step.args, step.stdin, out, err, step.out)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
}
