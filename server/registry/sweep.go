package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	sweepBatch = 100
	// claimTime is how long a claim on an orphan holds; the deletion gets half of it, so that it has surely ended when
	// somebody else may take the claim over.
	claimTime = 2 * time.Minute
	// strayAge is after how long without a byte the bytes of an upload without a row are given up.
	strayAge = 24 * time.Hour
)

// Sweep ends uploads that nobody touched for Options.UploadAge, and removes what they left: the bytes received, and
// bytes that a crash left under a digest without a row. What cannot be swept does not keep the rest from it. It costs
// nothing that grows with what is stored.
func (s *Service) Sweep(ctx context.Context) error {
	if s.o.ReadOnly || s.o.KeepUploads {
		return nil
	}
	swept, err := s.sweepRows(ctx)
	strays, err2 := s.sweepStrays(ctx)
	if swept+strays > 0 {
		s.o.Log.Info("uploads swept", "uploads", swept, "withoutRow", strays)
	}
	return errors.Join(err, err2)
}

func (s *Service) sweepRows(ctx context.Context) (swept int, err error) {
	before := s.o.Now().Add(-s.o.UploadAge)
	var last metadb.Upload
	var failures failures
	for {
		uploads, err := s.o.DB.ExpiredUploads(ctx, before, last, sweepBatch)
		if err != nil {
			return swept, errors.Join(fmt.Errorf("registry: sweep: %w", err), failures.err())
		}
		for _, u := range uploads {
			if mayBeSettling(u, s.o.Now()) {
				continue
			}
			done, err := s.sweepUpload(ctx, u)
			if err != nil {
				failures.add(fmt.Errorf("registry: sweep upload %s: %w", u.ID, err))
			}
			if done {
				swept++
			}
		}
		if len(uploads) < sweepBatch || ctx.Err() != nil {
			return swept, failures.err()
		}
		last = uploads[len(uploads)-1]
	}
}

// mayBeSettling says of an upload that it is the announcement of a copy that may be in progress, here or in another replica,
// however short the life of uploads is: without it nothing would know of the bytes that are being made.
func mayBeSettling(u metadb.Upload, now time.Time) bool {
	return u.Repository == "" && now.Sub(u.UpdatedAt) < 2*settleWithin(u.Received)
}

// sweepUpload ends an upload unless somebody works on it after all: in this process, or, as its row tells, in another.
func (s *Service) sweepUpload(ctx context.Context, u metadb.Upload) (done bool, err error) {
	release, _ := s.busy.try(u.ID)
	if release == nil {
		return false, nil
	}
	defer release()
	now, err := s.o.DB.Upload(ctx, u.ID)
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case !now.UpdatedAt.Equal(u.UpdatedAt):
		return false, nil
	}
	err = s.end(ctx, &inProgress{Upload: now, recorded: true}, true)
	if errors.Is(err, metadb.ErrClaimed) || errors.Is(err, errTouched) {
		return false, nil
	}
	return err == nil, err
}

// sweepStrays removes bytes of uploads that have no row: a first chunk that a crash interrupted, or a row that was lost
// with the power. Only the store knows of them.
func (s *Service) sweepStrays(ctx context.Context) (swept int, err error) {
	ids, err := blob.StaleUploads(ctx, s.o.Blobs, s.o.Now().Add(-min(s.o.UploadAge, strayAge)))
	if err != nil {
		return 0, fmt.Errorf("registry: sweep: %w", err)
	}
	var failures failures
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		done, err := s.sweepStray(ctx, id)
		if err != nil {
			failures.add(fmt.Errorf("registry: sweep upload %s: %w", id, err))
		}
		if done {
			swept++
		}
	}
	return swept, failures.err()
}

func (s *Service) sweepStray(ctx context.Context, id string) (done bool, err error) {
	release, _ := s.busy.try(id)
	if release == nil {
		return false, nil
	}
	defer release()
	if _, err := s.o.DB.Upload(ctx, id); !errors.Is(err, metadb.ErrNotFound) {
		return false, err
	}
	named, err := s.o.DB.UploadNamed(ctx, id)
	if err != nil {
		return false, err
	}
	err = s.o.Blobs.Abort(ctx, id, blob.State{}) // what is parked stays
	if named || err != nil {
		return false, err // it is a blob, and what is parked of it goes with its place
	}
	err = s.unpark(ctx, id)
	return err == nil, err
}

// failures keeps the first of many errors, which mostly have one cause.
type failures struct {
	first error
	n     int
}

func (f *failures) add(err error) {
	if f.n++; f.first == nil {
		f.first = err
	}
}

func (f *failures) err() error {
	if f.n < 2 {
		return f.first
	}
	return fmt.Errorf("%w (and %d more)", f.first, f.n-1)
}
