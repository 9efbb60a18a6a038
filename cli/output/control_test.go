package output_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli/output"
)

// Nothing that a stranger wrote reaches the terminal as more than text: not in any line of a failure, not in a table, a list of
// names, or CSV.
func TestNothingControlsTheTerminal(t *testing.T) {
	const evil = "a\x1b]0;title\x07b\u009b2J\u202ec"
	f := &output.Failure{What: evil, Why: evil + "\nsecond line", Fix: evil, Code: evil + " (404)", Request: evil}
	table := output.Table{Header: []string{"PATH", "SIZE"}, Rows: [][]string{{evil + "\nfalse row  1", "2"}}}
	print := map[string]func(*bytes.Buffer){"failure": func(b *bytes.Buffer) { f.Print(b, output.English, false) }}
	for _, kind := range []output.Kind{output.TableKind, output.Wide, output.Name, output.CSV} {
		print[string(kind)] = func(b *bytes.Buffer) {
			if err := (&output.Format{Kind: kind, NoHeading: true}).Print(b, nil, table); err != nil {
				t.Error(err)
			}
		}
	}
	for name, p := range print {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			p(&b)
			if strings.ContainsAny(b.String(), "\x1b\x07\u009b\u202e") || !strings.Contains(b.String(), `\x1b]0;title\x07b\u009b2J\u202ec`) {
				t.Errorf("%q", b.String())
			}
			if lines := strings.Count(b.String(), "\n"); name != "failure" && lines != 1 {
				t.Errorf("%d lines for one row: %q", lines, b.String())
			}
		})
	}
}
