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

// TestManPageFlags reads skopeo's manual, as Debian's package installs it, and wants every flag of every page to be
// known to the command of the same name: honoured, or refused with a reason. testdata/skopeo.flags is the same list for
// the newest release, which Debian does not have yet.
func TestManPageFlags(t *testing.T) {
	pages, err := filepath.Glob("/usr/share/man/man1/skopeo*.1.gz")
	if err != nil || len(pages) < 8 {
		testkit.Missing(t, "skopeo's man pages are not installed (run test/setup/setup.sh): %v", pages)
	}
	known := cli.Flags()
	found := 0
	for _, page := range pages {
		verb := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(page), ".1.gz"), "skopeo")
		verb = strings.TrimPrefix(verb, "-")
		flags := pageFlags(t, page, skopeoFlag)
		found += len(flags)
		for _, flag := range flags {
			if !slices.Contains(known[verb], flag) {
				t.Errorf("%s: --%s is not known to berth %s", filepath.Base(page), flag, verb)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d flags were found; are the pages written in another way than they were?", found)
	}
	list, err := os.ReadFile(filepath.Join("testdata", "skopeo.flags"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		field := strings.Fields(line)
		if len(field) == 0 || field[0] == "#" {
			continue
		}
		for _, flag := range field[1:] {
			if !slices.Contains(known[strings.TrimPrefix(field[0], "-")], flag) {
				t.Errorf("testdata/skopeo.flags: --%s is not known to berth %s", flag, field[0])
			}
		}
	}
}

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
		for _, flag := range pageFlags(t, page, podmanFlag) {
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

// How a page in roff begins to explain a flag: skopeo's pages with **--name** at the start of a paragraph, podman's with a section
// of its own, .SS **--name**, **-n**=value.
var (
	skopeoFlag = regexp.MustCompile(`^\\fB(?:--|-[a-z])`)
	podmanFlag = regexp.MustCompile(`^\.SS .*--`)
	flagName   = regexp.MustCompile(`\\fB--([a-z][a-z0-9.-]*)`)
)

// pageFlags finds the flags that a page explains, on the lines that begin an explanation.
func pageFlags(t *testing.T, page string, begins *regexp.Regexp) []string {
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
	for line := range strings.Lines(strings.ReplaceAll(string(text), `\-`, "-")) {
		if !begins.MatchString(line) {
			continue
		}
		for _, m := range flagName.FindAllStringSubmatch(line, -1) {
			if m[1] != "help" {
				flags = append(flags, m[1])
			}
		}
	}
	return flags
}
