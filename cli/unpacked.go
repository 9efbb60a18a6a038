package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/daemon"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
)

// guardUnpacked has the library write layers to where they are kept unpacked (docker-archive, docker-daemon) only as far as an image
// may unpack, and only when they are what the configuration calls them: the library unpacks without bound, and does not compare.
// Other places keep layers as they came.
func (a *app) guardUnpacked(ctx context.Context, source, target types.ImageReference, sys *types.SystemContext, retry option.Retry) (types.ImageReference, error) {
	if t := target.Transport(); t != archive.Transport && t != daemon.Transport {
		return target, nil
	}
	src, err := a.imageSource(ctx, source, sys, retry)
	if err != nil {
		return nil, err
	}
	defer src.Close() //nolint:errcheck // it was only read
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
	if err != nil {
		return nil, err
	}
	var packed int64
	seen := map[digest.Digest]bool{}
	for _, l := range img.LayerInfos() {
		if l.Size < 0 { // it is kept unpacked where it comes from, so it cannot grow
			return &guarded{ImageReference: target, most: rootfs.Defaults().Bytes}, nil
		}
		if !seen[l.Digest] {
			seen[l.Digest] = true
			packed += l.Size
		}
	}
	limits := rootfs.Defaults()
	return &guarded{ImageReference: target, most: min(limits.Bytes, max(limits.Free, packed*limits.Ratio))}, nil
}

// maxConfig is more than any configuration has; it is held in memory.
const maxConfig = 16 << 20

// guarded is a place that takes at most so many bytes of layers for one image.
type guarded struct {
	types.ImageReference
	most int64
}

// NewImageDestination opens the place.
func (g *guarded) NewImageDestination(ctx context.Context, sys *types.SystemContext) (types.ImageDestination, error) {
	d, err := g.ImageReference.NewImageDestination(ctx, sys)
	if err != nil {
		return nil, err
	}
	return &guardedDestination{ImageDestination: d, left: g.most, most: g.most}, nil
}

type guardedDestination struct {
	types.ImageDestination
	most int64

	mu     sync.Mutex
	left   int64
	config []byte
}

// PutBlob counts the bytes of layers, and keeps the configuration to compare with.
func (d *guardedDestination) PutBlob(ctx context.Context, r io.Reader, info types.BlobInfo, cache types.BlobInfoCache, isConfig bool) (types.BlobInfo, error) {
	if !isConfig {
		return d.ImageDestination.PutBlob(ctx, &counted{r, d}, info, cache, false)
	}
	body, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return types.BlobInfo{}, err
	}
	if len(body) > maxConfig {
		return types.BlobInfo{}, fault.New(fault.TooLarge, fault.SizeInvalid, "the configuration of the image is larger than %d MiB", maxConfig>>20)
	}
	d.mu.Lock()
	d.config = body
	d.mu.Unlock()
	return d.ImageDestination.PutBlob(ctx, bytes.NewReader(body), info, cache, true)
}

// PutManifest compares the layers that were written with what the configuration says of them. This place has no signatures that
// could name another configuration.
func (d *guardedDestination) PutManifest(ctx context.Context, body []byte, instance *digest.Digest) error {
	d.mu.Lock()
	config := d.config
	d.mu.Unlock()
	var doc struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	m, err := manifest.Schema2FromManifest(body)
	if err == nil {
		err = json.Unmarshal(config, &doc)
	}
	if err != nil {
		return errors.Join(errors.New("the image cannot be compared with its configuration"), err)
	}
	if len(doc.RootFS.DiffIDs) != len(m.LayersDescriptors) {
		return fault.New(fault.Invalid, rootfs.LayerDamaged, "the image has %d layers, and its configuration names %d", len(m.LayersDescriptors), len(doc.RootFS.DiffIDs))
	}
	for n, l := range m.LayersDescriptors {
		if want := doc.RootFS.DiffIDs[n]; l.Digest != want {
			return fault.New(fault.Invalid, rootfs.LayerDamaged, "layer %d unpacks to %s, and the configuration says %s", n+1, l.Digest, want)
		}
	}
	return d.ImageDestination.PutManifest(ctx, body, instance)
}

// counted is a layer on its way.
type counted struct {
	io.Reader
	d *guardedDestination
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.d.left -= int64(n); c.d.left < 0 {
		return 0, fault.New(fault.TooLarge, rootfs.LayerTooLarge, "the layers unpack to more than %d MiB, which is more than layers of their size do", c.d.most>>20)
	}
	return n, err
}
