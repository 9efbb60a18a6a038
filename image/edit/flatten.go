package edit

import (
	"context"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
)

// Flatten makes one layer of all layers, in a file in dir: what a container sees stays the same, what higher layers hid is
// gone. The configuration and the annotations stay; the history becomes one entry.
func Flatten(ctx context.Context, img v1.Image, dir string, limits rootfs.Limits) (v1.Image, error) {
	p, err := take(img)
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, fmt.Errorf("edit: digest: %w", err)
	}
	l, err := NewLayer(ctx, dir, Family(img), limits, func(w io.Writer) error { return rootfs.Tar(ctx, img, limits, w) })
	if err != nil {
		return nil, err
	}
	kind, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	one := pair{layer: l, desc: v1.Descriptor{MediaType: kind},
		history: v1.History{Created: p.config.Created, CreatedBy: "berth flatten", Comment: fmt.Sprintf("%d layers of %s", p.layers, digest)}}
	out, err := p.build([]pair{one})
	if err != nil {
		return nil, err
	}
	return Annotate(out, p.manifest.Annotations)
}

// Annotations that say what an image is built on.
//
// Spec: OCI image v1.1.1, annotations.md.
const (
	BaseName   = "org.opencontainers.image.base.name"
	BaseDigest = "org.opencontainers.image.base.digest"
)

// Rebase puts the layers that img has above old onto another base, without reading any of them. The configuration is that
// of img, for the platform of the new base. It fails with NOT_BASED when img is not built on old, and with
// CHANGE_INVALID when the bases are for different machines.
func Rebase(img, old, base v1.Image) (v1.Image, error) {
	p, err := take(img)
	if err != nil {
		return nil, err
	}
	was, err := take(old)
	if err != nil {
		return nil, err
	}
	now, err := take(base)
	if err != nil {
		return nil, err
	}
	if was.layers > p.layers {
		return nil, fault.New(fault.Invalid, NotBased, "the image has %d layers, and its base would have %d: it is not built on it", p.layers, was.layers)
	}
	for i := range was.layers {
		if p.manifest.Layers[i].Digest != was.manifest.Layers[i].Digest {
			return nil, fault.New(fault.Invalid, NotBased, "layer %d of the image is %s, and that of its base is %s: it is not built on it",
				i+1, p.manifest.Layers[i].Digest, was.manifest.Layers[i].Digest)
		}
	}
	if a, b := was.config, now.config; a.OS != b.OS || a.Architecture != b.Architecture {
		return nil, fault.New(fault.Invalid, ChangeInvalid, "the image's base is for %s/%s, and the new one for %s/%s; name images of one platform", a.OS, a.Architecture, b.OS, b.Architecture)
	}
	pairs := append(now.pairs[:len(now.pairs):len(now.pairs)], above(p.pairs, was)...)
	if p.manifest.MediaType != now.manifest.MediaType { // layers of the new base in the image's own family
		for i := range pairs {
			if pairs[i].layer == nil {
				continue
			}
			if pairs[i].desc.MediaType, err = layerType(pairs[i].desc.MediaType, Family(img)); err != nil {
				return nil, err
			}
		}
	}
	p.config.OS, p.config.Architecture, p.config.Variant = now.config.OS, now.config.Architecture, now.config.Variant
	p.config.OSVersion, p.config.OSFeatures = now.config.OSVersion, now.config.OSFeatures
	out, err := p.build(pairs)
	if err != nil {
		return nil, err
	}
	return Annotate(out, p.manifest.Annotations)
}

// above are the pairs of an image beyond those of its base: after so many layers, and after the entries that the base's
// own history has behind its last layer.
func above(pairs []pair, base *parts) []pair {
	layers, i := 0, 0
	for ; i < len(pairs) && layers < base.layers; i++ {
		if pairs[i].layer != nil {
			layers++
		}
	}
	for ; i < len(pairs) && i < len(base.pairs) && pairs[i].layer == nil && same(pairs[i].history, base.pairs[i].history); i++ {
	}
	return pairs[i:]
}

func same(a, b v1.History) bool {
	return a.CreatedBy == b.CreatedBy && a.Comment == b.Comment && a.Created.Round(time.Second).Equal(b.Created.Round(time.Second))
}
