package cosign

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
)

// simple is what a signature of the tag scheme says.
type simple struct {
	Critical struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			DockerManifestDigest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

func simpleOf(reference string, d oci.Digest, notes map[string]any) simple {
	var s simple
	s.Critical.Identity.DockerReference = reference
	s.Critical.Image.DockerManifestDigest = d.String()
	s.Critical.Type = simpleKind
	s.Optional = notes
	return s
}

// check reports why the payload says nothing of the image.
func (s simple) check(d oci.Digest) error {
	if s.Critical.Type != simpleKind {
		return fmt.Errorf("payload is of type %q, not %q", s.Critical.Type, simpleKind)
	}
	if s.Critical.Image.DockerManifestDigest != d.String() {
		return fmt.Errorf("it signs another image: %.80q", s.Critical.Image.DockerManifestDigest)
	}
	return nil
}

// statement is what an envelope says of its subjects.
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Name        string            `json:"name,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

func statementOf(name string, d oci.Digest, predicateType string, predicate []byte, notes map[string]any) statement {
	return statement{Type: statementV1, PredicateType: predicateType, Predicate: predicate, Subject: []subject{{
		Name: name, Digest: map[string]string{string(d.Algorithm()): d.Hex()}, Annotations: notes,
	}}}
}

// about finds the subject that is the image.
func (s statement) about(d oci.Digest) (subject, bool) {
	i := slices.IndexFunc(s.Subject, func(x subject) bool { return x.Digest[string(d.Algorithm())] == d.Hex() })
	if i < 0 {
		return subject{}, false
	}
	return s.Subject[i], true
}

// predicates are the short names of cosign's --type.
func predicates() map[string]string {
	return map[string]string{
		"custom":           "https://cosign.sigstore.dev/attestation/v1",
		"slsaprovenance":   "https://slsa.dev/provenance/v0.2",
		"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
		"slsaprovenance1":  "https://slsa.dev/provenance/v1",
		"spdx":             "https://spdx.dev/Document",
		"spdxjson":         "https://spdx.dev/Document",
		"cyclonedx":        "https://cyclonedx.org/bom",
		"link":             "https://in-toto.io/Link/v1",
		"vuln":             "https://cosign.sigstore.dev/attestation/vuln/v1",
		"openvex":          "https://openvex.dev/ns",
	}
}

// PredicateType is the type of an attestation by its short name or its URI.
func PredicateType(name string) (string, error) {
	if uri, ok := predicates()[name]; ok {
		return uri, nil
	}
	if u, err := url.Parse(name); err == nil && u.IsAbs() && u.Host != "" {
		return name, nil
	}
	names := make([]string, 0, len(predicates()))
	for n := range predicates() {
		names = append(names, n)
	}
	slices.Sort(names)
	return "", fault.New(fault.Invalid, sign.ReasonStatement, "type %q is neither a URI nor one of %s", name, strings.Join(names, ", "))
}

// agrees reports whether all wanted annotations are in what was signed.
func agrees(wanted map[string]string, signed map[string]any) error {
	for k, v := range wanted {
		if got, ok := signed[k]; !ok || fmt.Sprint(got) != v {
			return fmt.Errorf("annotation %s=%s was not signed", k, v)
		}
	}
	return nil
}
