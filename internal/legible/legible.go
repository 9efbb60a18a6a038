// Package legible is about text that people wrote and other people read: what of it can be kept, and what of it can be put on a
// terminal. Start reading at Trouble and Show.
package legible

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Trouble says why a text cannot be kept, "" when it can: it is not UTF-8, or has a control character (Unicode category Cc).
// With lines, tabs and ends of lines are no trouble; a carriage return is one, unless a line feed follows.
func Trouble(s string, lines bool) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for i, r := range s {
		switch {
		case !unicode.IsControl(r):
		case lines && (r == '\n' || r == '\t' || r == '\r' && strings.HasPrefix(s[i+1:], "\n")):
		default:
			return fmt.Sprintf("has the control character %U", r)
		}
	}
	return ""
}

// Storable reports whether every database can keep the text: it is UTF-8 without the character NUL.
func Storable(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// Clean makes a text that every database can keep: what cannot be is U+FFFD afterwards.
func Clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Show gives a text in one line that does nothing to a terminal: what would is written as in a string of Go, such as \x1b.
// That is control characters, what turns the direction of writing or ends a line, and bytes that are no UTF-8.
func Show(s string) string {
	if !strings.ContainsFunc(s, acts) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == utf8.RuneError, !acts(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// acts reports whether a terminal does something else with the character than to show it.
func acts(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// Writer puts text on a terminal as Show does, with its tabs and ends of lines: what it is given is tables and lines.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ to io.Writer }

// Write implements io.Writer. It counts bytes of b, whatever they become.
func (w writer) Write(b []byte) (int, error) {
	var out strings.Builder
	for rest := string(b); rest != ""; {
		end := strings.IndexAny(rest, "\n\t")
		if end < 0 {
			out.WriteString(Show(rest))
			break
		}
		out.WriteString(Show(rest[:end]))
		out.WriteByte(rest[end])
		rest = rest[end+1:]
	}
	if _, err := io.WriteString(w.to, out.String()); err != nil {
		return 0, err
	}
	return len(b), nil
}
