package interop_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// firstPush bounds what a user waits from starting the binary for the first time until the first push has succeeded,
// login included (ux.md §A1, bars).
const firstPush = 10 * time.Second

// TestFirstRun is a user's first minute: berthd without any configuration in an empty folder, then the lines that it
// prints, typed as they stand.
func TestFirstRun(t *testing.T) {
	for _, tool := range []string{"docker", "podman"} {
		t.Run(tool, func(t *testing.T) {
			var user *client
			if tool == "docker" {
				user = newDocker(t)
				// Local names are shared by all tests of this dockerd: only this one uses "alpine".
				loadDocker(t, user, "alpine", "alpine:latest")
			} else {
				user = newPodman(t)
				loadPodman(t, user, "alpine", "docker.io/library/alpine:latest")
			}
			path := shellCommand(t, user)
			testkit.BuildBerthd(t) // not part of what the user waits for
			path += ":" + filepath.Dir(testkit.BuildBerth(t))

			start := time.Now()
			dir := t.TempDir()
			daemon, port := firstStart(t, dir)
			block := daemon.text()
			secret := submatch(t, block, `(?m)^\s*Login\s+admin / (\S+)`)
			lines := linesFor(t, block, tool)
			for _, line := range lines {
				typeLine(t, user, path, line, secret)
			}
			took := time.Since(start)
			t.Logf("%d lines, %s from the start of berthd to the end of the first push", len(lines), took.Round(time.Millisecond))
			if took > firstPush {
				t.Errorf("the first push was done after %s, want %s", took, firstPush)
			}
			pushed := user.exec(t, nil, "pull", "localhost:"+port+"/library/alpine")
			if pushed.code != 0 {
				t.Error(pushed)
			}
			stopTerminal(t, daemon)
		})
	}
}

// TestFirstRunFolder looks at what the first start leaves behind, and at how little the second start says.
func TestFirstRunFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	daemon, _ := firstStart(t, dir)
	secret := submatch(t, daemon.text(), `(?m)^\s*Login\s+admin / (\S+)`)
	if len(secret) < 12 {
		t.Errorf("password %q has %d characters, want at least 12", secret, len(secret))
	}
	stopTerminal(t, daemon)

	data := filepath.Join(dir, "berth-data")
	for name, want := range map[string]os.FileMode{"": 0o700, "first-run.txt": 0o600, "tls/ca.key": 0o600, "tls/server.key": 0o600, "berth.db": 0o600} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got&^want != 0 {
			t.Errorf("%s has mode %o, want at most %o", filepath.Join("berth-data", name), got, want)
		}
	}
	mustContain(t, string(readFile(t, filepath.Join(data, "first-run.txt"))), secret)
	err := filepath.WalkDir(data, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "first-run.txt" {
			return err
		}
		if bytes.Contains(readFile(t, path), []byte(secret)) {
			t.Errorf("the password stands in %s", entry.Name())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	again, _ := firstStart(t, dir)
	stopTerminal(t, again)
	greeting, _, _ := strings.Cut(again.text(), "^C")
	if strings.Contains(greeting, secret) {
		t.Errorf("the second start prints the password again:\n%s", greeting)
	}
	if n := len(nonEmptyLines(greeting)); n > 5 {
		t.Errorf("the second start prints %d lines, want 3 and the end:\n%s", n, greeting)
	}
}

// TestFirstRunJSON: logs are collected and kept, so that a password must never be in them.
func TestFirstRunJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := testkit.FreePort(t)
	cmd := exec.Command(testkit.BuildBerthd(t), "--addr", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "--log-format", "json")
	cmd.Dir, cmd.Env = dir, userEnv(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitPort(t, port)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	note := string(readFile(t, filepath.Join(dir, "berth-data", "first-run.txt")))
	secret := submatch(t, note, `admin\S*\s+/?\s*(\S+)`)
	if strings.Contains(out.String(), secret) {
		t.Errorf("the password %q is in the log:\n%s", secret, &out)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("not a JSON line: %s", line)
		}
	}
}

// firstStart runs berthd as a user does, in a terminal and with nothing set but the port (5000 may be taken on the
// machine of the test), and returns when it answers.
func firstStart(t *testing.T, dir string) (term *terminal, port string) {
	t.Helper()
	number := testkit.FreePort(t)
	port = strconv.Itoa(number)
	cmd := exec.Command(testkit.BuildBerthd(t), "--addr", "127.0.0.1:"+port)
	cmd.Dir = dir
	cmd.Env = userEnv(dir)
	term = openTerminal(t, cmd)
	awaitPort(t, number)
	term.await(t, 30*time.Second, port)
	// The block is written in one piece, but it may come through the terminal in several.
	time.Sleep(100 * time.Millisecond)
	return term, port
}

func awaitPort(t testing.TB, port int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing listens on port %d after 10 s: %v", port, err)
		}
	}
}

// stopTerminal presses Ctrl-C, which must end berthd in good order.
func stopTerminal(t *testing.T, term *terminal) {
	t.Helper()
	term.send(t, "\x03")
	if code := term.wait(t, 20*time.Second); code != 0 {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, term.text())
	}
}

// linesFor returns the shell lines of the block under a label: the label's own line and those indented below it.
func linesFor(t *testing.T, block, label string) (lines []string) {
	t.Helper()
	labelled := regexp.MustCompile(`^\s{1,4}` + label + `\s{2,}(\S.*)$`)
	continued := regexp.MustCompile(`^\s{6,}(\S.*)$`)
	for line := range strings.Lines(block) {
		line = strings.TrimRight(line, " \n")
		if match := labelled.FindStringSubmatch(line); match != nil {
			lines = append(lines, match[1])
		} else if match := continued.FindStringSubmatch(line); match != nil && len(lines) > 0 {
			lines = append(lines, match[1])
		} else if len(lines) > 0 {
			break
		}
	}
	if len(lines) == 0 {
		t.Fatalf("no lines for %s in:\n%s", label, block)
	}
	return lines
}

// shellCommand makes a command of the client's name that isolates it as the client is isolated, and returns the PATH
// under which a shell finds it first.
func shellCommand(t *testing.T, c *client) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nexec " + c.bin
	for _, flag := range c.flags {
		script += " '" + flag + "'"
	}
	file := writeFile(t, filepath.Join(dir, c.name), []byte(script+" \"$@\"\n"))
	if err := os.Chmod(file, 0o755); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
}

// typeLine runs one line of the block in a shell in a terminal, and types the password when it is asked for.
func typeLine(t *testing.T, c *client, path, line, secret string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir = c.home
	cmd.Env = append(append(userEnv(c.home), c.env...), path)
	term := openTerminal(t, cmd)
	if strings.HasPrefix(line, "berth trust ") {
		term.await(t, 10*time.Second, "[y/N]")
		term.send(t, "y\n")
	}
	if strings.Contains(line, " login ") {
		term.await(t, 10*time.Second, "Password:")
		// The client turns echo off after it has printed the prompt; what is typed before would be flushed.
		time.Sleep(50 * time.Millisecond)
		term.send(t, secret+"\n")
	}
	if code := term.wait(t, time.Minute); code != 0 {
		t.Fatalf("exit code %d of the printed line\n$ %s\n%s", code, line, term.text())
	}
	t.Logf("$ %s\n%s", line, strings.ReplaceAll(term.text(), secret, "***"))
}

func submatch(t testing.TB, text, pattern string) string {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("%s is not in:\n%s", pattern, text)
	}
	return match[1]
}

func nonEmptyLines(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
