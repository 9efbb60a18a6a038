package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// smallBlob is what memory keeps of a blob: its size, and its bytes when they are in the database.
type smallBlob struct {
	size   int64
	place  string    // in the store; see blob.Parker
	readAt time.Time // when place was
	lease  time.Time // zero: something needs the blob
	inline bool
	body   []byte
}

// lease is the time until which what is answered about a blob now is a promise.
func (s *Service) lease() time.Time { return s.o.Now().Add(s.o.Lease) }

// StatBlob returns the size of a blob of the repository in bytes. That it does is a promise: see promise.go.
//
// Spec: OCI distribution v1.1.1, "Checking if content exists in the registry".
func (s *Service) StatBlob(ctx context.Context, name ref.Name, d oci.Digest) (int64, error) {
	b, err := s.blob(ctx, name, d)
	if err == nil {
		b, err = s.promise(ctx, name, d, b)
	}
	if err != nil {
		return 0, err
	}
	return b.size, nil
}

// OpenBlob opens a blob of the repository and returns its size in bytes. The content of a large blob on the fs driver is
// an *os.File. Close it.
//
// Spec: OCI distribution v1.1.1, "Pulling blobs".
func (s *Service) OpenBlob(ctx context.Context, name ref.Name, d oci.Digest) (blob.Content, int64, error) {
	b, err := s.blob(ctx, name, d)
	if err != nil {
		return nil, 0, err
	}
	if b.inline {
		return memory{bytes.NewReader(b.body), b.body}, b.size, nil
	}
	c, err := s.openStored(ctx, d, b)
	if err == nil {
		return c, b.size, nil
	}
	if !wrongContent(err) {
		return nil, 0, fmt.Errorf("registry: open blob %s of %s: %w", d, name, err)
	}
	// The row promised bytes that are not there: not the caller's mistake. A push of the blob repairs it, perhaps one
	// since we remembered where it lies.
	if b, err = s.blobAnew(ctx, name, d); err != nil {
		return nil, 0, err
	}
	if b.inline {
		return memory{bytes.NewReader(b.body), b.body}, b.size, nil
	}
	if c, err = s.openStored(ctx, d, b); err == nil {
		return c, b.size, nil
	}
	if !wrongContent(err) {
		return nil, 0, fmt.Errorf("registry: open blob %s of %s: %w", d, name, err)
	}
	s.quarantine(ctx, metadb.Damage{Digest: d, Missing: fault.Has(err, fault.BlobUnknown), Detail: err.Error()})
	return nil, 0, damagedBlob(name, d).Because(err)
}

// openStored opens a blob in the store, if it has as many bytes there as it should; see wrongContent.
func (s *Service) openStored(ctx context.Context, d oci.Digest, b *smallBlob) (blob.Content, error) {
	c, size, err := blob.OpenAt(ctx, s.o.Blobs, b.place, d)
	if err != nil || size == b.size {
		return c, err
	}
	_ = c.Close()
	return nil, &blob.WrongError{Digest: d, Size: b.size, Read: size}
}

// wrongContent says of an error that the store answers, and does not have the bytes.
func wrongContent(err error) bool {
	var wrong *blob.WrongError
	return fault.Has(err, fault.BlobUnknown) || errors.As(err, &wrong)
}

// blobAnew is blob after forgetting what was remembered.
func (s *Service) blobAnew(ctx context.Context, name ref.Name, d oci.Digest) (*smallBlob, error) {
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	s.blobs.drop(contentKey{repo.ID, d})
	return s.blob(ctx, name, d)
}

// blob finds a blob in the repository, for a caller who may pull from it.
func (s *Service) blob(ctx context.Context, name ref.Name, d oci.Digest) (*smallBlob, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := s.blobs.get(ctx, contentKey{repo.ID, d}, func(ctx context.Context) (*smallBlob, error) {
		row, err := s.o.DB.Blob(ctx, repo.ID, d)
		if err != nil {
			return nil, err
		}
		if row.State == metadb.Damaged {
			return nil, damagedBlob(name, d)
		}
		b := &smallBlob{size: row.Size, inline: row.Inline, place: row.Place, readAt: s.o.Now(), lease: row.LeaseUntil}
		if row.Inline {
			if b.body, err = s.o.DB.Content(ctx, d); err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return nil, err
			}
			if err := checkStored(d, b.body); err != nil {
				return nil, err
			}
		}
		return b, nil
	})
	var wrong *errDamaged
	if errors.As(err, &wrong) {
		s.quarantine(ctx, wrong.damage)
		return nil, damagedBlob(name, d).Because(err)
	}
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, unknownBlob(name, d)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: blob %s of %s: %w", d, name, err)
	}
	return b, nil
}

// DeleteBlob takes a blob out of the repository. Other repositories keep it; the bytes are removed later, by
// collection. A blob that a manifest of the repository still needs is kept.
//
// Spec: OCI distribution v1.1.1, "Deleting Blobs".
func (s *Service) DeleteBlob(ctx context.Context, name ref.Name, d oci.Digest) error {
	if err := s.o.Access.Check(ctx, identity.Delete, name); err != nil {
		return err
	}
	if err := s.deletable(); err != nil {
		return err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return err
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		existed, err := tx.UnlinkBlob(repo.ID, d)
		if err != nil {
			return err
		}
		if !existed {
			return unknownBlob(name, d)
		}
		// Asked after the change, so that a push of a manifest at the same moment cannot slip between.
		parents, err := tx.Parents(ctx, repo.ID, d, 1)
		if err != nil {
			return err
		}
		if len(parents) > 0 {
			return fault.New(fault.Unsupported, fault.UnsupportedReason, "blob %s is needed by manifest %s in %s; delete the manifest first", d.Short(), parents[0].Parent, name)
		}
		tx.AfterCommit(func() { s.blobs.drop(contentKey{repo.ID, d}) })
		return tx.Emit(event.BlobDeleted(ctx, repo.Name, d).WithDetail(ctx, event.Detail{}))
	})
}

// Mount makes a blob of another repository one of this, without moving a byte, and returns whether it could. from names
// the source; the zero name lets the registry look for a repository that the caller may read. A source that does not
// have the blob, or that the caller may not read, is no error and not told apart: the caller uploads instead.
//
// Spec: OCI distribution v1.1.1, "Mounting a blob from another repository".
func (s *Service) Mount(ctx context.Context, name ref.Name, d oci.Digest, from ref.Name) (bool, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return false, err
	}
	if err := s.writable(); err != nil {
		return false, err
	}
	mark := s.o.DB.Mark()
	if !from.IsZero() {
		ok, err := s.readableHas(ctx, from, d)
		if err != nil || !ok {
			return false, err
		}
	} else if ok, err := s.someReadableHas(ctx, d); err != nil || !ok {
		return false, err
	}
	err := s.link(ctx, name, d, from, mark)
	if errors.Is(err, metadb.ErrNotFound) || errors.Is(err, metadb.ErrClaimed) { // deleted since we looked
		return false, nil
	}
	return err == nil, err
}

// link gives the repository a blob that was found after the mark.
func (s *Service) link(ctx context.Context, name ref.Name, d oci.Digest, from ref.Name, since metadb.Mark) error {
	if repo, ok := s.repos.peek(name.String()); ok && !s.o.TellMounts { // only a row to add: cheaper
		return s.o.DB.KeepLink(ctx, repo.ID, d, s.lease(), since)
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		repo, err := s.ensureRepository(ctx, tx, name)
		if err != nil {
			return err
		}
		created, err := tx.LinkBlob(repo, d)
		if err != nil {
			return err
		}
		if err := tx.LeaseBlob(d, s.lease()); err != nil || !created || !s.o.TellMounts {
			return err
		}
		b, err := tx.BlobAnywhere(ctx, d)
		if err != nil {
			return err
		}
		return tx.Emit(event.BlobMounted(ctx, name.String(), d).WithDetail(ctx, event.Detail{Size: b.Size, FromRepository: from.String()}))
	})
}

// maxMountSources bounds the search for a source that the client did not name.
const maxMountSources = 20

func (s *Service) someReadableHas(ctx context.Context, d oci.Digest) (bool, error) {
	repos, err := s.o.DB.BlobRepositories(ctx, d, maxMountSources)
	if err != nil {
		return false, err
	}
	for _, r := range repos {
		name, err := ref.ParseName(r.Name)
		if err != nil {
			return false, fmt.Errorf("registry: stored name %q: %w", r.Name, err)
		}
		if s.o.Access.Check(ctx, identity.Pull, name) == nil {
			return true, nil
		}
	}
	return false, nil
}

func (s *Service) readableHas(ctx context.Context, from ref.Name, d oci.Digest) (bool, error) {
	_, err := s.blob(ctx, from, d)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
		return false, nil
	}
	return err == nil, err
}

// memory is content that is in memory already.
type memory struct {
	*bytes.Reader
	body []byte
}

func (memory) Close() error { return nil }

// Part is a part of the content, for a face that can write it without copying it first; it is not to be changed.
func (m memory) Part(start, length int64) []byte { return m.body[start : start+length] }

var _ io.ReadSeekCloser = memory{}
