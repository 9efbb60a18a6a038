// Package view looks at content of any place, a registry or any transport of go.podman.io/image, as manifests of this
// house and as images of go-containerregistry, and writes such images to a registry.
//
// It may assume that a [Source] gives bytes that are what their digest says. Nothing is read before it is asked for: an
// image is its manifest until somebody reads its configuration or a layer.
//
// Start reading at [Open], then [Push].
package view

import (
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Reasons of this room's failures.
const (
	PlatformUnknown fault.Reason = "PLATFORM_UNKNOWN" // an index has no image for the platform
	NotAnImage      fault.Reason = "NOT_AN_IMAGE"     // an artifact or an index where an image is needed, or the other way round
)

// Source is where content is read from. A remote.Repository is one.
type Source interface {
	// Manifest reads a manifest by tag or digest; the zero reference is the one that the place has by itself.
	Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error)
	// Blob opens a blob from an offset. A reader from 0 verifies the digest at its end.
	Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error)
}

// Node is one manifest or index and where its content is.
type Node struct {
	Descriptor oci.Descriptor
	Body       []byte
	Manifest   *oci.Manifest
	source     Source
}

// Open reads one manifest or index.
func Open(ctx context.Context, s Source, at ref.Reference) (*Node, error) {
	d, body, err := s.Manifest(ctx, at)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return nil, fmt.Errorf("view: manifest %s: %w", d.Digest, err)
	}
	return &Node{Descriptor: d, Body: body, Manifest: m, source: s}, nil
}

// Source is where the content of the node is.
func (n *Node) Source() Source { return n.source }

// IsIndex reports whether the node lists other manifests.
func (n *Node) IsIndex() bool { return n.Manifest.IsIndex() }

// Child reads a manifest that the index lists.
func (n *Node) Child(ctx context.Context, d oci.Digest) (*Node, error) {
	return Open(ctx, n.source, ref.Reference{Digest: d})
}

// Index is the node as go-containerregistry has it.
func (n *Node) Index(ctx context.Context) (v1.ImageIndex, error) {
	if !n.IsIndex() {
		return nil, fault.New(fault.Invalid, NotAnImage, "%s is one image and not an index", n.Descriptor.Digest)
	}
	return &index{ctx: ctx, node: n}, nil
}

// Image is the node as go-containerregistry has it. Artifacts are images here, as far as they have a config and layers.
func (n *Node) Image(ctx context.Context) (v1.Image, error) {
	if n.IsIndex() || n.Manifest.Config == nil {
		return nil, fault.New(fault.Invalid, NotAnImage, "%s is of type %s and not an image", n.Descriptor.Digest, n.Descriptor.MediaType)
	}
	return newImage(ctx, n)
}

// IsPlatformless reports whether an entry of an index is no image that could run: an attestation of BuildKit, an artifact,
// or a nested index without a platform.
func IsPlatformless(d v1.Descriptor) bool {
	return d.Platform == nil || d.Platform.OS == "unknown" || d.Platform.OS == ""
}

// Choose gives the image for a platform: the node itself when it is no index, else the first entry that fits. A platform
// without a variant takes any. It fails with PLATFORM_UNKNOWN and the platforms that there are.
func (n *Node) Choose(ctx context.Context, p v1.Platform) (*Node, error) {
	if !n.IsIndex() {
		return n, nil
	}
	idx, err := n.Index(ctx)
	if err != nil {
		return nil, err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("view: index %s: %w", n.Descriptor.Digest, err)
	}
	var have []string
	for _, d := range m.Manifests {
		if IsPlatformless(d) {
			if d.MediaType.IsIndex() { // an index of indexes: look inside
				if child, err := n.childHash(ctx, d.Digest); err == nil {
					if found, err := child.Choose(ctx, p); err == nil {
						return found, nil
					}
				}
			}
			continue
		}
		if satisfies(*d.Platform, p) {
			return n.childHash(ctx, d.Digest)
		}
		have = append(have, d.Platform.String())
	}
	if len(have) == 0 {
		return nil, fault.New(fault.NotFound, PlatformUnknown, "the index %s has no image for a platform", n.Descriptor.Digest)
	}
	return nil, fault.New(fault.NotFound, PlatformUnknown, "the index %s has no image for %s; it has %s", n.Descriptor.Digest, p.String(), strings.Join(have, ", "))
}

// satisfies reports whether an entry of an index is for the platform that is asked for. v8 is what arm64 is, and v1 what amd64 is:
// many indexes leave it out.
func satisfies(have, want v1.Platform) bool {
	if have.Satisfies(want) {
		return true
	}
	switch want.Architecture + "/" + want.Variant {
	case "arm64/v8", "amd64/v1":
		want.Variant = ""
		return have.Variant == "" && have.Satisfies(want)
	}
	return false
}

func (n *Node) childHash(ctx context.Context, h v1.Hash) (*Node, error) {
	d, err := Digest(h)
	if err != nil {
		return nil, err
	}
	return n.Child(ctx, d)
}

// Digest is a hash of go-containerregistry in the words of this house.
func Digest(h v1.Hash) (oci.Digest, error) { return oci.ParseDigest(h.String()) }

// Hash is the opposite of Digest.
func Hash(d oci.Digest) v1.Hash { return v1.Hash{Algorithm: string(d.Algorithm()), Hex: d.Hex()} }
