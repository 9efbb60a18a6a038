package output_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-registry/berth/cli/output"
)

// What is printed is what -o, --quiet and --no-trunc say together; digests are cut only in a table that a person sees.
func TestFormat(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	table := output.Table{Header: []string{"TAG", "DIGEST"}, Rows: [][]string{{"v1", digest}, {"v2", "app@" + digest}, {"v3", "sha256:none"}}}
	for name, test := range map[string]struct {
		given string
		f     output.Format
		want  string // "" is a failure
	}{
		"for a program":     {"", output.Format{Kind: output.TableKind}, "TAG  DIGEST\nv1   " + digest + "\nv2   app@" + digest + "\nv3   sha256:none\n"},
		"for a person":      {"", output.Format{Kind: output.TableKind, Short: true}, "TAG  DIGEST\nv1   sha256:0123456789ab\nv2   app@sha256:0123456789ab\nv3   sha256:none\n"},
		"not cut":           {"", output.Format{Kind: output.TableKind, Short: true, NoTrunc: true, NoHeading: true}, "v1  " + digest + "\nv2  app@" + digest + "\nv3  sha256:none\n"},
		"wide":              {"wide", output.Format{Short: true, NoHeading: true}, "v1  " + digest + "\nv2  app@" + digest + "\nv3  sha256:none\n"},
		"csv":               {"csv", output.Format{Short: true, NoHeading: true}, "v1," + digest + "\nv2,app@" + digest + "\nv3,sha256:none\n"},
		"quiet":             {"", output.Format{Kind: output.TableKind, Quiet: true}, "v1\nv2\nv3\n"},
		"quiet, of JSON":    {"", output.Format{Kind: output.JSON, Quiet: true}, "v1\nv2\nv3\n"},
		"quiet and name":    {"name", output.Format{Quiet: true}, "v1\nv2\nv3\n"},
		"quiet and another": {"json", output.Format{Quiet: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := test.f
			if test.given != "" {
				if err := f.Set(test.given); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			err := f.Print(&out, table.Rows, table)
			if got := out.String(); got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("%q, %v, want %q", got, err, test.want)
			}
		})
	}
}
