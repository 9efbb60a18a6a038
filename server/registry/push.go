package registry

import (
	"context"
	"errors"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// ManifestLimit is the largest manifest in bytes, so that a face reads no more.
func (s *Service) ManifestLimit() int64 { return s.limits.Load().Manifest }

// MaxTags bounds the tags of one push by digest. The specification asks for ten at least.
const MaxTags = 100

// PutManifest is a push of a manifest or index.
type PutManifest struct {
	Reference ref.Reference
	Tags      []string      // further tags, with a digest reference only
	Algorithm oci.Algorithm // of the digest that a push by tag gets; "" is sha256
	MediaType string        // the Content-Type header; "" when there was none
	Body      []byte
}

// Pushed is the outcome of a push.
type Pushed struct {
	Digest  oci.Digest
	Subject oci.Digest // zero without a subject
	Tags    []string   // the tags that point at it now by this push
}

// PutManifest stores a manifest byte for byte and points tags at it. An image's config and layers must be in the
// repository, except layers that say they live elsewhere; the children of an index and a subject need not be there.
// Content, edges, tags and the announcement are one transaction.
//
// Spec: OCI distribution v1.1.1, "Pushing Manifests" and "Pushing Manifests with Subject".
func (s *Service) PutManifest(ctx context.Context, name ref.Name, p PutManifest) (*Pushed, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	m, d, err := s.parsePush(p)
	if err != nil {
		return nil, err
	}
	tags, err := pushTags(p)
	if err != nil {
		return nil, err
	}
	push, err := newPush(ctx, m, d, p.Body)
	if err != nil {
		return nil, err
	}
	if err := s.roomFor(ctx, name, d, 2*int64(len(p.Body))); err != nil {
		return nil, err
	}
	err = s.retryClaimed(ctx, func() error {
		return s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return s.putManifest(ctx, tx, name, push, tags) })
	})
	if err != nil {
		return nil, err
	}
	out := &Pushed{Digest: d, Tags: tags}
	if m.Subject != nil {
		out.Subject = m.Subject.Digest
	}
	return out, nil
}

// roomFor is room, except that a tag may be moved to a manifest that is there.
func (s *Service) roomFor(ctx context.Context, name ref.Name, d oci.Digest, n int64) error {
	full := s.room(ctx, n)
	if full == nil {
		return nil
	}
	repo, err := s.repository(ctx, name)
	if err == nil {
		_, err = s.manifest(ctx, repo, d)
	}
	if err != nil {
		return full
	}
	return nil
}

func (s *Service) parsePush(p PutManifest) (*oci.Manifest, oci.Digest, error) {
	if int64(len(p.Body)) > s.limits.Load().Manifest {
		return nil, oci.Digest{}, fault.New(fault.TooLarge, fault.ManifestInvalid, "manifest has more than %d bytes, which this registry accepts", s.limits.Load().Manifest)
	}
	alg := p.Algorithm
	if !p.Reference.Digest.IsZero() {
		alg = p.Reference.Digest.Algorithm()
	}
	d := oci.FromBytes(alg, p.Body)
	if want := p.Reference.Digest; !want.IsZero() && want != d {
		return nil, d, fault.New(fault.Invalid, fault.DigestInvalid, "manifest has digest %s, not %s as the request says", d, want)
	}
	m, err := oci.ParseManifest(p.MediaType, p.Body)
	return m, d, err
}

func pushTags(p PutManifest) ([]string, error) {
	if p.Reference.Tag != "" {
		return []string{p.Reference.Tag}, nil
	}
	if len(p.Tags) > MaxTags {
		return nil, fault.New(fault.Invalid, fault.TagInvalid, "request names %d tags; at most %d are accepted at once", len(p.Tags), MaxTags)
	}
	tags := slices.Clone(p.Tags)
	for _, t := range tags {
		if _, err := ref.ParseTag(t); err != nil {
			return nil, err
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// push is what a manifest costs in rows, worked out before the transaction.
type push struct {
	row      metadb.Manifest
	body     []byte
	edges    []metadb.Edge
	required []oci.Digest // blobs that must be in the repository

	payload, tagged string // of its events; tagged for one whose tags have their own
	origin          metadb.Origin
}

func newPush(ctx context.Context, m *oci.Manifest, d oci.Digest, body []byte) (*push, error) {
	p := &push{body: body, origin: origin(ctx, ""), row: metadb.Manifest{
		Digest: d, MediaType: m.MediaType, ArtifactType: m.ArtifactType, Size: int64(len(body)),
		PushedBy: identity.From(ctx).String(),
	}}
	detail := event.Detail{MediaType: m.MediaType, Size: int64(len(body))}
	p.payload = event.Event{}.WithDetail(ctx, detail).Payload
	detail.Tagged = true
	p.tagged = event.Event{}.WithDetail(ctx, detail).Payload
	seen := map[metadb.Edge]bool{}
	edge := func(to oci.Digest, k metadb.EdgeKind) {
		if e := (metadb.Edge{Child: to, Kind: k}); !seen[e] {
			seen[e] = true
			p.edges = append(p.edges, e)
		}
	}
	need := func(ds ...oci.Descriptor) {
		for _, d := range ds {
			if !d.External() {
				p.required = append(p.required, d.Digest)
			}
		}
	}
	if m.Config != nil {
		edge(m.Config.Digest, metadb.ConfigEdge)
		need(*m.Config)
	}
	for _, l := range m.Layers {
		edge(l.Digest, metadb.LayerEdge)
	}
	need(m.Layers...)
	for _, c := range m.Manifests {
		edge(c.Digest, metadb.ManifestEdge)
	}
	if m.Subject != nil {
		if m.Subject.Digest == d {
			return nil, fault.New(fault.Invalid, fault.ManifestInvalid, "manifest %s names itself as its subject", d)
		}
		edge(m.Subject.Digest, metadb.SubjectEdge)
		p.row.Subject = m.Subject.Digest
		var err error
		if p.row.Descriptor, err = describe(m, d, len(body)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (s *Service) putManifest(ctx context.Context, tx *metadb.Tx, name ref.Name, p *push, tags []string) error {
	repo, err := s.ensureRepository(ctx, tx, name)
	if err != nil {
		return err
	}
	missing, err := tx.MissingBlobs(repo, p.required)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fault.New(fault.NotFound, fault.ManifestBlobUnknown, "manifest %s refers to blob %s, which is not in %s (%d missing); push its blobs first", p.row.Digest.Short(), missing[0], name, len(missing))
	}
	d := p.row.Digest
	if err := tx.PutBlob(metadb.Blob{Digest: d, Size: p.row.Size, Inline: true, LeaseUntil: s.lease()}, p.body); err != nil {
		return err
	}
	p.row.RepoID = repo
	created, err := tx.PutManifest(p.row, p.edges)
	if err != nil {
		return err
	}
	var facts []event.Event
	if created {
		if err := tx.SetListed(repo, true); err != nil {
			return err
		}
		e := event.ManifestPushed(ctx, name.String(), d)
		if e.Payload = p.payload; len(tags) > 0 {
			e.Payload = p.tagged
		}
		facts = append(facts, e)
	}
	for _, t := range tags {
		before, err := tx.PutTag(repo, t, d, p.origin)
		if err != nil {
			return err
		}
		if before != d {
			e := event.TagMoved(ctx, name.String(), t, d)
			e.Payload = p.payload
			facts = append(facts, e)
		}
	}
	if err := tx.Emit(facts...); err != nil {
		return err
	}
	tx.AfterCommit(func() {
		for _, t := range tags {
			s.tags.drop(tagKey{repo, t})
		}
	})
	return nil
}

// retryClaimed runs a push again while the sweep is deleting a digest that it needs; that takes moments.
func (s *Service) retryClaimed(ctx context.Context, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if !errors.Is(err, metadb.ErrClaimed) {
			return err
		}
		if try == 200 { // longer than the claim of a worker that died
			f := fault.New(fault.Unavailable, fault.UnavailableReason, "the content is being removed at this moment; try again")
			f.After = 1
			return f.Because(err)
		}
		if err := sleep(ctx, 100); err != nil {
			return err
		}
	}
}
