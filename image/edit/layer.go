package edit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
)

// layerType is a layer's media type in the other family.
func layerType(t types.MediaType, to MediaTypes) (types.MediaType, error) {
	for _, row := range []struct{ oci, docker types.MediaType }{
		{types.OCILayer, types.DockerLayer}, {types.OCIUncompressedLayer, types.DockerUncompressedLayer},
		{types.OCIRestrictedLayer, types.DockerForeignLayer},
	} {
		if t == row.oci || t == row.docker {
			if to == Docker {
				return row.docker, nil
			}
			return row.oci, nil
		}
	}
	if to == OCI {
		return t, nil
	}
	return "", fault.New(fault.Invalid, ChangeInvalid, "a layer of type %s cannot be in a docker image; use --format oci", t)
}

// Family is that of an image's media types.
func Family(img v1.Image) MediaTypes {
	if t, err := img.MediaType(); err == nil && t == types.DockerManifestSchema2 {
		return Docker
	}
	return OCI
}

// fileLayer is a layer in a file.
type fileLayer struct {
	path    string
	summary rootfs.Summary
	kind    types.MediaType
}

func (l *fileLayer) Digest() (v1.Hash, error)            { return view.Hash(l.summary.Digest), nil }
func (l *fileLayer) DiffID() (v1.Hash, error)            { return view.Hash(l.summary.DiffID), nil }
func (l *fileLayer) Size() (int64, error)                { return l.summary.Size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.kind, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.path) }
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) {
	return nil, errors.New("edit: nobody unpacks a layer that was just packed")
}

// OpenLayer takes an archive file as a layer for an image of the family: a plain tar is compressed into a file in dir, one
// that is compressed stays as it is. Its paths are checked first, so that an archive that would leave the image, or is
// none, is refused before anything is sent.
func OpenLayer(ctx context.Context, path, dir string, family MediaTypes, limits rootfs.Limits) (v1.Layer, error) {
	magic := make([]byte, 4)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("edit: layer: %w", err)
	}
	n, _ := io.ReadFull(f, magic)
	_ = f.Close()
	kind := types.OCILayer
	switch {
	case n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
	case n == 4 && string(magic) == "\x28\xb5\x2f\xfd":
		kind = types.OCILayerZStd
	default:
		return NewLayer(ctx, dir, family, limits, func(w io.Writer) error {
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("edit: layer: %w", err)
			}
			defer f.Close() //nolint:errcheck // it was only read
			_, err = io.Copy(w, f)
			return err
		})
	}
	return seal(ctx, &fileLayer{path: path, kind: kind}, family, limits)
}

// NewLayer makes a gzip layer, in a file in dir, of the tar archive that write gives. The same archive gives the same layer.
func NewLayer(ctx context.Context, dir string, family MediaTypes, limits rootfs.Limits, write func(io.Writer) error) (v1.Layer, error) {
	f, err := os.CreateTemp(dir, "layer-*.tar.gz")
	if err != nil {
		return nil, fmt.Errorf("edit: layer: %w", err)
	}
	z := gzip.NewWriter(f)
	err = write(z)
	if err == nil {
		err = z.Close()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	return seal(ctx, &fileLayer{path: f.Name(), kind: types.OCILayer}, family, limits)
}

func seal(ctx context.Context, l *fileLayer, family MediaTypes, limits rootfs.Limits) (v1.Layer, error) {
	var err error
	if family == Docker {
		if l.kind, err = layerType(l.kind, Docker); err != nil {
			return nil, err
		}
	}
	if l.summary.Digest, err = digestFile(l.path); err != nil {
		return nil, err
	}
	if l.summary, err = rootfs.Check(ctx, l, limits); err != nil {
		return nil, fmt.Errorf("edit: %s: %w", l.path, err)
	}
	return l, nil
}

func digestFile(path string) (oci.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return oci.Digest{}, fmt.Errorf("edit: layer: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := oci.NewHasher(oci.SHA256)
	if _, err := io.Copy(h, f); err != nil {
		return oci.Digest{}, fmt.Errorf("edit: layer: %w", err)
	}
	return h.Digest(), nil
}
