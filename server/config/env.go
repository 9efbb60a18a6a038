package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	lenientVariable = "BERTH_CONFIG_LENIENT" // "1": an unknown variable is a warning
	fileVariable    = "BERTH_CONFIG"         // the configuration file when none is named on the command line
	fileSuffix      = "_FILE"                // NAME_FILE holds the name of a file with the secret NAME
)

// A variable is an environment variable or a flag that sets a key.
type variable struct {
	source   Origin
	value    string
	steps    []step
	fromFile bool // value names a file that holds the secret
}

// environment splits os.Environ's form; the last of two equal names counts, as in a shell.
func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	return m
}

// applyEnv writes the environment into the tree: REGISTRY_* first, so that BERTH_* wins, and a section
// before its parts.
func (d *decoder) applyEnv(c *Config, env map[string]string) {
	var found []variable
	for name, value := range env {
		prefix, rest, _ := strings.Cut(name, "_")
		if rest == "" || prefix != "REGISTRY" && prefix != "BERTH" || exempt(name) {
			continue
		}
		if v, ok := d.lookUp(prefix, name); ok {
			v.source, v.value = Origin{Source: "env", Name: name}, value
			found = append(found, v)
		} else if !isServiceLink(rest, value) {
			d.unknownVariable(name, env[lenientVariable] == "1")
		}
	}
	slices.SortFunc(found, func(a, b variable) int {
		return cmp.Or(
			-cmp.Compare(a.source.Name[:1], b.source.Name[:1]), // R before B
			cmp.Compare(len(a.steps), len(b.steps)),
			cmp.Compare(a.source.Name, b.source.Name))
	})
	d.apply(c, found)
}

// applyFlags writes the command line into the tree.
func (d *decoder) applyFlags(c *Config, flags map[string]string) {
	byFlag := map[string]string{}
	for _, s := range d.settings {
		if s.Flag != "" {
			byFlag[s.Flag] = s.Key
		}
	}
	var found []variable
	for name, value := range flags {
		key := cmp.Or(byFlag[name], name)
		steps, ok := resolveKey(reflect.TypeFor[Config](), key)
		if !ok {
			d.problems = append(d.problems, Problem{File: "--" + name, Key: key, Message: fmt.Sprintf("unknown key %q", key), Suggestion: closest(key, keys(d.settings))})
			continue
		}
		found = append(found, variable{source: Origin{Source: "flag", Name: "--" + name}, value: value, steps: steps})
	}
	slices.SortFunc(found, func(a, b variable) int { return cmp.Compare(a.source.Name, b.source.Name) })
	d.apply(c, found)
}

// apply assigns variables in their order.
func (d *decoder) apply(c *Config, found []variable) {
	root := reflect.ValueOf(c)
	found = slices.DeleteFunc(found, variable.isEmpty)
	d.choose(root.Elem(), found)
	for _, v := range found {
		d.source = v.source
		d.assign(root, v.steps, "", d.node(v))
	}
}

// isEmpty reports an empty value that cannot be meant: compose files pass NAME= for what their user
// left out. Only a text without a default can be set to nothing.
func (v variable) isEmpty() bool {
	last := v.steps[len(v.steps)-1].field
	clearable := last != nil && last.Type.Kind() == reflect.String && last.tag("default") == "" && last.tag("oneof") == ""
	return v.value == "" && !clearable
}

// exempt reports variables that have our prefix and another meaning.
func exempt(name string) bool {
	switch name {
	case lenientVariable, fileVariable:
		return true
	case "REGISTRY_AUTH_FILE": // where podman, skopeo and buildah keep logins; distribution fails on it
		return true
	case "BERTH_CONTEXT", "BERTH_BLOB_CACHE_DIR", "BERTH_COMPLETION_TIME", "BERTH_KEY_PASSWORD": // of the image tool, in the same shell
		return true
	}
	return false
}

// lookUp finds the key of a variable: its own short name, the path of its words, for BERTH_ also the
// path below berth, and each of these with _FILE for a secret.
func (d *decoder) lookUp(prefix, name string) (variable, bool) {
	if steps, ok := d.keyOf(prefix, name); ok {
		return variable{steps: steps}, true
	}
	if bare, ok := strings.CutSuffix(name, fileSuffix); ok {
		if steps, ok := d.keyOf(prefix, bare); ok && isSecret(target(reflect.TypeFor[Config](), steps)) {
			return variable{steps: steps, fromFile: true}, true
		}
	}
	return variable{}, false
}

func (d *decoder) keyOf(prefix, name string) ([]step, bool) {
	root := reflect.TypeFor[Config]()
	for _, s := range d.settings {
		if s.Alias == name {
			return resolveKey(root, s.Key)
		}
	}
	words := strings.Split(strings.TrimPrefix(name, prefix+"_"), "_")
	if steps, ok := resolve(root, words); ok {
		return steps, true
	}
	if prefix == "BERTH" {
		return resolve(root, append([]string{"BERTH"}, words...))
	}
	return nil, false
}

// isServiceLink reports the variables that Kubernetes and docker links make for a service that is
// called registry or berth: REGISTRY_PORT=tcp://10.0.0.1:5000, REGISTRY_SERVICE_HOST, REGISTRY_PORT_5000_TCP.
func isServiceLink(rest, value string) bool {
	words := strings.Split(rest, "_")
	for i, word := range words {
		after := words[i+1:]
		switch {
		case word == "SERVICE" && len(after) > 0 && (after[0] == "HOST" || after[0] == "PORT"):
			return true
		case word == "PORT" && len(after) == 0:
			return strings.Contains(value, "://")
		case word == "PORT" && len(after) >= 2 && strings.Trim(after[0], "0123456789") == "":
			return after[1] == "TCP" || after[1] == "UDP" || after[1] == "SCTP"
		}
	}
	return false
}

func (d *decoder) unknownVariable(name string, lenient bool) {
	p := Problem{File: name, Message: "unknown variable " + name, Suggestion: closest(name, variableNames(d.settings)), Warning: lenient}
	if lenient {
		p.Message += " is ignored"
		d.warnings = append(d.warnings, p)
		return
	}
	if p.Suggestion == "" {
		p.Message += "; \"berthd config env\" lists all; " + lenientVariable + "=1 makes this a warning"
	}
	d.problems = append(d.problems, p)
}

// choose lets the environment replace the storage driver or auth provider of the file: naming a key of
// another one means that one. Two in one source is a problem.
func (d *decoder) choose(root reflect.Value, found []variable) {
	named := map[string]variable{} // section → the first variable that names one of its choices
	replaced := slices.ContainsFunc(found, func(v variable) bool {
		return len(v.steps) == 1 && v.steps[0].field != nil && v.steps[0].field.name == "auth"
	})
	for _, v := range found {
		i := slices.IndexFunc(v.steps, func(s step) bool { return s.field != nil && s.field.tag("choice") != "" })
		if i < 0 || i == 0 {
			continue
		}
		section, choice := v.steps[i-1].field, v.steps[i].field
		other, twice := named[section.name]
		if twice && other.steps[i].field.name != choice.name {
			d.problems = append(d.problems, Problem{File: v.source.Name, Key: join(section.name, choice.name),
				Message: fmt.Sprintf("%s names the %s %s, and %s names %s; keep one", v.source.Name, choice.tag("choice"), choice.name, other.source.Name, other.steps[i].field.name)})
			continue
		}
		named[section.name] = v
		if section.name == "auth" && !replaced { // a driver is replaced on purpose; who may log in is not to end unnoticed
			if other := d.otherChoice(root.FieldByIndex(section.Index), choice.name); other != "" {
				d.problems = append(d.problems, Problem{File: v.source.Name, Key: join(section.name, choice.name),
					Message: fmt.Sprintf("%s names the %s %s, and the configuration file names %s; only one can be in effect: keep one, or say REGISTRY_AUTH=%s to replace that of the file",
						v.source.Name, choice.tag("choice"), choice.name, other, choice.name)})
				continue
			}
		}
		d.clearChoices(root.FieldByIndex(section.Index), section.name, choice.name)
	}
}

// otherChoice is a choice of a section that is made besides one, "" for none.
func (d *decoder) otherChoice(v reflect.Value, except string) string {
	for _, f := range fieldsOf(v.Type()) {
		if f.tag("choice") != "" && f.name != except && !v.FieldByIndex(f.Index).IsZero() {
			return f.name
		}
	}
	return ""
}

// clearChoices takes every choice but one out of a section.
func (d *decoder) clearChoices(v reflect.Value, key, except string) {
	for _, f := range fieldsOf(v.Type()) {
		if f.tag("choice") == "" || f.name == except {
			continue
		}
		v.FieldByIndex(f.Index).SetZero()
		for k := range d.origins {
			if k == join(key, f.name) || strings.HasPrefix(k, join(key, f.name)+".") {
				delete(d.origins, k)
			}
		}
	}
}

// node is the value of a variable as YAML. One word stays as it is, whatever YAML would make of it;
// lists may be written a,b; everything else is YAML, as in distribution.
func (d *decoder) node(v variable) *yaml.Node {
	t := deref(target(reflect.TypeFor[Config](), v.steps))
	text := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v.value}
	switch {
	case v.fromFile:
		// Read where the key is known, so that what follows from a file that cannot be read is not said, too.
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: secretFileTag, Value: v.value}
	case isSecret(t):
		return text
	case isScalar(t):
		text.Value = unquote(v.value)
		return text
	}
	if _, names := choiceOf(t); slices.Contains(names, v.value) {
		return text
	}
	if t.Kind() == reflect.Slice && isScalar(t.Elem()) && !strings.HasPrefix(strings.TrimSpace(v.value), "[") && !strings.HasPrefix(v.value, "- ") {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, word := range strings.Split(v.value, ",") {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(word)})
		}
		return list
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(v.value), &document); err != nil || len(document.Content) == 0 {
		return text // the shape that was expected is said by decode
	}
	return document.Content[0]
}

// unquote takes off a pair of quotes: compose's list form passes them on, and distribution, which
// reads the value as YAML, takes them off too.
func unquote(text string) string {
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}
