// Package ref holds the grammar of names and references: repository names, tags, and "a tag or a digest".
// It does no I/O; every name that enters the system from outside passes through here first.
package ref

import (
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// MaxName is the longest repository name in bytes. The specification suggests that host and name together stay within
// 255; clients refuse longer ones.
const MaxName = 255

// MaxTag is the longest tag in bytes (OCI distribution v1.1.1, "Pulling manifests").
const MaxTag = 128

// Name is a validated repository name. The zero value is no name.
type Name struct{ s string }

// ParseName accepts the grammar of OCI distribution v1.1.1, "Pulling manifests":
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*, at most MaxName bytes.
func ParseName(s string) (Name, error) {
	if s == "" {
		return Name{}, fault.New(fault.Invalid, fault.NameInvalid, "repository name is empty")
	}
	if len(s) > MaxName {
		return Name{}, fault.New(fault.Invalid, fault.NameInvalid, "repository name has %d bytes; at most %d are allowed", len(s), MaxName)
	}
	for part := range strings.SplitSeq(s, "/") {
		if !component(part) {
			return Name{}, fault.New(fault.Invalid, fault.NameInvalid,
				"repository name %.100q is invalid at %.60q; use lowercase letters and digits, joined by one of . _ __ - inside a part and / between parts", s, part)
		}
	}
	return Name{s}, nil
}

// component matches [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func component(s string) bool {
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if alnum(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && s[i] == s[start] {
			i++
		}
		switch s[start] {
		case '.':
			if i-start > 1 {
				return false
			}
		case '_':
			if i-start > 2 {
				return false
			}
		case '-':
		default:
			return false
		}
		if !alnum(s[i]) { // i is in range: the last byte is alphanumeric
			return false
		}
	}
	return true
}

// String is the name, "" for the zero value.
func (n Name) String() string { return n.s }

// IsZero reports whether n is no name.
func (n Name) IsZero() bool { return n.s == "" }

// MarshalText and UnmarshalText let JSON carry names; a malformed one fails to unmarshal.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText accepts the empty text as the zero value.
func (n *Name) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*n = Name{}
		return nil
	}
	p, err := ParseName(string(b))
	if err != nil {
		return err
	}
	*n = p
	return nil
}

// DefaultProject owns the repositories whose names have one part, as on Docker Hub.
const DefaultProject = "library"

// Project is the name of the project that owns the repository: the first part of a name with several, "library" for
// a name with one.
func (n Name) Project() string {
	if p, _, ok := strings.Cut(n.s, "/"); ok {
		return p
	}
	return DefaultProject
}

// ParseTag accepts [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func ParseTag(s string) (string, error) {
	ok := s != "" && len(s) <= MaxTag && s[0] != '.' && s[0] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
	}
	if !ok {
		return "", fault.New(fault.Invalid, fault.TagInvalid,
			"tag %.150q is invalid; use up to %d letters, digits, underscores, periods and dashes, not starting with a period or dash", s, MaxTag)
	}
	return s, nil
}

// Reference names a manifest inside a repository: by digest or by tag, never both.
type Reference struct {
	Tag    string
	Digest oci.Digest
}

// ParseReference takes a text with a colon for a digest and any other for a tag.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d, err := oci.ParseDigest(s)
		return Reference{Digest: d}, err
	}
	t, err := ParseTag(s)
	return Reference{Tag: t}, err
}

// String is the tag or the digest.
func (r Reference) String() string {
	if r.Tag != "" {
		return r.Tag
	}
	return r.Digest.String()
}
