package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
)

// checkBody holds the body of a request to the schema of its route, and says everything that is wrong with it. It reads JSON
// strictly, as programs that would otherwise understand it in different ways have to (RFC 8259, sections 4 and 8): a member is
// there once, its name is the one of the schema letter by letter, and text is UTF-8 without control characters.
func (rt *route) checkBody(text []byte) error {
	if !utf8.Valid(text) {
		return fault.New(fault.Invalid, FieldInvalid, "the request body is not the JSON object that this route takes: it is not valid UTF-8")
	}
	b := &bodyReader{rt: rt, d: json.NewDecoder(bytes.NewReader(text))}
	s := rt.member("")
	v, err := b.value("", s)
	if err == nil {
		if _, end := b.d.Token(); !errors.Is(end, io.EOF) {
			return fault.New(fault.Invalid, FieldInvalid, "%s", errTrailing)
		}
	}
	switch _, object := v.(map[string]any); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, FieldInvalid, "the request body is not the JSON object that this route takes: it ends too early")
	case err != nil:
		return fault.New(fault.Invalid, FieldInvalid, "the request body is not the JSON object that this route takes: %s", strings.TrimPrefix(err.Error(), "json: "))
	case !object && (v != nil || rt.huma.RequestBody.Required):
		return fault.New(fault.Invalid, FieldInvalid, "the request body is a JSON %s; this route takes an object", kindOf(v))
	}
	b.bad.sort()
	return b.bad.err()
}

// bodyReader reads a body from its beginning to its end.
type bodyReader struct {
	rt    *route
	d     *json.Decoder
	depth int
	bad   wrong
}

// deepest is how many objects and lists may be inside each other.
const deepest = 64

// value reads the next value, the one at path, with the schema s; nil is any.
func (b *bodyReader) value(path string, s *huma.Schema) (any, error) {
	tok, err := b.d.Token()
	if err != nil {
		return nil, err
	}
	s = b.rt.resolve(s)
	before := len(b.bad)
	if b.depth++; b.depth > deepest {
		return nil, errors.New("it is nested too deeply")
	}
	defer func() { b.depth-- }()
	var v any
	switch tok {
	case json.Delim('{'):
		var inside *huma.Schema
		if s != nil && s.Type == huma.TypeObject {
			inside = s
		}
		v, err = b.object(path, inside)
	case json.Delim('['):
		var items *huma.Schema
		if s != nil {
			items = s.Items
		}
		v, err = b.list(path, items)
	default:
		v = tok
	}
	if err != nil || len(b.bad) > before || path == "" {
		return v, err
	}
	if text, ok := v.(string); ok {
		b.text(path, text)
	}
	if len(b.bad) == before && !b.fits(s, v) {
		b.bad.add(path, "member %q expects %s, got %s", path, expectation(s), found(s, v))
	}
	return v, nil
}

// fits reports whether a value is of the schema; what is inside of objects and lists has been looked at.
func (b *bodyReader) fits(s *huma.Schema, v any) bool {
	if s == nil || s.Type == "" {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		return s.Type == huma.TypeObject
	case []any:
		return s.Type == huma.TypeArray && (s.MinItems == nil || len(v) >= *s.MinItems) && (s.MaxItems == nil || len(v) <= *s.MaxItems)
	case nil:
		return s.Nullable
	}
	var res huma.ValidateResult
	huma.Validate(b.rt.schemas, s, huma.NewPathBuffer(nil, 0), huma.ModeWriteToServer, v, &res)
	return len(res.Errors) == 0
}

func (b *bodyReader) list(path string, items *huma.Schema) (any, error) {
	v := []any{}
	for b.d.More() {
		one, err := b.value(fmt.Sprintf("%s[%d]", path, len(v)), items)
		if err != nil {
			return nil, err
		}
		v = append(v, one)
	}
	_, err := b.d.Token()
	return v, err
}

// object reads the members of one that has begun. Without a schema, names that differ in their case alone are one: so they
// are for who reads it later.
func (b *bodyReader) object(path string, s *huma.Schema) (any, error) {
	v := map[string]any{}
	folded := map[string]bool{}
	for b.d.More() {
		tok, err := b.d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string) // a decoder takes nothing else
		at := strings.TrimPrefix(path+"."+name, ".")
		_, twice := v[name]
		twice = twice || s == nil && folded[strings.ToLower(name)]
		folded[strings.ToLower(name)] = true
		why := legible.Trouble(name, false)
		member, known := memberOf(s, name)
		switch {
		case why != "":
			b.bad.add(path, "the name of member %.100q %s", name, why)
			member = nil
		case twice:
			b.bad.add(at, "member %.100q is there twice", at)
		case !known:
			b.bad.add(at, "member %.100q is not known here; known are %s", at, strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "))
		}
		v[name], err = b.inside(at, s, name, member)
		if err != nil {
			return nil, err
		}
	}
	if _, err := b.d.Token(); err != nil {
		return nil, err
	}
	if s != nil {
		for _, name := range s.Required {
			if _, there := v[name]; !there {
				at := strings.TrimPrefix(path+"."+name, ".")
				b.bad.add(at, "member %q is missing", at)
			}
		}
	}
	return v, nil
}

// inside reads a member of an object. What need not be there may be null.
func (b *bodyReader) inside(at string, s *huma.Schema, name string, member *huma.Schema) (any, error) {
	before := len(b.bad)
	v, err := b.value(at, member)
	if v == nil && err == nil && s != nil && !slices.Contains(s.Required, name) {
		b.bad = b.bad[:before]
	}
	return v, err
}

// memberOf is the schema of a member, nil for any, and whether there can be one of that name.
func memberOf(s *huma.Schema, name string) (member *huma.Schema, known bool) {
	if s == nil {
		return nil, true
	}
	if member, known = s.Properties[name]; known {
		return member, true
	}
	if more, ok := s.AdditionalProperties.(*huma.Schema); ok {
		return more, true
	}
	closed := len(s.Properties) > 0
	if open, ok := s.AdditionalProperties.(bool); ok {
		closed = !open
	}
	return nil, !closed
}

// text holds a text to what can be kept and shown. A description may have several lines, a certificate has; a password may be
// anything that a keyboard can be made to write.
func (b *bodyReader) text(path, text string) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	switch name {
	case "password", "oldPassword", "newPassword":
		if strings.Contains(text, "\x00") {
			b.bad.add(path, "member %q has the control character U+0000", path)
		}
		return
	}
	if why := legible.Trouble(text, name == "description" || name == "ca"); why != "" {
		b.bad.add(path, "member %q %s", path, why)
	}
}

// found is what a value is, for people: itself when it is of the kind that was expected.
func found(s *huma.Schema, v any) string {
	if s != nil && kindOf(v) != kindWord(s.Type) {
		return "a JSON " + kindOf(v)
	}
	text, err := json.Marshal(v)
	if err != nil { // it was read from JSON
		return "a JSON " + kindOf(v)
	}
	if len(text) > 100 {
		return strings.ToValidUTF8(string(text[:100]), "") + "…"
	}
	return string(text)
}
