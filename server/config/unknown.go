package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// unknown reports a key that its section does not have, and says what was probably meant: a key that
// is spelled alike, or the section that the key belongs to.
func (d *decoder) unknown(p pair, parent *yaml.Node, t reflect.Type, key string) {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.name)
	}
	what, choices := choiceOf(t)
	meant := closest(p.name, keys)
	if home := belongs(p.name, parent, t); home != "" {
		d.problem(p.key, join(key, p.name), "unknown key %q%s; it belongs to %s, indented below it: expects %s",
			p.name, in(key), join(key, home), sectionExample(home, p.name))
		return
	}
	chosen := slices.ContainsFunc(choices, func(name string) bool { return hasKey(parent, name) })
	if what != "" && (slices.Contains(choices, meant) || meant == "" && !chosen) {
		found := d.problem(p.key, join(key, p.name), "unknown %s %q", what, p.name)
		found.Suggestion, found.Allowed = meant, strings.Join(choices, ", ")
		return
	}
	found := d.problem(p.key, join(key, p.name), "unknown key %q%s", p.name, in(key))
	if found.Suggestion = meant; meant == "" {
		found.Allowed = strings.Join(keys, ", ")
	}
}

func in(key string) string {
	if key == "" {
		return ""
	}
	return " in " + key
}

func sectionExample(section, name string) string { return fmt.Sprintf("%s: {%s: …}", section, name) }

// belongs finds the section beside an unknown key that has a key of that name: first one that was
// left empty, which is what a lost indent looks like, then the only one there is.
func belongs(name string, parent *yaml.Node, t reflect.Type) string {
	var homes []string
	for _, f := range fieldsOf(t) {
		section := deref(f.Type)
		if !isSection(section) {
			continue
		}
		if _, ok := findField(section, name); !ok {
			continue
		}
		if v := valueOf(parent, f.name); v != nil && isNull(v) {
			return f.name
		}
		homes = append(homes, f.name)
	}
	if len(homes) == 1 {
		return homes[0]
	}
	return ""
}

func hasKey(n *yaml.Node, name string) bool { return valueOf(n, name) != nil }

func valueOf(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
