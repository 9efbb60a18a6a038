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
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// PutBlob pushes a whole blob in one request.
//
// Spec: OCI distribution v1.1.1, "Single POST".
func (s *Service) PutBlob(ctx context.Context, name ref.Name, d oci.Digest, c Chunk) error {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	u := s.newUpload(ctx, name, d.Algorithm())
	return s.finish(ctx, name, &u, false, d, c)
}

// Commit ends an upload with its last bytes, if any, and makes it a blob of the repository. A digest that does not match
// ends the upload, too.
//
// Spec: OCI distribution v1.1.1, "POST then PUT" and "Pushing a blob in chunks".
func (s *Service) Commit(ctx context.Context, name ref.Name, id string, d oci.Digest, c Chunk) error {
	release, err := s.busy.take(id)
	if err != nil {
		return err
	}
	defer release()
	u, err := s.upload(ctx, name, id) // asks for access
	if err != nil {
		return err
	}
	if err := c.fits(u.Received); err != nil {
		return err
	}
	return s.finish(ctx, name, u, true, d, c)
}

// finish takes the last bytes of an upload and commits it: into the database when it is small, else into the store.
// recorded says whether the upload has a row already.
func (s *Service) finish(ctx context.Context, name ref.Name, u *metadb.Upload, recorded bool, d oci.Digest, c Chunk) error {
	if u.Received == 0 && c.Length <= s.limits.Load().Inline {
		head, more, err := s.readSmall(c)
		if err != nil {
			return err
		}
		if !more {
			return s.commitInline(ctx, name, u, recorded, d, head)
		}
		c.Body = io.MultiReader(bytes.NewReader(head), c.Body)
	}
	if c.Length == 0 && u.Received > 0 && u.Received <= s.limits.Load().Inline {
		if done, err := s.commitSmallUpload(ctx, name, u, d); done {
			return err
		}
	}
	return s.commitLarge(ctx, name, u, recorded, d, c)
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
func (s *Service) commitInline(ctx context.Context, name ref.Name, u *metadb.Upload, recorded bool, d oci.Digest, body []byte) error {
	if got := oci.FromBytes(d.Algorithm(), body); got != d {
		if recorded {
			s.discard(ctx, u)
		}
		return mismatch(got, d)
	}
	return s.retryClaimed(ctx, func() error {
		return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			return s.putBlob(ctx, tx, name, u, recorded, metadb.Blob{Digest: d, Size: int64(len(body)), Inline: true}, body)
		})
	})
}

// commitSmallUpload moves what an earlier chunk brought into the database when it is small. done is false when the store
// cannot read uploads.
func (s *Service) commitSmallUpload(ctx context.Context, name ref.Name, u *metadb.Upload, d oci.Digest) (done bool, err error) {
	r, err := blob.OpenUpload(ctx, s.o.Blobs, u.ID, state(u))
	if err != nil {
		return !errors.Is(err, blob.ErrNoUploadReader), err
	}
	body, err := io.ReadAll(r)
	_ = r.Close()
	if err == nil && int64(len(body)) != u.Received {
		err = blob.UploadUnknown(u.ID)
	}
	if err != nil {
		return true, err
	}
	if err := s.commitInline(ctx, name, u, true, d, body); err != nil {
		return true, err
	}
	if err := s.o.Blobs.Abort(context.WithoutCancel(ctx), u.ID, state(u)); err != nil {
		s.o.Log.Warn("file of a finished upload not removed", "upload", u.ID, "err", err)
	}
	return true, nil
}

func mismatch(got, want oci.Digest) error {
	return fault.New(fault.Invalid, fault.DigestInvalid, "the uploaded content has digest %s, not %s as the request says; the upload was discarded", got, want)
}

// commitLarge commits through the store. Before the digest's bytes can appear there, the upload's row names it, so that
// a crash leaves nothing that no row knows; that write runs while the last bytes come in.
func (s *Service) commitLarge(ctx context.Context, name ref.Name, u *metadb.Upload, recorded bool, d oci.Digest, c Chunk) error {
	announced := make(chan error, 1)
	go func() { announced <- s.announce(ctx, u, recorded, d) }()
	st, err := s.takeLast(ctx, u, d, c)
	if aerr := <-announced; err == nil {
		err = aerr
	}
	if err != nil {
		if !fault.Is(err, fault.Invalid) || fault.Has(err, fault.DigestInvalid) || !recorded {
			s.discard(ctx, u)
		}
		return s.wrapUpload(u, err)
	}
	// From here on the client's leaving changes nothing: the bytes are all there.
	ctx = context.WithoutCancel(ctx)
	if err := s.o.Blobs.Commit(ctx, u.ID, st, d); err != nil {
		s.discard(ctx, u)
		return s.wrapUpload(u, err)
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		return s.putBlob(ctx, tx, name, u, true, metadb.Blob{Digest: d, Size: st.Offset}, nil)
	})
	return s.wrapUpload(u, err)
}

func (s *Service) wrapUpload(u *metadb.Upload, err error) error {
	if err == nil || fault.Of(err).Kind != fault.Internal {
		return err
	}
	return fmt.Errorf("registry: commit upload %s to %s: %w", u.ID, u.Repository, err)
}

// announce records durably which digest the upload is about to become.
func (s *Service) announce(ctx context.Context, u *metadb.Upload, recorded bool, d oci.Digest) error {
	return s.retryClaimed(ctx, func() error {
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			if !recorded {
				if err := tx.CreateUpload(*u); err != nil {
					return err
				}
			}
			return tx.SetCommitting(u.ID, d)
		})
		if errors.Is(err, metadb.ErrNotFound) {
			return fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, u.Repository)
		}
		return err
	})
}

// takeLast receives the last bytes and verifies the digest of all.
func (s *Service) takeLast(ctx context.Context, u *metadb.Upload, d oci.Digest, c Chunk) (blob.State, error) {
	h, err := s.finalHasher(ctx, u, d)
	if err != nil {
		return blob.State{}, err
	}
	st := state(u)
	if c.Length != 0 || u.Received == 0 {
		got := s.receive(ctx, u, h, c)
		if got.err != nil {
			return got.state, got.err
		}
		st = got.state
	}
	if got := h.Digest(); got != d {
		return st, mismatch(got, d)
	}
	return st, nil
}

// finalHasher continues the upload's hash, or, when the client ends with another algorithm than it announced, reads what
// came so far once more.
func (s *Service) finalHasher(ctx context.Context, u *metadb.Upload, d oci.Digest) (*oci.Hasher, error) {
	if u.Algorithm == d.Algorithm() {
		return oci.ResumeHasher(u.Algorithm, u.HashState)
	}
	h := oci.NewHasher(d.Algorithm())
	if u.Received == 0 {
		return h, nil
	}
	r, err := blob.OpenUpload(ctx, s.o.Blobs, u.ID, state(u))
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
func (s *Service) putBlob(ctx context.Context, tx *metadb.Tx, name ref.Name, u *metadb.Upload, recorded bool, b metadb.Blob, content []byte) error {
	repo, err := s.ensureRepository(ctx, tx, name)
	if err != nil {
		return err
	}
	b.LeaseUntil = s.lease()
	if err := tx.PutBlob(b, content); err != nil {
		return err
	}
	if _, err := tx.LinkBlob(repo, b.Digest); err != nil {
		return err
	}
	if !recorded {
		return nil
	}
	existed, err := tx.DeleteUpload(u.ID)
	if err == nil && !existed {
		// Cancelled, or swept as dead while its last bytes came: its content may be gone.
		err = fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", u.ID, name)
	}
	return err
}
