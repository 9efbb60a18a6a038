package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// index is an index.json: what this package acts upon, and everything else as it stood.
type index struct {
	fields  map[string]json.RawMessage
	entries []entry
	apart   []oci.Digest // lists that entries were taken from, by unfold
}

// entry is one descriptor of the index.
type entry struct {
	d        oci.Descriptor
	raw      json.RawMessage
	referrer bool // it has a subject, as far as that is known
}

func (e entry) name() string { return e.d.Annotations[AnnotationName] }

func newIndex() *index {
	return &index{fields: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + oci.MediaTypeIndex + `"`),
	}}
}

// parseIndex reads an index.json. It is held to the same rules as an index in a registry, except that older tools left out
// its media type.
func parseIndex(body []byte) (*index, error) {
	m, err := oci.ParseManifest(oci.MediaTypeIndex, body)
	if err != nil {
		if f := (*fault.Error)(nil); errors.As(err, &f) {
			return nil, damaged("index.json of the layout is not valid: %s", f.Message)
		}
		return nil, err
	}
	ix := &index{}
	if err := json.Unmarshal(body, &ix.fields); err != nil {
		return nil, damaged("index.json of the layout is not valid JSON")
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(ix.fields["manifests"], &raws); err != nil && len(ix.fields["manifests"]) > 0 || len(raws) != len(m.Manifests) {
		return nil, damaged("index.json of the layout has no list of manifests")
	}
	for i, raw := range raws {
		ix.entries = append(ix.entries, entry{d: m.Manifests[i], raw: raw})
	}
	delete(ix.fields, "manifests")
	return ix, nil
}

// bytes is the document, with the fields in a fixed order, so that the same content gives the same bytes.
func (ix *index) bytes() ([]byte, error) {
	doc := map[string]json.RawMessage{}
	for k, v := range ix.fields {
		doc[k] = v
	}
	raws := make([]json.RawMessage, 0, len(ix.entries))
	for _, e := range ix.entries {
		raws = append(raws, e.raw)
	}
	list, err := json.Marshal(raws)
	if err != nil {
		return nil, fmt.Errorf("layout: write index: %w", err)
	}
	doc["manifests"] = list
	return json.Marshal(doc)
}

// find is the entry of a name or digest. Without either it is the only entry there is.
func (ix *index) find(at ref.Reference) (oci.Descriptor, error) {
	if at.Tag == "" && at.Digest.IsZero() {
		named := ix.images()
		switch len(named) {
		case 0:
			return oci.Descriptor{}, fault.New(fault.NotFound, fault.ManifestUnknown, "the layout has no image")
		case 1:
			return named[0].d, nil
		}
		return oci.Descriptor{}, fault.New(fault.Invalid, fault.ManifestUnknown, "the layout has %d images; name one of them: %s", len(named), names(named))
	}
	for _, e := range slices.Backward(ix.entries) { // what was added last counts, as for other tools
		if at.Tag != "" && e.name() == at.Tag || at.Tag == "" && e.d.Digest == at.Digest {
			return e.d, nil
		}
	}
	return oci.Descriptor{}, fault.New(fault.NotFound, fault.ManifestUnknown, "the layout has no image %q", at.String())
}

// images are the entries that stand for themselves: those with names, or all where none has one. What is about
// another is none of them, where there is anything else.
func (ix *index) images() []entry {
	plain := slices.DeleteFunc(slices.Clone(ix.entries), entry.beside)
	if named := slices.DeleteFunc(slices.Clone(plain), func(e entry) bool { return e.name() == "" }); len(named) > 0 {
		return named
	}
	if len(plain) > 0 {
		return plain
	}
	return ix.entries
}

func names(es []entry) string {
	s := ""
	for i, e := range es {
		if i == 5 {
			return s + " …"
		}
		if s != "" {
			s += ", "
		}
		if n := e.name(); n != "" {
			s += fmt.Sprintf("%.60q", n)
		} else {
			s += e.d.Digest.String()
		}
	}
	return s
}

// put enters a manifest: under a name, whose older entry goes, or without one, once.
func (ix *index) put(name string, d oci.Descriptor, platform json.RawMessage, referrer bool) error {
	d.Annotations = nil
	if name != "" {
		d.Annotations = map[string]string{AnnotationName: name}
	}
	raw, err := json.Marshal(struct {
		oci.Descriptor
		Platform json.RawMessage `json:"platform,omitempty"`
	}{d, platform})
	if err != nil {
		return fmt.Errorf("layout: write index: %w", err)
	}
	ix.entries = slices.DeleteFunc(ix.entries, func(e entry) bool {
		return e.name() == name && (name != "" || e.d.Digest == d.Digest)
	})
	ix.entries = append(ix.entries, entry{d, raw, referrer})
	return nil
}

// remove takes out the entries of a name or digest, and reports whether there were any.
func (ix *index) remove(at ref.Reference) bool {
	n := len(ix.entries)
	ix.entries = slices.DeleteFunc(ix.entries, func(e entry) bool {
		return at.Tag != "" && e.name() == at.Tag || at.Tag == "" && e.d.Digest == at.Digest
	})
	return len(ix.entries) != n
}

// tags are the names of the entries, in order, each once.
func (ix *index) tags() []string {
	var out []string
	seen := map[string]bool{}
	for _, e := range ix.entries {
		if n := e.name(); n != "" && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
