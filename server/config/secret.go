package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "***"

// Secret is a value that never prints: every way of formatting, logging or encoding it gives "***",
// or nothing when it is empty. [Secret.Reveal] is the only way to the value, so that a search for
// that word finds every place that uses one.
type Secret struct{ value string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal is the value. Do not log it, and do not put it into an error.
func (s Secret) Reveal() string { return s.value }

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != "" }

// String is "***", or "" without a value.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// Format writes String for every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String; encoding/json and others use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML is String.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// Opaque is a map of parameters whose meaning this room does not know, and which may hold secrets:
// it prints its size only.
type Opaque map[string]any

// String says how many parameters there are.
func (o Opaque) String() string { return fmt.Sprintf("%d parameters", len(o)) }

// Format writes String for every verb.
func (o Opaque) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.String()) }

// LogValue is String.
func (o Opaque) LogValue() slog.Value { return slog.StringValue(o.String()) }

// MarshalText is String.
func (o Opaque) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// MarshalYAML keeps the names and hides the values.
func (o Opaque) MarshalYAML() (any, error) {
	hidden := make(map[string]string, len(o))
	for name := range o {
		hidden[name] = redacted
	}
	return hidden, nil
}
