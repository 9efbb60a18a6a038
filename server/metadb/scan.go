package metadb

import (
	"fmt"
	"strconv"
	"strings"
)

// Both drivers deliver text as string or []byte and integers as int64; anything else is a column of the wrong type.

func scanText(v any) (string, error) {
	switch t := v.(type) {
	case string:
		return t, nil
	case []byte:
		return string(t), nil
	case nil:
		return "", nil
	}
	return "", fmt.Errorf("metadb: a text column holds %T", v)
}

func scanInt(v any) (int64, error) {
	switch n := v.(type) {
	case int64:
		return n, nil
	case nil:
		return 0, nil
	}
	return 0, fmt.Errorf("metadb: an integer column holds %T", v)
}

// Lists in statements come in few lengths, so that the prepared statements of a connection stay few: a list is padded
// to the next power of two by repeating its last element, and cut at maxList. Callers make sure that repetition is
// harmless (IN, ON CONFLICT DO NOTHING).
const maxList = 256

func paddedLen(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// placeholders writes rows of width $n each, beginning behind $after: "($3,$4),($5,$6)", or "$3,$4" for width 1.
func placeholders(b *strings.Builder, after, rows, width int, prefix string) {
	n := after
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		if width > 1 {
			b.WriteByte('(')
			b.WriteString(prefix)
		}
		for c := range width {
			if c > 0 {
				b.WriteByte(',')
			}
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		if width > 1 {
			b.WriteByte(')')
		}
	}
}
