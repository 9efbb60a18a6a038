package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReference holds docs/reference against what berthd prints: what is made from it is as new as berthd. With -update the
// parts are made anew.
func TestReference(t *testing.T) {
	c := command{dir: t.TempDir()}
	print := func(args ...string) string {
		t.Helper()
		r := c.run(t, args...)
		if r.code != 0 {
			t.Fatalf("berthd %s: %+v", strings.Join(args, " "), r)
		}
		return r.stdout
	}
	var env strings.Builder
	for line := range strings.Lines(print("config", "env")) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		env.WriteString("| `" + name + "` | " + strings.TrimSpace(text) + " |\n")
	}
	reference(t, "cli.md", "```\n$ berthd --help\n", "```\n", "```\n"+strings.TrimPrefix(commands(print), "\n"))
	reference(t, "config.md", "```yaml\n", "```\n", "```yaml\n"+print("config", "print-defaults"))
	reference(t, "env.md", "| `", "", env.String())
}

// commands is the help of the command and of all below it, in the order in which the help lists them.
func commands(print func(args ...string) string, path ...string) string {
	help := print(append(path, "--help")...)
	text := "\n$ " + strings.Join(append([]string{"berthd"}, append(path, "--help")...), " ") + "\n" + help
	_, list, _ := strings.Cut(help, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name != "help" {
			text += commands(print, append(path[:len(path):len(path)], name)...)
		}
	}
	return text
}

// reference compares the part of a file from where it begins up to its end, or that of the file, with what it should be.
func reference(t *testing.T, name, begin, end, want string) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", "reference", name)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	from := strings.Index(text, "\n"+begin) + 1
	if from == 0 {
		t.Fatalf("%s has no line %q", file, begin)
	}
	to := len(text)
	if end != "" {
		if n := strings.Index(text[from+1:], "\n"+end); n >= 0 {
			to = from + 1 + n + 1
		}
	}
	if text[from:to] == want {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(text[:from]+want+text[to:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, wanted := strings.Split(text[from:to], "\n"), strings.Split(want, "\n")
	for i := range wanted {
		if i >= len(got) || got[i] != wanted[i] {
			t.Errorf("%s is behind what berthd prints (go test ./cmd/berthd -run Reference -update, and read the change); first at\n%s", file, wanted[i])
			return
		}
	}
	t.Errorf("%s has more than what berthd prints (go test ./cmd/berthd -run Reference -update)", file)
}
