package ref_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
)

func TestPatternMatch(t *testing.T) {
	for pattern, names := range map[string]string{ // ! is before a name that does not match
		"**":                "a a/b a/b/c",
		"team/**":           "team/app team/a/b !team !teams/app !a/team/app",
		"team/":             "team/app team/a/b !team",
		"team/app":          "team/app !team/app/x !team/appx !team !app",
		"app":               "app !team/app !app/x",
		"*":                 "a abc !a/b",
		"*/app":             "team/app x/app !app !team/x/app",
		"team/*":            "team/app !team/a/b !team",
		"team/app-*":        "team/app-1 team/app-x.y !team/app !team/app-/ !team/app-1/x",
		"team/*-test":       "team/a-test !team/a-tests",
		"team/a*b*c":        "team/abc team/axxbyyc team/a-b-b-c !team/acb",
		"team/**/app":       "team/app team/x/app team/x/y/app !team/app/x !app !team",
		"**/app":            "app team/app team/x/app !team/apps",
		"**/test/**":        "test/a x/test/a x/y/test/a/b !test !x/test",
		"a/**/b/**/c":       "a/b/c a/x/b/y/z/c a/b/b/c/c !a/c !a/b/c/d",
		"**/a/*/b":          "a/x/b a/a/x/b q/a/a/a/b !a/b",
		"a/**/a*b/**/c*d/e": "a/ab/cd/e a/q/aab/q/cxd/e !a/q/aab/q/cxd/f",
	} {
		p, err := ref.ParsePattern(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		for name := range strings.FieldsSeq(names) {
			name, not := strings.CutPrefix(name, "!")
			if p.MatchText(name) == not {
				t.Errorf("%s matches %s: %v", pattern, name, !not)
			}
		}
	}
	if (ref.Pattern{}).MatchText("a") || (ref.Pattern{}).Covers("a") || (ref.Pattern{}).Covers("") || !(ref.Pattern{}).IsZero() {
		t.Error("the zero pattern has something")
	}
}

func TestParsePattern(t *testing.T) {
	for _, s := range []string{
		"", "/", "a//b", "/a", "A", "a/B*", "***", "a/***", "**a", "a**", "a/**b/c", "**/**", "a/**/**", "a b", "é*", "a/*\x00", "..", "a/../b", "-a", "a_", "a:b",
		strings.Repeat("a/", 300), strings.Repeat("*/", 8) + "*", "a*******************b", "*//", "a/**//",
	} {
		if p, err := ref.ParsePattern(s); !fault.Is(err, fault.Invalid) || !p.IsZero() {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
	if _, err := ref.ParsePattern(strings.Repeat("A", 1<<20)); err == nil || len(err.Error()) > 400 {
		t.Error("the message is not bounded")
	}
	p, err := ref.ParsePattern("team/")
	if err != nil || p.String() != "team/**" {
		t.Errorf("%v, %v", p, err)
	}
}

func TestPatternLiteral(t *testing.T) {
	for s, want := range map[string]bool{"team/app": true, "app": true, "team/**": false, "team/a*": false, "*": false, strings.Repeat("a/", 200) + "a": false} {
		p, err := ref.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := p.Literal(); ok != want || ok && n.String() != s {
			t.Errorf("%.20s: %s, %v", s, n, ok)
		}
	}
}

func TestPatternCovers(t *testing.T) {
	for s, projects := range map[string]string{
		"team/**": "team !tea !library", "team/app": "team !library", "team/*": "team", "app": "library !app", "a*": "library !a",
		"**": "!library !team", "*/app": "!team !library", "**/app": "!team !library", "team*/app": "!team", "library/**": "library", "t/**/t": "t",
	} {
		p, err := ref.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		for project := range strings.FieldsSeq(projects) {
			project, not := strings.CutPrefix(project, "!")
			if p.Covers(project) == not {
				t.Errorf("%s covers %s: %v", s, project, !not)
			}
		}
	}
}

// expression is the pattern as a regular expression: what it should match.
func expression(p ref.Pattern) *regexp.Regexp {
	parts := strings.Split(p.String(), "/")
	var b strings.Builder
	b.WriteString(`\A`)
	for i, part := range parts {
		last := i == len(parts)-1
		switch {
		case part == "**" && last:
			b.WriteString(`[^/]+(/[^/]+)*`)
		case part == "**":
			b.WriteString(`([^/]+/)*`)
		default:
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(part), `\*`, `[^/]*`))
			if !last {
				b.WriteString("/")
			}
		}
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String())
}

// laws of every pattern and name.
func patternLaws(t interface {
	Helper()
	Fatalf(string, ...any)
}, pattern, name string) {
	t.Helper()
	p, err := ref.ParsePattern(pattern)
	if err != nil {
		return
	}
	n, err := ref.ParseName(name)
	if err != nil {
		return
	}
	got := p.Match(n)
	if want := expression(p).MatchString(name); got != want {
		t.Fatalf("%q matches %q: %v", pattern, name, got)
	}
	if got && p.Covers("team") && n.Project() != "team" {
		t.Fatalf("%q covers team, but has %q", pattern, name)
	}
	if got && p.Covers(ref.DefaultProject) && n.Project() != ref.DefaultProject {
		t.Fatalf("%q covers %s, but has %q", pattern, ref.DefaultProject, name)
	}
	if lit, ok := p.Literal(); ok && got != (lit == n) {
		t.Fatalf("%q is literal, and matches %q: %v", pattern, name, got)
	}
	if again, err := ref.ParsePattern(p.String()); err != nil || again.String() != p.String() {
		t.Fatalf("%q becomes %q, which becomes %v, %v", pattern, p, again, err)
	}
}

func TestPatternLaws(t *testing.T) {
	patterns := rapid.StringMatching(`(team|a|\*|\*\*|a\*|\*b|a\*b)(/(a|b|\*|\*\*|a\*|\*b|ab\*a)){0,5}/?`)
	names := rapid.StringMatching(`(team|a|b|ab)(/(a|b|ab|aba|abba)){0,6}`)
	rapid.Check(t, func(t *rapid.T) { patternLaws(t, patterns.Draw(t, "pattern"), names.Draw(t, "name")) })
}

func FuzzPattern(f *testing.F) {
	f.Add("team/**/app", "team/a/app")
	f.Add("**/a*b/*", "a/b/acb/d")
	f.Add("team/", "team")
	f.Fuzz(func(t *testing.T, pattern, name string) { patternLaws(t, pattern, name) })
}

// A pattern that is made to be slow is not.
func TestPatternIsQuick(t *testing.T) {
	name := strings.Repeat("a/", 127) + "a"
	long := strings.Repeat("a", 250)
	began := time.Now()
	for range 1000 {
		for pattern, s := range map[string]string{"**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b": name, "*a*a*a*a*a*a*a*b": long} {
			p, err := ref.ParsePattern(pattern)
			if err != nil {
				t.Fatal(err)
			}
			if p.MatchText(s) {
				t.Fatal(pattern)
			}
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("2,000 matches took %s", took)
	}
}
