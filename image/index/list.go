// Package index makes and changes image indexes: lists of images, one for each platform, under one name.
//
// A [List] is an index in the making: what it will say, and for each entry where the image is, because an index can be put
// together from several registries, archives and directories and is only pushed at the end. A [Store] keeps lists on this
// machine by name, as podman does. The package reads no registry; whoever adds an entry has looked at the image.
//
// Start reading at [List], then [Store.Update].
//
// Spec: OCI image v1.1.1, image-index.md.
package index

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// Reasons of this room's failures.
const (
	ListUnknown  fault.Reason = "LIST_UNKNOWN"  // no list of this name, or no such entry in it
	ListExists   fault.Reason = "LIST_EXISTS"   // the name is taken
	ListConflict fault.Reason = "LIST_CONFLICT" // what was asked contradicts what the list has
)

// List is an index in the making. The zero value is an empty one.
type List struct {
	ArtifactType string            `json:"artifactType,omitempty"`
	Subject      *v1.Descriptor    `json:"subject,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Entries      []Entry           `json:"entries"`
}

// Entry is one image of a list, or another index, or any manifest.
type Entry struct {
	v1.Descriptor
	// Source is where the content is, as transport:reference; it has to be there when the list is pushed.
	Source string `json:"source,omitempty"`
}

// Add appends the entry, or replaces the one with its digest and platform: adding an image twice changes nothing but
// what is said of it.
func (l *List) Add(e Entry) {
	for i, old := range l.Entries {
		if old.Digest == e.Digest && samePlatform(old.Platform, e.Platform) {
			l.Entries[i] = e
			return
		}
	}
	l.Entries = append(l.Entries, e)
}

// Put is Add for who speaks of the image as one: it replaces every entry with its digest, whatever platform that was said to be for.
func (l *List) Put(e Entry) {
	at := slices.IndexFunc(l.Entries, func(old Entry) bool { return old.Digest == e.Digest })
	if at < 0 {
		l.Entries = append(l.Entries, e)
		return
	}
	l.Entries[at] = e
	rest := slices.DeleteFunc(l.Entries[at+1:], func(old Entry) bool { return old.Digest == e.Digest })
	l.Entries = l.Entries[:at+1+len(rest)]
}

func samePlatform(a, b *v1.Platform) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Equals(*b)
}

// Find gives the entry of a digest, which may be shortened to a beginning that only one entry has: sha256:59eec8 or 59eec8.
// It fails with LIST_UNKNOWN or LIST_CONFLICT.
func (l *List) Find(digest string) (*Entry, error) {
	want := digest
	if !strings.Contains(want, ":") {
		want = "sha256:" + want
	}
	var found *Entry
	for i := range l.Entries {
		e := &l.Entries[i]
		switch s := e.Digest.String(); {
		case s == want:
			return e, nil
		case !strings.HasPrefix(s, want), found != nil && found.Digest == e.Digest:
		case found != nil:
			return nil, fault.New(fault.Invalid, ListConflict, "several images of the list have a digest that begins with %.100q; give more of it", digest)
		default:
			found = e
		}
	}
	if found == nil || len(want) < len("sha256:")+6 {
		return nil, fault.New(fault.NotFound, ListUnknown, "the list has no image %.100q", digest)
	}
	return found, nil
}

// Remove takes out every entry with the digest of the one that Find gives, and returns it.
func (l *List) Remove(digest string) (Entry, error) {
	e, err := l.Find(digest)
	if err != nil {
		return Entry{}, err
	}
	gone := *e
	l.Entries = slices.DeleteFunc(l.Entries, func(o Entry) bool { return o.Digest == gone.Digest })
	return gone, nil
}

// Change is what to record differently of an image. Empty fields change nothing.
type Change struct {
	OS, Architecture, Variant, OSVersion string
	OSFeatures, Features                 []string
	Annotations                          map[string]string // added; an existing key gets the new value
}

// Apply records the change.
func (e *Entry) Apply(c Change) {
	p := v1.Platform{}
	if e.Platform != nil {
		p = *e.Platform
	}
	set := func(field *string, value string) {
		if value != "" {
			*field = value
		}
	}
	if c.Architecture != "" && c.Architecture != p.Architecture && c.Variant == "" {
		p.Variant = "" // v8 of arm64 says nothing of another architecture
	}
	set(&p.OS, c.OS)
	set(&p.Architecture, c.Architecture)
	set(&p.Variant, c.Variant)
	set(&p.OSVersion, c.OSVersion)
	if c.OSFeatures != nil {
		p.OSFeatures = c.OSFeatures
	}
	if c.Features != nil {
		p.Features = c.Features
	}
	if !p.Equals(v1.Platform{}) {
		e.Platform = &p
	}
	if len(c.Annotations) > 0 {
		e.Annotations = maps.Clone(e.Annotations)
		if e.Annotations == nil {
			e.Annotations = map[string]string{}
		}
		maps.Copy(e.Annotations, c.Annotations)
	}
}

// document is an index as it is written. Descriptors are ours, for their order of keys.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Subject       *v1.Descriptor    `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Render writes the list as an index of the media type, OCI's or Docker's; the same list gives the same bytes. Docker's
// cannot say everything: a subject, an artifact type or annotations fail with LIST_CONFLICT rather than being lost.
func (l *List) Render(mediaType string) ([]byte, error) {
	doc := document{SchemaVersion: 2, MediaType: types.MediaType(mediaType), ArtifactType: l.ArtifactType, Subject: l.Subject,
		Annotations: l.Annotations, Manifests: []v1.Descriptor{}}
	annotated := len(l.Annotations) > 0
	for _, e := range l.Entries {
		doc.Manifests = append(doc.Manifests, e.Descriptor)
		annotated = annotated || len(e.Annotations) > 0
	}
	switch mediaType {
	case oci.MediaTypeIndex:
	case oci.MediaTypeDockerList:
		if annotated || l.Subject != nil || l.ArtifactType != "" {
			return nil, fault.New(fault.Invalid, ListConflict, "a docker manifest list has no annotations, subject or artifact type, and this list does; write it as an OCI index")
		}
	default:
		return nil, fault.New(fault.Invalid, ListConflict, "media type %.100q is not that of an index", mediaType)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("index: render: %w", err)
	}
	if _, err := oci.ParseManifest(mediaType, body); err != nil {
		return nil, fmt.Errorf("index: render: %w", err)
	}
	return body, nil
}

// Parse reads an index of either media type as a list whose entries are at source.
func Parse(mediaType string, body []byte, source string) (*List, error) {
	m, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		return nil, fmt.Errorf("index: parse: %w", err)
	}
	if !m.IsIndex() {
		return nil, fault.New(fault.Invalid, ListConflict, "the content is a manifest of type %s and not an index", m.MediaType)
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fault.New(fault.Invalid, fault.ManifestInvalid, "the index does not have the shape of its type").Because(err)
	}
	l := &List{ArtifactType: doc.ArtifactType, Subject: doc.Subject, Annotations: doc.Annotations}
	for _, d := range doc.Manifests {
		l.Entries = append(l.Entries, Entry{Descriptor: d, Source: source})
	}
	return l, nil
}
