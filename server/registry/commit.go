package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// PutBlob pushes a whole blob in one request.
//
// Spec: OCI distribution v1.1.1, "Single POST".
func (s *Service) PutBlob(ctx context.Context, name ref.Name, d oci.Digest, c Chunk) error {
	if err := s.mayPush(ctx, name); err != nil {
		return err
	}
	u := newUpload(ctx, name, newCore(), d.Algorithm())
	u.once = true
	return s.finish(ctx, name, u, d, c)
}

// Commit ends an upload with its last bytes, if any, and makes it a blob of the repository. A digest that does not match
// ends the upload, too.
//
// Spec: OCI distribution v1.1.1, "POST then PUT" and "Pushing a blob in chunks".
func (s *Service) Commit(ctx context.Context, name ref.Name, id string, d oci.Digest, c Chunk) error {
	if err := s.mayPush(ctx, name); err != nil {
		return err
	}
	u, release, err := s.claim(ctx, name, id)
	if err != nil {
		return err
	}
	defer release()
	if err := c.fits(u.Received); err != nil {
		return err
	}
	if over, err := s.overElsewhere(ctx, name, id, u, d, c); over {
		return err
	}
	return s.finish(ctx, name, u, d, c)
}

// overElsewhere answers a request to end an upload of which there are no bytes and none come: most likely it was ended
// through another replica, and its client did not hear the answer. When the blob is there, that is what it wants.
func (s *Service) overElsewhere(ctx context.Context, name ref.Name, id string, u *inProgress, d oci.Digest, c Chunk) (over bool, err error) {
	if s.o.DB.Alone() || u.recorded || c.Length != 0 || d == oci.FromBytes(d.Algorithm(), nil) {
		return false, nil
	}
	_, err = s.blob(ctx, name, d)
	if fault.Is(err, fault.NotFound) {
		err = unknownUpload(name, id)
	}
	return true, err
}

// finish takes the last bytes of an upload and commits it: into the database when it is small, else into the store.
func (s *Service) finish(ctx context.Context, name ref.Name, u *inProgress, d oci.Digest, c Chunk) error {
	if c.Length != 0 || u.Received == 0 { // the last step of what has come goes into what is kept in reserve
		n := max(c.Length, 0)
		if n <= s.limits.Load().Inline {
			n *= 2 // into the database's log, and then into its place
		}
		if err := s.room(ctx, n); err != nil {
			if u.recorded {
				s.failed(ctx, u, err)
			}
			return err
		}
	}
	if u.Received == 0 && c.Length <= s.limits.Load().Inline {
		head, more, err := s.readSmall(c)
		if err != nil {
			return err
		}
		if !more {
			return s.commitInline(ctx, name, u, d, head)
		}
		c.Body = io.MultiReader(bytes.NewReader(head), c.Body)
	}
	if c.Length == 0 && u.Received > 0 && u.Received <= s.limits.Load().Inline {
		if done, err := s.commitSmallUpload(ctx, name, u, u.state(), d); done {
			return err
		}
	}
	return s.commitLarge(ctx, name, u, d, c)
}

// readSmall reads a body up to the limit of what the database keeps. more says that it goes on.
func (s *Service) readSmall(c Chunk) (head []byte, more bool, err error) {
	limit := max(s.limits.Load().Inline, 0)
	size := c.Length
	if size < 0 || size > limit {
		size = 512
	}
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	n, err := buf.ReadFrom(io.LimitReader(c.Body, limit+1))
	if err != nil {
		return nil, false, bodyEnded(&blob.SourceError{Err: err})
	}
	if n <= limit && c.Length >= 0 && n != c.Length {
		return nil, false, fault.New(fault.Invalid, fault.SizeInvalid, "body has %d bytes and the request says %d", n, c.Length)
	}
	return buf.Bytes(), n > limit, nil
}

// commitInline keeps a small blob in the database: one durable write, and no file.
func (s *Service) commitInline(ctx context.Context, name ref.Name, u *inProgress, d oci.Digest, body []byte) error {
	if got := oci.FromBytes(d.Algorithm(), body); got != d {
		err := mismatch(got, d)
		switch {
		case u.recorded:
			s.failed(ctx, u, err)
		case !u.once:
			s.sessions.end(u.ID) // nothing of it is anywhere
		}
		return err
	}
	b := metadb.Blob{Digest: d, Size: int64(len(body)), Inline: true}
	err := s.retryClaimed(ctx, func() error {
		if repo, ok := s.repos.peek(name.String()); ok && !u.recorded { // only rows to add: cheaper
			b.LeaseUntil = s.lease()
			err := s.o.DB.KeepBlob(ctx, repo.ID, b, body)
			if err == nil {
				s.committed(u, repo.ID, d)
			}
			return err
		}
		return s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return s.putBlob(ctx, tx, name, u, b, body) })
	})
	switch {
	case err == nil:
		s.removeEmpty(ctx, u)
	case u.recorded && spoils(err):
		s.failed(ctx, u, err)
	}
	return s.wrapUpload(u, err)
}

// removeEmpty removes what the store has of an upload whose chunks were all empty.
func (s *Service) removeEmpty(ctx context.Context, u *inProgress) {
	if !u.recorded || u.Received > 0 {
		return
	}
	ctx = context.WithoutCancel(ctx)
	r, err := blob.OpenUpload(ctx, s.o.Blobs, u.ID, u.state())
	if err == nil {
		_ = r.Close()
		err = s.o.Blobs.Abort(ctx, u.ID, u.state())
	}
	if err != nil && !fault.Has(err, fault.BlobUploadUnknown) && !errors.Is(err, blob.ErrNoUploadReader) {
		s.o.Log.Warn("file of a finished upload not removed; it is swept later", "upload", u.ID, "err", err)
	}
}

// commitSmallUpload moves what earlier chunks brought into the database when it is small, so that where a blob lies is
// decided by its size and not by how it came. done is false when the store cannot read uploads.
func (s *Service) commitSmallUpload(ctx context.Context, name ref.Name, u *inProgress, st blob.State, d oci.Digest) (done bool, err error) {
	r, err := blob.OpenUpload(ctx, s.o.Blobs, u.ID, st)
	if errors.Is(err, blob.ErrNoUploadReader) {
		return false, nil
	}
	var body []byte
	if err == nil {
		body, err = io.ReadAll(r)
		_ = r.Close()
	}
	if err == nil && int64(len(body)) != st.Offset {
		err = blob.UploadUnknown(u.ID)
	}
	if err != nil {
		s.failed(ctx, u, err)
		return true, s.wrapUpload(u, err)
	}
	if err := s.commitInline(ctx, name, u, d, body); err != nil {
		return true, err
	}
	if err := s.o.Blobs.Abort(context.WithoutCancel(ctx), u.ID, st); err != nil {
		s.o.Log.Warn("file of a finished upload not removed; it is swept later", "upload", u.ID, "err", err)
	}
	return true, nil
}

func mismatch(got, want oci.Digest) error {
	return fault.New(fault.Invalid, fault.DigestInvalid, "the uploaded content has digest %s, not %s as the request says; the upload was discarded", got, want)
}

// commitLarge commits through the store. Before the digest's bytes can appear there, the upload's row names it, so that
// a crash leaves nothing that no row knows; that write runs while the last bytes come in.
func (s *Service) commitLarge(ctx context.Context, name ref.Name, u *inProgress, d oci.Digest, c Chunk) error {
	announced := make(chan error, 1)
	go func() { announced <- s.announce(ctx, u, d) }()
	st, placed, err := s.takeLast(ctx, u, d, c)
	if aerr := <-announced; err == nil {
		err = aerr
	}
	u.recorded = true
	if placed != nil {
		defer func() { _ = placed.Close() }()
	}
	if err != nil {
		if placed != nil {
			_ = placed.Close() // before the rest of the upload is cleared away
		}
		s.failed(ctx, u, err)
		return s.wrapUpload(u, err)
	}
	// From here on the client's leaving changes nothing: the bytes are all there.
	ctx = context.WithoutCancel(ctx)
	place := ""
	commit := func() (err error) {
		place, err = blob.Park(ctx, s.o.Blobs, u.ID, st, d)
		return err
	}
	if placed != nil {
		commit = func() error { return placed.Commit(ctx) }
	} else if st.Offset <= s.limits.Load().Inline {
		if done, err := s.commitSmallUpload(ctx, name, u, st, d); done {
			return err
		}
	}
	if err := commit(); err != nil {
		s.discard(ctx, u, true) // the bytes may be there, in spite of the error
		return s.wrapUpload(u, err)
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		return s.putBlob(ctx, tx, name, u, metadb.Blob{Digest: d, Size: st.Offset, Place: place}, nil)
	})
	if err == nil && place == "" && u.Algorithm != d.Algorithm() || fault.Has(err, fault.BlobUploadUnknown) {
		s.clearParked(ctx, u.ID) // what was read back; or what is of no use any more
	}
	switch {
	case errors.Is(err, metadb.ErrClaimed): // another process ends this very upload
		err = fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, name).Because(err)
	case fault.Is(err, fault.Full):
		s.discard(ctx, u, true)
	}
	return s.wrapUpload(u, err) // of any other failure the row tells the sweep; the client may ask again
}

func (s *Service) wrapUpload(u *inProgress, err error) error {
	if err == nil || fault.Of(err).Kind != fault.Internal {
		return err
	}
	return fmt.Errorf("registry: upload %s to %s: %w", u.ID, u.Repository, err)
}

// announce records durably which digest the upload is about to become.
func (s *Service) announce(ctx context.Context, u *inProgress, d oci.Digest) error {
	s.sessions.record(u.ID)
	return s.retryClaimed(ctx, func() error {
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			if !u.recorded {
				if err := tx.CreateUpload(u.Upload); err != nil {
					return err
				}
			}
			return tx.SetCommitting(u.ID, d)
		})
		switch {
		case errors.Is(err, metadb.ErrNotFound):
			return fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, u.Repository)
		case fault.Is(err, fault.Conflict): // it got its row through another replica
			return beingWritten(u.ID)
		}
		return err
	})
}

// takeLast receives the last bytes and verifies the digest of all. When they are all the bytes and the store can use the
// digest, they are placed where they belong; else placed is nil and the state is that of the upload.
func (s *Service) takeLast(ctx context.Context, u *inProgress, d oci.Digest, c Chunk) (st blob.State, placed blob.Placement, err error) {
	h, err := s.finalHasher(ctx, u, d)
	if err != nil {
		return blob.State{}, nil, err
	}
	st = u.state()
	if u.Received == 0 {
		placed, err = blob.Place(ctx, s.o.Blobs, u.ID, d)
		if errors.Is(err, blob.ErrNoPlacer) {
			placed = nil
		} else if err != nil {
			return st, nil, err
		}
	}
	switch {
	case placed != nil:
		st.Offset, _, err = c.into(ctx, placed, h)
	case c.Length != 0 || u.Received == 0:
		got := s.receive(ctx, u, h, c)
		st, err = got.state, got.err
	}
	if err != nil {
		return st, placed, err
	}
	if got := h.Digest(); got != d {
		return st, placed, mismatch(got, d)
	}
	return st, placed, nil
}

// finalHasher continues the upload's hash, or, when the client ends with another algorithm than it announced, reads what
// came so far once more.
func (s *Service) finalHasher(ctx context.Context, u *inProgress, d oci.Digest) (*oci.Hasher, error) {
	if u.Algorithm == d.Algorithm() {
		return oci.ResumeHasher(u.Algorithm, u.HashState)
	}
	h := oci.NewHasher(d.Algorithm())
	if u.Received == 0 {
		return h, nil
	}
	r, err := blob.OpenUpload(ctx, s.o.Blobs, u.ID, u.state())
	if errors.Is(err, blob.ErrNoUploadReader) {
		return nil, fault.New(fault.Unsupported, fault.UnsupportedReason, "the upload began with %s and ends with %s; start it with ?digest-algorithm=%s", u.Algorithm, d.Algorithm(), d.Algorithm())
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	_, err = io.Copy(h, r)
	return h, err
}

// putBlob writes the rows that make a blob visible and end its upload.
func (s *Service) putBlob(ctx context.Context, tx *metadb.Tx, name ref.Name, u *inProgress, b metadb.Blob, content []byte) error {
	repo, err := s.ensureRepository(ctx, tx, name)
	if err != nil {
		return err
	}
	b.LeaseUntil = s.lease()
	if b.Place != "" {
		// Asked first: where the row is gone, the bytes may be gone from that place, too. When the repository has the blob,
		// the same request was served by another replica.
		existed, err := tx.DeleteUpload(u.ID)
		if err == nil && !existed {
			_, err = tx.Blob(ctx, repo, b.Digest)
			if errors.Is(err, metadb.ErrNotFound) {
				err = fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, name)
			}
			return err
		}
		if err != nil {
			return err
		}
	}
	if err := tx.PutBlob(b, content); err != nil {
		return err
	}
	linked, err := tx.LinkBlob(repo, b.Digest)
	if err != nil {
		return err
	}
	tx.AfterCommit(func() { s.committed(u, repo, b.Digest) })
	if !u.recorded || b.Place != "" {
		return nil
	}
	existed, err := tx.DeleteUpload(u.ID)
	if err == nil && !existed && linked {
		// Cancelled, or swept as dead while its last bytes came: its content may be gone. It is not when the repository
		// had the blob already, as after the same request to another replica.
		err = fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, name)
	}
	return err
}

// committed forgets what is no longer so when an upload has become a blob. Content that is pushed again repairs what the
// store has lost.
func (s *Service) committed(u *inProgress, repo int64, d oci.Digest) {
	s.sessions.end(u.ID)
	s.blobs.drop(contentKey{repo, d})
}
