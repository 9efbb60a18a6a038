package cli_test

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/cli/output"
)

var update = flag.Bool("update", false, "write docs/reference/berth.md from what the tool prints now")

// TestReference holds the section "Commands" of docs/reference/berth.md against the help of every command.
func TestReference(t *testing.T) {
	var want strings.Builder
	want.WriteString("## Commands\n")
	for _, path := range slices.Sorted(maps.Keys(cli.Flags())) {
		if path == "help" {
			continue
		}
		heading := "\n### " + path
		if path == "" {
			heading = "\n### berth"
		}
		want.WriteString(heading + "\n\n```\n" + help(t, path) + "```\n")
	}
	file := filepath.Join("..", "docs", "reference", "berth.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(text), "## Commands\n")
	if !found {
		t.Fatalf("%s has no section Commands", file)
	}
	if "## Commands\n"+after == want.String() {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got := strings.Split("## Commands\n"+after, "\n")
	for i, line := range strings.Split(want.String(), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("%s is behind what berth prints (go test ./cli -run Reference -update, and read the change); first at\n%s", file, line)
		}
	}
	t.Fatalf("%s has more than what berth prints (go test ./cli -run Reference -update)", file)
}

// help is what a command prints about itself, without what does not change a page.
func help(t *testing.T, path string) string {
	t.Helper()
	t.Setenv("REGISTRY_AUTH_FILE", "")
	var out, errs bytes.Buffer
	args := append(append([]string{"berth", "--lang", "en"}, strings.Fields(path)...), "--help")
	if code := cli.Main(args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); code != 0 {
		t.Fatal(path, code, errs.String())
	}
	text := out.String()
	if i := strings.Index(text, "\nhttps://"); i >= 0 {
		text = text[:i]
	}
	if i := strings.Index(text, "\nFlags of every command:"); i >= 0 {
		text = text[:i]
	}
	return strings.TrimRight(text, "\n") + "\n"
}

// TestLanguages wants every command and every flag that help shows to say what it does in both languages.
func TestLanguages(t *testing.T) {
	english, chinese := cli.Texts(output.English), cli.Texts(output.Chinese)
	for what, text := range english {
		switch {
		case what == "help" || strings.HasSuffix(what, " --help"):
		case text == "":
			t.Errorf("%q does not say what it does", what)
		case chinese[what] == text:
			t.Errorf("%q says the same in English and Chinese: %q", what, text)
		}
	}
}
