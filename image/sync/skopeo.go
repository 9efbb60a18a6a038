package sync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/oci/ref"
)

// skopeoRegistry is one registry of skopeo's file.
type skopeoRegistry struct {
	Images      map[string][]string `yaml:"images"`
	ByRegex     map[string]string   `yaml:"images-by-tag-regex"`
	BySemver    map[string]string   `yaml:"images-by-semver"`
	Credentials struct {
		Username string `yaml:"username"`
		Password string `yaml:"password"`
	} `yaml:"credentials"`
	TLSVerify *bool  `yaml:"tls-verify"`
	CertDir   string `yaml:"cert-dir"`
}

// ParseSkopeo reads the YAML that skopeo sync --src yaml reads. Rules are in the order of hosts and names; where they go to is
// for the caller to say. A key that is not known is an error.
func ParseSkopeo(body []byte) (*Config, error) {
	var doc map[string]skopeoRegistry
	if err := Decode(body, &doc); err != nil {
		return nil, err
	}
	c := &Config{}
	for _, host := range sortedKeys(doc) {
		r := doc[host]
		if r.Credentials.Username != "" || r.CertDir != "" || r.TLSVerify != nil {
			c.Logins = append(c.Logins, Login{Host: host, User: r.Credentials.Username, Password: r.Credentials.Password, CertDir: r.CertDir,
				Insecure: r.TLSVerify != nil && !*r.TLSVerify})
		}
		if len(r.Images)+len(r.ByRegex)+len(r.BySemver) == 0 {
			return nil, invalid("registry %s has no images; name some under images, images-by-tag-regex or images-by-semver", host)
		}
		for _, name := range sortedKeys(r.Images) {
			rule := Rule{From: host + "/" + name}
			for _, s := range r.Images[name] {
				at, err := parseRef(s)
				if err != nil {
					return nil, err
				}
				rule.Select.Refs = append(rule.Select.Refs, at)
			}
			c.Rules = append(c.Rules, rule)
		}
		for _, name := range sortedKeys(r.ByRegex) {
			re, err := regexp.Compile(r.ByRegex[name]) // not anchored, as for skopeo
			if err != nil {
				return nil, invalid("images-by-tag-regex of %s: %s", name, err)
			}
			c.Rules = append(c.Rules, Rule{From: host + "/" + name, Select: Filter{Allow: []*regexp.Regexp{re}}})
		}
		for _, name := range sortedKeys(r.BySemver) {
			v, err := Version(r.BySemver[name])
			if err != nil {
				return nil, err
			}
			rule := Rule{From: host + "/" + name}
			rule.Select.Versions = append(rule.Select.Versions, v)
			c.Rules = append(c.Rules, rule)
		}
	}
	for _, r := range c.Rules {
		if _, _, err := Split(r.From); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// unknownKey is how the YAML library says that a key is in no struct. Its name of the struct is of no use to a reader.
var unknownKey = regexp.MustCompile(`(?s)^(line \d+): field (.+?) not found in type (.+)$`)

// Decode reads one YAML document whose keys are all known. A fault names the line of a key that is not, and those that are.
func Decode(body []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(body))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return invalid("the file is empty")
		}
		var wrong *yaml.TypeError
		if !errors.As(err, &wrong) {
			return invalid("the file is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		said := make([]string, len(wrong.Errors))
		for i, e := range wrong.Errors {
			said[i] = e
			if m := unknownKey.FindStringSubmatch(e); m != nil {
				said[i] = fmt.Sprintf("%s: there is no key %.60q", m[1], m[2])
				if known := keys(reflect.TypeOf(into), m[3]); len(known) > 0 {
					said[i] += "; known are " + strings.Join(known, ", ")
				}
			}
		}
		return invalid("the file is not what it should be: %s", strings.Join(said, "; "))
	}
	return nil
}

// keys are those that YAML has for the struct of this name within t.
func keys(t reflect.Type, name string) (out []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		return keys(t.Elem(), name)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); t.String() == name && key != "" {
				out = append(out, key)
			} else if t.String() != name && out == nil {
				out = keys(f.Type, name)
			}
		}
	}
	return out
}

// one is a filter for a single reference.
func one(at ref.Reference) Filter { return Filter{Refs: []ref.Reference{at}} }
