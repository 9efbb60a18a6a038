package copy

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Blobs brings those blobs of an image to the target that are wanted, and no manifest: for one that somebody else converts and writes,
// who then finds them there. It copies as Copy does: side by side, what is not there yet, going on where it was interrupted.
func (e *Engine) Blobs(ctx context.Context, j Job, wanted func(oci.Descriptor) bool) (*Result, error) {
	res := &Result{From: named(j.From.String(), j.At), To: j.To.String()}
	c := &run{e: e, j: j, res: res, nodes: map[oci.Digest]*node{}}
	root, err := c.root(ctx)
	if err != nil {
		return res, fmt.Errorf("copy %s: %w", res.From, err)
	}
	res.Digest, res.MediaType = root.d.Digest, root.d.MediaType
	err = c.blobsOf(ctx, root, wanted)
	if to, ok := j.To.(settler); ok && err == nil {
		err = to.Settle()
	}
	if err != nil {
		return res, fmt.Errorf("copy %s to %s: %w", res.From, res.To, err)
	}
	return res, nil
}

// blobsOf brings the wanted layers of a manifest, or of those of an index.
func (c *run) blobsOf(ctx context.Context, n *node, wanted func(oci.Descriptor) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	if n.m.IsIndex() {
		kids, err := c.wanted(n)
		if err != nil {
			return err
		}
		for _, k := range kids {
			if !manifestType(k.MediaType) {
				continue
			}
			g.Go(func() error {
				kid, fresh, err := c.manifest(ctx, ref.Reference{Digest: k.Digest})
				if err != nil || !fresh {
					return err
				}
				return c.blobsOf(ctx, kid, wanted)
			})
		}
		return g.Wait()
	}
	seen := map[oci.Digest]bool{}
	for _, d := range n.m.Layers {
		if !seen[d.Digest] && wanted(d) {
			seen[d.Digest] = true
			g.Go(func() error { return c.blob(ctx, d) })
		}
	}
	return g.Wait()
}
