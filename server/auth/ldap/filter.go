package ldap

import (
	"fmt"
	"slices"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"
)

// template is a filter with places for values. Values are escaped when they are put in, so that they can end neither the
// place nor the filter (RFC 4515 section 3).
type template struct {
	text  string
	names []string
}

// parseTemplate checks that the text is a filter whatever is put into it, and names no other places than these. The first
// name must be in it: a filter that does not look at who is asked for finds everybody.
func parseTemplate(text string, names ...string) (template, error) {
	t := template{text: text, names: names}
	if !strings.Contains(text, "{"+names[0]+"}") {
		return t, fmt.Errorf("%s has no {%s} in it", text, names[0])
	}
	values := map[string]string{}
	for _, n := range names {
		values[n] = "x"
	}
	filled := t.with(values)
	if i := strings.Index(filled, "{"); i >= 0 {
		return t, fmt.Errorf("%s has an unknown place in braces; known are {%s}", text, strings.Join(names, "}, {"))
	}
	if _, err := goldap.CompileFilter(filled); err != nil {
		return t, fmt.Errorf("%s is not a filter such as (uid={name}): %w", text, err)
	}
	return t, nil
}

// with puts values in, escaped.
func (t template) with(values map[string]string) string {
	return t.fill(func(name string) string { return goldap.EscapeFilter(values[name]) })
}

// any is the filter that everybody passes whom it lets in under some name: every place is "*".
func (t template) any() string { return t.fill(func(string) string { return "*" }) }

// fill replaces in one pass: a value that looks like a place stays what it is.
func (t template) fill(value func(name string) string) string {
	var pairs []string
	for _, n := range slices.Backward(t.names) {
		pairs = append(pairs, "{"+n+"}", value(n))
	}
	return strings.NewReplacer(pairs...).Replace(t.text)
}
