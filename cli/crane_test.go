package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/internal/testkit"
)

// TestCraneFlags asks the real crane for its commands and their flags, and wants berth, called as crane, to know every one: to honour it,
// or to refuse it with a reason.
func TestCraneFlags(t *testing.T) {
	crane := craneBinary(t)
	known := cli.Verbs("crane")
	commands, flags := 0, 0
	var look func(path ...string)
	look = func(path ...string) {
		text, err := exec.Command(crane, append(path, "--help")...).CombinedOutput() //nolint:gosec // a peer
		if err != nil {
			t.Fatalf("crane %s --help: %v: %s", strings.Join(path, " "), err, text)
		}
		verb := strings.Join(path, " ")
		have, ok := known[verb]
		if len(path) > 0 {
			commands++
			if !ok {
				t.Errorf("berth as crane has no %s, and says not why", verb)
				return
			}
			if have == nil { // refused as a whole
				return
			}
		}
		section := ""
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, " ") {
				section = strings.TrimSpace(line)
				continue
			}
			switch section {
			case "Available Commands:":
				if name := strings.Fields(line)[0]; name != "help" && name != "completion" {
					look(append(slices.Clone(path), name)...)
				}
			case "Flags:", "Global Flags:":
				if len(path) == 0 || !flagNames.MatchString(line) { // each command has those of crane again
					continue
				}
				for _, flag := range flagNames.FindStringSubmatch(line)[1:] {
					if flag == "" {
						continue
					}
					if flags++; !slices.Contains(have, flag) {
						t.Errorf("crane %s %s is not known", verb, flag)
					}
				}
			}
		}
	}
	look()
	if commands < 20 || flags < 150 {
		t.Errorf("only %d commands and %d flags were found; does crane write its help in another way than it did?", commands, flags)
	}
}

// flagNames finds the short and the long name of a flag in its line of help.
var flagNames = regexp.MustCompile(`^ +(?:(-[A-Za-z]), )?(--[A-Za-z_-]+)`)

// craneBinary is the real crane: that of PATH, or the one that test/setup/setup.sh keeps in its cache.
func craneBinary(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("BERTH_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "berth-test")
	}
	found, err := filepath.Glob(filepath.Join(cache, "bin", "crane@*", "crane"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath("crane")
	if err != nil {
		testkit.Missing(t, "crane is not installed (run test/setup/setup.sh): %v", err)
	}
	return path
}
