// Package sync copies images by rule: which repositories, which of their tags, where to. It reads the rules of skopeo sync and
// of regsync, finds out by digest what is new, copies that with image/copy, and can remove what the source no longer has.
//
// A run that is interrupted leaves a state file, and the next one leaves out what was done. A run that ends copies nothing the
// second time. Nothing is removed unless it was asked for and every tag of the rule was copied.
//
// Start reading at [Rule], then [Engine.Run].
package sync

import (
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/oci/ref"
)

// ReasonRule is that of every fault of a rule: a file that cannot be read, an expression or a range that is malformed.
const ReasonRule fault.Reason = "RULE_INVALID"

// Rule is one repository to keep in step.
type Rule struct {
	From    string // "host/repository", or what else the caller can open
	To      string // likewise; "" is for the caller to fill in
	Select  Filter
	Rename  string          // of a single reference: the tag that it gets; "" keeps it
	Suffix  string          // appended to every tag
	Options Options         // over the engine's
	Repos   *RepositoryRule // the rule is about repositories of a registry: From and To are hosts, with a path or not
}

// RepositoryRule chooses repositories of a registry by their names.
type RepositoryRule struct{ Select Filter }

// Options are what a rule may say about how it is copied; nil and empty is what the engine does by default.
type Options struct {
	Referrers *copy.Referrers
	Platforms []copy.Platform
	One       *copy.Platform // only the image for this platform, in place of the index
	Least     int            // stop when fewer requests than this remain of the source's limit
}

// Login is what a configuration says of a registry.
type Login struct {
	Host           string
	User, Password string
	CertDir        string
	Insecure       bool // the certificate is not verified, and plain HTTP is tried
	Plain          bool // plain HTTP
}

// Config is what a configuration file says.
type Config struct {
	Rules    []Rule
	Logins   []Login
	Parallel int      // images at the same time; 0 is not said
	Warnings []string // what was said and has no meaning here
}

// Split takes "host/repository" apart. Docker Hub's short forms are those of every client: "alpine" and "team/app".
func Split(name string) (host string, repository ref.Name, err error) {
	host, path, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, path = "docker.io", name
	}
	if (host == "docker.io" || host == "index.docker.io") && !strings.Contains(path, "/") {
		host, path = "docker.io", "library/"+path
	}
	repository, err = ref.ParseName(path)
	return host, repository, err
}

// splitTag takes "name:tag", "name@digest" or "name" apart.
func splitTag(s string) (name string, at ref.Reference, err error) {
	if name, digest, ok := strings.Cut(s, "@"); ok {
		at, err = parseRef(digest)
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i] // the digest says more than the tag beside it
		}
		return name, at, err
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		at, err = parseRef(s[i+1:])
		return s[:i], at, err
	}
	return s, ref.Reference{}, nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonRule, format, args...)
}
