package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Media types of manifests that the specifications and Docker define.
const (
	MediaTypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex          = "application/vnd.oci.image.index.v1+json"
	MediaTypeArtifact       = "application/vnd.oci.artifact.manifest.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeEmpty          = "application/vnd.oci.empty.v1+json"

	mediaTypeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Descriptor points at content. Fields that the registry does not act upon are not kept: the bytes of a manifest are
// stored as they came, and never made again from this.
//
// Spec: OCI image v1.1.1, descriptor.md.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       Digest            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// External reports whether the content may live elsewhere, so that a registry cannot ask for it: a layer with URLs of
// its own, or one of the foreign and non-distributable types.
func (d Descriptor) External() bool {
	return len(d.URLs) > 0 || strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable.")
}

// Manifest is what the registry needs to know of a manifest or an index: its type and what it points at.
type Manifest struct {
	MediaType    string
	ArtifactType string // as the referrers API reports it: the field, else the config's media type
	Config       *Descriptor
	Layers       []Descriptor // layers of an image, blobs of an artifact manifest
	Manifests    []Descriptor // children of an index: manifests, or blobs where BuildKit keeps its cache as an index
	Subject      *Descriptor
	Annotations  map[string]string
}

// document is the union of the shapes, as they stand in JSON.
type document struct {
	SchemaVersion *int              `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Blobs         []Descriptor      `json:"blobs"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// ParseManifest reads a manifest of any JSON media type. contentType is the request's Content-Type, "" when it had
// none; the document's own mediaType must then say what it is, and must agree where both are given.
//
// It refuses with MANIFEST_INVALID what two readers could understand in two ways: duplicate keys, known keys in another
// case, a document that is a manifest and an index at once, JSON nested deeper than 32 levels, a list of more than
// 16,384 descriptors, more than 131,072 keys, and a media type or artifact type of more than 255 characters or of others than printable ASCII.
//
// Spec: OCI image v1.1.1 manifest.md and image-index.md; OCI distribution v1.1.1, "Pushing Manifests".
func ParseManifest(contentType string, body []byte) (*Manifest, error) {
	mediaType, err := parseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	if err := unambiguous(body); err != nil {
		return nil, err
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, invalid("manifest does not have the shape of its type: %s", shape(err))
	}
	switch {
	case mediaType == "":
		mediaType = doc.MediaType
	case doc.MediaType != "" && doc.MediaType != mediaType:
		return nil, invalid("manifest says mediaType %.100q and the Content-Type header says %.100q; they must agree", doc.MediaType, mediaType)
	}
	switch mediaType {
	case "":
		return nil, invalid("manifest has neither a Content-Type header nor a mediaType field")
	case mediaTypeSchema1, mediaTypeSchema1Signed:
		return nil, invalid("docker schema 1 manifests are not accepted; push with a client that writes schema 2 or OCI manifests")
	}
	m := &Manifest{
		MediaType: mediaType, ArtifactType: doc.ArtifactType, Config: doc.Config, Layers: doc.Layers,
		Manifests: doc.Manifests, Subject: doc.Subject, Annotations: doc.Annotations,
	}
	return m, m.check(&doc)
}

// MaxDescriptors is how many contents one manifest may list: it bounds the rows and the memory that one can cost.
const MaxDescriptors = 16384

func (m *Manifest) check(doc *document) error {
	isIndex := doc.Manifests != nil
	isImage := doc.Config != nil || doc.Layers != nil
	if isIndex && (isImage || doc.Blobs != nil) {
		return invalid("manifest has both manifests and layers, config or blobs; it must be either an index or a manifest")
	}
	switch m.MediaType {
	case MediaTypeManifest, MediaTypeDockerManifest:
		if isIndex {
			return invalid("manifest of type %s has a list of manifests", m.MediaType)
		}
		if doc.Config == nil {
			return invalid("manifest of type %s has no config", m.MediaType)
		}
	case MediaTypeIndex, MediaTypeDockerList:
		if isImage || doc.Blobs != nil {
			return invalid("index of type %s has layers, config or blobs", m.MediaType)
		}
	}
	switch m.MediaType {
	case MediaTypeManifest, MediaTypeDockerManifest, MediaTypeIndex, MediaTypeDockerList:
		if doc.SchemaVersion == nil || *doc.SchemaVersion != 2 {
			return invalid("manifest of type %s needs schemaVersion 2", m.MediaType)
		}
	}
	if doc.Blobs != nil {
		m.Layers = append(m.Layers, doc.Blobs...)
	}
	if n := len(m.Layers) + len(m.Manifests); n > MaxDescriptors {
		return invalid("manifest points at %d contents; at most %d are accepted", n, MaxDescriptors)
	}
	if m.ArtifactType == "" && m.Config != nil {
		m.ArtifactType = m.Config.MediaType
	}
	for field, value := range map[string]string{"mediaType": m.MediaType, "artifactType": m.ArtifactType} {
		if !plausibleType(value) {
			return invalid("manifest has the %s %.60q; a media type has at most %d characters, all printable ASCII", field, value, maxMediaType)
		}
	}
	for _, d := range m.all() {
		if d.Digest.IsZero() {
			return invalid("manifest has a descriptor without a digest")
		}
		if d.Size < 0 {
			return invalid("manifest has a descriptor of negative size for %s", d.Digest)
		}
	}
	return nil
}

// maxMediaType is what RFC 6838, section 4.2, leaves: 127 characters for each of the two names.
const maxMediaType = 255

// plausibleType reports whether a text may be a media type, or "". The grammar is not enforced: artifacts in the wild have
// types with spaces and without slashes. What lists and databases cannot carry is.
func plausibleType(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= maxMediaType
}

func (m *Manifest) all() []Descriptor {
	ds := make([]Descriptor, 0, len(m.Layers)+len(m.Manifests)+2)
	if m.Config != nil {
		ds = append(ds, *m.Config)
	}
	if m.Subject != nil {
		ds = append(ds, *m.Subject)
	}
	ds = append(ds, m.Layers...)
	return append(ds, m.Manifests...)
}

// IsIndex reports whether the manifest lists other manifests.
func (m *Manifest) IsIndex() bool { return m.Manifests != nil }

func parseMediaType(contentType string) (string, error) {
	if contentType == "" {
		return "", nil
	}
	mt, _, err := mime.ParseMediaType(contentType)
	if err != nil || len(mt) > 255 {
		return "", invalid("content type %.100q of the manifest is malformed", contentType)
	}
	if !strings.HasSuffix(mt, "+json") && mt != "application/json" && mt != mediaTypeSchema1Signed {
		return "", invalid("content type %.100q is not a manifest's; expected a JSON type such as %s", mt, MediaTypeManifest)
	}
	if mt == "application/json" { // curl's and some libraries' default: the document has to say
		return "", nil
	}
	return mt, nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.ManifestInvalid, format, args...)
}

// shape says in the sender's words what a JSON error says in those of Go; people who push manifests do not know our structs.
func shape(err error) string {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Sprintf("field %.60q cannot be %.60s", wrong.Field, wrong.Value)
	}
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return f.Message
	}
	return "a field has a value of another kind"
}
