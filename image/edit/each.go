package edit

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/view"
)

// Each makes an index whose images are the changed ones of idx. Entries that are no image for a platform, such as the
// attestations of a build, are left out: what they say is of the images as they were. left is how many.
func Each(idx v1.ImageIndex, change func(v1.Image) (v1.Image, error)) (out v1.ImageIndex, left int, err error) {
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, 0, fmt.Errorf("edit: index: %w", err)
	}
	out = mutate.IndexMediaType(empty.Index, m.MediaType)
	if len(m.Annotations) > 0 {
		out = mutate.Annotations(out, m.Annotations).(v1.ImageIndex)
	}
	for _, d := range m.Manifests {
		if view.IsPlatformless(d) || !d.MediaType.IsImage() {
			left++
			continue
		}
		img, err := idx.Image(d.Digest)
		if err != nil {
			return nil, 0, fmt.Errorf("edit: image for %s: %w", d.Platform, err)
		}
		if img, err = change(img); err != nil {
			return nil, 0, fmt.Errorf("edit: image for %s: %w", d.Platform, err)
		}
		out = mutate.AppendManifests(out, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: d.Platform, Annotations: d.Annotations}})
	}
	if left == len(m.Manifests) {
		return nil, 0, fault.New(fault.Invalid, ChangeInvalid, "the index lists no image for a platform")
	}
	return out, left, nil
}
