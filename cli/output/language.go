package output

import (
	"strings"

	"github.com/berth-registry/berth/cli/phrase"
)

// Language is what people are spoken to in.
type Language string

// The languages there are.
const (
	English Language = "en"
	Chinese Language = "zh-CN"
)

// ParseLanguage reads a language or a locale, such as zh_CN.UTF-8. Everything that is not Chinese is English.
func ParseLanguage(s string) Language {
	if s = strings.ToLower(s); s == "zh" || strings.HasPrefix(s, "zh-") || strings.HasPrefix(s, "zh_") {
		return Chinese
	}
	return English
}

// Say gives a text that was made in English, by a room or a library that knows no other language, in this one.
func (l Language) Say(en string) string {
	if l == Chinese {
		return phrase.Say(en)
	}
	return en
}

// Pick returns the text of the language.
func (l Language) Pick(en, zh string) string {
	if l == Chinese && zh != "" {
		return zh
	}
	return en
}
