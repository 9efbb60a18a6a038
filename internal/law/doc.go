// Package law holds the rules of the house as code: which room may import which, what is the monopoly of one room, what
// may not be written at all, and which modules the server links. Its test reads the whole tree on every run.
//
// It knows only the standard library and the text of the sources; nothing imports it. A new room begins with a line in
// plan.go.
//
// Start reading at plan.go, the plan of the house, then Check.
package law

import (
	"fmt"
	"go/token"
	"slices"
	"strings"
)

// Finding is one breach of a rule.
type Finding struct {
	Pos     token.Position // file relative to the root of the tree
	Rule    string
	Message string
}

// String is "file:line: rule: message".
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Pos.Filename, f.Pos.Line, f.Rule, f.Message)
}

// Check applies every rule to the tree. The findings are in the order of files and lines.
func Check(t *Tree) []Finding {
	var out []Finding
	for _, p := range t.Packages {
		report := func(pos token.Pos, rule, format string, args ...any) {
			out = append(out, Finding{t.position(pos), rule, fmt.Sprintf(format, args...)})
		}
		checkNames(p, report)
		checkImports(t, p, report)
		checkMonopolies(p, report)
		checkState(t, p, report)
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		if c := strings.Compare(a.Pos.Filename, b.Pos.Filename); c != 0 {
			return c
		}
		return a.Pos.Line - b.Pos.Line
	})
	return out
}

type reporter func(pos token.Pos, rule, format string, args ...any)
