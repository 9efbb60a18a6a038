package scrub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// copies is a directory with other copies of blobs. Nothing in it is believed: bytes are verified before they replace any.
type copies struct{ root *os.Root }

// openCopies opens the content directory of a berth, a backup of one, or that of CNCF distribution.
func openCopies(dir string) (*copies, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"blobs", "docker/registry/v2/blobs"} {
		if _, err := root.Stat(name); err == nil {
			return &copies{root}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s has neither blobs, as berth and its backups have, nor docker/registry/v2/blobs, as CNCF distribution has", dir), root.Close())
}

func (c *copies) close() error { return c.root.Close() }

// open gives a copy, which may be a wrong one, or fs.ErrNotExist.
func (c *copies) open(d oci.Digest) (*os.File, error) {
	alg, hex := string(d.Algorithm()), d.Hex()
	f, err := c.root.Open(path.Join("blobs", alg, hex[:2], hex))
	if errors.Is(err, iofs.ErrNotExist) {
		f, err = c.root.Open(path.Join("blobs", alg, hex)) // OCI layout
	}
	if errors.Is(err, iofs.ErrNotExist) {
		f, err = c.root.Open(path.Join("docker/registry/v2/blobs", alg, hex[:2], hex, "data"))
	}
	return f, err
}

// repair gives a damaged blob the bytes of another copy, when there is one and it is right.
func (s *Service) repair(ctx context.Context, b metadb.Blob, from *copies) (repaired bool, err error) {
	f, err := from.open(b.Digest)
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	if !b.Inline {
		// Looked at before it is taken, so that a wrong copy costs no space.
		if _, err := blob.Send(io.Discard, &stoppable{ctx, f}, b.Size, b.Digest); err != nil {
			return false, fmt.Errorf("the copy is not right, either: %w", err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
	}
	return true, s.take(ctx, b, f)
}

// take gives a damaged blob the bytes of r, unless they are not right.
func (s *Service) take(ctx context.Context, b metadb.Blob, r io.Reader) error {
	if !b.Inline {
		return s.upload(ctx, b, r)
	}
	body, err := io.ReadAll(io.LimitReader(r, b.Size+1))
	if err != nil {
		return err
	}
	if oci.FromBytes(b.Digest.Algorithm(), body) != b.Digest {
		return errors.New("the copy is not right, either")
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.PutBlob(s.asPushed(b), body) })
}

// upload puts content into the store as a push does: a row names it before it appears, so that a crash leaves nothing that
// no row knows.
func (s *Service) upload(ctx context.Context, b metadb.Blob, r io.Reader) error {
	u := metadb.Upload{ID: newID(), Principal: "system", Algorithm: b.Digest.Algorithm()}
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.CreateUpload(u); err != nil {
			return err
		}
		return tx.SetCommitting(u.ID, b.Digest)
	})
	if err != nil {
		return err
	}
	if err := s.commit(ctx, u.ID, b, r); err != nil {
		return err // the sweep of uploads clears away what is left
	}
	return s.o.DB.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
		if err := tx.PutBlob(s.asPushed(b), nil); err != nil {
			return err
		}
		existed, err := tx.DeleteUpload(u.ID)
		if err == nil && !existed {
			err = errors.New("the repair was swept as an upload that nobody ended")
		}
		return err
	})
}

// commit makes the content readable under its digest, whole and right.
func (s *Service) commit(ctx context.Context, id string, b metadb.Blob, r io.Reader) error {
	p, err := blob.Place(ctx, s.o.Blobs, id, b.Digest)
	if err == nil {
		defer func() { _ = p.Close() }()
		if _, err := blob.Send(p, r, b.Size, b.Digest); err != nil {
			return err
		}
		return p.Commit(ctx)
	}
	if !errors.Is(err, blob.ErrNoPlacer) {
		return err
	}
	w, err := s.o.Blobs.Upload(ctx, id, blob.State{})
	if err != nil {
		return err
	}
	if _, err = blob.Send(w, r, b.Size, b.Digest); err != nil {
		return errors.Join(err, w.Close(), s.o.Blobs.Abort(context.WithoutCancel(ctx), id, blob.State{}))
	}
	state, err := w.Suspend(ctx)
	if err != nil {
		return err
	}
	return s.o.Blobs.Commit(ctx, id, state, b.Digest)
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "repair-" + hex.EncodeToString(b[:])
}

// asPushed is the row of a repaired blob. The lease has collection look at it, should it have been deleted meanwhile.
func (s *Service) asPushed(b metadb.Blob) metadb.Blob {
	return metadb.Blob{Digest: b.Digest, Size: b.Size, LeaseUntil: s.o.Now().Add(time.Hour)}
}
