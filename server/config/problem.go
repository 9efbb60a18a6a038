package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong, or worth a warning, and where it was said.
type Problem struct {
	File       string `json:"file,omitempty"`       // file name, environment variable or flag; empty: no one place
	Line       int    `json:"line,omitempty"`       // from 1; 0: not in a file
	Col        int    `json:"column,omitempty"`     // from 1; 0: not in a file
	Key        string `json:"key,omitempty"`        // the setting, such as http.tls.key
	Message    string `json:"message"`              // what was found and what was expected
	Suggestion string `json:"suggestion,omitempty"` // the word that was probably meant
	Allowed    string `json:"allowed,omitempty"`    // the words that are allowed, when they are few
	Warning    bool   `json:"warning,omitempty"`    // berthd starts in spite of it
}

// String is the line that people read: config.yml:3:3: message; did you mean "x"? (x, y, z)
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Col))
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Suggestion != "" {
		b.WriteString("; did you mean " + strconv.Quote(p.Suggestion) + "?")
	}
	if p.Allowed != "" {
		b.WriteString(" (" + p.Allowed + ")")
	}
	return b.String()
}

// Problems is every reason why a configuration is refused, in the order of the file. It is the error
// type of Load.
type Problems []Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders problems by place; what has no line comes last.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.File, b.File))
	})
	return ps
}
