package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Setting is what the tree says about one key that has a value.
type Setting struct {
	Key         string   `json:"key"`                   // such as http.tls.key
	Type        string   `json:"type"`                  // what a file must have there, in words
	Default     string   `json:"default,omitempty"`     // in YAML; empty: none
	Allowed     []string `json:"allowed,omitempty"`     // the words that are allowed
	Doc         string   `json:"doc"`                   // in English
	DocZH       string   `json:"doc_zh"`                // in Chinese
	Env         string   `json:"env"`                   // the environment variable
	Alias       string   `json:"env_alias,omitempty"`   // a short environment variable
	Flag        string   `json:"flag,omitempty"`        // of berthd, without dashes
	Secret      bool     `json:"secret,omitempty"`      // never printed; also NAME_FILE and file:/path
	List        bool     `json:"list,omitempty"`        // also NAME_0, NAME_1 …
	Reload      bool     `json:"reload,omitempty"`      // SIGHUP applies a change
	Unsupported string   `json:"unsupported,omitempty"` // "warn" or "refuse": this version does not act on it
	Effect      string   `json:"effect,omitempty"`      // what that means
}

// Settings lists every key in the order of [PrintDefaults]. What is inside list elements is not listed.
func Settings() []Setting {
	return gather(reflect.TypeFor[Config](), Setting{})
}

// gather lists the keys below a section; parent hands down its key and what its tags say for all.
func gather(t reflect.Type, parent Setting) []Setting {
	var settings []Setting
	for _, f := range fieldsOf(t) {
		s := Setting{
			Key: join(parent.Key, f.name), Type: shape(f.Type), Default: f.tag("default"), Allowed: f.oneof(),
			Doc: f.doc("en"), DocZH: f.doc("zh"), Alias: f.tag("env"), Flag: f.tag("flag"),
			Reload:      parent.Reload || f.tag("reload") == "true",
			Unsupported: parent.Unsupported, Effect: parent.Effect,
		}
		if how := f.tag("unsupported"); how != "" {
			s.Unsupported, s.Effect = how, f.tag("effect")
		}
		s.Env = variableName(s.Key)
		inner := deref(f.Type)
		s.Secret, s.List = isSecret(inner), inner.Kind() == reflect.Slice
		if isSection(inner) && inner.NumField() > 0 {
			settings = append(settings, gather(inner, s)...)
		} else {
			settings = append(settings, s)
		}
	}
	return settings
}

// variableName is the environment variable of a key: REGISTRY_ for distribution's grammar, BERTH_ for
// the keys below berth.
func variableName(key string) string {
	name, own := strings.CutPrefix(key, "berth.")
	name = strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
	if own {
		return "BERTH_" + name
	}
	return "REGISTRY_" + name
}

func keys(settings []Setting) []string {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.Key)
	}
	return keys
}

// variableNames lists every variable that a typing mistake could have meant.
func variableNames(settings []Setting) []string {
	var names []string
	for _, s := range settings {
		bare := strings.TrimPrefix(s.Env, "REGISTRY_")
		names = append(names, s.Env)
		if bare != s.Env {
			names = append(names, "BERTH_"+bare)
		}
		if s.Secret {
			names = append(names, s.Env+fileSuffix)
		}
		if s.Alias != "" && s.Alias != s.Env {
			names = append(names, s.Alias)
		}
	}
	return names
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name string `json:"name"`
	Setting
}

// EnvList lists the variables of every setting this version acts on, short names after long ones, and
// NAME_FILE after NAME for secrets.
func EnvList() []EnvVar {
	var list []EnvVar
	for _, s := range Settings() {
		if s.Unsupported != "" {
			continue
		}
		names := []string{s.Env}
		if s.Alias != "" && s.Alias != s.Env {
			names = append(names, s.Alias)
		}
		for _, name := range slices.Clone(names) {
			if s.Secret {
				names = append(names, name+fileSuffix)
			}
		}
		for _, name := range names {
			list = append(list, EnvVar{Name: name, Setting: s})
		}
	}
	return list
}

// Explain is everything about a key, or about every key below a section. The error says which key was
// probably meant.
func Explain(key string) ([]Setting, error) {
	var found []Setting
	settings := Settings()
	for _, s := range settings {
		if s.Key == key || strings.HasPrefix(s.Key, key+".") {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, Problems{{Key: key, Message: fmt.Sprintf("unknown key %q", key), Suggestion: closest(key, keys(settings))}}
	}
	return found, nil
}
