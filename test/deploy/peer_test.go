package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// tree is the root of the source, and below it what is deployed.
const (
	tree  = "../.."
	chart = tree + "/deploy/helm/berth"
)

// peer returns the path of a program that test/setup/setup.sh installs. One that is missing skips the test, or fails it
// where that is asked for (BERTH_TEST_REQUIRE, CI).
func peer(t testing.TB, program string) string {
	t.Helper()
	path := program
	if dir, pinned := pinnedPeer(t, program); pinned {
		path = filepath.Join(dir, program)
	} else {
		for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
			if p := filepath.Join(dir, program); exists(p) {
				return p
			}
		}
	}
	path, err := exec.LookPath(path)
	if err != nil {
		testkit.Missing(t, "%s is not installed (run test/setup/setup.sh): %v", program, err)
	}
	return path
}

// pinnedPeer is the folder of a Go program of peers.txt: group, program, package, version.
func pinnedPeer(t testing.TB, program string) (dir string, pinned bool) {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join("..", "setup", "peers.txt"))) {
		if field := strings.Fields(line); len(field) >= 4 && field[1] == program {
			return filepath.Join(cache(t), "bin", program+"@"+field[3]), true
		}
	}
	return "", false
}

// cache is where setup.sh puts Go programs.
func cache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BERTH_TEST_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "berth-test")
}

// command is a program that runs to its end.
type command struct {
	dir   string
	env   []string // over PATH, HOME and nothing else
	stdin io.Reader
}

// run returns standard output; a failure ends the test with all that was printed.
func (c command) run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, all, err := c.try(t, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, all)
	}
	return out
}

// refused returns what is printed by a command that must fail.
func (c command) refused(t testing.TB, program string, args ...string) string {
	t.Helper()
	_, all, err := c.try(t, program, args...)
	if err == nil {
		t.Fatalf("%s %s succeeded and should not have:\n%s", filepath.Base(program), strings.Join(args, " "), all)
	}
	return all
}

func (c command) try(t testing.TB, program string, args ...string) (stdout, all string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // not t.Context: also for t.Cleanup
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin, cmd.WaitDelay = c.dir, c.stdin, 5*time.Second
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + t.TempDir()}, c.env...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	return out.String(), out.String() + problems.String(), err
}

// strict builds the program that knows the types of Kubernetes and Compose: a module of its own, see its comment.
func strict(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "strict")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, ".")
	build.Dir = "strict"
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build test/deploy/strict: %v\n%s", err, out)
	}
	return bin
}

// block returns the first fenced block of a language in a document.
func block(t testing.TB, file, language string) string {
	t.Helper()
	var text strings.Builder
	inside := false
	for lines := bufio.NewScanner(strings.NewReader(read(t, file))); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "```"+language && text.Len() == 0:
			inside = true
		case line == "```":
			inside = false
		case inside:
			text.WriteString(line + "\n")
		}
	}
	if text.Len() == 0 {
		t.Fatalf("%s has no block of %s", file, language)
	}
	return text.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wants checks that a text has all the words.
func wants(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing in:\n%s", word, text)
		}
	}
}
