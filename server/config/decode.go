package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds the work that aliases can multiply; a hand-written file has some hundred nodes.
const maxNodes = 100_000

// secretFileTag marks the name of a file with a secret, which a variable NAME_FILE gives.
const secretFileTag = "!secretfile"

// A decoder writes YAML of one source into the tree and collects every problem on the way.
type decoder struct {
	file     string    // the configuration file, empty without one
	settings []Setting // of the tree, gathered once
	source   Origin    // Source and Name of what is read
	secrets  secretFiles
	origins  map[string]Origin
	problems Problems
	warnings Problems
	nodes    int
}

func (d *decoder) at(n *yaml.Node) Origin {
	o := d.source
	if o.Source == "file" {
		o.Line, o.Col = n.Line, n.Column
	}
	return o
}

func (d *decoder) problem(n *yaml.Node, key, format string, args ...any) *Problem {
	o := d.at(n)
	d.problems = append(d.problems, Problem{File: o.Name, Line: o.Line, Col: o.Col, Key: key, Message: fmt.Sprintf(format, args...)})
	return &d.problems[len(d.problems)-1]
}

// decode reads a node into v, which has the key.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if d.nodes++; d.nodes >= maxNodes {
		if d.nodes == maxNodes {
			d.problem(n, key, "the file has more than %d values, counting each use of an alias", maxNodes)
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			setDefaults(v.Elem())
		}
		v = v.Elem()
	}
	if isNull(n) { // "key:" with nothing after it says nothing
		return
	}
	switch {
	case isSecret(v.Type()):
		d.secret(n, v, key)
	case isScalar(v.Type()):
		d.scalar(n, v, key)
	case v.Kind() == reflect.Struct:
		d.section(n, v, key)
	case v.Kind() == reflect.Slice:
		d.list(n, v, key)
	case v.Kind() == reflect.Map:
		d.mapping(n, v, key)
	default:
		d.any(n, v, key)
	}
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// mismatch reports a node that is not of the shape that the key expects.
func (d *decoder) mismatch(n *yaml.Node, t reflect.Type, key string) {
	found := "a section"
	switch n.Kind {
	case yaml.ScalarNode:
		found = strconv.Quote(n.Value)
	case yaml.SequenceNode:
		found = "a list"
	}
	d.problem(n, key, "%s expects %s; got %s", nameOf(key), shape(t), found)
}

func nameOf(key string) string {
	if key == "" {
		return "the file"
	}
	return key
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		d.mismatch(n, v.Type(), key)
		return
	}
	if err := setText(v, n.Value); err != nil {
		d.problem(n, key, "%s %v", key, err)
		return
	}
	if _, err := strconv.Atoi(n.Value); err == nil && isDuration(v.Type()) && v.Int() != 0 {
		o := d.at(n)
		d.warnings = append(d.warnings, Problem{File: o.Name, Line: o.Line, Col: o.Col, Key: key, Warning: true,
			Message: fmt.Sprintf("%s: %s without a unit is nanoseconds, as in distribution; write a unit, such as %ss", key, n.Value, n.Value)})
	}
}

func (d *decoder) secret(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.ScalarNode {
		// The value is not quoted back: it may be the secret, written in a wrong shape.
		d.problem(n, key, "%s expects %s", key, shape(v.Type()))
		return
	}
	if n.Tag == secretFileTag {
		secret, err := d.secrets.read(n.Value)
		if err != nil {
			d.problem(n, key, "%v", err)
		}
		// Not looked at again: a password may begin with "file:".
		v.Set(reflect.ValueOf(secret))
		return
	}
	secret, err := d.secrets.resolve(n.Value)
	if err != nil {
		d.problem(n, key, "%s: %v", key, err)
		return
	}
	v.Set(reflect.ValueOf(secret))
}

func (d *decoder) section(n *yaml.Node, v reflect.Value, key string) {
	what, names := choiceOf(v.Type())
	if n.Kind == yaml.ScalarNode && what != "" { // distribution's short form, "storage: inmemory"
		name := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: n.Value, Line: n.Line, Column: n.Column}
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column, Content: []*yaml.Node{name, {Kind: yaml.ScalarNode, Tag: "!!null"}}}
	}
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, v.Type(), key)
		return
	}
	chosen := ""
	for _, p := range d.pairs(n, key) {
		f, ok := findField(v.Type(), p.name)
		if !ok {
			d.unknown(p, n, v.Type(), key)
			continue
		}
		if f.tag("choice") != "" {
			if chosen != "" {
				d.problem(p.key, join(key, f.name), "%s names two: %s and %s; keep one %s", key, chosen, f.name, what).Allowed = strings.Join(names, ", ")
				continue
			}
			chosen = f.name
			d.clearChoices(v, key, chosen) // a later source names another one
		}
		d.child(p, v.FieldByIndex(f.Index), join(key, f.name))
	}
}

// child decodes the value of a pair and notes where it was said.
func (d *decoder) child(p pair, v reflect.Value, key string) {
	place := p.key
	if isScalar(v.Type()) && p.value.Line > 0 {
		place = p.value
	}
	if !isNull(p.value) || v.Kind() == reflect.Pointer {
		d.origins[key] = d.at(place)
	}
	d.decode(p.value, v, key)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.SequenceNode {
		d.mismatch(n, v.Type(), key)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		itemKey := fmt.Sprintf("%s[%d]", key, i)
		d.origins[itemKey] = d.at(item)
		if isSection(list.Index(i).Type()) {
			setDefaults(list.Index(i))
		}
		d.decode(item, list.Index(i), itemKey)
	}
	v.Set(list)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, v.Type(), key)
		return
	}
	entries := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(n, key) {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.child(p, entry, join(key, p.name))
		entries.SetMapIndex(reflect.ValueOf(p.name), entry)
	}
	v.Set(entries)
}

// any reads a value whose shape is free.
func (d *decoder) any(n *yaml.Node, v reflect.Value, key string) {
	var value any
	if err := n.Decode(&value); err != nil {
		d.problem(n, key, "%s: %s", key, strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if value != nil {
		v.Set(reflect.ValueOf(value))
	}
}

// A pair is one key of a mapping and its value.
type pair struct {
	name       string
	key, value *yaml.Node
}

// pairs lists a mapping's keys with merge keys ("<<") resolved; a key that is there twice is a problem.
func (d *decoder) pairs(n *yaml.Node, key string) []pair {
	var own, merged []pair
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode:
			d.problem(k, key, "%s: a key must be a text", nameOf(key))
		case k.ShortTag() == "!!merge":
			merged = append(merged, d.mergePairs(v, key, 0)...)
		default:
			if line, twice := lines[k.Value]; twice {
				d.problem(k, join(key, k.Value), "key %q is there twice; the first is in line %d", k.Value, line)
				continue
			}
			lines[k.Value] = k.Line
			own = append(own, pair{k.Value, k, v})
		}
	}
	for _, p := range merged {
		if _, twice := lines[p.name]; !twice {
			lines[p.name] = p.key.Line
			own = append(own, p)
		}
	}
	return own
}

// mergePairs lists the keys that "<<: *name" or "<<: [*a, *b]" brings in.
func (d *decoder) mergePairs(n *yaml.Node, key string, depth int) []pair {
	const deepest = 8 // an alias may contain itself
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	var pairs []pair
	switch {
	case depth > deepest:
		d.problem(n, key, "%s: merge keys are nested more than %d deep", nameOf(key), deepest)
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			if d.nodes++; d.nodes < maxNodes {
				pairs = append(pairs, d.mergePairs(item, key, depth+1)...)
			}
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if d.nodes++; d.nodes >= maxNodes {
				break
			}
			if k.ShortTag() == "!!merge" {
				pairs = append(pairs, d.mergePairs(v, key, depth+1)...)
			} else {
				pairs = append(pairs, pair{k.Value, k, v})
			}
		}
	default:
		d.problem(n, key, "%s: \"<<\" expects a section", nameOf(key))
	}
	return pairs
}
