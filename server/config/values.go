package config

import (
	"reflect"
)

// Value is one key of a configuration with what it is set to. Nothing of a secret is in it.
type Value struct {
	Setting
	// Is is the value as JSON has it: a text, number, truth, list or object. Durations and sizes are texts. It is nil for a
	// secret and for what has no value; a secret inside a list or map is "***" there, "" when it is not set.
	Is     any
	IsSet  bool // there is a value that is not empty
	Origin Origin
}

// Values are all keys that hold a value, in the order of [Settings]: of the storage driver and the providers that are chosen,
// and of what this version does not act on only what somebody has set.
func (l *Loaded) Values() []Value {
	settings := map[string]Setting{}
	for _, s := range Settings() {
		settings[s.Key] = s
	}
	var all []Value
	walk(reflect.ValueOf(l.Config).Elem(), "", func(key string, _ field, v reflect.Value) bool {
		s, ok := settings[key]
		if !ok || v.Kind() == reflect.Pointer && v.IsNil() {
			return true
		}
		value := Value{Setting: s, Origin: l.Origin(key)}
		if s.Unsupported != "" && value.Origin.Source == "default" {
			return true
		}
		v = reflect.Indirect(v)
		value.IsSet = !v.IsZero()
		switch {
		case isSection(v.Type()): // it is there, and has no keys
			value.IsSet = true
		case !isSecret(v.Type()):
			value.Is = shown(v)
		}
		all = append(all, value)
		return true
	})
	return all
}

// shown is a value as JSON has it, without what is secret.
func shown(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return shown(v.Elem())
	case isSecret(v.Type()), v.Type() == reflect.TypeFor[Opaque]():
		if v.IsZero() {
			return ""
		}
		return redacted
	case isDuration(v.Type()), isBytes(v.Type()):
		return formatText(v)
	case v.Kind() == reflect.Bool:
		return v.Bool()
	case v.Kind() == reflect.Int, v.Kind() == reflect.Int64:
		return v.Int()
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = shown(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Map:
		object := map[string]any{}
		for _, name := range v.MapKeys() {
			object[name.String()] = shown(v.MapIndex(name))
		}
		return object
	case isSection(v.Type()):
		object := map[string]any{}
		for _, f := range fieldsOf(v.Type()) {
			object[f.name] = shown(v.FieldByIndex(f.Index))
		}
		return object
	case v.Kind() == reflect.String:
		return v.String()
	}
	return redacted // no key has such a value; the reference test of values holds them to it
}
