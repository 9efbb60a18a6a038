package law_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/law"
)

// TestFixtures shows that every rule fires where it should, and nowhere else. The folders of testdata are small houses
// with breaches; a comment // want "text" stands on the line of each, with one text per finding.
func TestFixtures(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join("testdata", "*", "go.mod"))
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	for _, mod := range dirs {
		root := filepath.Dir(mod)
		t.Run(filepath.Base(root), func(t *testing.T) { fixture(t, root) })
	}
}

func fixture(t *testing.T, root string) {
	want := wants(t, root)
	if len(want) == 0 {
		t.Fatal("the fixture has no breach")
	}
	for _, f := range law.Check(load(t, root)) {
		at := fmt.Sprintf("%s:%d", f.Pos.Filename, f.Pos.Line)
		found := false
		for i, text := range want[at] {
			if strings.Contains(f.String(), text) {
				want[at] = append(want[at][:i:i], want[at][i+1:]...)
				found = true
				break
			}
		}
		if !found {
			t.Errorf("not expected: %s", f)
		}
	}
	for at, texts := range want {
		for _, text := range texts {
			t.Errorf("%s: expected a finding with %q", at, text)
		}
	}
}

// wants reads the expectations: texts by "file:line".
func wants(t *testing.T, root string) map[string][]string {
	t.Helper()
	comment := regexp.MustCompile(`// want (".*)$`)
	quoted := regexp.MustCompile(`"([^"]*)"`)
	want := map[string][]string{}
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".go") {
			return err
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(src), "\n") {
			if m := comment.FindStringSubmatch(line); m != nil {
				for _, q := range quoted.FindAllStringSubmatch(m[1], -1) {
					at := fmt.Sprintf("%s:%d", filepath.ToSlash(rel), i+1)
					want[at] = append(want[at], q[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return want
}
