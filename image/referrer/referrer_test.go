package referrer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/referrer"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// graph is a repository in memory: who refers to whom, and which tags there are.
type graph struct {
	edges map[oci.Digest][]oci.Descriptor
	tags  map[string]oci.Descriptor
	asked int
}

func (g *graph) Referrers(_ context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	g.asked++
	return g.edges[d], nil
}

func (g *graph) Head(_ context.Context, at ref.Reference) (oci.Descriptor, error) {
	d, ok := g.tags[at.Tag]
	if !ok {
		return d, fault.New(fault.NotFound, fault.ManifestUnknown, "no tag %s", at.Tag)
	}
	return d, nil
}

func digest(s string) oci.Digest { return oci.FromBytes(oci.SHA256, []byte(s)) }

func node(s string) oci.Descriptor {
	return oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest(s), Size: 1, ArtifactType: "type/" + s}
}

func shape(nodes []*referrer.Node) string {
	var out []string
	for _, n := range nodes {
		s := n.Type
		if n.Referrers != nil {
			s += "(" + shape(n.Referrers) + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestGrow(t *testing.T) {
	g := &graph{
		edges: map[oci.Digest][]oci.Descriptor{
			digest("image"):             {node("sbom"), node("a-signature")},
			digest("sbom"):              {node("signature-of-sbom")},
			digest("signature-of-sbom"): {node("sbom")}, // a circle
		},
		tags: map[string]oci.Descriptor{"sha256-" + digest("image").Hex() + ".sig": node("x")},
	}
	for name, c := range map[string]struct {
		o    referrer.Options
		want string
	}{
		"all":       {referrer.Options{}, "type/a-signature type/sbom(type/signature-of-sbom(type/sbom))"},
		"tags":      {referrer.Options{Tags: true}, "cosign signatures type/a-signature type/sbom(type/signature-of-sbom(type/sbom))"},
		"one level": {referrer.Options{Depth: 1}, "type/a-signature type/sbom"},
		"by type":   {referrer.Options{Type: "type/sbom"}, "type/sbom(type/signature-of-sbom(type/sbom))"},
		"none":      {referrer.Options{Type: "type/none", Tags: true}, ""},
	} {
		nodes, err := referrer.Grow(t.Context(), g, digest("image"), c.o)
		if err != nil || shape(nodes) != c.want {
			t.Errorf("%s: %s, %v; want %s", name, shape(nodes), err, c.want)
		}
	}
}

// A registry that never ends is left after a while.
func TestGrowEnds(t *testing.T) {
	g := &graph{edges: map[oci.Digest][]oci.Descriptor{}}
	for i := range 12000 {
		g.edges[digest("image")] = append(g.edges[digest("image")], node(fmt.Sprint(i)))
	}
	if _, err := referrer.Grow(t.Context(), g, digest("image"), referrer.Options{}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("%v after %d questions", err, g.asked)
	}
}
