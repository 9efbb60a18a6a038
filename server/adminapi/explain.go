package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berth-registry/berth/fault"
)

// explain turns what huma has found wrong with a request into the failure of the call, in the words of this API. It sees
// every answer; of others it leaves the members that were asked for.
func explain(ctx huma.Context, _ string, v any) (any, error) {
	c := callOf(ctx.Context())
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		if c.fields != nil && c.err == nil {
			return projected(v, c.rt.members, c.fields)
		}
		return v, nil
	}
	if c.err != nil {
		return v, nil
	}
	c.err = fault.New(fault.Invalid, FieldInvalid, "the request cannot be read: %s", m.Detail)
	var bad wrong
	for _, e := range m.Errors {
		if name, ok := strings.CutPrefix(e.Location, "path."); ok && c.rt.object != "" {
			c.err = fault.New(fault.NotFound, c.rt.unknown, "%s %.100q is not there", c.rt.object, ctx.Param(name))
			return v, nil
		}
		if e.Location == "body" || strings.HasPrefix(e.Location, "body.") { // a value of the wrong type, which route.checkBody has seen
			c.err = fault.New(fault.Invalid, FieldInvalid, "the request body is not the JSON object that this route takes: %s", e.Message)
			continue
		}
		field, detail := c.rt.explain(e)
		bad.add(field, "%s", detail)
	}
	if c.body != nil {
		c.err = c.body
		var more wrong
		if errors.As(c.body, &more) {
			bad = append(bad, more...)
		}
	}
	if len(bad) > 0 {
		bad.sort()
		c.err = bad.err()
	}
	return v, nil
}

// explain gives the name of a parameter that is wrong and says what was expected and what was found.
func (rt *route) explain(e *huma.ErrorDetail) (field, detail string) {
	where, name, _ := strings.Cut(e.Location, ".")
	if strings.HasPrefix(e.Message, "required ") {
		return name, fmt.Sprintf("%s is missing", name)
	}
	name, _, _ = strings.Cut(name, "[") // of a parameter that is there several times
	return name, fmt.Sprintf("%s expects %s, got %.100q", name, expectation(rt.parameter(where, name)), fmt.Sprint(e.Value))
}

// parameter is the schema of one, nil when there is none.
func (rt *route) parameter(where, name string) *huma.Schema {
	for _, p := range rt.huma.Parameters {
		if p.In == where && p.Name == name {
			return rt.resolve(p.Schema)
		}
	}
	return nil
}

// member is the schema of what a path such as rules[0].name leads to in the body, nil when it leads nowhere.
func (rt *route) member(path string) *huma.Schema {
	s := rt.resolve(rt.huma.RequestBody.Content["application/json"].Schema)
	if path == "" {
		return s
	}
	for part := range strings.SplitSeq(path, ".") {
		if s == nil {
			return nil
		}
		name, index, indexed := strings.Cut(part, "[")
		if name != "" {
			next, ok := s.Properties[name]
			if more, isSchema := s.AdditionalProperties.(*huma.Schema); !ok && isSchema {
				next = more
			}
			s = rt.resolve(next)
		}
		for range strings.Count(index, "[") + 1 {
			if indexed && s != nil {
				s = rt.resolve(s.Items)
			}
		}
	}
	return s
}

func (rt *route) resolve(s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return rt.schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// expectation is what a schema wants, for people.
func expectation(s *huma.Schema) string {
	switch {
	case s == nil:
		return "another value"
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for i, e := range s.Enum {
			words[i] = fmt.Sprint(e)
		}
		return "one of " + strings.Join(words, ", ")
	case s.Type == huma.TypeArray && s.Items != nil && len(s.Items.Enum) > 0:
		return expectation(s.Items)
	case s.PatternDescription != "":
		return s.PatternDescription
	}
	switch s.Type {
	case huma.TypeBoolean:
		return "true or false"
	case huma.TypeInteger, huma.TypeNumber:
		return "a number" + bounds(s.Minimum, s.Maximum)
	case huma.TypeString:
		if s.Format == "date-time" {
			return "a time such as 2026-01-31T09:00:00Z"
		}
		return "a string" + lengths(s.MinLength, s.MaxLength, "characters")
	case huma.TypeArray:
		return "a list" + lengths(s.MinItems, s.MaxItems, "items")
	}
	return "an object"
}

func bounds(lowest, highest *float64) string {
	switch {
	case lowest != nil && highest != nil:
		return fmt.Sprintf(" from %.0f to %.0f", *lowest, *highest)
	case lowest != nil:
		return fmt.Sprintf(" of at least %.0f", *lowest)
	case highest != nil:
		return fmt.Sprintf(" of at most %.0f", *highest)
	}
	return ""
}

func lengths(lowest, highest *int, of string) string {
	switch {
	case lowest != nil && highest != nil:
		return fmt.Sprintf(" of %d to %d %s", *lowest, *highest, of)
	case lowest != nil:
		return fmt.Sprintf(" of at least %d %s", *lowest, of)
	case highest != nil:
		return fmt.Sprintf(" of at most %d %s", *highest, of)
	}
	return ""
}

// kindOf is what JSON calls the kind of a value that was read from it.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64, int, int64, json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func kindWord(schemaType string) string {
	if schemaType == huma.TypeInteger {
		return "number"
	}
	return schemaType
}
