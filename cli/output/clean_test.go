package output_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli/output"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"数据 café":                    "数据 café",
		"a\x1b[2Jb":                  `a\x1b[2Jb`,
		"a\nerror: b":                `a\nerror: b`,
		"tab\there\r":                `tab\there\r`,
		"\u009b31m":                  `\u009b31m`,
		"\x7f\x00":                   `\x7f\x00`,
		"abc\u202etxt.exe":           `abc\u202etxt.exe`,
		"line\u2028more":             `line\u2028more`,
		"no utf \xff\xfe":            `no utf \xff\xfe`,
		"the real \ufffd stays":      "the real \ufffd stays",
		`\x1b is written so already`: `\x1b is written so already`,
	} {
		if got := output.Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

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
