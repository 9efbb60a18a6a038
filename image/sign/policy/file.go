package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
)

// Requirement is one requirement of a scope, with all its fields.
type Requirement map[string]json.RawMessage

// text is a field that is a string, "" when it is none.
func (r Requirement) text(field string) (s string) {
	_ = json.Unmarshal(r[field], &s) // what is not a string is shown as nothing; Parse judges
	return s
}

// Type is the kind of requirement: reject, insecureAcceptAnything, signedBy, sigstoreSigned.
func (r Requirement) Type() string { return r.text("type") }

// KeyPaths are the files of keys that it names.
func (r Requirement) KeyPaths() []string {
	var paths []string
	_ = json.Unmarshal(r["keyPaths"], &paths)
	if p := r.text("keyPath"); p != "" {
		paths = append(paths, p)
	}
	return paths
}

// KeyData is keys in the file itself, as they stand there.
func (r Requirement) KeyData() []byte {
	var b []byte
	_ = json.Unmarshal(r["keyData"], &b)
	return b
}

// File is a policy.json as it is written: what we do not change stays.
type File struct {
	Default    []Requirement                       `json:"default"`
	Transports map[string]map[string][]Requirement `json:"transports,omitempty"`
}

// ReadFile reads a policy.json to show or change it.
func ReadFile(b []byte) (*File, error) {
	if _, err := Parse(b); err != nil {
		return nil, err
	}
	f := &File{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "policy is not valid").Because(err)
	}
	return f, nil
}

// Entry is a scope of a policy with one of its requirements.
type Entry struct {
	Transport string // "" of the default
	Scope     string
	Requirement
}

// Entries lists all requirements: the default first, then by transport and scope.
func (f *File) Entries() (out []Entry) {
	for _, r := range f.Default {
		out = append(out, Entry{Requirement: r})
	}
	for _, t := range slices.Sorted(maps.Keys(f.Transports)) {
		for _, s := range slices.Sorted(maps.Keys(f.Transports[t])) {
			for _, r := range f.Transports[t][s] {
				out = append(out, Entry{t, s, r})
			}
		}
	}
	return out
}

// Set gives a scope of the transport docker one kind of requirement, with the files of keys that it takes; scope "default" is
// the default. kinds are those of podman: accept, reject, signedBy, sigstoreSigned.
func (f *File) Set(scope, kind string, keys []string) error {
	var rs []Requirement
	add := func(fields map[string]any) {
		r := Requirement{}
		for k, v := range fields {
			b, _ := json.Marshal(v) // of strings it cannot fail
			r[k] = b
		}
		rs = append(rs, r)
	}
	if needs := kind == "signedBy" || kind == "sigstoreSigned"; needs != (len(keys) > 0) {
		return fault.New(fault.Invalid, sign.ReasonTrust, "trust of type %s is given %d files of keys; signedBy and sigstoreSigned take one at least, accept and reject none", kind, len(keys))
	}
	for _, k := range keys {
		if !filepath.IsAbs(k) {
			return fault.New(fault.Invalid, sign.ReasonTrust, "key %q is not an absolute path; the policy is read from anywhere", k)
		}
	}
	switch kind {
	case "accept":
		add(map[string]any{"type": "insecureAcceptAnything"})
	case "reject":
		add(map[string]any{"type": "reject"})
	case "signedBy": // all of several have to be met
		for _, k := range keys {
			add(map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyPath": k})
		}
	case "sigstoreSigned":
		for _, k := range keys {
			add(map[string]any{"type": "sigstoreSigned", "keyPath": k, "signedIdentity": map[string]string{"type": "matchRepository"}})
		}
	default:
		return fault.New(fault.Invalid, sign.ReasonTrust, "trust type %q is not one of accept, reject, signedBy, sigstoreSigned", kind)
	}
	if scope == "default" {
		f.Default = rs
		return nil
	}
	if scope == "" || strings.ContainsAny(scope, " \t\n@") || strings.Contains(scope, "://") {
		return fault.New(fault.Invalid, sign.ReasonTrust, "scope %q is not the name of a registry, namespace, repository or image, such as registry.example.com/team", scope)
	}
	if f.Transports == nil {
		f.Transports = map[string]map[string][]Requirement{}
	}
	if f.Transports["docker"] == nil {
		f.Transports["docker"] = map[string][]Requirement{}
	}
	f.Transports["docker"][scope] = rs
	return nil
}

// JSON is the file as it is written. It is refused when it would not be a policy.
func (f *File) JSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "policy cannot be written").Because(err)
	}
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
