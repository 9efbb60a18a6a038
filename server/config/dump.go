package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DumpOptions says what Dump writes.
type DumpOptions struct {
	Reveal bool // write secrets; without it they are "***"
	Origin bool // write where each value came from, as a comment behind it
}

// Dump writes the configuration as a file that could be loaded again (with Reveal). Keys without a
// value, and sections without keys, are left out.
func (l *Loaded) Dump(w io.Writer, o DumpOptions) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	dumper := dumper{DumpOptions: o, loaded: l}
	if err := encoder.Encode(dumper.section(reflect.ValueOf(l.Config).Elem(), "")); err != nil {
		return fmt.Errorf("config: dump: %w", err)
	}
	return encoder.Close()
}

type dumper struct {
	DumpOptions
	loaded *Loaded
}

func (d dumper) section(v reflect.Value, key string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		child := v.FieldByIndex(f.Index)
		chosen := child.Kind() == reflect.Pointer && !child.IsNil()
		if chosen {
			child = child.Elem()
		}
		if !chosen && d.saysNothing(f, child, join(key, f.name)) {
			continue
		}
		value := d.value(child, join(key, f.name))
		if value.Kind == yaml.MappingNode && len(value.Content) == 0 && !chosen {
			continue
		}
		n.Content = append(n.Content, text(f.name), value)
	}
	return n
}

// saysNothing reports a value that nobody set and that has no default, or that this version does not
// act on.
func (d dumper) saysNothing(f field, v reflect.Value, key string) bool {
	if d.loaded.Origin(key).Source != "default" {
		return false
	}
	_, hasDefault := f.Tag.Lookup("default")
	return f.tag("unsupported") != "" || !isSection(v.Type()) && !hasDefault && v.IsZero()
}

func (d dumper) value(v reflect.Value, key string) *yaml.Node {
	var n *yaml.Node
	switch {
	case isSecret(v.Type()):
		secret := v.Interface().(Secret)
		if n = text(secret.String()); d.Reveal {
			n = text(secret.Reveal())
		}
	case isScalar(v.Type()):
		n = &yaml.Node{Kind: yaml.ScalarNode, Value: formatText(v)}
		if v.Kind() == reflect.String {
			n = text(v.String())
		}
	case isSection(v.Type()):
		return d.section(v, key)
	case v.Kind() == reflect.Slice:
		n = &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, d.value(v.Index(i), fmt.Sprintf("%s[%d]", key, i)))
		}
		return n
	case v.Type() == reflect.TypeFor[Opaque]() && !d.Reveal:
		return encode(v.Interface())
	case v.Kind() == reflect.Map:
		n = &yaml.Node{Kind: yaml.MappingNode}
		names := v.MapKeys()
		slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, name := range names {
			n.Content = append(n.Content, text(name.String()), d.value(v.MapIndex(name), join(key, name.String())))
		}
		return n
	default:
		return encode(v.Interface())
	}
	if d.Origin {
		n.LineComment = d.loaded.Origin(key).String()
	}
	return n
}

// text writes a value so that expand leaves it as it is.
func text(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(strings.ReplaceAll(value, "${", "$${"))
	return n
}

func encode(value any) *yaml.Node {
	n := &yaml.Node{}
	if err := n.Encode(value); err != nil {
		return text(redacted) // only what YAML decoded gets here, so it can be encoded
	}
	escape(n)
	return n
}

func escape(n *yaml.Node) {
	n.Value = strings.ReplaceAll(n.Value, "${", "$${")
	for _, child := range n.Content {
		escape(child)
	}
}

// Diff lists the keys whose values differ, and those of them that need a restart; SIGHUP applies the
// others. Both are in the order of the tree. A list or a map counts as one value.
func Diff(old, new *Config) (changed, needRestart []string) {
	oldValues := leaves(old)
	newValues := leaves(new)
	for _, s := range Settings() {
		a, aOK := oldValues[s.Key]
		b, bOK := newValues[s.Key]
		if aOK == bOK && (!aOK || reflect.DeepEqual(a, b)) {
			continue
		}
		changed = append(changed, s.Key)
		if !s.Reload || aOK != bOK { // a driver or provider that comes or goes is another program
			needRestart = append(needRestart, s.Key)
		}
	}
	return changed, needRestart
}

// leaves lists the value of every key that has one; keys of drivers that are not chosen have none.
func leaves(c *Config) map[string]any {
	values := map[string]any{}
	walk(reflect.ValueOf(c).Elem(), "", func(key string, f field, v reflect.Value) bool {
		inner := deref(f.Type)
		if !isSection(inner) {
			values[key] = v.Interface()
		} else if inner.NumField() == 0 && !v.IsNil() {
			values[key] = true
		}
		return true
	})
	return values
}
