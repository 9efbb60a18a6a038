package law_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestChineseGuides: a page in Chinese has its English page, with as many sections, and those that are held together say the same
// commands: what is typed is the same in every language, comments behind it apart.
func TestChineseGuides(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	pages, err := filepath.Glob(filepath.Join(docs, "zh-CN", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	held := []string{"air-gap.md", "berth.md", "copy-and-sync.md", "sign-and-verify.md"}
	seen := 0
	for _, page := range pages {
		name := filepath.Base(page)
		var english string
		for _, room := range []string{"guide", "operate", "reference"} {
			if body, err := os.ReadFile(filepath.Join(docs, room, name)); err == nil && english == "" { // the guide of the tool goes before its reference
				english = string(body)
			}
		}
		if english == "" {
			t.Errorf("%s has no English page", name)
			continue
		}
		if !slices.Contains(held, name) {
			continue
		}
		seen++
		body, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		chinese := string(body)
		if a, b := strings.Count(english, "\n## "), strings.Count(chinese, "\n## "); a != b {
			t.Errorf("%s: %d sections in English and %d in Chinese", name, a, b)
		}
		if a, b := commands(english), commands(chinese); !slices.Equal(a, b) {
			t.Errorf("%s: the commands differ:\n%s\n\n%s", name, strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		for _, flag := range regexp.MustCompile("`--[a-z-]+").FindAllString(english, -1) {
			if !strings.Contains(chinese, flag) {
				t.Errorf("%s: the Chinese page lacks %s", name, strings.Trim(flag, "`"))
			}
		}
	}
	if seen != len(held) {
		t.Errorf("of %v only %d pages are there", held, seen)
	}
}

// commands are the lines of the blocks of code of a page, without comments. A block without a language is what a program said.
func commands(page string) (out []string) {
	for i, part := range strings.Split(page, "\n```") {
		if i%2 == 0 || strings.HasPrefix(part, "\n") {
			continue
		}
		for _, line := range strings.Split(part, "\n") {
			line, _, _ = strings.Cut(line, "  #")
			out = append(out, strings.TrimRight(line, " "))
		}
	}
	return out
}
