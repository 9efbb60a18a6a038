package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setText reads one word into a scalar. The error says what was found and what is expected.
func setText(v reflect.Value, text string) error {
	expected := func() error { return fmt.Errorf("expects %s, got %q", shape(v.Type()), text) }
	switch {
	case isSecret(v.Type()):
		v.Set(reflect.ValueOf(NewSecret(text)))
	case isDuration(v.Type()):
		d, err := parseDuration(text)
		if err != nil {
			return expected()
		}
		v.SetInt(int64(d))
	case isBytes(v.Type()):
		n, err := ParseBytes(text)
		if err != nil {
			return expected()
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Bool:
		b, ok := parseBool(text)
		if !ok {
			return expected()
		}
		v.SetBool(b)
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return expected()
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.String:
		v.SetString(text)
	default:
		return expected()
	}
	return nil
}

// parseDuration reads Go's form. A bare number is nanoseconds, as in distribution, whose documents
// say so; Load warns about one.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(n), nil
	}
	return time.ParseDuration(text)
}

// parseBool knows the words of YAML 1.1, which distribution's files are written in.
func parseBool(text string) (value, ok bool) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "y":
		return true, true
	case "false", "no", "off", "n":
		return false, true
	}
	return false, false
}

// formatText is the inverse of setText. Secrets stay hidden.
func formatText(v reflect.Value) string {
	switch {
	case isDuration(v.Type()):
		return formatDuration(time.Duration(v.Int()))
	case v.Kind() == reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	}
	return fmt.Sprint(v.Interface())
}

// formatDuration writes 24h, not 24h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
