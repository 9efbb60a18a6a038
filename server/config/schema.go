package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// Schema is a JSON Schema (draft 2020-12) of the file, for editors: name it in the first line,
// "# yaml-language-server: $schema=berth.schema.json".
func Schema() ([]byte, error) {
	root := sectionSchema(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "berthd configuration"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	return append(out, '\n'), nil
}

func sectionSchema(t reflect.Type) map[string]any {
	properties := map[string]any{}
	for _, f := range fieldsOf(t) {
		properties[f.name] = fieldSchema(f)
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

func fieldSchema(f field) map[string]any {
	s := typeSchema(f.Type)
	s["description"] = f.doc("en")
	if words := f.oneof(); words != nil {
		s["enum"] = words
	}
	if text, ok := f.Tag.Lookup("default"); ok {
		s["default"] = jsonDefault(f.Type, text)
	}
	if f.tag("unsupported") != "" {
		s["deprecated"] = true
		s["description"] = f.doc("en") + " Not supported in this version."
	}
	if f.name == "version" {
		s["type"] = []string{"string", "number"} // version: 0.1 is a number to YAML
	}
	return s
}

func typeSchema(t reflect.Type) map[string]any {
	t = deref(t)
	switch {
	case isSecret(t):
		return map[string]any{"type": "string"}
	case isDuration(t):
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`}
	case isBytes(t):
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ ?([KMGTkmgt][Ii]?)?[Bb]?$`, "minimum": 0}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": typeSchema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": typeSchema(t.Elem())}
	case reflect.Struct:
		s := sectionSchema(t)
		s["type"] = []string{"object", "null"} // "filesystem:" alone chooses it
		if _, names := choiceOf(t); names != nil {
			short := map[string]any{"type": "string", "enum": names}
			return map[string]any{"anyOf": []any{s, short}}
		}
		return s
	}
	return map[string]any{}
}

// jsonDefault is a default in the type that editors expect.
func jsonDefault(t reflect.Type, text string) any {
	switch t.Kind() {
	case reflect.Bool:
		b, _ := parseBool(text)
		return b
	case reflect.Int:
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	}
	return text
}
