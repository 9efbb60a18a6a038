package scrub

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	pageOfManifests = 2000 // whose rows are asked about at once
	namedReferences = 1000 // that a report names
)

// references asks the rows of each other.
func (w *walk) references(ctx context.Context) error {
	db := w.s.o.DB
	last, err := db.LastManifest(ctx)
	if err != nil {
		return fmt.Errorf("scrub: references: %w", err)
	}
	for w.p.Number < last {
		upto := w.p.Number + pageOfManifests
		without, err := db.ManifestsWithoutContent(ctx, w.p.Number, upto)
		if err != nil {
			return fmt.Errorf("scrub: references: %w", err)
		}
		for _, b := range without {
			w.broken(Reference{Kind: "manifest", Repository: b.Repository, Manifest: b.Manifest.String()})
		}
		edges, err := db.EdgesToNothing(ctx, w.p.Number, upto)
		if err != nil {
			return fmt.Errorf("scrub: references: %w", err)
		}
		if err := w.edges(ctx, edges); err != nil {
			return err
		}
		w.p.Number = upto
		w.show(w.p)
	}
	tags, err := db.TagsToNothing(ctx, namedReferences)
	if err != nil {
		return fmt.Errorf("scrub: references: %w", err)
	}
	for _, b := range tags {
		w.broken(Reference{Kind: "tag", Repository: b.Repository, Tag: b.Tag, Manifest: b.Manifest.String()})
	}
	return nil
}

func (w *walk) broken(r Reference) {
	w.p.Report.Broken++
	if len(w.p.Report.References) < namedReferences {
		w.p.Report.References = append(w.p.Report.References, r)
	}
}

// edges reports those that lead to what the registry should have: a manifest may name layers that lie elsewhere.
func (w *walk) edges(ctx context.Context, edges []metadb.Broken) error {
	var of oci.Digest
	var elsewhere map[oci.Digest]bool
	for _, e := range edges {
		if e.Manifest != of {
			of = e.Manifest
			var err error
			if elsewhere, err = w.external(ctx, e); err != nil {
				return err
			}
		}
		if !elsewhere[e.Child] {
			w.broken(Reference{Kind: "blob", Repository: e.Repository, Manifest: e.Manifest.String(), Digest: e.Child.String()})
		}
	}
	return nil
}

// external are the layers of a manifest that lie elsewhere. One that cannot be read has none: that it cannot is said, too.
func (w *walk) external(ctx context.Context, e metadb.Broken) (map[oci.Digest]bool, error) {
	repo, err := w.s.o.DB.Repository(ctx, e.Repository)
	if err != nil {
		return nil, fmt.Errorf("scrub: references: %w", err)
	}
	row, body, err := w.s.o.DB.ManifestContent(ctx, repo.ID, e.Manifest)
	if err != nil {
		return nil, nil //nolint:nilerr // deleted meanwhile
	}
	out := map[oci.Digest]bool{}
	m, err := oci.ParseManifest(row.MediaType, body)
	if err != nil {
		return out, nil //nolint:nilerr // see above
	}
	for _, l := range m.Layers {
		if l.External() {
			out[l.Digest] = true
		}
	}
	return out, nil
}
