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

// Trashed is a manifest in the trash.
type Trashed struct {
	Repository string
	Digest     oci.Digest
	MediaType  string
	Size       int64    // bytes of the manifest itself
	Tags       []string // that were deleted with it
	PushedAt   time.Time
	PushedBy   string
	DeletedAt  time.Time
	DeletedBy  string
	From       string    // the address and program from where
	Cause      string    // why; "" is by request
	HoldUntil  time.Time // when it is purged
	Next       string    // After of the page behind it
}

func trashed(t metadb.Trashed) Trashed {
	out := Trashed{
		Repository: t.Repository, Digest: t.Digest, MediaType: t.MediaType, Size: t.Size, Tags: t.Tags, PushedAt: t.PushedAt, PushedBy: t.PushedBy,
		DeletedAt: t.DeletedAt, DeletedBy: t.DeletedBy, Cause: t.Cause, HoldUntil: t.HoldUntil,
	}
	out.From, _ = splitSource(t.Source)
	return out
}

// TrashQuery asks for a page of the trash.
type TrashQuery struct {
	After string // Next of the last one of the page before; "" is the first page
	Limit int    // 0 for as many as the registry gives
}

// Trash lists what can be brought back in a repository, the last deleted first. The zero name is all repositories, what is
// purged first first, and asks for trash.read.
func (s *Service) Trash(ctx context.Context, name ref.Name, q TrashQuery) ([]Trashed, error) {
	if name.IsZero() {
		if err := s.o.Access.CheckSystem(ctx, identity.TrashRead); err != nil {
			return nil, err
		}
	} else if err := s.o.Access.Check(ctx, identity.Delete, name); err != nil {
		return nil, err
	}
	var after metadb.Trashed
	if q.After != "" {
		var micros int64
		if _, err := fmt.Sscanf(q.After, "%d-%d", &micros, &after.ID); err != nil {
			return nil, fault.New(fault.Invalid, fault.Unknown, "%.40q is not where a page of the trash ended; use the next of the last one", q.After).At("after")
		}
		after.DeletedAt = time.UnixMicro(micros)
		after.HoldUntil = after.DeletedAt
	}
	var rows []metadb.Trashed
	var err error
	if name.IsZero() {
		rows, err = s.o.DB.AllTrash(ctx, after, pageOf(q.Limit))
	} else {
		var repo *metadb.Repository
		if repo, err = s.repository(ctx, name); err != nil {
			return nil, err
		}
		rows, err = s.o.DB.Trash(ctx, repo.ID, after, pageOf(q.Limit))
	}
	if err != nil {
		return nil, fmt.Errorf("registry: trash of %s: %w", name, err)
	}
	out := make([]Trashed, len(rows))
	for i, t := range rows {
		out[i] = trashed(t)
		at := t.DeletedAt
		if name.IsZero() {
			at = t.HoldUntil
		}
		out[i].Next = fmt.Sprintf("%d-%d", at.UnixMicro(), t.ID)
	}
	return out, nil
}

// RestoreManifest brings a manifest back from the trash.
type RestoreManifest struct {
	Digest oci.Digest
	Tags   bool // the tags that were deleted with it, too, where they are free
	Force  bool // tags that point elsewhere by now are moved
}

// Restored is what came back.
type Restored struct {
	Digest   oci.Digest
	Manifest bool              // false: it was there already, because it was pushed again
	Children []oci.Digest      // manifests of an index that came back with it
	Tags     []string          // that point at it again by this
	Taken    map[string]string // tags that stayed where they are, and the digest that they point at
}

// RestoreManifest brings a manifest back from the trash, with the children of an index that are there, too, and with its
// tags when that is asked. What was pushed again meanwhile is no failure.
func (s *Service) RestoreManifest(ctx context.Context, name ref.Name, r RestoreManifest) (*Restored, error) {
	if err := s.o.Access.Check(ctx, identity.Restore, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	var out *Restored
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		out, err = s.restore(ctx, tx, repo, r)
		return err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, s.notInTrash(ctx, repo, r.Digest)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// notInTrash says of a manifest that was to be restored why it cannot be: one that is there needs no restore.
func (s *Service) notInTrash(ctx context.Context, repo *metadb.Repository, d oci.Digest) error {
	_, err := s.o.DB.Manifest(ctx, repo.ID, d)
	switch {
	case err == nil:
		return fault.New(fault.NotFound, fault.ManifestUnknown,
			"manifest %s is not in the trash of %s: it is there, and can be pulled; it was restored or pushed again before, or never deleted", d, repo.Name)
	case !errors.Is(err, metadb.ErrNotFound):
		return err
	}
	return fault.New(fault.NotFound, fault.ManifestUnknown, "manifest %s is not in the trash of %s; it was purged, or never deleted there", d, repo.Name)
}

func (s *Service) restore(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, r RestoreManifest) (*Restored, error) {
	out := &Restored{Digest: r.Digest, Taken: map[string]string{}}
	t, err := tx.Trashed(ctx, repo.ID, r.Digest)
	if err != nil {
		return nil, err
	}
	if out.Manifest, out.Children, err = s.takeBack(ctx, tx, repo, t, byRestore, r.Tags && len(t.Tags) > 0); err != nil {
		return nil, err
	}
	if !r.Tags {
		return out, nil
	}
	var facts []event.Event
	for _, tag := range t.Tags {
		now, err := tx.Tag(ctx, repo.ID, tag)
		if err == nil && now.Digest != r.Digest && !r.Force {
			out.Taken[tag] = now.Digest.String()
			continue
		}
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return nil, err
		}
		before, err := tx.PutTag(repo.ID, tag, r.Digest, origin(ctx, byRestore))
		if err != nil {
			return nil, err
		}
		if before != now.Digest { // it came to be, or moved, between the two
			return nil, fault.New(fault.Conflict, fault.TagInvalid, "tag %s of %s is being moved at this moment; try again", tag, repo.Name)
		}
		if before == r.Digest {
			continue
		}
		out.Tags = append(out.Tags, tag)
		facts = append(facts, event.TagMoved(ctx, repo.Name, tag, r.Digest).WithDetail(ctx, event.Detail{MediaType: t.MediaType, Size: t.Size, Cause: byRestore}))
	}
	tx.AfterCommit(func() {
		for _, tag := range out.Tags {
			s.tags.drop(tagKey{repo.ID, tag})
		}
	})
	return out, tx.Emit(facts...)
}

// bringBack makes sure that a manifest is there, if need be from the trash. ErrNotFound: it is in neither.
func (s *Service) bringBack(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, d oci.Digest, cause string, tagged bool) (m metadb.Manifest, restored bool, err error) {
	m, err = tx.Manifest(ctx, repo.ID, d)
	if !errors.Is(err, metadb.ErrNotFound) {
		return m, false, err
	}
	t, err := tx.Trashed(ctx, repo.ID, d)
	if err != nil {
		return m, false, err
	}
	restored, _, err = s.takeBack(ctx, tx, repo, t, cause, tagged)
	return t.Manifest, restored, err
}

// takeBack takes a manifest out of the trash, and with an index what is in the trash of its children. tagged says that
// the tags of the manifest have events of their own.
func (s *Service) takeBack(ctx context.Context, tx *metadb.Tx, repo *metadb.Repository, t metadb.Trashed, cause string, tagged bool) (restored bool, children []oci.Digest, err error) {
	restored, err = tx.RestoreManifest(t)
	if err != nil || !restored {
		return false, nil, err
	}
	if err := tx.SetListed(repo.ID, true); err != nil {
		return false, nil, err
	}
	e := event.ManifestPushed(ctx, repo.Name, t.Digest).WithDetail(ctx, event.Detail{MediaType: t.MediaType, Size: t.Size, Tagged: tagged, Cause: cause})
	if err := tx.Emit(e); err != nil {
		return false, nil, err
	}
	below, err := tx.TrashedChildren(ctx, t.ID)
	if err != nil {
		return false, nil, err
	}
	for _, c := range below {
		_, more, err := s.takeBack(ctx, tx, repo, c, cause, false)
		if errors.Is(err, metadb.ErrNotFound) { // named twice, or taken by somebody else
			continue
		}
		if err != nil {
			return false, nil, err
		}
		children = append(append(children, c.Digest), more...)
	}
	return true, children, nil
}

// PurgeTrash deletes a manifest of the trash for good, or with the zero digest all that is in the trash of the repository,
// and returns how many there were. It asks for purge, which is more than delete: it undoes what the trash protects against.
func (s *Service) PurgeTrash(ctx context.Context, name ref.Name, d oci.Digest) (purged int, err error) {
	if err := s.o.Access.Check(ctx, identity.Purge, name); err != nil {
		return 0, err
	}
	if err := s.deletable(); err != nil {
		return 0, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return 0, err
	}
	if !d.IsZero() {
		t, err := s.o.DB.Trashed(ctx, repo.ID, d)
		if errors.Is(err, metadb.ErrNotFound) {
			return 0, fault.New(fault.NotFound, fault.ManifestUnknown, "manifest %s is not in the trash of %s", d, name)
		}
		if err != nil {
			return 0, err
		}
		return s.purge(ctx, repo, []metadb.Trashed{t})
	}
	for {
		page, err := s.o.DB.Trash(ctx, repo.ID, metadb.Trashed{}, purgeBatch)
		if err != nil || len(page) == 0 {
			return purged, err
		}
		n, err := s.purge(ctx, repo, page)
		purged += n
		if err != nil {
			return purged, err
		}
	}
}

// purgeBatch bounds how long others wait for the transaction of a purge.
const purgeBatch = 100

func (s *Service) purge(ctx context.Context, repo *metadb.Repository, page []metadb.Trashed) (purged int, err error) {
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		purged = 0
		var facts []event.Event
		for _, t := range page {
			ok, err := tx.PurgeTrash(t.ID)
			if err != nil {
				return err
			}
			if ok {
				purged++
				facts = append(facts, event.ManifestPurged(ctx, repo.Name, t.Digest).WithDetail(ctx, event.Detail{}))
			}
		}
		return tx.Emit(facts...)
	})
	return purged, err
}
