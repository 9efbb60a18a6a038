package ref

import (
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Limits of patterns: the longest in bytes, and how many wildcards (* and **) one may have. With them a match costs at most
// MaxName × (MaxWildcards + 1) steps, whatever the pattern.
const (
	MaxPattern   = 512
	MaxWildcards = 8
)

// Pattern says which repositories something is about. Its parts are those of a name, joined by /:
//
//   - a part without * is itself;
//   - * stands for any number of characters inside one part, "app-*", "*";
//   - ** as a whole part stands for any number of parts, at the end for one or more: "team/**" is all of the project team,
//     "team/**/app" has team/app and team/a/b/app.
//
// "team/" is written for "team/**". The zero value matches nothing.
type Pattern struct {
	s     string
	parts []string
}

// ParsePattern reads a pattern. What could be in no repository's name is refused, so that a mistyped pattern is not one that
// silently matches nothing.
func ParsePattern(s string) (Pattern, error) {
	refuse := func(format string, args ...any) (Pattern, error) {
		return Pattern{}, fault.New(fault.Invalid, fault.NameInvalid, "pattern %.100q "+format, append([]any{s}, args...)...)
	}
	if s == "" {
		return refuse("is empty; use ** for every repository")
	}
	if len(s) > MaxPattern {
		return refuse("has %d bytes; at most %d are allowed", len(s), MaxPattern)
	}
	if strings.HasSuffix(s, "/") {
		s += "**"
	}
	wild := 0
	parts := strings.Split(s, "/")
	for i, part := range parts {
		switch {
		case part == "**":
			wild++
			if i > 0 && parts[i-1] == "**" {
				return refuse("has ** twice in a row; once says the same")
			}
		case strings.Contains(part, "**"):
			return refuse("has ** inside %.60q; it stands for whole parts only, use * inside a part", part)
		case !strings.Contains(part, "*"):
			if !component(part) {
				return refuse("is invalid at %.60q; use lowercase letters and digits, joined by one of . _ __ - inside a part, * for the rest of a part, and ** for any parts", part)
			}
		default:
			wild += strings.Count(part, "*")
			if strings.IndexFunc(part, notInName) >= 0 {
				return refuse("is invalid at %.60q; names have lowercase letters, digits, periods, underscores and dashes only", part)
			}
		}
	}
	if wild > MaxWildcards {
		return refuse("has %d wildcards; at most %d are allowed", wild, MaxWildcards)
	}
	return Pattern{s, parts}, nil
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-*", r)
}

// String is the pattern in its full form, "" for the zero value.
func (p Pattern) String() string { return p.s }

// IsZero reports whether p is no pattern.
func (p Pattern) IsZero() bool { return p.s == "" }

// Equal reports whether both are the same pattern.
func (p Pattern) Equal(q Pattern) bool { return p.s == q.s }

// Match reports whether the repository is one of the pattern's.
func (p Pattern) Match(n Name) bool { return p.MatchText(n.s) }

// MatchText is Match of a name that was validated elsewhere.
func (p Pattern) MatchText(name string) bool {
	if len(p.parts) == 0 || name == "" {
		return false
	}
	// Greedy, with a return to the last ** alone: what an earlier one took needs no second look.
	rest, more := name, true // more: there is a part left in rest
	i, star := 0, -1
	var starRest string
	for more {
		part, next, slash := strings.Cut(rest, "/")
		switch {
		case i < len(p.parts) && p.parts[i] == "**":
			if i == len(p.parts)-1 {
				return true
			}
			star, starRest = i, rest
			i++
		case i < len(p.parts) && matchPart(p.parts[i], part):
			i++
			rest, more = next, slash
		case star >= 0: // ** takes one part more
			_, starRest, more = strings.Cut(starRest, "/")
			rest, i = starRest, star+1
		default:
			return false
		}
	}
	return i == len(p.parts)
}

// matchPart matches * inside one part, in the same way.
func matchPart(pattern, s string) bool {
	i, j, star, back := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, back = i, j
			i++
		case i < len(pattern) && pattern[i] == s[j]:
			i++
			j++
		case star >= 0:
			back++
			i, j = star+1, back
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}

// Literal is the one repository that a pattern without wildcards names.
func (p Pattern) Literal() (Name, bool) {
	if p.s == "" || len(p.s) > MaxName || strings.Contains(p.s, "*") {
		return Name{}, false
	}
	return Name{p.s}, true
}

// Covers reports whether every repository of the pattern belongs to the project, so that whoever rules the project may use
// it there.
func (p Pattern) Covers(project string) bool {
	if len(p.parts) == 0 {
		return false
	}
	if len(p.parts) == 1 {
		return project == DefaultProject && p.parts[0] != "**"
	}
	return p.parts[0] == project
}
