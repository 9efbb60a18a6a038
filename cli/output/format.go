package output

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/internal/legible"
)

// Kind is how a result is printed.
type Kind string

// The kinds.
const (
	TableKind Kind = "table"
	Wide      Kind = "wide"
	JSON      Kind = "json"
	YAML      Kind = "yaml"
	Name      Kind = "name"
	CSV       Kind = "csv"
	Template  Kind = "go-template"
	Path      Kind = "jsonpath"
)

// Format is the flag -o: a kind, and the text of a template or path.
type Format struct {
	Kind      Kind
	Text      string
	NoHeading bool
	Quiet     bool // names only, one on a line
	Short     bool // digests in a table are cut, as for a person who looks at a terminal
	NoTrunc   bool // they are not, whoever looks
	given     bool
}

// Table is a result as rows of text; the first column names the row. The last columns, Wide of them, are for who asked for the wide
// form or for CSV.
type Table struct {
	Header []string
	Rows   [][]string
	Wide   int
}

// narrow is the table without the columns of the wide form.
func (t Table) narrow() Table {
	cut := func(row []string) []string { return row[:max(0, len(row)-t.Wide)] }
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = cut(row)
	}
	return Table{cut(t.Header), rows, 0}
}

// String is what the flag was given.
func (f *Format) String() string {
	if f.Text != "" {
		return string(f.Kind) + "=" + f.Text
	}
	return string(f.Kind)
}

// Type is what help shows for the value.
func (*Format) Type() string { return "FORMAT" }

// Set reads the value of the flag.
func (f *Format) Set(s string) error {
	kind, text, hasText := strings.Cut(s, "=")
	f.Kind, f.Text, f.given = Kind(kind), text, true
	switch f.Kind {
	case TableKind, Wide, JSON, YAML, Name, CSV:
		if hasText {
			return fmt.Errorf("%s takes no text", kind)
		}
	case Template, Path:
		if text == "" {
			return fmt.Errorf("%s wants a text: %s=TEXT", kind, kind)
		}
	default:
		return fmt.Errorf("%q is none of table, wide, json, yaml, name, csv, go-template=TEXT, jsonpath=TEXT", s)
	}
	return nil
}

// Print writes a result: value for the kinds that have a structure, table for the others.
func (f *Format) Print(w io.Writer, value any, table Table) error {
	kind := f.Kind
	if f.Quiet {
		if f.given && kind != Name {
			return Usage("--quiet and --output %s contradict each other", f)
		}
		kind = Name
	}
	switch kind {
	case JSON:
		return WriteJSON(w, value)
	case YAML:
		plain, err := generic(value)
		if err != nil {
			return err
		}
		text, err := yaml.Marshal(plain)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	case Name:
		for _, row := range table.Rows {
			if _, err := fmt.Fprintln(w, legible.Show(row[0])); err != nil {
				return err
			}
		}
		return nil
	case CSV:
		table = table.shown()
		c := csv.NewWriter(w)
		if !f.NoHeading {
			_ = c.Write(table.Header) // what fails is told by Error
		}
		_ = c.WriteAll(table.Rows)
		return c.Error()
	case Template:
		return ExecuteTemplate(w, f.Text, value)
	case Path:
		plain, err := generic(value)
		if err != nil {
			return err
		}
		return writePath(w, f.Text, plain)
	}
	if kind != Wide {
		table = table.narrow()
		if f.Short && !f.NoTrunc {
			table = table.shortened()
		}
	}
	return table.write(w, !f.NoHeading)
}

// shortened is the table with the first twelve digits of each digest.
func (t Table) shortened() Table {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]string, len(row))
		for j, cell := range row {
			rows[i][j] = cutDigest(cell)
		}
	}
	return Table{t.Header, rows, t.Wide}
}

// cutDigest leaves twelve digits of a digest at the end of a text, alone or behind a name.
func cutDigest(s string) string {
	const keep = 12
	i := max(strings.LastIndex(s, "sha256:"), strings.LastIndex(s, "sha512:"))
	if i < 0 {
		return s
	}
	digits := s[i+len("sha256:"):]
	if len(digits) < 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return s
	}
	return s[:len(s)-len(digits)+keep]
}

// Tables reports whether the result is to be a table.
func (f *Format) Tables() bool { return f.Kind == TableKind && !f.Quiet }

// WriteJSON writes a value as skopeo does, to the byte: four spaces, and a line feed at the end.
func WriteJSON(w io.Writer, value any) error {
	b, err := json.MarshalIndent(value, "", "    ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ExecuteTemplate prints a value by a Go template, with the functions that podman and skopeo offer. A line feed follows.
func ExecuteTemplate(w io.Writer, text string, value any) error {
	t, err := template.New("format").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"join":  func(sep string, s []string) string { return strings.Join(s, sep) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"split": strings.Split,
		"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	}).Parse(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text))
	if err != nil {
		return Usage("the template cannot be read: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, value); err != nil {
		return unfit(err, value)
	}
	if !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

// generic is a value as its JSON reads: maps, lists, and their leaves.
func generic(value any) (any, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err = d.Decode(&plain)
	return numbers(plain), err
}

// numbers makes whole numbers whole, so that YAML does not quote them.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // a number of JSON is one
		return f
	}
	return v
}

// noField is how the template library says that a value has no field of a name. Its name of the Go type is of no use to a reader.
var noField = regexp.MustCompile(`can't evaluate field (\w+) in type (\S+)`)

// unfit says why a template does not fit a value, with the fields that there are.
func unfit(err error, value any) error {
	m := noField.FindStringSubmatch(err.Error())
	if m == nil {
		return Usage("the template does not fit the result: %v", err)
	}
	f := Usage("the template does not fit the result: there is no field %s", m[1])
	t := reflect.TypeOf(value)
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || !strings.HasSuffix(m[2], t.String()) { // of something within
		return f.WithFix("print everything with --format json, and look at the names")
	}
	var names []string
	for i := range t.NumField() {
		if t.Field(i).IsExported() {
			names = append(names, t.Field(i).Name)
		}
	}
	if near := Closest(m[1], names); near != "" {
		return f.WithFix("did you mean %s?", near)
	}
	return f.WithFix("fields are %s", strings.Join(names, ", "))
}
