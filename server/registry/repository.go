package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Repositories lists repositories that the caller may see and whose name contains the text ("" is any), behind the key after,
// in an order by name or created.
func (s *Service) Repositories(ctx context.Context, contains string, o metadb.Order, after string, n int) ([]metadb.Repository, error) {
	scope, sees, err := s.o.Access.CheckCatalog(ctx)
	if err != nil {
		return nil, err
	}
	repos, err := s.visible(ctx, metadb.RepositoryFilter{Scope: scope, Contains: contains, Order: o}, sees, after, n)
	if err != nil {
		return nil, fmt.Errorf("registry: repositories: %w", err)
	}
	return repos, nil
}

// Repository finds a repository.
func (s *Service) Repository(ctx context.Context, name ref.Name) (metadb.Repository, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return metadb.Repository{}, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return metadb.Repository{}, err
	}
	return *repo, nil
}

// emptyBatch is how many manifests a transaction of EmptyRepository deletes.
const emptyBatch = 50

// Emptied is what EmptyRepository has removed.
type Emptied struct {
	Manifests, Tags int
	Hold            time.Duration // how long the manifests can be brought back from the trash; 0 when they cannot
}

// EmptyRepository deletes all manifests and tags of a repository, as DeleteManifest does one by one; it is in no list
// then. What is pushed meanwhile goes, too, or stays, as it comes.
func (s *Service) EmptyRepository(ctx context.Context, name ref.Name) (*Emptied, error) {
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
	out := &Emptied{Hold: s.o.TrashHold}
	for {
		found, err := s.o.DB.Manifests(ctx, repo.ID, oci.Digest{}, emptyBatch)
		if err != nil {
			return nil, fmt.Errorf("registry: empty %s: %w", name, err)
		}
		if len(found) == 0 {
			return out, nil
		}
		manifests, tags := 0, 0
		err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			manifests, tags = 0, 0
			for _, m := range found {
				gone, err := s.deleteDigest(ctx, tx, repo, m.Digest)
				if errors.Is(err, metadb.ErrNotFound) { // somebody else has deleted it
					continue
				}
				if err != nil {
					return err
				}
				manifests++
				tags += len(gone.Tags)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("registry: empty %s: %w", name, err)
		}
		out.Manifests += manifests
		out.Tags += tags
	}
}

// ListedManifest is a manifest in a list, with the tags that point at it.
type ListedManifest struct {
	metadb.Manifest
	Tags []string
}

// Manifests lists the manifests of a repository behind the digest after, in the order of their digests.
func (s *Service) Manifests(ctx context.Context, name ref.Name, after oci.Digest, n int) ([]ListedManifest, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	found, err := s.o.DB.Manifests(ctx, repo.ID, after, n)
	if err != nil {
		return nil, fmt.Errorf("registry: manifests of %s: %w", name, err)
	}
	return s.withTags(ctx, repo, found)
}

// ManifestRow is what the registry knows of a manifest besides its bytes.
func (s *Service) ManifestRow(ctx context.Context, name ref.Name, d oci.Digest) (ListedManifest, error) {
	if err := s.o.Access.Check(ctx, identity.List, name); err != nil {
		return ListedManifest{}, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return ListedManifest{}, err
	}
	m, err := s.o.DB.Manifest(ctx, repo.ID, d)
	if errors.Is(err, metadb.ErrNotFound) {
		return ListedManifest{}, unknownManifest(repo.Name, d)
	}
	if err != nil {
		return ListedManifest{}, fmt.Errorf("registry: manifest %s@%s: %w", name, d, err)
	}
	listed, err := s.withTags(ctx, repo, []metadb.Manifest{m})
	if err != nil {
		return ListedManifest{}, err
	}
	return listed[0], nil
}

func (s *Service) withTags(ctx context.Context, repo *metadb.Repository, found []metadb.Manifest) ([]ListedManifest, error) {
	out := make([]ListedManifest, len(found))
	for i, m := range found {
		tags, err := s.o.DB.TagsOf(ctx, repo.ID, m.Digest)
		if err != nil {
			return nil, fmt.Errorf("registry: tags of %s@%s: %w", repo.Name, m.Digest, err)
		}
		out[i] = ListedManifest{m, tags}
	}
	return out, nil
}

// byRetag is the cause of a tag that was pointed at a manifest without a push.
const byRetag = "retag"

// Retag points a tag, new or not, at a manifest of the repository. expect is where it has to point now, zero for anywhere.
func (s *Service) Retag(ctx context.Context, name ref.Name, tag string, d, expect oci.Digest) (*MovedTag, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	if _, err := ref.ParseTag(tag); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	var out *MovedTag
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		m, err := tx.Manifest(ctx, repo.ID, d)
		if errors.Is(err, metadb.ErrNotFound) {
			return unknownManifest(repo.Name, d)
		}
		if err != nil {
			return err
		}
		out = &MovedTag{Tag: tag, Digest: d}
		if out.Before, err = tx.PutTag(repo.ID, tag, d, origin(ctx, byRetag)); err != nil {
			return err
		}
		if !expect.IsZero() && out.Before != expect {
			return fault.New(fault.Conflict, fault.TagInvalid, "tag %s of %s points at %s and not at %s, as was expected; it was moved meanwhile", tag, repo.Name, or(out.Before, "nothing"), expect.Short())
		}
		if out.Before == d {
			return nil
		}
		tx.AfterCommit(func() { s.tags.drop(tagKey{repo.ID, tag}) })
		return tx.Emit(event.TagMoved(ctx, repo.Name, tag, d).WithDetail(ctx, event.Detail{MediaType: m.MediaType, Size: m.Size, Cause: byRetag}))
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
