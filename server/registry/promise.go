package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// What a client is told to be there it does not push: so the answer to its question is a promise, which collection keeps.
//
// A blob that something needs has no lease: whatever takes its last reference away gives it a whole one. So nothing is
// written for it. A blob that nothing needs has a lease, and an answer is given when two thirds of one are left; else it is
// renewed first. Memory may say that there is no lease when there has been one for a while, and therefore is believed for
// a sixth of a lease. What is left after all that is two thirds of Options.Lease at least.

// memoryFor is for how long an answer may rely on what is remembered.
func (s *Service) memoryFor() time.Duration { return s.o.Lease / 6 }

// promise makes sure that the blob stays for as long as an answer is a promise; unknown is the answer when it is gone.
func (s *Service) promise(ctx context.Context, name ref.Name, d oci.Digest, b *smallBlob) (*smallBlob, error) {
	if s.o.ReadOnly { // nothing is deleted
		return b, nil
	}
	now := s.o.Now()
	if b.lease.IsZero() && now.Sub(b.readAt).Abs() > s.memoryFor() {
		fresh, err := s.blobAnew(ctx, name, d)
		if err != nil {
			return nil, err
		}
		b = fresh
	}
	until := now.Add(s.o.Lease)
	if b.lease.IsZero() || !b.lease.Before(metadb.Enough(now, until)) {
		return b, nil
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.LeaseBlob(d, until); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.blobs.drop(contentKey{repo.ID, d}) })
		row, err := tx.Blob(ctx, repo.ID, d) // asked after the change: collection may have been first
		if err == nil && row.State != metadb.Live {
			err = metadb.ErrNotFound
		}
		return err
	})
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, metadb.ErrNotFound):
		s.blobs.drop(contentKey{repo.ID, d})
		return nil, unknownBlob(name, d)
	case (fault.Is(err, fault.Full) || fault.Is(err, fault.Unavailable)) && b.lease.After(now):
		return b, nil // it is there, and nobody can push it now anyway
	}
	return nil, fmt.Errorf("registry: promise blob %s of %s: %w", d, name, err)
}

// StatManifest is Manifest for who only asks whether it is there. One that is asked for by its digest may be named in an
// index next, and so is promised like a blob.
//
// Spec: OCI distribution v1.1.1, "Checking if content exists in the registry".
func (s *Service) StatManifest(ctx context.Context, name ref.Name, r ref.Reference) (*Manifest, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	m, err := s.Manifest(ctx, name, r)
	if err != nil || r.Tag != "" || s.o.ReadOnly {
		return m, err
	}
	now := s.o.Now()
	if m.promised.Load() > now.UnixMicro() {
		return m, nil
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	next, err := s.promiseManifest(ctx, repo.ID, r.Digest, now)
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		s.manifests.drop(contentKey{repo.ID, r.Digest})
		return nil, unknownManifest(repo.Name, r.Digest)
	case fault.Is(err, fault.Full) || fault.Is(err, fault.Unavailable):
		return m, nil // pulls go on; nobody can push now
	case err != nil:
		return nil, fmt.Errorf("registry: promise manifest %s@%s: %w", name, r.Digest, err)
	}
	m.promised.Store(next.UnixMicro())
	return m, nil
}

// promiseManifest makes sure that a manifest stays in the repository; next is when it has to be asked again.
func (s *Service) promiseManifest(ctx context.Context, repoID int64, d oci.Digest, now time.Time) (next time.Time, err error) {
	row, err := s.o.DB.BlobAnywhere(ctx, d)
	if err != nil {
		return next, err
	}
	until := now.Add(s.o.Lease)
	enough := metadb.Enough(now, until)
	if row.LeaseUntil.IsZero() {
		kept, err := s.o.DB.ManifestKept(ctx, repoID, d)
		if err != nil || kept {
			return now.Add(s.memoryFor()), err
		}
	} else if !row.LeaseUntil.Before(enough) {
		return now.Add(row.LeaseUntil.Sub(enough)), nil
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.LeaseBlob(d, until); err != nil {
			return err
		}
		_, err := tx.Manifest(ctx, repoID, d) // asked after the change: collection may have been first
		return err
	})
	return now.Add(until.Sub(enough)), err
}
