package registry

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// failed decides what a failure leaves of an upload: nothing when the store is full, so that the space is given back at
// once, when it can never succeed, and when nobody can continue it; else what was acknowledged before.
func (s *Service) failed(ctx context.Context, u *inProgress, err error) {
	if u.once || spoils(err) {
		s.discard(ctx, u, !u.Committing.IsZero())
	} else {
		s.rewind(ctx, u)
	}
}

// spoils says whether an upload cannot be continued after a failure.
func spoils(err error) bool {
	var l lost
	return fault.Is(err, fault.Full) || fault.Has(err, fault.BlobUploadUnknown) || fault.Has(err, fault.DigestInvalid) || errors.As(err, &l)
}

// putAway bounds how long a request that failed goes on cleaning up before it is answered; the sweep does the rest.
const putAway = 10 * time.Second

// rewind gives back the space of bytes that came but do not count. When it fails, the next chunk or the sweep does it.
// Where there are replicas nothing is touched but what the own writer wrote, which its Close has taken back: another may be
// writing to the same upload.
func (s *Service) rewind(ctx context.Context, u *inProgress) {
	if !s.o.DB.Alone() {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), putAway)
	defer stop()
	var err error
	if u.Received == 0 {
		err = s.o.Blobs.Abort(ctx, u.ID, u.state())
	} else if w, openErr := s.o.Blobs.Upload(ctx, u.ID, u.state()); openErr != nil {
		err = openErr
	} else {
		err = w.Close()
	}
	if err != nil {
		s.o.Log.Warn("bytes of a failed chunk not removed", "upload", u.ID, "err", err)
	}
}

// discard ends an upload that cannot succeed. When that fails, the sweep finds it.
func (s *Service) discard(ctx context.Context, u *inProgress, named bool) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), putAway)
	defer stop()
	if err := s.end(ctx, u, named); err != nil {
		s.o.Log.Warn("upload not discarded; it is swept later", "upload", u.ID, "err", err)
	}
}

// errTouched says that another process has worked on an upload since its row was read.
var errTouched = errors.New("registry: the upload was changed meanwhile")

// end removes an upload: the bytes that it received, then, when named says that a commit of it may have come that far,
// those under the digest that its row names, and the row last, so that a crash leaves the row and the sweep does it
// again. The order is that of metadb's package comment: claim, delete, end the claim; so it cannot take bytes from a push
// of the same digest. The row counts as it is now, since another replica may be at work on the same upload: whoever
// commits finds it gone, and its bytes are deleted here and not left without a name.
//
// What a commit has parked (blob.Parker) has no claim: the row itself is made one with which no commit succeeds, what is
// parked is deleted unless a row names it, and then the row is removed.
//
// metadb.ErrClaimed says that another process is deleting that digest.
func (s *Service) end(ctx context.Context, u *inProgress, named bool) error {
	s.sessions.end(u.ID)
	if err := s.o.Blobs.Abort(ctx, u.ID, u.state()); err != nil {
		return err
	}
	if !u.recorded {
		return nil
	}
	var row metadb.Upload
	_, parks := blob.ParkerOf(s.o.Blobs)
	claimed, parked := false, false
	remove := func(tx *metadb.Tx) (err error) {
		claimed, parked = false, false
		row, err = tx.Upload(ctx, u.ID)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		if err == nil && named && !row.Committing.IsZero() {
			claimed, err = tx.ClaimOrphan(row.Committing, row.ID, claimTime)
		}
		if err != nil {
			return err
		}
		ended := true
		switch parked = parks && !row.Committing.IsZero(); {
		case parked:
			ended, err = tx.EndingUpload(row)
		case !claimed:
			ended, err = tx.EndUpload(row)
		}
		if err == nil && !ended {
			err = errTouched
		}
		return err
	}
	err := s.o.DB.Update(ctx, remove)
	for try := 0; errors.Is(err, errTouched) && try < 3; try++ {
		named = true // whoever touched it may have committed
		err = s.o.DB.Update(ctx, remove)
	}
	if err != nil {
		return err
	}
	if parked {
		err = s.unpark(ctx, row.ID)
	}
	switch {
	case claimed:
		return errors.Join(err, s.deleteOrphan(ctx, row, err == nil))
	case parked && err == nil:
		return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			_, err := tx.EndUpload(row)
			return err
		})
	}
	return err
}

// deleteOrphan deletes the bytes that an upload named, while the claim on them holds, and with end the upload's row.
func (s *Service) deleteOrphan(ctx context.Context, row metadb.Upload, end bool) error {
	limited, stop := context.WithTimeout(ctx, claimTime/2)
	defer stop()
	err := s.deleteClaimed(limited, row.Committing)
	if err != nil && limited.Err() != nil {
		return err // it may go on behind our back: the claim has to hold until it has surely ended
	}
	return errors.Join(err, s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if claimErr := tx.DeleteClaimed(row.Committing); claimErr != nil || err != nil || !end {
			return claimErr // with err, the row goes on naming what is left
		}
		_, err := tx.EndUpload(row)
		return err
	}))
}

// deleteClaimed deletes what the store has of a digest that is claimed: under the digest, and where a blob of it was that
// another claim, whose process died, was for.
func (s *Service) deleteClaimed(ctx context.Context, d oci.Digest) error {
	b, err := s.o.DB.BlobAnywhere(ctx, d)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	return blob.Remove(ctx, s.o.Blobs, []oci.Digest{d}, []string{b.Place})
}

// unpark deletes what is parked of an upload and named by no row, if the upload has no row any more, or one with which no
// commit succeeds. The order of the three questions matters. What is parked has been announced in the row before; so when
// the row is gone after that, its commit has named the place, which the last question sees, or never will.
func (s *Service) unpark(ctx context.Context, id string) error {
	p, parks := blob.ParkerOf(s.o.Blobs)
	if !parks {
		return nil
	}
	places, err := p.Parked(ctx, id)
	if err != nil || len(places) == 0 {
		return err
	}
	row, err := s.o.DB.Upload(ctx, id)
	if err == nil && row.Algorithm != "" || err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	var unnamed []string
	for _, place := range places {
		named, err := s.o.DB.PlaceNamed(ctx, place)
		if err != nil {
			return err
		}
		if !named {
			unnamed = append(unnamed, place)
		}
	}
	return blob.DeleteAt(ctx, s.o.Blobs, unnamed...)
}

// clearParked is unpark for a commit that is over, as far as it goes: the sweep does the rest.
func (s *Service) clearParked(ctx context.Context, id string) {
	if err := s.unpark(ctx, id); err != nil {
		s.o.Log.Warn("bytes of a finished upload not removed; they are swept later", "upload", id, "err", err)
	}
}
