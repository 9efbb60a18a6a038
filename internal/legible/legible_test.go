package legible_test

import (
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/berth-registry/berth/internal/legible"
)

func TestTrouble(t *testing.T) {
	for _, test := range []struct {
		text        string
		line, lines string
	}{
		{"", "", ""}, {"Müller 张伟 👩‍💻", "", ""}, {"a\uFFFDb", "", ""},
		{"a\nb", "has the control character U+000A", ""}, {"a\tb", "has the control character U+0009", ""}, {"a\r\nb", "has the control character U+000D", ""},
		{"a\rb", "has the control character U+000D", "has the control character U+000D"}, {"a\r", "has the control character U+000D", "has the control character U+000D"},
		{"\x00", "has the control character U+0000", "has the control character U+0000"}, {"\x1b[2J", "has the control character U+001B", "has the control character U+001B"},
		{"\x7f", "has the control character U+007F", "has the control character U+007F"}, {"\u009b2J", "has the control character U+009B", "has the control character U+009B"},
		{"\xff", "is not valid UTF-8", "is not valid UTF-8"}, {"\xed\xa0\x80", "is not valid UTF-8", "is not valid UTF-8"},
	} {
		if line, lines := legible.Trouble(test.text, false), legible.Trouble(test.text, true); line != test.line || lines != test.lines {
			t.Errorf("%q: %q and %q, want %q and %q", test.text, line, lines, test.line, test.lines)
		}
	}
}

func TestStorable(t *testing.T) {
	for text, want := range map[string]bool{"": true, "a\n\x1b": true, "\x00": false, "\xff": false, "\xed\xa0\x80": false, "张": true} {
		if got := legible.Storable(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
		if clean := legible.Clean(text); !legible.Storable(clean) || want && clean != text {
			t.Errorf("%q becomes %q", text, clean)
		}
	}
}

func TestShow(t *testing.T) {
	for text, want := range map[string]string{
		"team": "team", "Müller 张伟 👩‍💻": "Müller 张伟 👩‍💻", "a\uFFFDb": "a\uFFFDb", "\x1b[2Ja": `\x1b[2Ja`, "a\nb\tc\rd": `a\nb\tc\rd`,
		"the real \ufffd stays": "the real \ufffd stays", `\x1b is written so already`: `\x1b is written so already`, "no utf \xff\xfe": `no utf \xff\xfe`, "a\nerror: b": `a\nerror: b`, "\u009b2J": `\u009b2J`, "\xff\xfe": `\xff\xfe`, "\u202egnp.exe": `\u202egnp.exe`, "a\u2028b": `a\u2028b`, "\x00\x7f": `\x00\x7f`,
	} {
		if got := legible.Show(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzShow(f *testing.F) {
	f.Add("\x1b]0;x\a\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		shown := legible.Show(text)
		if !utf8.ValidString(shown) || legible.Trouble(shown, false) != "" || legible.Show(shown) != shown {
			t.Errorf("%q is shown as %q", text, shown)
		}
		for _, r := range shown {
			if unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
	})
}

func TestWriter(t *testing.T) {
	var b strings.Builder
	const text = "a\tb\x1b[2J\n\u202ec\xff\n"
	n, err := io.WriteString(legible.Writer(&b), text)
	if err != nil || n != len(text) || b.String() != "a\tb\\x1b[2J\n\\u202ec\\xff\n" {
		t.Errorf("%d, %v: %q", n, err, b.String())
	}
}
