package layout

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Remove deletes an image by name or digest, or the only one there is: the entry, what refers to it and to nothing else that is
// left, and the blobs that the layout then has no use for. What is not there is NotFound. A blob stays when what is left cannot be read.
func (l *Dir) Remove(_ context.Context, at ref.Reference) error {
	var gone []oci.Digest
	return l.changeThen(func(ix *index) error {
		d, err := ix.find(at)
		if err != nil {
			return err
		}
		if at.Tag == "" {
			at.Digest = d.Digest
		}
		had := map[oci.Digest]bool{}
		for _, e := range ix.entries {
			l.needs(had, e.d)
		}
		ix.remove(at)
		live, whole := l.orphan(ix, had)
		if !whole {
			return nil
		}
		for d := range had {
			if !live[d] {
				gone = append(gone, d)
			}
		}
		for _, d := range ix.apart {
			if !live[d] {
				gone = append(gone, d)
			}
		}
		return nil
	}, func(list oci.Digest) error {
		var errs []error
		for _, d := range gone {
			if d == list {
				continue
			}
			if err := l.d.Remove(blobPath(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// orphan takes out the entries that are about something which the layout had and has no more. live is what the others need;
// whole is false when that is not all, for something cannot be read.
func (l *Dir) orphan(ix *index, had map[oci.Digest]bool) (live map[oci.Digest]bool, whole bool) {
	live, whole = map[oci.Digest]bool{}, true
	var open []entry
	for _, e := range ix.entries {
		if e.beside() {
			open = append(open, e)
		} else {
			whole = l.needs(live, e.d) && whole
		}
	}
	for more := true; more; {
		more = false
		open = slices.DeleteFunc(open, func(e entry) bool {
			subject, ok := l.subject(e)
			stays := !ok || live[subject] || !had[subject]
			if stays {
				whole = l.needs(live, e.d) && whole
				more = true
			}
			return stays
		})
	}
	ix.entries = slices.DeleteFunc(ix.entries, func(e entry) bool {
		return slices.ContainsFunc(open, func(o entry) bool { return o.d.Digest == e.d.Digest && o.name() == e.name() })
	})
	return live, whole
}

// subject is what an entry is about.
func (l *Dir) subject(e entry) (oci.Digest, bool) {
	if d, ok := digestOfTag(e.name()); ok {
		return d, true
	}
	body, err := l.read(e.d)
	if err != nil {
		return oci.Digest{}, false
	}
	m, err := oci.ParseManifest(e.d.MediaType, body)
	if err != nil || m.Subject == nil {
		return oci.Digest{}, false
	}
	return m.Subject.Digest, true
}

// needs adds a manifest and all that it needs to a set. It reports whether that could be found out; what a sparse index lacks
// needs nothing.
func (l *Dir) needs(set map[oci.Digest]bool, d oci.Descriptor) bool {
	if set[d.Digest] {
		return true
	}
	set[d.Digest] = true
	if d.MediaType != "" && !strings.Contains(d.MediaType, "manifest") && !strings.Contains(d.MediaType, "index") {
		return true // BuildKit keeps blobs in an index
	}
	body, err := l.read(d)
	if err != nil {
		return fault.Is(err, fault.NotFound)
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return false
	}
	if m.Config != nil {
		set[m.Config.Digest] = true
	}
	for _, b := range m.Layers {
		set[b.Digest] = true
	}
	whole := true
	for _, k := range m.Manifests {
		whole = l.needs(set, k) && whole
	}
	return whole
}
