package auth

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AccountName brings what an identity provider calls somebody into the form of account names: without white space around
// it, not empty, valid UTF-8 of at most MaxName bytes, and without control characters and colons, which end a name in
// Basic authorization (RFC 7617). It never makes two different names one: what does not fit is an error.
func AccountName(text string) (string, error) {
	name := strings.TrimSpace(text)
	switch {
	case name == "":
		return "", fmt.Errorf("name %q is empty", text)
	case len(name) > MaxName:
		return "", fmt.Errorf("name %.40q… has %d bytes; an account's name has at most %d", name, len(name), MaxName)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("name %q is not UTF-8", name)
	case strings.ContainsFunc(name, func(r rune) bool {
		return r == ':' || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
	}):
		return "", fmt.Errorf("name %q has a colon or an invisible character, which an account's name cannot have", name)
	}
	return name, nil
}
