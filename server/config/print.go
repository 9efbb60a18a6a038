package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// PrintDefaults writes a configuration file with every setting this version acts on, its comment (lang
// "en" or "zh-CN") and its default. Settings without a default are written as comments. Loading the
// file gives exactly [Defaults].
func PrintDefaults(w io.Writer, lang string) error {
	b := bufio.NewWriter(w)
	p := printer{w: b, lang: lang}
	p.intro()
	p.section(reflect.TypeFor[Config](), 0, false)
	p.outro()
	return b.Flush()
}

type printer struct {
	w    *bufio.Writer
	lang string
}

func (p printer) line(depth int, off bool, format string, args ...any) {
	indent := strings.Repeat("  ", depth)
	if off {
		indent += "# "
	}
	fmt.Fprintf(p.w, indent+format+"\n", args...)
}

func (p printer) comment(depth int, text string) {
	width := 100 - 2*depth
	for _, line := range wrap(text, width) {
		fmt.Fprintf(p.w, "%s# %s\n", strings.Repeat("  ", depth), line)
	}
}

func (p printer) intro() {
	text := []string{
		"Settings of berthd and their defaults. Only what differs needs to be in your file.",
		"Each key is also an environment variable: http.addr is REGISTRY_HTTP_ADDR or BERTH_HTTP_ADDR.",
		"Values may contain ${NAME}; a secret may be file:/path. Lines with \"(reload)\" follow SIGHUP.",
	}
	if strings.HasPrefix(p.lang, "zh") {
		text = []string{
			"berthd 的配置项与默认值。配置文件中只需写与默认值不同的部分。",
			"每一项也可用环境变量设置：http.addr 对应 REGISTRY_HTTP_ADDR 或 BERTH_HTTP_ADDR。",
			"值中可用 ${NAME} 引用环境变量，密钥可写成 file:/path。标有“(reload)”的项在 SIGHUP 后生效。",
		}
	}
	for _, line := range text {
		p.line(0, false, "# %s", line)
	}
}

// outro names the keys that are read and checked only.
func (p printer) outro() {
	text := "Also read, checked, and answered with a warning or a refusal, because this version does not act on them: "
	if strings.HasPrefix(p.lang, "zh") {
		text = "以下各项会被读取和检查，但本版本不支持，设置后会警告或拒绝启动："
	}
	p.line(0, false, "")
	p.comment(0, text+strings.Join(unsupportedKeys(reflect.TypeFor[Config](), ""), ", "))
}

// unsupportedKeys lists the keys with the tag, the highest of a branch only.
func unsupportedKeys(t reflect.Type, key string) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		if f.tag("unsupported") != "" {
			keys = append(keys, join(key, f.name))
		} else if isSection(deref(f.Type)) {
			keys = append(keys, unsupportedKeys(deref(f.Type), join(key, f.name))...)
		}
	}
	return keys
}

// section writes the keys of a section; off writes them as comments.
func (p printer) section(t reflect.Type, depth int, off bool) {
	for _, f := range fieldsOf(t) {
		inner := deref(f.Type)
		if f.tag("unsupported") != "" || isSection(inner) && inner.NumField() > 0 && !hasSupported(inner) {
			continue
		}
		if depth == 0 {
			p.line(0, false, "")
		}
		p.comment(depth, p.text(f))
		_, hasDefault := f.Tag.Lookup("default")
		isOff := off || f.tag("choice") != ""
		switch {
		case isSection(inner) && inner.NumField() == 0:
			p.line(depth, true, "%s:", f.name)
		case isSection(inner):
			p.line(depth, isOff || !hasDefaults(inner), "%s:", f.name)
			p.section(inner, depth+1, isOff)
		case hasDefault:
			p.line(depth, isOff, "%s: %s", f.name, quoted(f.tag("default")))
		default:
			p.line(depth, true, "%s: %s", f.name, emptyValue(inner))
		}
	}
}

func (p printer) text(f field) string {
	text := f.doc(p.lang)
	if words := f.oneof(); words != nil {
		text += " " + strings.Join(words, " | ")
	}
	if f.tag("reload") == "true" {
		text += " (reload)"
	}
	return text
}

// hasSupported reports whether this version acts on any key of a section.
func hasSupported(t reflect.Type) bool {
	return slices.ContainsFunc(gather(t, Setting{}), func(s Setting) bool { return s.Unsupported == "" })
}

// hasDefaults reports whether a section has anything to write that is not a comment.
func hasDefaults(t reflect.Type) bool {
	return slices.ContainsFunc(fieldsOf(t), func(f field) bool {
		switch {
		case f.tag("unsupported") != "" || f.tag("choice") != "":
			return false
		case isSection(f.Type):
			return hasDefaults(f.Type)
		}
		_, ok := f.Tag.Lookup("default")
		return ok
	})
}

func emptyValue(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	}
	return `""`
}

// quoted writes a default so that YAML reads the same text.
func quoted(text string) string {
	if strings.ContainsAny(text, ":#{}[]&*!|>'\"%@`") {
		return `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
	}
	return text
}

// closing are the characters that may not begin a line in Chinese; they may stand out instead.
const closing = "\uff0c\u3002\u3001\uff1b\uff1a\uff09"

// wrap breaks a text at blanks; a Chinese character is as wide as two letters and may end a line.
func wrap(text string, width int) []string {
	var lines []string
	line, columns, blank := "", 0, -1
	for _, r := range text {
		w := 1
		if r > 0x2E80 {
			w = 2
		}
		if columns+w > width && !strings.ContainsRune(closing, r) {
			cut := len(line)
			if blank > 0 && r < 0x2E80 {
				cut = blank
			}
			lines = append(lines, strings.TrimSpace(line[:cut]))
			line = strings.TrimLeft(line[cut:], " ")
			columns, blank = displayWidth(line), -1
		}
		if r == ' ' {
			blank = len(line)
		}
		line += string(r)
		columns += w
	}
	return append(lines, strings.TrimSpace(line))
}

func displayWidth(text string) int {
	n := 0
	for _, r := range text {
		if n++; r > 0x2E80 {
			n++
		}
	}
	return n
}
