// Package referrer finds what refers to an image: signatures, SBOMs, attestations, reports, and what refers to those. It
// looks where the specification puts them, the referrers of a digest, and where cosign puts them, under tags that are made
// of the digest.
//
// It reads manifests only through the methods of [Source] and changes nothing.
//
// Start reading at [Grow].
//
// Spec: OCI distribution v1.1.1, "Listing Referrers".
package referrer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Source is a repository that can be asked. A remote.Repository is one.
type Source interface {
	Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error)
	Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error)
}

// Node is something that refers to what is above it.
type Node struct {
	Digest      oci.Digest        `json:"digest"`
	MediaType   string            `json:"mediaType"`
	Type        string            `json:"artifactType,omitempty"`
	Kind        Kind              `json:"kind,omitempty"`
	Format      string            `json:"format,omitempty"` // of the kind: cosign, notation, spdx …; of an attestation the type of its statement
	Tag         string            `json:"tag,omitempty"`    // of cosign's scheme; "" is a referrer
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Referrers   []*Node           `json:"referrers,omitempty"`
}

// Options say how far to look.
type Options struct {
	Depth int    // levels; 0 is 16
	Type  string // of the first level, only this artifact type; "" is all
	Tags  bool   // also look for the tags of cosign
}

// limits of what somebody else's registry may make us read.
const (
	depth = 16
	most  = 10000
)

// What cosign keeps under tags.
func cosign() map[string]Node {
	return map[string]Node{".sig": {Type: "cosign signatures", Kind: Signature}, ".att": {Type: "cosign attestations", Kind: Attestation}, ".sbom": {Type: "cosign SBOM", Kind: SBOM}}
}

// Grow finds the referrers of a digest, those of them, and so on. A digest that was seen is not looked at again, so a circle
// ends; more than ten thousand are SIZE_INVALID.
func Grow(ctx context.Context, s Source, d oci.Digest, o Options) ([]*Node, error) {
	if o.Depth == 0 || o.Depth > depth {
		o.Depth = depth
	}
	g := grower{s: s, o: o, seen: map[oci.Digest]bool{d: true}}
	return g.grow(ctx, d, 1)
}

type grower struct {
	s    Source
	o    Options
	seen map[oci.Digest]bool
}

func (g *grower) grow(ctx context.Context, d oci.Digest, level int) ([]*Node, error) {
	list, err := g.s.Referrers(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("referrer: of %s: %w", d, err)
	}
	var out []*Node
	for _, r := range list {
		if level == 1 && g.o.Type != "" && r.ArtifactType != g.o.Type {
			continue
		}
		n := &Node{Digest: r.Digest, MediaType: r.MediaType, Type: r.ArtifactType, Size: r.Size, Annotations: r.Annotations}
		n.Kind, n.Format = KindOf(r)
		out = append(out, n)
	}
	if g.o.Tags && g.o.Type == "" {
		tagged, err := g.tags(ctx, d)
		if err != nil {
			return nil, err
		}
		out = append(out, tagged...)
	}
	slices.SortStableFunc(out, func(a, b *Node) int {
		return strings.Compare(a.Type+a.Tag+a.Digest.String(), b.Type+b.Tag+b.Digest.String())
	})
	for _, n := range out {
		if g.seen[n.Digest] || level >= g.o.Depth {
			continue
		}
		if g.seen[n.Digest] = true; len(g.seen) > most {
			return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "more than %d manifests refer to %s and to each other", most, d)
		}
		if n.Referrers, err = g.grow(ctx, n.Digest, level+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tags asks for the tags that cosign makes of a digest.
func (g *grower) tags(ctx context.Context, d oci.Digest) ([]*Node, error) {
	var out []*Node
	for suffix, kind := range cosign() {
		tag := string(d.Algorithm()) + "-" + d.Hex() + suffix
		if _, err := ref.ParseTag(tag); err != nil { // sha512 is too long for a tag
			continue
		}
		found, err := g.s.Head(ctx, ref.Reference{Tag: tag})
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("referrer: tag %s: %w", tag, err)
		}
		out = append(out, &Node{Digest: found.Digest, MediaType: found.MediaType, Type: kind.Type, Kind: kind.Kind, Format: "cosign", Tag: tag, Size: found.Size})
	}
	return out, nil
}
