package copy

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// TypeCosignTags stands in Referrers.Types for the tags under which cosign 1 and 2 keep signatures, attestations and SBOMs.
const TypeCosignTags = "cosign"

// cosignSuffixes are what follows "sha256-<hex>" in those tags.
var cosignSuffixes = []string{".sig", ".att", ".sbom"}

// CosignTag reports whether a tag is one that belongs to a digest rather than to an image of its own: cosign's, or the
// fallback tag of referrers.
func CosignTag(tag string) bool {
	rest, ok := strings.CutPrefix(tag, "sha256-")
	if !ok || len(rest) < 64 {
		return false
	}
	if _, err := oci.ParseDigest("sha256:" + rest[:64]); err != nil {
		return false
	}
	return rest[64:] == "" || slices.Contains(cosignSuffixes, rest[64:])
}

// related copies what refers to a manifest and to those below it, before the tag is written: whoever sees the tag sees its
// signatures, too.
func (c *run) related(ctx context.Context, n *node) error {
	if c.e.o.Referrers.None {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	if !n.bare {
		g.Go(func() error { return c.referrers(ctx, n.d.Digest) })
	}
	g.Go(func() error { return c.cosign(ctx, n.d.Digest) })
	for _, k := range n.kids {
		g.Go(func() error { return c.related(ctx, k) })
	}
	return g.Wait()
}

// referrers copies the manifests whose subject is d, and what refers to them.
func (c *run) referrers(ctx context.Context, d oci.Digest) error {
	var all []oci.Descriptor
	err := c.e.request(ctx, func() (err error) {
		all, err = c.j.From.Referrers(ctx, d)
		return err
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range all {
		if !c.e.o.Referrers.wants(r) {
			continue
		}
		g.Go(func() error {
			n, fresh, err := c.manifest(ctx, ref.Reference{Digest: r.Digest})
			if fault.Is(err, fault.NotFound) {
				return nil // listed and gone: nothing that could be copied
			}
			if err != nil || !fresh {
				return err
			}
			if n.m.Subject == nil || n.m.Subject.Digest != d {
				return fault.New(fault.Invalid, remote.ReasonWrongDigest, "%s lists %s as a referrer of %s, which it is not", c.j.From, r.Digest, d)
			}
			return c.attach(ctx, n, ref.Reference{Digest: n.d.Digest}, d)
		})
	}
	return g.Wait()
}

// signatures brings what is kept beside a manifest to the target, before a tag names it: a target that has the manifest under no
// name yet gets it under its digest.
func (c *run) signatures(ctx context.Context, n *node) error {
	s := c.e.o.Signatures
	if s == nil {
		return nil
	}
	var missing [][]byte
	err := c.e.request(ctx, func() (err error) {
		missing, err = s.Missing(ctx, c.j.From, c.j.To, n.d.Digest)
		return err
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	c.res.add(func(r *Result) { r.Signed, r.Changed = r.Signed+len(missing), true })
	if c.e.o.DryRun {
		return nil
	}
	return c.e.request(ctx, func() error {
		if !n.there {
			if err := c.j.To.PutManifest(ctx, ref.Reference{Digest: n.d.Digest}, n.d, n.body); err != nil {
				return err
			}
		}
		return s.Put(ctx, c.j.To, n.d.Digest, missing)
	})
}

// attach copies one manifest that belongs to another.
func (c *run) attach(ctx context.Context, n *node, at ref.Reference, subject oci.Digest) error {
	have, err := c.head(ctx, at)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	c.found(n, err == nil && have.Digest == n.d.Digest)
	if err := c.needs(ctx, n); err != nil {
		return err
	}
	if err := c.related(ctx, n); err != nil {
		return err
	}
	if n.there {
		return nil
	}
	c.res.mu.Lock()
	c.res.Referrers++
	c.res.mu.Unlock()
	if n.m.Subject != nil {
		c.mu.Lock()
		if c.refs == nil {
			c.refs = map[oci.Digest][]oci.Digest{}
		}
		c.refs[subject] = append(c.refs[subject], n.d.Digest)
		c.mu.Unlock()
	}
	return c.put(ctx, n, at)
}

// cosign copies what older cosign keeps beside a digest, under tags.
func (c *run) cosign(ctx context.Context, d oci.Digest) error {
	if d.Algorithm() != oci.SHA256 || !c.e.o.Referrers.tags() {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, suffix := range cosignSuffixes {
		if suffix == ".sig" && c.e.o.Referrers.Unsigned {
			continue
		}
		tag := remote.FallbackTag(d) + suffix
		g.Go(func() error {
			if there, known := c.e.tagged(ctx, c.j.From, tag); known && !there {
				return nil
			}
			n, fresh, err := c.manifest(ctx, ref.Reference{Tag: tag})
			if fault.Is(err, fault.NotFound) || err == nil && !fresh {
				return nil
			}
			if err != nil {
				return err
			}
			return c.attach(ctx, n, ref.Reference{Tag: tag}, d)
		})
	}
	return g.Wait()
}

// Related counts what refers to a manifest of a source and would be copied with it: referrers, and the tags of older cosign.
func (e *Engine) Related(ctx context.Context, from Source, d oci.Digest) (int, error) {
	if e.o.Referrers.None {
		return 0, nil
	}
	var all []oci.Descriptor
	err := e.request(ctx, func() (err error) {
		all, err = from.Referrers(ctx, d)
		return err
	})
	if err != nil {
		return 0, err
	}
	count := 0
	for _, r := range all {
		if e.o.Referrers.wants(r) {
			count++
		}
	}
	if d.Algorithm() != oci.SHA256 || !e.o.Referrers.tags() {
		return count, nil
	}
	for _, suffix := range cosignSuffixes {
		if suffix == ".sig" && e.o.Referrers.Unsigned {
			continue
		}
		if there, known := e.tagged(ctx, from, remote.FallbackTag(d)+suffix); known && there {
			count++
		}
	}
	return count, nil
}

// tagSet is the list of tags of one source, read once.
type tagSet struct {
	once sync.Once
	tags map[string]bool // nil when the source does not tell
}

// tagged reports whether a source has a tag; known is false when it does not tell.
func (e *Engine) tagged(ctx context.Context, s Source, tag string) (there, known bool) {
	e.mu.Lock()
	set := e.tags[s]
	if set == nil {
		set = &tagSet{}
		e.tags[s] = set
	}
	e.mu.Unlock()
	set.once.Do(func() {
		var all []string
		err := e.request(ctx, func() (err error) {
			all, err = s.Tags(ctx)
			return err
		})
		if err != nil {
			return // the tags are then asked for one by one
		}
		set.tags = make(map[string]bool, len(all))
		for _, t := range all {
			if CosignTag(t) {
				set.tags[t] = true
			}
		}
	})
	return set.tags[tag], set.tags != nil
}

// UseTags tells the engine the tags of a source, which it would ask for otherwise.
func (e *Engine) UseTags(s Source, tags []string) {
	set := &tagSet{tags: map[string]bool{}}
	for _, t := range tags {
		if CosignTag(t) {
			set.tags[t] = true
		}
	}
	set.once.Do(func() {})
	e.mu.Lock()
	e.tags[s] = set
	e.mu.Unlock()
}

// lister is an optional power of targets: to say what refers to a digest.
type lister interface {
	Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error)
}

// verifyReferrers asks the target whether it lists what was written as referrers.
func (c *run) verifyReferrers(ctx context.Context) error {
	l, ok := c.j.To.(lister)
	if !ok {
		return nil
	}
	for subject, want := range c.refs {
		var got []oci.Descriptor
		err := c.e.request(ctx, func() (err error) {
			got, err = l.Referrers(ctx, subject)
			return err
		})
		if err != nil {
			return err
		}
		for _, d := range want {
			if !slices.ContainsFunc(got, func(g oci.Descriptor) bool { return g.Digest == d }) {
				return fault.New(fault.Unavailable, remote.ReasonNoRegistry, "%s took the referrer %s of %s and does not list it", c.j.To, d, subject)
			}
		}
	}
	return nil
}
