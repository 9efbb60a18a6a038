package view

import (
	"bytes"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// maxConfig is more than any configuration has; it is held in memory.
const maxConfig = 16 << 20

// image is a manifest with a config. partial makes the rest of a v1.Image of it.
type image struct {
	ctx    context.Context
	node   *Node
	layers map[v1.Hash]oci.Descriptor
	config []byte // read once
}

func newImage(ctx context.Context, n *Node) (v1.Image, error) {
	i := &image{ctx: ctx, node: n, layers: map[v1.Hash]oci.Descriptor{}}
	for _, d := range n.Manifest.Layers {
		i.layers[Hash(d.Digest)] = d
	}
	return partial.CompressedToImage(i)
}

func (i *image) RawManifest() ([]byte, error) { return i.node.Body, nil }
func (i *image) MediaType() (types.MediaType, error) {
	return types.MediaType(i.node.Descriptor.MediaType), nil
}
func (i *image) Digest() (v1.Hash, error) { return Hash(i.node.Descriptor.Digest), nil }

func (i *image) RawConfigFile() ([]byte, error) {
	if i.config == nil {
		b, err := ReadBlob(i.ctx, i.node.source, *i.node.Manifest.Config, maxConfig)
		if err != nil {
			return nil, fmt.Errorf("view: configuration of %s: %w", i.node.Descriptor.Digest, err)
		}
		i.config = b
	}
	return i.config, nil
}

func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if d, ok := i.layers[h]; ok {
		return &layer{image: i, desc: d}, nil
	}
	if d := *i.node.Manifest.Config; Hash(d.Digest) == h { // go-containerregistry asks for it so when it copies
		return &layer{image: i, desc: d}, nil
	}
	return nil, fault.New(fault.NotFound, fault.BlobUnknown, "image %s has no layer %s", i.node.Descriptor.Digest, h)
}

type layer struct {
	image *image
	desc  oci.Descriptor
}

func (l *layer) Digest() (v1.Hash, error)            { return Hash(l.desc.Digest), nil }
func (l *layer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return types.MediaType(l.desc.MediaType), nil }

func (l *layer) Compressed() (io.ReadCloser, error) {
	return l.image.node.source.Blob(l.image.ctx, l.desc, 0)
}

// DiffID comes from the configuration, so that nobody has to unpack the layer for it.
func (l *layer) DiffID() (v1.Hash, error) {
	body, err := l.image.RawConfigFile()
	if err != nil {
		return v1.Hash{}, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(body))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("view: configuration of %s: %w", l.image.node.Descriptor.Digest, err)
	}
	for n, d := range l.image.node.Manifest.Layers {
		if d.Digest == l.desc.Digest && n < len(config.RootFS.DiffIDs) {
			return config.RootFS.DiffIDs[n], nil
		}
	}
	return v1.Hash{}, fault.New(fault.Invalid, NotAnImage, "the configuration of %s has no entry for layer %s", l.image.node.Descriptor.Digest, l.desc.Digest)
}

// Descriptor keeps annotations and URLs of the layer when the image is changed.
func (l *layer) Descriptor() (*v1.Descriptor, error) {
	return &v1.Descriptor{MediaType: types.MediaType(l.desc.MediaType), Digest: Hash(l.desc.Digest), Size: l.desc.Size,
		URLs: l.desc.URLs, Annotations: l.desc.Annotations}, nil
}

// index is a manifest that lists others.
type index struct {
	ctx  context.Context
	node *Node
}

func (i *index) RawManifest() ([]byte, error) { return i.node.Body, nil }
func (i *index) MediaType() (types.MediaType, error) {
	return types.MediaType(i.node.Descriptor.MediaType), nil
}
func (i *index) Digest() (v1.Hash, error) { return Hash(i.node.Descriptor.Digest), nil }
func (i *index) Size() (int64, error)     { return i.node.Descriptor.Size, nil }

func (i *index) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(bytes.NewReader(i.node.Body))
}

func (i *index) Image(h v1.Hash) (v1.Image, error) {
	child, err := i.node.childHash(i.ctx, h)
	if err != nil {
		return nil, err
	}
	return child.Image(i.ctx)
}

func (i *index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	child, err := i.node.childHash(i.ctx, h)
	if err != nil {
		return nil, err
	}
	return child.Index(i.ctx)
}

// ReadBlob reads a small blob whole. One that its descriptor says is larger than most fails with SIZE_INVALID.
func ReadBlob(ctx context.Context, s Source, d oci.Descriptor, most int64) ([]byte, error) {
	if d.Size > most {
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "blob %s has %d bytes; at most %d are read into memory", d.Digest, d.Size, most)
	}
	r, err := s.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was read to its end
	return io.ReadAll(io.LimitReader(r, most+1))
}

// Discard reads a blob to its end, so that its digest and size are compared.
func Discard(ctx context.Context, s Source, d oci.Descriptor) error {
	r, err := s.Blob(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // it was read to its end
	n, err := io.Copy(io.Discard, r)
	if err == nil && n != d.Size {
		err = fault.New(fault.Invalid, fault.SizeInvalid, "blob %s has %d bytes; its descriptor says %d", d.Digest, n, d.Size)
	}
	return err
}

// Layer is a blob of the node's as go-containerregistry has layers, for those who read archives.
func Layer(ctx context.Context, n *Node, d oci.Descriptor) (v1.Layer, error) {
	return partial.CompressedToLayer(&layer{image: &image{ctx: ctx, node: n}, desc: d})
}
