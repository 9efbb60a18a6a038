package config

import (
	"fmt"
	"net/textproto"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A step leads from a section to a field, from a list to an element, or from a map to an entry.
type step struct {
	field *field
	index int
	entry string
}

// resolve finds the way to a key in the words of an environment variable, such as HTTP TLS CLIENTCAS 0.
// A key may itself contain "_", so every division of the words is tried, short keys first.
func resolve(t reflect.Type, words []string) ([]step, bool) {
	t = deref(t)
	if len(words) == 0 {
		return nil, true
	}
	switch {
	case isSection(t):
		for n := 1; n <= len(words); n++ {
			f, ok := findField(t, strings.ToLower(strings.Join(words[:n], "_")))
			if !ok {
				continue
			}
			if rest, ok := resolve(f.Type, words[n:]); ok {
				return append([]step{{field: &f}}, rest...), true
			}
		}
	case t.Kind() == reflect.Slice:
		if i, err := strconv.ParseUint(words[0], 10, 16); err == nil {
			rest, ok := resolve(t.Elem(), words[1:])
			return append([]step{{index: int(i)}}, rest...), ok
		}
	case t.Kind() == reflect.Map:
		return resolveEntry(t.Elem(), words)
	}
	return nil, false
}

// resolveEntry finds the way into a map, whose keys are free: for words or lists of words the name is
// everything up to an index, for other values the first word.
func resolveEntry(elem reflect.Type, words []string) ([]step, bool) {
	name, rest := len(words), words[len(words):]
	switch {
	case elem.Kind() == reflect.Slice && isSection(elem.Elem()), elem.Kind() == reflect.Struct && !isSecret(elem):
		name, rest = 1, words[1:]
	case elem.Kind() == reflect.Slice && len(words) > 1:
		if _, err := strconv.ParseUint(words[len(words)-1], 10, 16); err == nil {
			name, rest = len(words)-1, words[len(words)-1:]
		}
	}
	steps, ok := resolve(elem, rest)
	return append([]step{{entry: strings.Join(words[:name], "_")}}, steps...), ok
}

// resolveKey finds the way to a key in its written form, such as http.tls.key.
func resolveKey(t reflect.Type, key string) ([]step, bool) {
	var steps []step
	for _, name := range strings.Split(key, ".") {
		if t = deref(t); !isSection(t) {
			return nil, false
		}
		f, ok := findField(t, name)
		if !ok {
			return nil, false
		}
		steps, t = append(steps, step{field: &f}), f.Type
	}
	return steps, true
}

// target is the type at the end of the steps.
func target(t reflect.Type, steps []step) reflect.Type {
	for _, s := range steps {
		if t = deref(t); s.field != nil {
			t = s.field.Type
		} else {
			t = t.Elem()
		}
	}
	return t
}

// assign decodes a value at the end of the steps, and makes what is missing on the way.
func (d *decoder) assign(v reflect.Value, steps []step, key string, n *yaml.Node) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			setDefaults(v.Elem())
		}
		v = v.Elem()
	}
	if len(steps) == 0 {
		d.replace(v, key, n)
		return
	}
	s, rest := steps[0], steps[1:]
	switch v.Kind() {
	case reflect.Struct:
		d.assign(v.FieldByIndex(s.field.Index), rest, join(key, s.field.name), n)
	case reflect.Slice:
		if s.index > v.Len() {
			d.problem(n, key, "%s has %d entries; the next one has index %d, not %d", key, v.Len(), v.Len(), s.index)
			return
		}
		if s.index == v.Len() {
			v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
			if isSection(v.Type().Elem()) {
				setDefaults(v.Index(s.index))
			}
		}
		d.assign(v.Index(s.index), rest, fmt.Sprintf("%s[%d]", key, s.index), n)
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		name, entry := entryName(v, key, s.entry), reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(name)); old.IsValid() {
			entry.Set(old)
		}
		d.assign(entry, rest, join(key, name), n)
		v.SetMapIndex(reflect.ValueOf(name), entry)
	}
}

// replace decodes a whole value; what the file said about its parts is forgotten.
func (d *decoder) replace(v reflect.Value, key string, n *yaml.Node) {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		for k := range d.origins {
			if strings.HasPrefix(k, key+"[") || strings.HasPrefix(k, key+".") {
				delete(d.origins, k)
			}
		}
	}
	d.origins[key] = d.source
	d.decode(n, v, key)
}

// entryName is the name of a map's entry that an environment variable spells in capitals: the entry
// that is there already, a header in its usual form, or small letters.
func entryName(v reflect.Value, key, name string) string {
	for _, k := range v.MapKeys() {
		if strings.EqualFold(k.String(), name) {
			return k.String()
		}
	}
	if strings.HasSuffix(key, "headers") {
		return textproto.CanonicalMIMEHeaderKey(name)
	}
	return strings.ToLower(name)
}
