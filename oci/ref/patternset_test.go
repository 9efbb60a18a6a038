package ref_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/berth-registry/berth/oci/ref"
)

func parsed(t *testing.T, s string) ref.Pattern {
	t.Helper()
	p, err := ref.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatternIncludesAndMeets(t *testing.T) {
	for _, c := range []struct {
		p, q            string
		includes, meets bool
	}{
		{"**", "team/**", true, true}, {"team/**", "**", false, true}, {"team/**", "team/app", true, true}, {"team/**", "team", false, false},
		{"team/**", "team/**/app", true, true}, {"team/**/app", "team/app", true, true}, {"team/**/app", "team/a/b/app", true, true},
		{"team/**/app", "team/**", false, true}, {"team/app-*", "team/app-1", true, true}, {"team/app-*", "team/app-*-x", true, true},
		{"team/*-x", "team/app-*", false, true}, {"team/a*", "team/b*", false, false}, {"team/*", "team/**", false, true}, {"team/*", "team/a/b", false, false},
		{"*/prod", "team/**", false, true}, {"**/prod", "team/app", false, false}, {"**/prod", "team/*", false, true}, {"*", "**", false, true},
		{"*", "app", true, true}, {"*", "team/**", false, false}, {"team/secret", "team/secret", true, true}, {"team/secret", "team/app", false, false},
		{"a/**/b/**", "a/**", false, true}, {"team/**", "teams/**", false, false},
	} {
		p, q := parsed(t, c.p), parsed(t, c.q)
		if got := p.Includes(q); got != c.includes {
			t.Errorf("%s includes %s: %v", p, q, got)
		}
		if a, b := p.Meets(q), q.Meets(p); a != c.meets || b != c.meets {
			t.Errorf("%s meets %s: %v, %v", p, q, a, b)
		}
	}
	if (ref.Pattern{}).Includes(parsed(t, "a")) || (ref.Pattern{}).Meets(parsed(t, "**")) || parsed(t, "**").Includes(ref.Pattern{}) {
		t.Error("what matches nothing has names")
	}
}

// Two patterns are compared with all names of a small alphabet: Meets is exact, Includes is never wrong when it says yes.
func TestPatternsAgainstNames(t *testing.T) {
	var names []string
	words := []string{"a", "b", "aa", "ab", "ba", "bb", "aba"}
	for _, x := range words {
		names = append(names, x)
		for _, y := range words {
			names = append(names, x+"/"+y)
			for _, z := range words {
				names = append(names, x+"/"+y+"/"+z)
				for _, w := range []string{"a", "b", "ab"} {
					names = append(names, x+"/"+y+"/"+z+"/"+w)
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(7, 11))
	choices := []string{"a", "b", "ab", "*", "a*", "*b", "**", "*a*"}
	pick := func() ref.Pattern {
		var parts []string
		for range 1 + random.IntN(3) {
			c := choices[random.IntN(len(choices))]
			if c == "**" && len(parts) > 0 && parts[len(parts)-1] == "**" {
				c = "a"
			}
			parts = append(parts, c)
		}
		return parsed(t, strings.Join(parts, "/"))
	}
	included := 0
	for range 3000 {
		p, q := pick(), pick()
		both, outside := false, ""
		for _, n := range names {
			inP, inQ := p.MatchText(n), q.MatchText(n)
			both = both || inP && inQ
			if inQ && !inP {
				outside = n
			}
		}
		if p.Meets(q) != both {
			t.Fatalf("%s meets %s: %v, but names say %v", p, q, !both, both)
		}
		if p.Includes(q) {
			included++
			if outside != "" {
				t.Fatalf("%s does not include %s: %s", p, q, outside)
			}
		}
	}
	if included < 200 {
		t.Errorf("only %d of the pairs include each other", included)
	}
}
