package registry

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/fault"
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

// putAway bounds how long the request of a client that is mostly gone goes on cleaning up.
const putAway = 30 * time.Second

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
	claimed := false
	remove := func(tx *metadb.Tx) (err error) {
		claimed = false
		row, err = tx.Upload(ctx, u.ID)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		if err == nil && named && !row.Committing.IsZero() {
			claimed, err = tx.ClaimOrphan(row.Committing, row.ID, claimTime)
		}
		if err != nil || claimed {
			return err
		}
		ended, err := tx.EndUpload(row)
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
	if err != nil || !claimed {
		return err
	}
	return s.deleteOrphan(ctx, row)
}

// deleteOrphan deletes the bytes that an upload named, while the claim on them holds.
func (s *Service) deleteOrphan(ctx context.Context, row metadb.Upload) error {
	limited, stop := context.WithTimeout(ctx, claimTime/2)
	defer stop()
	err := s.o.Blobs.Delete(limited, row.Committing)
	if err != nil && limited.Err() != nil {
		return err // it may go on behind our back: the claim has to hold until it has surely ended
	}
	return errors.Join(err, s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if claimErr := tx.DeleteClaimed(row.Committing); claimErr != nil || err != nil {
			return claimErr // with err, the row goes on naming what is left
		}
		_, err := tx.EndUpload(row)
		return err
	}))
}
