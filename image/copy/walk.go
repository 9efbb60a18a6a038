package copy

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// run is one job being done.
type run struct {
	e   *Engine
	j   Job
	res *Result

	mu    sync.Mutex
	nodes map[oci.Digest]*node        // every manifest that was seen, so that none is done twice
	refs  map[oci.Digest][]oci.Digest // by subject: referrers that were copied

	passed []oci.Digest // indexes that led to the root and are not copied
}

// node is one manifest of the graph.
type node struct {
	d       oci.Descriptor
	body    []byte
	m       *oci.Manifest
	same    bool // of the root: it was not read, for both ends say the same
	bare    bool // and the source says that nothing is attached to it
	there   bool // the target has it
	present bool // and so what it needs: registries keep that; a folder may have lost some
	kids    []*node

	needed, ensured        sync.Once
	needsFailed, putFailed error
}

// maxNodes bounds the graph of one image, which a stranger describes.
const maxNodes = 50_000

// manifest reads a manifest of the source into a node; a second time it is the same one, and fresh is false.
func (c *run) manifest(ctx context.Context, at ref.Reference) (n *node, fresh bool, err error) {
	if !at.Digest.IsZero() {
		c.mu.Lock()
		n = c.nodes[at.Digest]
		c.mu.Unlock()
		if n != nil {
			return n, false, nil
		}
	}
	var d oci.Descriptor
	var body []byte
	err = c.e.request(ctx, func() error {
		d, body, err = c.j.From.Manifest(ctx, at)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return nil, false, err
	}
	d.MediaType = m.MediaType
	c.mu.Lock()
	defer c.mu.Unlock()
	if n = c.nodes[d.Digest]; n != nil {
		return n, false, nil
	}
	if len(c.nodes) >= maxNodes {
		return nil, false, fault.New(fault.TooLarge, fault.ManifestInvalid, "the image has more than %d manifests", maxNodes)
	}
	n = &node{d: d, body: body, m: m}
	c.nodes[d.Digest] = n
	return n, true, nil
}

// root reads what is to be copied: what the reference names or, of an index, the manifest for one platform.
func (c *run) root(ctx context.Context) (*node, error) {
	n, _, err := c.manifest(ctx, c.j.At)
	if err != nil {
		return nil, err
	}
	refused := c.check(ctx, n)
	if refused != nil && (c.e.o.Select != One || !n.m.IsIndex()) {
		return nil, refused
	}
	for depth := 0; c.e.o.Select == One && n.m.IsIndex(); depth++ {
		all, err := children(n.body)
		if err != nil || depth > 4 {
			return nil, fault.New(fault.Invalid, fault.ManifestInvalid, "index %s leads nowhere", n.d.Digest)
		}
		c.passed = append(c.passed, n.d.Digest)
		best, ok := choose(all, c.e.o.Platform)
		if !ok {
			return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the index has no image for %s; it has %s", c.e.o.Platform, platforms(all))
		}
		if n, _, err = c.manifest(ctx, ref.Reference{Digest: best.Digest}); err != nil {
			return nil, err
		}
	}
	if refused != nil && c.check(ctx, n) != nil {
		return nil, refused
	}
	return n, nil
}

func (c *run) check(ctx context.Context, n *node) error {
	if c.e.o.Check == nil {
		return nil
	}
	return c.e.o.Check(ctx, c.j.From, c.j.At, n.d, n.body)
}

// needs brings what a manifest needs to the target, once: blobs, and the manifests of an index with what they need.
func (c *run) needs(ctx context.Context, n *node) error {
	n.needed.Do(func() { n.needsFailed = c.bring(ctx, n) })
	return n.needsFailed
}

// placer is a place that lays blobs out one behind the other. It is told of an image's blobs in their order before they come
// side by side: an attempt that goes on after another finds them where they were.
type placer interface {
	Place(d oci.Descriptor) error
}

func (c *run) bring(ctx context.Context, n *node) error {
	g, ctx := errgroup.WithContext(ctx)
	if n.m.IsIndex() {
		kids, err := c.wanted(n)
		if err != nil {
			return err
		}
		var mu sync.Mutex
		for _, k := range kids {
			g.Go(func() error {
				kid, err := c.child(ctx, k, n.present)
				mu.Lock()
				defer mu.Unlock()
				if kid != nil {
					n.kids = append(n.kids, kid)
				}
				return err
			})
		}
		return g.Wait()
	}
	if n.present {
		return nil
	}
	blobs := slices.Clone(n.m.Layers)
	if n.m.Config != nil {
		blobs = append(blobs, *n.m.Config)
	}
	// The largest first: what is left at the end is then small, and the pool stays full.
	slices.SortStableFunc(blobs, func(a, b oci.Descriptor) int { return int(min(max(b.Size-a.Size, -1), 1)) })
	if to, ok := c.j.To.(placer); ok && !c.e.o.DryRun {
		for _, d := range blobs {
			if d.External() { // perhaps it stays elsewhere
				continue
			}
			if err := to.Place(d); err != nil {
				return err
			}
		}
	}
	seen := map[oci.Digest]bool{}
	for _, d := range blobs {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			g.Go(func() error { return c.blob(ctx, d) })
		}
	}
	return g.Wait()
}

// wanted are the entries of an index that are copied.
func (c *run) wanted(n *node) ([]child, error) {
	if c.e.o.Select == IndexOnly {
		return nil, nil
	}
	all, err := children(n.body)
	if err != nil || len(c.e.o.Platforms) == 0 {
		return all, err
	}
	kept := map[string]bool{}
	var out []child
	for _, k := range all {
		fits := k.Platform == nil || slices.ContainsFunc(c.e.o.Platforms, k.Platform.fits)
		// BuildKit's attestations are entries for no platform that say whose they are.
		if of := k.Annotations["vnd.docker.reference.digest"]; of != "" {
			fits = kept[of]
		}
		if fits {
			kept[k.Digest.String()] = true
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the index has no image for the platforms asked for; it has %s", platforms(all))
	}
	return out, nil
}

// child brings one entry of an index to the target. below is true when the target has the index: its entries are there, but what
// refers to them may not be.
func (c *run) child(ctx context.Context, k child, below bool) (*node, error) {
	if !manifestType(k.MediaType) {
		if below {
			return nil, nil
		}
		return nil, c.blob(ctx, k.Descriptor)
	}
	if below && c.e.o.Referrers.None {
		return nil, nil
	}
	kid, _, err := c.manifest(ctx, ref.Reference{Digest: k.Digest})
	if below && fault.Is(err, fault.NotFound) {
		return nil, nil // a sparse index, that was copied as such
	}
	if err != nil {
		return nil, err
	}
	// Another index may list it too, or it is what all began with: whoever comes second waits.
	kid.ensured.Do(func() { kid.putFailed = c.ensure(ctx, kid, below) })
	return kid, kid.putFailed
}

// ensure brings a manifest and what it needs to the target, under its digest.
func (c *run) ensure(ctx context.Context, n *node, below bool) error {
	if below {
		n.there, n.present = true, true
	} else if !n.there {
		if err := c.look(ctx, n); err != nil {
			return err
		}
	}
	if err := c.needs(ctx, n); err != nil {
		return err
	}
	if !n.there {
		if err := c.put(ctx, n, ref.Reference{Digest: n.d.Digest}); err != nil {
			return err
		}
		n.there = !c.e.o.DryRun
	}
	return c.signatures(ctx, n)
}

// look finds out whether the target has a manifest.
func (c *run) look(ctx context.Context, n *node) error {
	d, err := c.head(ctx, ref.Reference{Digest: n.d.Digest})
	if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Invalid) { // a damaged one in a folder is written anew
		return err
	}
	c.found(n, err == nil && d.Digest == n.d.Digest)
	return nil
}

// found notes that the target has a manifest.
func (c *run) found(n *node, there bool) {
	_, keeps := c.j.To.(hosted)
	n.there, n.present = there, there && keeps
}

// manifestType tells manifests from the blobs that BuildKit keeps in an index.
func manifestType(mediaType string) bool {
	switch mediaType {
	case oci.MediaTypeManifest, oci.MediaTypeIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList, oci.MediaTypeArtifact, "":
		return true
	}
	return strings.Contains(mediaType, "manifest") && strings.HasSuffix(mediaType, "json")
}

// put writes a manifest.
func (c *run) put(ctx context.Context, n *node, at ref.Reference) error {
	c.res.mu.Lock()
	c.res.Changed = true
	c.res.Manifests++
	c.res.mu.Unlock()
	if c.e.o.DryRun {
		return nil
	}
	err := c.e.request(ctx, func() error { return c.j.To.PutManifest(ctx, at, n.d, n.body) })
	if err == nil {
		c.e.o.Progress(Event{Kind: ManifestDone, Image: c.res.From, Target: c.res.To, Digest: n.d.Digest, Media: n.d.MediaType, Size: n.d.Size})
	}
	return err
}

func (c *run) head(ctx context.Context, at ref.Reference) (d oci.Descriptor, err error) {
	err = c.e.request(ctx, func() error {
		d, err = c.j.To.Head(ctx, at)
		return err
	})
	return d, err
}

// request does f when fewer than the allowed number of requests are on their way.
func (e *Engine) request(ctx context.Context, f func() error) error {
	select {
	case e.calls <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-e.calls }()
	return f()
}
