package cli_test

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/internal/testkit"
)

// TestManifestPageFlags reads the pages of podman-manifest as Debian's package installs them, and wants every flag of every
// page to be known to the command of the same name: honoured, or refused with a reason.
func TestManifestPageFlags(t *testing.T) {
	pages, err := filepath.Glob("/usr/share/man/man1/podman-manifest-*.1.gz")
	if err != nil || len(pages) < 8 {
		testkit.Missing(t, "podman's man pages are not installed (run test/setup/setup.sh): %v", pages)
	}
	known := cli.Flags()
	found := 0
	for _, page := range pages {
		verb := "manifest " + strings.TrimSuffix(strings.TrimPrefix(filepath.Base(page), "podman-manifest-"), ".1.gz")
		if known[verb] == nil {
			t.Errorf("there is no command berth %s", verb)
		}
		for _, flag := range podmanFlags(t, page) {
			found++
			if !slices.Contains(known[verb], flag) {
				t.Errorf("%s: --%s is not known to berth %s", filepath.Base(page), flag, verb)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d flags were found; are the pages written in another way than they were?", found)
	}
}

// podmanFlags finds the flags that a page explains: each has a section of its own, .SS **--name**, **-n**=value.
func podmanFlags(t *testing.T, page string) []string {
	t.Helper()
	f, err := os.Open(page)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	name := regexp.MustCompile(`\\fB--([a-z][a-z0-9-]*)`)
	for line := range strings.Lines(strings.ReplaceAll(string(text), `\-`, "-")) {
		if !strings.HasPrefix(line, ".SS ") {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(line, -1) {
			if m[1] != "help" {
				flags = append(flags, m[1])
			}
		}
	}
	return flags
}
