package sync

import (
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Filter chooses what of a repository is copied. The zero value chooses every tag that is an image's own.
type Filter struct {
	Refs     []ref.Reference      // exactly these tags and digests; the rest of the filter is then about nothing
	Allow    []*regexp.Regexp     // a tag that matches one of them; none is every tag
	Deny     []*regexp.Regexp     // and none of these
	Versions []semver.Constraints // and, when there are any, is a version within one of them
}

// Anchored compiles an expression that has to match the whole of a tag.
func Anchored(s string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`^(?:` + s + `)$`)
	if err != nil {
		return nil, fault.New(fault.Invalid, ReasonRule, "regular expression %.100q is malformed: %s", s, err)
	}
	return re, nil
}

// Version reads a range of versions: ">= 1.2, < 2", "^1.2", "~1.2.3", "1.x", several joined by "||".
func Version(s string) (semver.Constraints, error) {
	c, err := semver.NewConstraint(s)
	if err != nil {
		return semver.Constraints{}, fault.New(fault.Invalid, ReasonRule, "version range %.100q is malformed: %s", s, err)
	}
	return *c, nil
}

// listed reports whether the tags of the source have to be listed.
func (f Filter) listed() bool { return len(f.Refs) == 0 }

// pick are the references to copy, tags being those of the source, in the source's order.
func (f Filter) pick(tags []string) []ref.Reference {
	if !f.listed() {
		return f.Refs
	}
	var out []ref.Reference
	for _, t := range tags {
		if f.fits(t) {
			out = append(out, ref.Reference{Tag: t})
		}
	}
	return out
}

// fits reports whether a tag is chosen. Signatures under tags travel with what they sign, never by themselves.
func (f Filter) fits(tag string) bool {
	if copy.CosignTag(tag) {
		return false
	}
	if len(f.Allow) > 0 && !slices.ContainsFunc(f.Allow, func(re *regexp.Regexp) bool { return re.MatchString(tag) }) {
		return false
	}
	if slices.ContainsFunc(f.Deny, func(re *regexp.Regexp) bool { return re.MatchString(tag) }) {
		return false
	}
	if len(f.Versions) == 0 {
		return true
	}
	v, err := semver.NewVersion(tag)
	return err == nil && slices.ContainsFunc(f.Versions, func(c semver.Constraints) bool { return c.Check(v) })
}

// parseRef takes a text with a colon for a digest.
func parseRef(s string) (ref.Reference, error) {
	if strings.Contains(s, ":") {
		d, err := oci.ParseDigest(s)
		return ref.Reference{Digest: d}, err
	}
	t, err := ref.ParseTag(s)
	return ref.Reference{Tag: t}, err
}
