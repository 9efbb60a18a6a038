// Package phrase says in Chinese what the rooms below the tool say in English: why a registry, an archive, a signature or a
// name was refused. The rooms know one language; the tool looks their texts up here when it shows them, by their formats, and
// so what is in a format (names, digests, numbers) stays as it is.
//
// zh-CN.txt is the catalogue: a line of English, the line of Chinese after it, with the same verbs (%[2]s where their order
// is another). A test finds every text of the rooms in the source and fails when the catalogue lacks one. A text that is not
// in it is shown as it came. Start reading at [Say].
package phrase

import (
	_ "embed"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed zh-CN.txt
var chinese string

// Say gives a text in Chinese: all of it, or those of its parts between colons and semicolons that the catalogue has.
func Say(text string) string { return book().say(text) }

// All gives every phrase, English and Chinese.
func All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, p := range book() {
			if !yield(p.en, p.zh) {
				return
			}
		}
	}
}

// phrase is a text in both languages.
type phrase struct{ en, zh string }

type phrases []phrase

// book reads the catalogue: the phrases with most text of their own first, for they are the most certain.
var book = sync.OnceValue(func() phrases {
	var out phrases
	en := ""
	for line := range strings.Lines(chinese) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case line == "" || strings.HasPrefix(line, "#"):
		case en == "":
			en = line
		default:
			out, en = append(out, phrase{en, line}), ""
		}
	}
	slices.SortStableFunc(out, func(a, b phrase) int {
		return len(strings.Join(literals(b.en), "")) - len(strings.Join(literals(a.en), ""))
	})
	return out
})

var (
	verb   = regexp.MustCompile(`%(?:\[(\d)\])?[.0-9+]*([a-zA-Z])`)
	border = regexp.MustCompile(`[:;] `)
)

// literals are what stands between the verbs of a format.
func literals(format string) []string { return verb.Split(format, -1) }

// say takes a text apart at its colons and semicolons, and puts as many parts together as a phrase has.
func (b phrases) say(text string) string {
	var parts, between []string
	from := 0
	for _, at := range border.FindAllStringIndex(text, -1) {
		parts, between = append(parts, text[from:at[0]]), append(between, text[at[0]:at[1]])
		from = at[1]
	}
	parts = append(parts, text[from:])
	var out strings.Builder
	said := false // whether what was written last is Chinese
	for i := 0; i < len(parts); {
		j, zh, ok := len(parts), "", false
		for ; j > i; j-- {
			if zh, ok = b.part(join(parts[i:j], between[i:])); ok {
				break
			}
		}
		if !ok {
			j, zh = i+1, parts[i]
		}
		if i > 0 {
			out.WriteString(mark(between[i-1], said || ok))
		}
		out.WriteString(zh)
		said, i = ok, j
	}
	return out.String()
}

func join(parts, between []string) string {
	s := parts[0]
	for i, p := range parts[1:] {
		s += between[i] + p
	}
	return s
}

// mark is the mark between two parts.
func mark(s string, zh bool) string {
	switch {
	case !zh:
		return s
	case s == "; ":
		return "；"
	}
	return "："
}

// part is a phrase in Chinese; what stands in parentheses at its end (a registry's code, its status) stays there.
func (b phrases) part(s string) (string, bool) {
	if i := strings.LastIndex(s, " ("); i > 0 && strings.HasSuffix(s, ")") {
		if zh, ok := b.find(s[:i]); ok {
			if more, ok := b.find(s[i+1:]); ok {
				return zh + more, true
			}
			return zh + s[i:], true
		}
	}
	return b.find(s)
}

func (b phrases) find(s string) (string, bool) {
	for _, p := range b {
		if given, ok := p.fits(s); ok {
			for i := range given {
				if strings.Contains(given[i], " ") { // a word is a name: repositories are called index and unauthorized
					given[i] = b.say(given[i])
				}
			}
			return p.fill(given), true
		}
	}
	return "", false
}

// fits gives what stands at the verbs of the phrase, when s is an instance of it.
func (p phrase) fits(s string) ([]string, bool) {
	rest := s
	for _, l := range literals(p.en) { // cheaper than an expression, and no phrase but one in hundreds passes
		_, after, ok := strings.Cut(rest, l)
		if !ok {
			return nil, false
		}
		rest = after
	}
	var expr strings.Builder
	last := 0
	for _, at := range verb.FindAllStringSubmatchIndex(p.en, -1) {
		expr.WriteString(regexp.QuoteMeta(p.en[last:at[0]]))
		switch last = at[1]; p.en[at[4]:at[5]] {
		case "d":
			expr.WriteString(`(-?[0-9]+)`)
		case "q":
			expr.WriteString("(\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)")
		default: // no more than a part
			expr.WriteString(`((?:[^:;]|[:;][^ ])*?)`)
		}
	}
	expr.WriteString(regexp.QuoteMeta(p.en[last:]))
	m := regexp.MustCompile(`^(?s:` + expr.String() + `)$`).FindStringSubmatch(s)
	if m == nil {
		return nil, false
	}
	return m[1:], true
}

// fill puts what was given at the verbs of the Chinese text.
func (p phrase) fill(given []string) string {
	next := 0
	return verb.ReplaceAllStringFunc(p.zh, func(v string) string {
		i := next
		if m := verb.FindStringSubmatch(v); m[1] != "" {
			n, _ := strconv.Atoi(m[1]) // one digit: the expression says so
			i = n - 1
		}
		if next = i + 1; i >= len(given) {
			return fmt.Sprintf("%%!%s(MISSING)", v)
		}
		return given[i]
	})
}
