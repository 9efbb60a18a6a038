package edit

import (
	"bytes"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pair is an entry of the history with its layer: either may be missing.
type pair struct {
	history v1.History
	layer   v1.Layer // nil of an entry that made none
	desc    v1.Descriptor
}

// parts are an image taken apart.
type parts struct {
	manifest *v1.Manifest
	config   *v1.ConfigFile
	pairs    []pair
	layers   int
}

func take(img v1.Image) (*parts, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, fmt.Errorf("edit: manifest: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("edit: layers: %w", err)
	}
	p := &parts{manifest: m, config: config.DeepCopy(), layers: len(layers)}
	with := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			with++
		}
	}
	// A history that does not fit the layers is worth nothing: who made which layer would be a guess.
	n := 0
	if with == len(layers) {
		for _, h := range config.History {
			one := pair{history: h}
			if !h.EmptyLayer {
				one.layer, one.desc = layers[n], m.Layers[n]
				n++
			}
			p.pairs = append(p.pairs, one)
		}
	}
	for ; n < len(layers); n++ {
		p.pairs = append(p.pairs, pair{layer: layers[n], desc: m.Layers[n]})
	}
	return p, nil
}

// build makes an image of these pairs with the manifest's and configuration's other fields, without annotations.
func (p *parts) build(pairs []pair) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, p.manifest.MediaType), p.manifest.Config.MediaType)
	file := p.config.DeepCopy()
	file.RootFS, file.History = v1.RootFS{Type: "layers"}, nil
	img, err := mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("edit: configuration: %w", err)
	}
	var adds []mutate.Addendum
	for _, one := range pairs {
		if one.layer != nil && one.desc.MediaType != "" {
			one.layer = typed{one.layer, one.desc.MediaType}
		}
		add := mutate.Addendum{Layer: one.layer, History: one.history, MediaType: one.desc.MediaType, Annotations: one.desc.Annotations, URLs: one.desc.URLs}
		adds = append(adds, add)
	}
	if img, err = mutate.Append(img, adds...); err != nil {
		return nil, fmt.Errorf("edit: layers: %w", err)
	}
	return img, nil
}

// typed is a layer under another media type.
type typed struct {
	v1.Layer
	kind types.MediaType
}

func (t typed) MediaType() (types.MediaType, error) { return t.kind, nil }

// Convert changes the family of media types. Layers keep their bytes; zstd layers and annotations cannot be in a Docker
// image, and fail.
func Convert(img v1.Image, to MediaTypes) (v1.Image, error) {
	if to == Keep {
		return img, nil
	}
	p, err := take(img)
	if err != nil {
		return nil, err
	}
	manifest, config := types.OCIManifestSchema1, types.OCIConfigJSON
	if to == Docker {
		manifest, config = types.DockerManifestSchema2, types.DockerConfigJSON
	}
	if p.manifest.MediaType == manifest {
		return img, nil
	}
	for i := range p.pairs {
		if p.pairs[i].layer == nil {
			continue
		}
		if p.pairs[i].desc.MediaType, err = layerType(p.pairs[i].desc.MediaType, to); err != nil {
			return nil, err
		}
	}
	annotations := p.manifest.Annotations
	p.manifest.MediaType, p.manifest.Config.MediaType = manifest, config
	out, err := p.build(p.pairs)
	if err != nil || len(annotations) == 0 {
		return out, err
	}
	return Annotate(out, annotations)
}

func equal(a, b *v1.ConfigFile) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
