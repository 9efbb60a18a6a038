// Package copy moves images between two places, each a repository of a registry (image/remote), a layout directory or an
// archive (image/layout): the manifest that a reference names with all that it needs, and what refers to it: signatures,
// attestations, SBOMs, as referrers and as the tags of older cosign.
//
// Bytes are streamed, never stored in between, and verified, once: by a folder or an archive as it writes them, by a registry before
// it takes them, else on their way. What the target has is not sent, what its registry
// has elsewhere is mounted. Blobs of all images share one bounded pool. A tag is written last, when all that it leads to is
// there, and looked at afterwards. What fails leaves whole blobs behind and no tag, so the next run sends only the rest.
//
// It knows nothing of files, flags and progress bars: who uses it passes places, [Options], a [Memory] and a function for [Event]s.
//
// Start reading at [Engine.Copy], then walk.go and blob.go. Sync by rules is image/sync.
package copy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/referrer"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Source is where images are read. Manifests and blobs that it gives are verified; what is not there is fault.NotFound.
type Source interface {
	// Manifest reads what a tag or digest names; the zero reference is the only image of a place without tags.
	Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error)
	// Blob opens a blob at an offset.
	Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error)
	// Referrers lists the manifests whose subject is d.
	Referrers(ctx context.Context, d oci.Digest) ([]oci.Descriptor, error)
	Tags(ctx context.Context) ([]string, error)
	String() string
}

// Target is where images are written.
type Target interface {
	// Head describes what a tag or digest names; fault.NotFound when there is nothing.
	Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error)
	HasBlob(ctx context.Context, d oci.Descriptor) (bool, error)
	// PutBlob brings in a blob that is not there, by mounting it from one of the repositories when it can.
	PutBlob(ctx context.Context, d oci.Descriptor, from []ref.Name, open remote.Open) (remote.Outcome, error)
	// PutManifest writes a manifest under a tag; under its digest only; or, with the zero reference, as the only image.
	PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error
	String() string
}

// hosted is an optional power of places: to be a repository of a registry, between whose repositories blobs are mounted.
type hosted interface {
	Host() string
	Name() ref.Name
	Beside(name ref.Name) *remote.Repository // another one of the same registry
}

// unverified is an optional power of sources: to open a blob as Blob does, and leave it to the reader to compare the digest.
type unverified interface {
	BlobUnverified(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error)
}

// verifying is an optional power of targets: Verifies says that PutBlob takes a blob only when its bytes have the digest, whatever
// the source does. Two that compare do nothing but twice the work, and it is most of the work there is.
type verifying interface{ Verifies() bool }

// Selection is which manifests of an index are copied.
type Selection uint8

// The selections.
const (
	All       Selection = iota // every one
	One                        // the one for Options.Platform, in place of the index
	IndexOnly                  // the index without any; the target must have them, or not mind
)

// Referrers says what is copied beside an image.
type Referrers struct {
	None     bool
	Types    []string // artifact types; empty is all. "cosign" stands for the tags of older cosign.
	NoTags   bool     // the tags of older cosign stay behind
	Unsigned bool     // signatures stay behind; attestations, which are statements that somebody signed, do not
}

// wants reports whether a referrer is copied, by what the list says of it.
func (r Referrers) wants(d oci.Descriptor) bool {
	return !r.None && (len(r.Types) == 0 || slices.Contains(r.Types, d.ArtifactType)) && !(r.Unsigned && isSignature(d))
}

// tags reports whether the tags of older cosign are copied.
func (r Referrers) tags() bool {
	return !r.None && !r.NoTags && (len(r.Types) == 0 || slices.Contains(r.Types, TypeCosignTags))
}

// isSignature reports whether a referrer is a signature of notation or cosign.
func isSignature(d oci.Descriptor) bool {
	kind, _ := referrer.KindOf(d)
	return kind == referrer.Signature
}

// Options say how an Engine copies.
type Options struct {
	Parallel  int // blobs on their way at the same time, of all images; 0 is 6
	Requests  int // other requests at the same time; 0 is 16
	Referrers Referrers
	Select    Selection
	Platform  Platform   // of One
	Platforms []Platform // of All: manifests of an index for others are left out, the index stays as it is; empty is every one
	DryRun    bool       // find out what would be done, and do nothing
	// Unchanged trusts digests: an image whose name has the same digest at both ends, as both say without being read, is only asked
	// for what refers to it. What refers to the manifests below it is then not looked for. It saves registries that count pulls.
	Unchanged bool
	Progress  func(Event)
	// Check is asked before anything of an image is copied, with the name that leads to it and its manifest as the source has it; a refusal
	// ends the copy. Of an index of which one image is copied it is enough that one of both is accepted, the index or the image.
	Check func(ctx context.Context, from Source, at ref.Reference, d oci.Descriptor, body []byte) error
	// Signatures bring along what is kept beside manifests and outside of them; nil leaves it.
	Signatures Signatures
	// Memory knows from earlier runs where blobs lie; nil knows nothing.
	Memory Memory
}

// Memory remembers between runs which repositories of a registry have a blob. What it says is a hint: the registry may have lost the
// blob since, or not mount it for this caller, and then it is sent. Safe for concurrent use.
type Memory interface {
	// Has are repositories of a host that had the blob, the likeliest first.
	Has(host string, d oci.Digest) []ref.Name
	// Remember is told that a repository has a blob. sent says that its bytes had to be sent there: what was known before, if anything was, did
	// not help.
	Remember(host string, in ref.Name, d oci.Digest, sent bool)
}

// Signatures are those that registries keep beside manifests, and no manifest names: GPG signatures, in the registry or in a
// lookaside. Safe for concurrent use.
type Signatures interface {
	// Missing are the signatures of a manifest that the source has and the target has not. It is asked for every manifest of
	// an image, what refers to it apart, and may be asked before the target has the manifest.
	Missing(ctx context.Context, from Source, to Target, d oci.Digest) ([][]byte, error)
	// Put adds signatures to those of a manifest that the target has.
	Put(ctx context.Context, to Target, d oci.Digest, sigs [][]byte) error
}

// Engine copies images. It may be used for many, also at the same time: they share the pool, and a blob that two of them
// need goes once.
type Engine struct {
	o     Options
	pool  chan struct{}
	calls chan struct{}

	mu      sync.Mutex
	flights map[string]*flight
	known   map[string][]ref.Name // host and digest: repositories that have the blob
	tags    map[Source]*tagSet
}

// New makes an engine.
func New(o Options) *Engine {
	if o.Parallel <= 0 {
		o.Parallel = 6
	}
	if o.Requests <= 0 {
		o.Requests = 16
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	return &Engine{o: o, pool: make(chan struct{}, o.Parallel), calls: make(chan struct{}, o.Requests), flights: map[string]*flight{},
		known: map[string][]ref.Name{}, tags: map[Source]*tagSet{}}
}

// Job is one image to copy.
type Job struct {
	From   Source
	At     ref.Reference
	To     Target
	As     []ref.Reference // under which it is written; empty is the zero reference
	Mounts []ref.Name      // further repositories of the target's registry that may have blobs
}

// Result is what became of a job.
type Result struct {
	From      string     `json:"from"`
	To        string     `json:"to"`
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Changed   bool       `json:"changed"` // something was written, or would be
	Manifests int        `json:"manifests"`
	Referrers int        `json:"referrers"`               // of them, what refers to the image
	Left      int        `json:"referrersLeft,omitempty"` // what refers to the index of which one image was copied: it is about the index, and stays
	Signed    int        `json:"signatures"`              // GPG signatures, which are no manifests
	Sent      int        `json:"blobsSent"`
	Mounted   int        `json:"blobsMounted"`
	Present   int        `json:"blobsPresent"`
	Bytes     int64      `json:"bytesSent"`
	Total     int64      `json:"bytesTotal"` // of all blobs that the copied manifests need

	mu sync.Mutex
}

// Copy copies an image. When it returns without an error the target has the image under all names, and what refers to it; this
// was asked of the target after writing. Running it again copies nothing.
func (e *Engine) Copy(ctx context.Context, j Job) (*Result, error) {
	if len(j.As) == 0 {
		j.As = []ref.Reference{{}}
	}
	res := &Result{From: named(j.From.String(), j.At), To: named(j.To.String(), j.As[0])}
	c := &run{e: e, j: j, res: res, nodes: map[oci.Digest]*node{}}
	root, err := c.unchanged(ctx)
	if err == nil && root == nil {
		root, err = c.root(ctx)
	}
	if err != nil {
		return res, fmt.Errorf("copy %s: %w", res.From, err)
	}
	res.Digest, res.MediaType = root.d.Digest, root.d.MediaType
	e.o.Progress(Event{Kind: ImageStarted, Image: res.From, Target: res.To, Digest: root.d.Digest})
	if err := c.image(ctx, root); err != nil {
		return res, fmt.Errorf("copy %s to %s: %w", res.From, res.To, err)
	}
	for _, d := range c.passed {
		n, err := e.Related(ctx, j.From, d)
		if err != nil {
			return res, fmt.Errorf("copy %s to %s: %w", res.From, res.To, err)
		}
		res.Left += n
	}
	e.o.Progress(Event{Kind: ImageDone, Image: res.From, Target: res.To, Digest: root.d.Digest, Result: res})
	return res, nil
}

// header is an optional power of sources: to say what a reference names without a pull.
type header interface {
	Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error)
}

// teller is an optional power of sources: to say in the same answer that nothing is attached to what a reference names, neither
// referrers nor GPG signatures.
type teller interface {
	HeadAttached(ctx context.Context, at ref.Reference) (d oci.Descriptor, bare bool, err error)
}

// unchanged is the root when both ends say that they have the same under all names, and nil when it has to be read.
func (c *run) unchanged(ctx context.Context) (*node, error) {
	h, ok := c.j.From.(header)
	if _, keeps := c.j.To.(hosted); !ok || !keeps || !c.e.o.Unchanged {
		return nil, nil
	}
	g, gctx := errgroup.WithContext(ctx) // most tags of a sync are the same: both ends are asked at once
	var d oci.Descriptor
	var bare bool
	g.Go(func() error {
		return c.e.request(gctx, func() (err error) {
			if t, ok := h.(teller); ok {
				d, bare, err = t.HeadAttached(gctx, c.j.At)
			} else {
				d, err = h.Head(gctx, c.j.At)
			}
			return err
		})
	})
	have := make([]oci.Digest, len(c.j.As))
	for i, at := range c.j.As {
		if at.Tag == "" && at.Digest.IsZero() {
			continue // it is written under its digest, which the source has yet to say
		}
		g.Go(func() error {
			there, err := c.head(gctx, at)
			if have[i] = there.Digest; fault.Is(err, fault.NotFound) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if c.e.o.Select == One && d.MediaType != oci.MediaTypeManifest && d.MediaType != oci.MediaTypeDockerManifest {
		return nil, nil // of an index, what is copied is in it
	}
	for i, at := range c.j.As {
		if at.Tag == "" && at.Digest.IsZero() {
			there, err := c.head(ctx, ref.Reference{Digest: d.Digest})
			if have[i] = there.Digest; err != nil && !fault.Is(err, fault.NotFound) {
				return nil, err
			}
		}
		if have[i] != d.Digest {
			return nil, nil
		}
	}
	n := &node{d: d, m: &oci.Manifest{MediaType: d.MediaType}, same: true, bare: bare, there: true, present: true}
	c.nodes[d.Digest] = n
	return n, nil
}

// image copies what the root needs, what refers to it, and at last the root under its names.
func (c *run) image(ctx context.Context, root *node) error {
	if root.same {
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error { return c.related(gctx, root) })
		if !root.bare {
			g.Go(func() error { return c.signatures(gctx, root) })
		}
		if err := g.Wait(); err != nil || c.e.o.DryRun {
			return err
		}
		return c.verifyReferrers(ctx)
	}
	names, err := c.stale(ctx, root)
	if err != nil {
		return err
	}
	if len(names) < len(c.j.As) {
		c.found(root, true)
	} else if err := c.look(ctx, root); err != nil { // it may have it under another name
		return err
	}
	if err := c.needs(ctx, root); err != nil {
		return err
	}
	if err := c.related(ctx, root); err != nil {
		return err
	}
	if err := c.signatures(ctx, root); err != nil {
		return err
	}
	for _, at := range names {
		if err := c.put(ctx, root, at); err != nil {
			return err
		}
	}
	if c.e.o.DryRun {
		return nil
	}
	if to, ok := c.j.To.(settler); ok {
		if err := to.Settle(); err != nil { // where all manifests were there, and a blob was not
			return err
		}
	}
	return c.verify(ctx, root, names)
}

// settler is an optional power of targets that take blobs as written before they have their names: Settle gives them.
type settler interface{ Settle() error }

// stale are the names under which the target does not have the image yet.
func (c *run) stale(ctx context.Context, root *node) ([]ref.Reference, error) {
	var out []ref.Reference
	for _, at := range c.j.As {
		if at.Tag == "" && at.Digest.IsZero() {
			if _, ok := c.j.To.(hosted); ok {
				at.Digest = root.d.Digest
			}
		}
		if !at.Digest.IsZero() && at.Digest != root.d.Digest {
			return nil, fault.New(fault.Invalid, fault.DigestInvalid, "the image has the digest %s and cannot be written as %s", root.d.Digest, at.Digest)
		}
		d, err := c.head(ctx, at)
		switch {
		case err == nil && d.Digest == root.d.Digest:
		case err == nil || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid):
			out = append(out, at)
		default:
			return nil, err
		}
	}
	return out, nil
}

// verify asks the target for what was written.
func (c *run) verify(ctx context.Context, root *node, names []ref.Reference) error {
	for _, at := range names {
		d, err := c.head(ctx, at)
		if err != nil {
			return fmt.Errorf("look at what was written: %w", err)
		}
		if d.Digest != root.d.Digest {
			return fault.New(fault.Conflict, remote.ReasonWrongDigest, "%s has the digest %s after it was written as %s: somebody else wrote it at the same time, or the registry changes what it stores",
				named(c.j.To.String(), at), d.Digest, root.d.Digest)
		}
	}
	return c.verifyReferrers(ctx)
}

func named(place string, at ref.Reference) string {
	switch {
	case at.Tag != "":
		return place + ":" + at.Tag
	case !at.Digest.IsZero():
		return place + "@" + at.Digest.String()
	}
	return place
}
