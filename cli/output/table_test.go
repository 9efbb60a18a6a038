package output_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli/output"
)

// What a registry says is shown, and does nothing to the terminal: no row can hide or pretend to be another.
func TestTerminalIsNotCommanded(t *testing.T) {
	const evil = "v1\x1b[2J\u202e\x9b\nv2"
	for name, print := range map[string]func(b *strings.Builder) error{
		"table": func(b *strings.Builder) error {
			var f output.Format
			if err := f.Set("table"); err != nil {
				return err
			}
			return f.Print(b, nil, output.Table{Header: []string{"TAG"}, Rows: [][]string{{evil}}})
		},
		"names": func(b *strings.Builder) error {
			f := output.Format{Quiet: true}
			return f.Print(b, nil, output.Table{Header: []string{"TAG"}, Rows: [][]string{{evil}}})
		},
		"failure": func(b *strings.Builder) error {
			f := output.Failure{What: evil, Why: evil, Code: evil, Cause: errors.New("x")}
			f.Print(b, "en", false)
			return nil
		},
	} {
		var b strings.Builder
		if err := print(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := b.String(); strings.ContainsAny(got, "\x1b\u202e") || !strings.Contains(got, `v1\x1b[2J\u202e\x9b`) || name != "failure" && strings.Contains(got, "\nv2") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
