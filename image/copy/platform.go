package copy

import (
	"encoding/json"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// ReasonPlatform is that of a platform that is written wrong.
const ReasonPlatform fault.Reason = "PLATFORM_INVALID"

// Platform is for which machine an image is. Empty fields are not said.
//
// Spec: OCI image v1.1.1, image-index.md, "platform".
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// ParsePlatform reads "os/architecture" or "os/architecture/variant".
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return Platform{}, fault.New(fault.Invalid, ReasonPlatform, "platform %.60q is malformed; write os/architecture or os/architecture/variant, such as linux/arm64", s)
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.normal(), nil
}

// String is "os/architecture/variant".
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// normal leaves out the variants that are the rule.
func (p Platform) normal() Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" || p.Architecture == "amd64" && p.Variant == "v1" {
		p.Variant = ""
	}
	return p
}

// fits reports whether an image for p runs where want is asked for. A wish without a variant takes any.
func (p Platform) fits(want Platform) bool {
	p, want = p.normal(), want.normal()
	return p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant)
}

// child is one entry of an index with its platform.
type child struct {
	oci.Descriptor
	Platform *Platform `json:"platform"`
}

func children(body []byte) ([]child, error) {
	var doc struct {
		Manifests []child `json:"manifests"`
	}
	err := json.Unmarshal(body, &doc)
	return doc.Manifests, err
}

// choose is the entry of an index for a platform: of those that fit the one without a variant, or the first.
func choose(all []child, want Platform) (child, bool) {
	best, found := child{}, false
	for _, c := range all {
		if c.Platform == nil || !c.Platform.fits(want) {
			continue
		}
		if !found || best.Platform.Variant != "" && c.Platform.Variant == "" {
			best, found = c, true
		}
	}
	return best, found
}

func platforms(all []child) string {
	var out []string
	for _, c := range all {
		if c.Platform != nil && c.Platform.OS != "unknown" {
			out = append(out, c.Platform.String())
		}
	}
	if len(out) > 12 {
		out = append(out[:12], "…")
	}
	return strings.Join(out, ", ")
}
