package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Manifest is a manifest or index as it was pushed, byte for byte. It is shared: do not change it.
type Manifest struct {
	Digest    oci.Digest
	MediaType string
	Body      []byte

	promised atomic.Int64 // until when, in microseconds, HEAD need not ask whether it stays; see promise.go
}

// Manifest returns what a tag or digest names. The bytes were checked against their digest when they entered memory.
//
// Spec: OCI distribution v1.1.1, "Pulling manifests".
func (s *Service) Manifest(ctx context.Context, name ref.Name, r ref.Reference) (*Manifest, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	d := r.Digest
	if r.Tag != "" {
		d, err = s.tags.get(ctx, tagKey{repo.ID, r.Tag}, func(ctx context.Context) (oci.Digest, error) {
			t, err := s.o.DB.Tag(ctx, repo.ID, r.Tag)
			return t.Digest, err
		})
		if errors.Is(err, metadb.ErrNotFound) {
			return nil, s.unknownTag(ctx, repo, r.Tag)
		}
		if err != nil {
			return nil, fmt.Errorf("registry: tag %s:%s: %w", name, r.Tag, err)
		}
	}
	return s.manifest(ctx, repo, d)
}

func (s *Service) manifest(ctx context.Context, repo *metadb.Repository, d oci.Digest) (*Manifest, error) {
	m, err := s.manifests.get(ctx, contentKey{repo.ID, d}, func(ctx context.Context) (*Manifest, error) {
		row, body, err := s.o.DB.ManifestContent(ctx, repo.ID, d)
		if err != nil {
			return nil, err
		}
		if err := checkStored(d, body); err != nil {
			return nil, err
		}
		return &Manifest{Digest: d, MediaType: row.MediaType, Body: body}, nil
	})
	var wrong *errDamaged
	if errors.As(err, &wrong) {
		s.quarantine(ctx, wrong.damage)
		return nil, damagedManifest(repo.Name, d).Because(err)
	}
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, unknownManifest(repo.Name, d)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: manifest %s@%s: %w", repo.Name, d, err)
	}
	return m, nil
}

func unknownManifest(name string, d oci.Digest) *fault.Error {
	return fault.New(fault.NotFound, fault.ManifestUnknown, "manifest %s is not in %s", d, name)
}

// unknownTag names the tags that were pushed last: docker and podman show the message, and most wrong tags are old ones.
func (s *Service) unknownTag(ctx context.Context, repo *metadb.Repository, tag string) error {
	f := fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s is not in %s; it has no tags", tag, repo.Name)
	newest, err := s.o.DB.NewestTags(ctx, repo.ID, 3)
	if err != nil {
		return f.Because(err)
	}
	if len(newest) > 0 {
		names := make([]string, len(newest))
		for i, t := range newest {
			names[i] = t.Name
		}
		f.Message = fmt.Sprintf("tag %s is not in %s; newest: %s", tag, repo.Name, strings.Join(names, ", "))
	}
	return f
}

// Deleted is what a deletion has removed.
type Deleted struct {
	Tags []string      // names of tags, in order
	Hold time.Duration // how long the manifest can be brought back from the trash; 0 for a tag alone, or when it cannot
}

// DeleteManifest removes what the reference names: a tag alone, whose manifest stays, or, by digest, the manifest and all
// tags that point at it, which go to the trash. The bytes are removed later, by collection.
//
// Spec: OCI distribution v1.1.1, "Deleting tags" and "Deleting manifests".
func (s *Service) DeleteManifest(ctx context.Context, name ref.Name, r ref.Reference) (*Deleted, error) {
	if err := s.o.Access.Check(ctx, identity.Delete, name); err != nil {
		return nil, err
	}
	if err := s.deletable(); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	gone := &Deleted{Tags: []string{r.Tag}}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		if r.Tag != "" {
			return s.deleteTag(ctx, tx, repo, r.Tag)
		}
		gone, err = s.deleteDigest(ctx, tx, repo, r.Digest)
		return err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		if r.Tag != "" {
			return nil, s.unknownTag(ctx, repo, r.Tag)
		}
		return nil, unknownManifest(repo.Name, r.Digest)
	}
	if err != nil {
		return nil, err
	}
	return gone, nil
}

func (s *Service) deleteTag(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, tag string) error {
	before, existed, err := tx.DeleteTag(repo.ID, tag, origin(ctx, ""))
	if err != nil {
		return err
	}
	if !existed {
		return metadb.ErrNotFound
	}
	tx.AfterCommit(func() { s.tags.drop(tagKey{repo.ID, tag}) })
	return tx.Emit(event.TagDeleted(ctx, repo.Name, tag, before).WithDetail(ctx, event.Detail{}))
}

func (s *Service) deleteDigest(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, d oci.Digest) (*Deleted, error) {
	tags, err := tx.DeleteTagsOf(repo.ID, d, origin(ctx, withManifest))
	if err != nil {
		return nil, err
	}
	if err := s.toTrash(ctx, tx, repo.ID, d, metadb.Discard{Origin: origin(ctx, ""), Tags: tags}); err != nil {
		return nil, err
	}
	var facts []event.Event
	for _, t := range tags {
		facts = append(facts, event.TagDeleted(ctx, repo.Name, t, d).WithDetail(ctx, event.Detail{Cause: withManifest}))
	}
	tx.AfterCommit(func() {
		for _, t := range tags {
			s.tags.drop(tagKey{repo.ID, t})
		}
		s.manifests.drop(contentKey{repo.ID, d})
		s.blobs.drop(contentKey{repo.ID, d})
	})
	facts = append(facts, event.ManifestDeleted(ctx, repo.Name, d).WithDetail(ctx, event.Detail{}))
	return &Deleted{Tags: tags, Hold: s.o.TrashHold}, tx.Emit(facts...)
}

// toTrash puts a manifest without tags into the trash, or removes it where there is none. A repository without manifests
// is listed no more.
func (s *Service) toTrash(ctx context.Context, tx *metadb.Tx, repo int64, d oci.Digest, why metadb.Discard) (err error) {
	existed := false
	if why.Hold = s.o.TrashHold; why.Hold > 0 {
		existed, err = tx.TrashManifest(repo, d, why)
	} else {
		existed, err = tx.DeleteManifest(repo, d)
	}
	if err != nil {
		return err
	}
	if !existed {
		return metadb.ErrNotFound
	}
	left, err := tx.HasManifests(ctx, repo)
	if err != nil || left {
		return err
	}
	return tx.SetListed(repo, false)
}
