package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkValues holds every value against its oneof and check tags.
func (d *decoder) checkValues(c *Config) {
	walk(reflect.ValueOf(c).Elem(), "", func(key string, f field, v reflect.Value) bool {
		d.checkValue(key, f, v)
		return true
	})
}

func (d *decoder) checkValue(key string, f field, v reflect.Value) {
	if words := f.oneof(); words != nil {
		d.checkWord(key, words, v)
	}
	for _, grammar := range strings.Split(f.tag("check"), ",") {
		if grammar == "" || d.failed(key) {
			continue
		}
		switch v.Kind() {
		case reflect.Slice:
			for i := range v.Len() {
				d.checkOne(fmt.Sprintf("%s[%d]", key, i), grammar, v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				d.checkOne(join(key, k.String()), grammar, k)
				d.checkHeaderValues(join(key, k.String()), v.MapIndex(k))
			}
		default:
			d.checkOne(key, grammar, v)
		}
	}
	if v.Kind() == reflect.Slice && isSection(v.Type().Elem()) {
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", key, i), func(k string, f field, v reflect.Value) bool {
				d.checkValue(k, f, v)
				return true
			})
		}
	}
}

// checkHeaderValues refuses line ends, which would begin another header.
func (d *decoder) checkHeaderValues(key string, values reflect.Value) {
	for i := range values.Len() {
		text := values.Index(i).String()
		if isSecret(values.Index(i).Type()) {
			text = values.Index(i).Interface().(Secret).Reveal()
		}
		if strings.ContainsAny(text, "\r\n\x00") {
			d.refuse(fmt.Sprintf("%s[%d]", key, i), "%s expects a value of one line", key)
		}
	}
}

// checkWord accepts a word in any case, as distribution does, and leaves it as the tag writes it.
func (d *decoder) checkWord(key string, words []string, v reflect.Value) {
	if v.String() == "" {
		return
	}
	for _, word := range words {
		if strings.EqualFold(word, v.String()) {
			v.SetString(word)
			return
		}
	}
	if d.origins[key].Name == "loglevel" { // it is told of the key that was set
		return
	}
	d.refuse(key, "%s: unknown value %q", key, v.String())
	p := &d.problems[len(d.problems)-1]
	p.Suggestion, p.Allowed = closest(v.String(), words), strings.Join(words, ", ")
}

func (d *decoder) checkOne(key, grammar string, v reflect.Value) {
	if err := checkGrammar(grammar, v); err != nil {
		d.refuse(key, "%s: %v", key, err)
	}
}

// checkGrammar holds one value against the grammar that its check tag names. Texts that are not set pass all but "required".
func checkGrammar(grammar string, v reflect.Value) error {
	if v.Kind() == reflect.Int || v.Kind() == reflect.Int64 {
		switch {
		case grammar == "positive" && v.Int() <= 0:
			return fmt.Errorf("expects more than 0, got %s", formatText(v))
		case grammar == "natural" && v.Int() < 0:
			return fmt.Errorf("expects 0 or more, got %s", formatText(v))
		case grammar == "minute" && v.Int() < int64(time.Minute):
			return fmt.Errorf("expects 60s or more, got %s", formatText(v))
		}
		return nil
	}
	if isSecret(v.Type()) {
		secret := v.Interface().(Secret).Reveal()
		if grammar == "endpoint" {
			return checkEndpoint(secret)
		}
		return checkDatabase(secret)
	}
	text := v.String()
	if text == "" {
		if grammar == "required" {
			return fmt.Errorf("must be set")
		}
		return nil
	}
	switch grammar {
	case "addr":
		return checkAddr(text)
	case "host":
		return checkHost(text)
	case "url":
		return checkURL(text)
	case "urlpath":
		if !strings.HasPrefix(text, "/") || strings.ContainsAny(text, "?# ") {
			return fmt.Errorf("expects a path that begins with \"/\", got %q", text)
		}
	case "prefix":
		if !strings.HasPrefix(text, "/") || !strings.HasSuffix(text, "/") || strings.ContainsAny(text, "?# ") {
			return fmt.Errorf("expects a path that begins and ends with \"/\", such as /registry/, got %q", text)
		}
	case "path":
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("expects a file name, got one with a NUL in it")
		}
	case "cidr":
		return checkNetwork(text)
	case "email":
		if a, err := mail.ParseAddress(text); err != nil || a.Address != text {
			return fmt.Errorf("expects a mail address such as ops@example.com, got %q", text)
		}
	case "regexp":
		if _, err := regexp.Compile(text); err != nil {
			return fmt.Errorf("expects a regular expression: %w", err)
		}
	case "glob":
		if strings.ContainsAny(text, "/[]{}?\\ ") {
			return fmt.Errorf("expects the name of a project, with * for any characters, got %q", text)
		}
	case "header":
		if strings.ContainsAny(text, " :\r\n\t") {
			return fmt.Errorf("expects the name of a header, got %q", text)
		}
	case "cipher":
		return checkCipher(text)
	case "version":
		if text != "0.1" {
			return fmt.Errorf("unknown version %q of the grammar; this program reads 0.1", text)
		}
	}
	return nil
}

func checkAddr(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		if _, numeric := strconv.Atoi(text); numeric == nil {
			return fmt.Errorf("expects host:port, got %q; for every address of this machine write \":%s\"", text, text)
		}
		return fmt.Errorf("expects host:port, such as 127.0.0.1:5000 or \":5000\", got %q", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("expects a port from 0 to 65535, got %q", port)
	}
	return nil
}

func checkHost(text string) error {
	if strings.Contains(text, "://") {
		return checkURL(text)
	}
	if u, err := url.Parse("https://" + text); err != nil || u.Host != text || u.Hostname() == "" {
		return fmt.Errorf("expects a name such as registry.example.com, host:port or a URL, got %q", text)
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("expects a URL that begins with https:// or http://, got %q", text)
	}
	return nil
}

func checkNetwork(text string) error {
	if _, err := netip.ParsePrefix(text); err == nil {
		return nil
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return nil
	}
	return fmt.Errorf("expects an address or a network such as 10.0.0.0/8, got %q", text)
}

func checkCipher(text string) error {
	var names []string
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if suite.Name == text {
			return nil
		}
		names = append(names, suite.Name)
	}
	if near := closest(text, names); near != "" {
		return fmt.Errorf("unknown cipher suite %q; did you mean %q?", text, near)
	}
	return fmt.Errorf("unknown cipher suite %q; use Go's names, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", text)
}

// checkDatabase never quotes what it found: it may hold a password.
func checkDatabase(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return fmt.Errorf("expects postgres://user:password@host:port/name, or nothing for SQLite in the data directory")
	}
	return nil
}
