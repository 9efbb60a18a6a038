package output

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// writePath prints what a JSONPath as kubectl's finds: text with {.a.b[0].c}, {.items[*].name} in it. Several values
// stand on one line with a space between; a line feed follows.
func writePath(w io.Writer, text string, value any) error {
	if !strings.Contains(text, "{") {
		text = "{" + text + "}"
	}
	var b strings.Builder
	for text != "" {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(before))
		if !found {
			break
		}
		expression, after, closed := strings.Cut(rest, "}")
		if !closed {
			return Usage("jsonpath: { without }")
		}
		text = after
		if quoted, err := strconv.Unquote(expression); err == nil {
			b.WriteString(quoted)
			continue
		}
		found1, err := walk(expression, value)
		if err != nil {
			return Usage("jsonpath %s: %v", expression, err)
		}
		b.WriteString(strings.Join(found1, " "))
	}
	_, err := fmt.Fprintln(w, strings.TrimSuffix(b.String(), "\n"))
	return err
}

// walk follows an expression from a value, and returns the texts of all it leads to.
func walk(expression string, value any) ([]string, error) {
	at := []any{value}
	rest := strings.TrimPrefix(expression, "$")
	for rest != "" {
		var step string
		switch rest[0] {
		case '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			step, rest = rest[1:1+end], rest[1+end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, fmt.Errorf("[ without ]")
			}
			step, rest = strings.Trim(rest[1:end], `'"`), rest[end+1:]
		default:
			return nil, fmt.Errorf("expected . or [ before %q", rest)
		}
		if step == "" {
			continue
		}
		var next []any
		for _, v := range at {
			next = append(next, children(v, step)...)
		}
		at = next
	}
	texts := make([]string, 0, len(at))
	for _, v := range at {
		if s, ok := v.(string); ok {
			texts = append(texts, s)
			continue
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(b))
	}
	return texts, nil
}

// children are the values one step below another; none where there is nothing.
func children(v any, step string) []any {
	switch v := v.(type) {
	case map[string]any:
		if step == "*" {
			var all []any
			for _, k := range slices.Sorted(maps.Keys(v)) {
				all = append(all, v[k])
			}
			return all
		}
		if child, ok := v[step]; ok {
			return []any{child}
		}
	case []any:
		if step == "*" {
			return v
		}
		i, err := strconv.Atoi(step)
		if i < 0 {
			i += len(v)
		}
		if err == nil && i >= 0 && i < len(v) {
			return []any{v[i]}
		}
	}
	return nil
}
