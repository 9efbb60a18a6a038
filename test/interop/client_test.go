package interop_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// commandTime bounds one command. The slowest moves two GiB.
const commandTime = 3 * time.Minute

// client is one user's installation of one program: where it is, its home, and the flags it is always given.
type client struct {
	name   string   // what a user types
	bin    string   // path of the program
	flags  []string // before the sub-command
	suffix []string // after the arguments of every command
	env    []string // over a minimal environment
	home   string   // $HOME and working directory
	within time.Duration
}

// newClient returns the program with an empty home directory, and with the CA of each registry given trusted there as
// the user of that program would do it without root (~/.config/containers/certs.d, or SSL_CERT_FILE).
func newClient(t testing.TB, program string, trusted ...*registry) *client {
	t.Helper()
	c := &client{name: program, bin: peer(t, program), home: shortDir(t), within: commandTime}
	for _, r := range trusted {
		c.trust(t, r)
	}
	return c
}

// trust installs the CA that berthd hands out, in the places the clients look into.
func (c *client) trust(t testing.TB, r *registry) {
	t.Helper()
	dir := filepath.Join(c.home, ".config", "containers", "certs.d", r.host)
	writeFile(t, filepath.Join(dir, "ca.crt"), r.ca)
	c.env = append(c.env, "SSL_CERT_FILE="+filepath.Join(dir, "ca.crt"))
}

// result is what the user sees.
type result struct {
	line   string // the command line, without the flags that only isolate it
	stdout string
	stderr string
	code   int
	took   time.Duration
}

func (r result) String() string {
	return "$ " + r.line + "\n" + r.stdout + r.stderr
}

// run runs the command, which must succeed, and returns its standard output without the last line feed.
func (c *client) run(t testing.TB, args ...string) string {
	t.Helper()
	return c.pipe(t, nil, args...)
}

// pipe is run with a standard input.
func (c *client) pipe(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	r := c.exec(t, stdin, args...)
	if r.code != 0 {
		t.Fatalf("exit code %d after %s:\n%s", r.code, r.took.Round(time.Millisecond), r)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// refused runs the command, which must fail, and returns all that the user sees.
func (c *client) refused(t testing.TB, args ...string) result {
	t.Helper()
	r := c.exec(t, nil, args...)
	if r.code == 0 {
		t.Fatalf("succeeded, should have been refused:\n%s", r)
	}
	return r
}

func (c *client) exec(t testing.TB, stdin io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), c.within) // not t.Context: also for t.Cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, slices.Concat(c.flags, args, c.suffix)...)
	cmd.Dir = c.home
	cmd.Env = append(userEnv(c.home), c.env...)
	cmd.Stdin = stdin
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	start := time.Now()
	err := cmd.Run()
	r := result{line: c.name + " " + strings.Join(args, " "), stdout: stdout.String(), stderr: stderr.String(),
		code: cmd.ProcessState.ExitCode(), took: time.Since(start)}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, r)
	}
	if ctx.Err() != nil {
		t.Fatalf("not done after %s:\n%s", c.within, r)
	}
	return r
}

// userEnv is the environment of a user who has set nothing: no proxy, no credentials, no language of the machine.
func userEnv(home string) []string {
	return []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"HOME=" + home,
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"),
		"XDG_DATA_HOME=" + filepath.Join(home, ".local", "share"),
		"XDG_CACHE_HOME=" + filepath.Join(home, ".cache"),
		"BERTH_BLOB_CACHE_DIR=" + filepath.Join(home, ".blobs"), // that of root is the machine's
		"XDG_RUNTIME_DIR=" + home,
		"TMPDIR=" + home,
		"LANG=C.UTF-8",
	}
}

// shortDir is t.TempDir with a path that podman accepts: its --runroot may have 50 characters.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func writeFile(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func mustContain(t testing.TB, where, want string) {
	t.Helper()
	if !strings.Contains(where, want) {
		t.Errorf("%q is missing in:\n%s", want, where)
	}
}

func mustEqual(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}
