package output

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean is a text as it may stand on a terminal, on one line: what strangers wrote, a file's name or a registry's message, must
// not move the cursor, set a title or look like a line of ours. Characters that control a terminal or the direction of text are
// written as Go writes them, \x1b, \n, \u202e; so are bytes that are no UTF-8.
func Clean(s string) string { return clean(s, "") }

// clean leaves the characters of keep as they are.
func clean(s, keep string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return harmful(r) && !strings.ContainsRune(keep, r) }) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !harmful(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// harmful reports whether a character controls a terminal (C0, DEL, C1), ends a line, or turns text around.
func harmful(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Bidi_Control, r)
}

// cleaned is the table with every cell on one line.
func (t Table) cleaned() Table {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]string, len(row))
		for j, cell := range row {
			rows[i][j] = Clean(cell)
		}
	}
	return Table{t.Header, rows}
}
