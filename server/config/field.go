package config

import (
	"reflect"
	"strings"
	"time"
)

// A field is one key of the tree and its tags.
type field struct {
	reflect.StructField
	name string // the key, as in a file
}

func (f field) tag(name string) string { return f.Tag.Get(name) }

func (f field) oneof() []string {
	if words := f.tag("oneof"); words != "" {
		return strings.Split(words, "|")
	}
	return nil
}

func (f field) doc(lang string) string {
	if strings.HasPrefix(lang, "zh") {
		return f.tag("zh")
	}
	return f.tag("doc")
}

// fieldsOf lists the keys of a section in their order.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		sf := t.Field(i)
		if name := sf.Tag.Get("yaml"); name != "" {
			fields = append(fields, field{sf, name})
		}
	}
	return fields
}

func findField(t reflect.Type, name string) (field, bool) {
	for _, f := range fieldsOf(t) {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// choiceOf is what a section is a choice of ("storage driver"), and the names to choose from.
func choiceOf(t reflect.Type) (what string, names []string) {
	if !isSection(t) {
		return "", nil
	}
	for _, f := range fieldsOf(t) {
		if w := f.tag("choice"); w != "" {
			what, names = w, append(names, f.name)
		}
	}
	return what, names
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func isSecret(t reflect.Type) bool   { return t == reflect.TypeFor[Secret]() }
func isDuration(t reflect.Type) bool { return t == reflect.TypeFor[time.Duration]() }
func isBytes(t reflect.Type) bool    { return t == reflect.TypeFor[Bytes]() }

// isSection reports whether a type has keys below it that the tree knows.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isSecret(t) }

// isScalar reports whether a value of the type is written as one word.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return isSecret(t)
}

// shape says in words what a file must have at a place of this type.
func shape(t reflect.Type) string {
	switch {
	case isSecret(t):
		return "a text, or file:/path of a file that holds it"
	case isDuration(t):
		return "a duration such as 30s, 5m or 24h"
	case isBytes(t):
		return "a number of bytes such as 4MiB or 4194304"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return shape(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		if isScalar(t.Elem()) {
			return "a list, such as [a, b]"
		}
		return "a list of sections, each starting with \"- \""
	case reflect.Map:
		return "a section of names and values"
	case reflect.Struct:
		names := make([]string, 0, t.NumField())
		for _, f := range fieldsOf(t) {
			names = append(names, f.name)
		}
		if len(names) == 0 {
			return "nothing after the colon"
		}
		return "a section, its keys indented on the next lines: " + strings.Join(names, ", ")
	}
	return "any value"
}

// walk visits every key that has a value: the key, its field, and the value. It goes into a section
// after visit returned true for it, into list elements and map entries never (they are values).
func walk(v reflect.Value, key string, visit func(key string, f field, v reflect.Value) bool) {
	for _, f := range fieldsOf(v.Type()) {
		child, childKey := v.FieldByIndex(f.Index), join(key, f.name)
		if !visit(childKey, f, child) {
			continue
		}
		if child.Kind() == reflect.Pointer {
			if child.IsNil() {
				continue
			}
			child = child.Elem()
		}
		if isSection(child.Type()) {
			walk(child, childKey, visit)
		}
	}
}

// setDefaults fills in the default tags of a section and of the sections below it. Sections that are
// one of several (nil pointers) stay as they are: being there means being chosen.
func setDefaults(v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		child := v.FieldByIndex(f.Index)
		if text, ok := f.Tag.Lookup("default"); ok {
			// A default that does not parse is a mistake in a tag; TestDefaults finds it.
			_ = setText(child, text)
		} else if isSection(child.Type()) {
			setDefaults(child)
		}
	}
}
