// Package validate finds out whether an image is whole: every blob there, of its digest and size, every layer an archive
// that unpacks to what the configuration says, every entry of an index an image for its platform.
//
// It reads what it checks and changes nothing. A finding is not an error: errors are for what could not be looked at.
//
// Start reading at [Check].
package validate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
)

// Options say how thoroughly to look.
type Options struct {
	Limits rootfs.Limits
	// Fast asks only whether blobs are there, where the source can say so, and reads none.
	Fast bool
}

// Finding is one thing that is wrong.
type Finding struct {
	Manifest oci.Digest `json:"manifest"` // of the image or index that it is about
	Text     string     `json:"finding"`
}

// Report is what was looked at and found.
type Report struct {
	Manifests int       `json:"manifests"`
	Blobs     int       `json:"blobs"`
	Bytes     int64     `json:"bytes"` // read, or asked for
	Findings  []Finding `json:"findings"`
}

// maxDepth is how deep indexes may lie in indexes.
const maxDepth = 8

// presence is what a registry can answer without sending a blob.
type presence interface {
	HasBlob(ctx context.Context, d oci.Descriptor) (bool, error)
}

// Check looks at a node and all that it lists. It returns an error only when looking was not possible: no connection, no
// right; whatever else is wrong is a finding.
func Check(ctx context.Context, n *view.Node, o Options) (*Report, error) {
	r := &Report{Findings: []Finding{}}
	c := checker{report: r, o: o, seen: map[oci.Digest]bool{}}
	return r, c.node(ctx, n, nil, 0)
}

type checker struct {
	report *Report
	o      Options
	seen   map[oci.Digest]bool
}

func (c *checker) find(n *view.Node, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{n.Descriptor.Digest, fmt.Sprintf(format, args...)})
}

// wrong makes a finding of an error that is about the content, and returns any other.
func (c *checker) wrong(n *view.Node, what string, err error) error {
	f := (*fault.Error)(nil)
	switch {
	case errors.Is(err, fs.ErrNotExist): // of a place that is made of files
		c.find(n, "%s: it is not there", what)
		return nil
	case !errors.As(err, &f):
		return err
	}
	switch f.Kind {
	case fault.Invalid, fault.NotFound, fault.TooLarge:
	default:
		if f.Reason != "WRONG_DIGEST" {
			return err
		}
	}
	c.find(n, "%s: %s", what, f.Message)
	return nil
}

func (c *checker) node(ctx context.Context, n *view.Node, p *v1.Platform, depth int) error {
	if c.seen[n.Descriptor.Digest] {
		return nil
	}
	c.seen[n.Descriptor.Digest] = true
	c.report.Manifests++
	if depth > maxDepth {
		c.find(n, "indexes lie in indexes more than %d deep", maxDepth)
		return nil
	}
	if n.IsIndex() {
		return c.index(ctx, n, depth)
	}
	return c.image(ctx, n, p)
}

func (c *checker) index(ctx context.Context, n *view.Node, depth int) error {
	idx, err := n.Index(ctx)
	if err != nil {
		return c.wrong(n, "index", err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		c.find(n, "index: %v", err)
		return nil
	}
	for _, d := range m.Manifests {
		digest, err := view.Digest(d.Digest)
		if err != nil {
			c.find(n, "index: %v", err)
			continue
		}
		child, err := n.Child(ctx, digest)
		if err != nil {
			if err := c.wrong(n, "manifest "+d.Digest.String(), err); err != nil {
				return err
			}
			continue
		}
		if child.Descriptor.Size != d.Size {
			c.find(n, "manifest %s has %d bytes, and the index says %d", d.Digest, child.Descriptor.Size, d.Size)
		}
		if child.Descriptor.MediaType != string(d.MediaType) {
			c.find(n, "manifest %s is of type %s, and the index says %s", d.Digest, child.Descriptor.MediaType, d.MediaType)
		}
		if err := c.node(ctx, child, d.Platform, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) image(ctx context.Context, n *view.Node, p *v1.Platform) error {
	if n.Manifest.Config == nil {
		for _, d := range n.Manifest.Layers {
			if err := c.blob(ctx, n, d); err != nil {
				return err
			}
		}
		return nil
	}
	img, err := n.Image(ctx)
	if err != nil {
		return c.wrong(n, "image", err)
	}
	var config *v1.ConfigFile
	c.report.Blobs++
	c.report.Bytes += n.Manifest.Config.Size
	body, err := img.RawConfigFile()
	switch {
	case err != nil:
		if err := c.wrong(n, "configuration "+n.Manifest.Config.Digest.String(), err); err != nil {
			return err
		}
	case strings.Contains(n.Manifest.Config.MediaType, "image") && strings.HasSuffix(n.Manifest.Config.MediaType, "json"):
		if config, err = v1.ParseConfigFile(bytes.NewReader(body)); err != nil {
			c.find(n, "configuration %s: %v", n.Manifest.Config.Digest, err)
		}
	}
	if config != nil {
		c.config(n, config, p)
	}
	for i, d := range n.Manifest.Layers {
		if err := c.layer(ctx, n, img, i, d, config); err != nil {
			return err
		}
	}
	return nil
}

// config compares what the configuration says with the manifest and with the index's entry.
func (c *checker) config(n *view.Node, config *v1.ConfigFile, p *v1.Platform) {
	if have, want := len(config.RootFS.DiffIDs), len(n.Manifest.Layers); have != want {
		c.find(n, "the configuration lists %d layers, and the manifest %d", have, want)
	}
	layers := 0
	for _, h := range config.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	if len(config.History) > 0 && layers != len(n.Manifest.Layers) {
		c.find(n, "the history has %d entries with a layer, and the manifest %d layers", layers, len(n.Manifest.Layers))
	}
	if p != nil && p.OS != "unknown" && (p.OS != config.OS || p.Architecture != config.Architecture) {
		c.find(n, "the index lists it for %s, and the configuration says %s/%s", p, config.OS, config.Architecture)
	}
}

func (c *checker) layer(ctx context.Context, n *view.Node, img v1.Image, i int, d oci.Descriptor, config *v1.ConfigFile) error {
	archive := strings.Contains(d.MediaType, ".tar")
	if c.o.Fast || !archive || config == nil || d.External() {
		return c.blob(ctx, n, d)
	}
	c.report.Blobs++
	c.report.Bytes += d.Size
	l, err := img.LayerByDigest(view.Hash(d.Digest))
	if err != nil {
		return c.wrong(n, fmt.Sprintf("layer %d", i+1), err)
	}
	sum, err := rootfs.Check(ctx, l, c.o.Limits)
	if err != nil {
		return c.wrong(n, fmt.Sprintf("layer %d", i+1), err)
	}
	if sum.Size != d.Size {
		c.find(n, "layer %d, %s, has %d bytes, and the manifest says %d", i+1, d.Digest, sum.Size, d.Size)
	}
	if d.Digest.Algorithm() == oci.SHA256 && sum.Digest != d.Digest {
		c.find(n, "layer %d, %s, has the digest %s", i+1, d.Digest, sum.Digest)
	}
	if i < len(config.RootFS.DiffIDs) && config.RootFS.DiffIDs[i].Algorithm == string(oci.SHA256) && config.RootFS.DiffIDs[i] != view.Hash(sum.DiffID) {
		c.find(n, "layer %d, %s, unpacks to %s, and the configuration says %s", i+1, d.Digest, sum.DiffID, config.RootFS.DiffIDs[i])
	}
	return nil
}

// blob checks what is no archive, or only its presence.
func (c *checker) blob(ctx context.Context, n *view.Node, d oci.Descriptor) error {
	if d.External() {
		return nil
	}
	c.report.Blobs++
	c.report.Bytes += d.Size
	if p, ok := n.Source().(presence); ok && c.o.Fast {
		has, err := p.HasBlob(ctx, d)
		if err == nil && !has {
			c.find(n, "blob %s is not there", d.Digest)
		}
		return c.wrong(n, "blob "+d.Digest.String(), err)
	}
	return c.wrong(n, "blob "+d.Digest.String(), view.Discard(ctx, n.Source(), d))
}
