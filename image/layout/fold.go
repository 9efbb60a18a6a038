package layout

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// AnnotationReferrers stands at the one entry of an index.json whose image has no name: the digest of an index, kept as a blob,
// that lists what refers to the image. Other tools take an image without a name only when nothing is beside it; what has a name
// has its referrers beside it, where they look for them.
const AnnotationReferrers = "io.github.berth-registry.referrers"

// beside reports whether an entry is about another one: a referrer, or a tag that belongs to a digest (those of cosign, and the
// fallback tag of referrers).
func (e entry) beside() bool {
	if e.name() == "" {
		return e.referrer || e.d.ArtifactType != ""
	}
	_, ok := digestOfTag(e.name())
	return ok
}

// digestOfTag is the digest that a tag belongs to: sha256-<hex>, with or without an ending.
func digestOfTag(tag string) (oci.Digest, bool) {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(rest) < 64 || len(rest) > 64 && rest[64] != '.' {
		return oci.Digest{}, false
	}
	d, err := oci.ParseDigest("sha256:" + rest[:64])
	return d, err == nil
}

// render is the document that is stored, and the index of what is listed apart from it; nil where nothing is.
func (ix *index) render() (body, list []byte, err error) {
	var images, others []entry
	for _, e := range ix.entries {
		if e.beside() {
			others = append(others, e)
		} else {
			images = append(images, e)
		}
	}
	if len(images) == 1 && images[0].name() == "" && len(others) > 0 {
		apart := newIndex()
		apart.entries = others
		if list, err = apart.bytes(); err != nil {
			return nil, nil, err
		}
		if len(list) <= maxIndex {
			one := images[0]
			if one.raw, err = annotated(one.raw, oci.FromBytes(oci.SHA256, list).String()); err != nil {
				return nil, nil, err
			}
			if body, err = (&index{fields: ix.fields, entries: []entry{one}}).bytes(); err != nil {
				return nil, nil, err
			}
			return body, list, fits(body, 1)
		}
	}
	if body, err = ix.bytes(); err != nil {
		return nil, nil, err
	}
	return body, nil, fits(body, len(ix.entries))
}

// fits refuses an index that nobody could read.
func fits(body []byte, entries int) error {
	if len(body) <= maxIndex && entries <= oci.MaxDescriptors {
		return nil
	}
	return fault.New(fault.TooLarge, fault.SizeInvalid, "index.json of the layout would have %d entries and %d bytes; at most %d and %d MiB are read. Put the image into another layout, or delete some of this one",
		entries, len(body), oci.MaxDescriptors, maxIndex>>20)
}

// unfold adds what is listed apart to the entries. A list that is not there any more, since a tool did not know it, is empty.
func (ix *index) unfold(read func(oci.Descriptor) ([]byte, error)) error {
	for i, e := range ix.entries {
		at := e.d.Annotations[AnnotationReferrers]
		if at == "" {
			continue
		}
		d, err := oci.ParseDigest(at)
		if err != nil {
			return damaged("index.json of the layout names a list of referrers that is none")
		}
		delete(ix.entries[i].d.Annotations, AnnotationReferrers)
		if ix.entries[i].raw, err = annotated(e.raw, ""); err != nil {
			return err
		}
		body, err := read(oci.Descriptor{Digest: d})
		if fault.Is(err, fault.NotFound) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		apart, err := parseIndex(body)
		if err != nil {
			return err
		}
		ix.apart = append(ix.apart, d)
		for _, o := range apart.entries {
			o.referrer = o.name() == ""
			if !slices.ContainsFunc(ix.entries, func(e entry) bool { return e.d.Digest == o.d.Digest && e.name() == o.name() }) {
				ix.entries = append(ix.entries, o)
			}
		}
	}
	return nil
}

// annotated is a descriptor with the list of referrers, or without one.
func annotated(raw json.RawMessage, list string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, damaged("index.json of the layout has a descriptor that is none")
	}
	notes := map[string]string{}
	if len(fields["annotations"]) > 0 {
		if err := json.Unmarshal(fields["annotations"], &notes); err != nil {
			return nil, damaged("index.json of the layout has a descriptor that is none")
		}
	}
	if notes == nil {
		notes = map[string]string{}
	}
	delete(notes, AnnotationReferrers)
	if list != "" {
		notes[AnnotationReferrers] = list
	}
	delete(fields, "annotations")
	if len(notes) > 0 {
		text, err := json.Marshal(notes)
		if err != nil {
			return nil, err
		}
		fields["annotations"] = text
	}
	return json.Marshal(fields)
}
