package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

const (
	sweepBatch = 100
	// claimTime is how long a claim on an orphan holds; the deletion gets half of it, so that it has surely ended when
	// somebody else may take the claim over.
	claimTime = 2 * time.Minute
	// eventAge is how long events wait for readers.
	eventAge   = 7 * 24 * time.Hour
	trimEvents = 1000
)

// Run sweeps what crashed or forgotten uploads left, until ctx ends. It costs nothing that grows with what is stored.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.SweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("sweep of uploads failed; it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Sweep ends uploads that nobody touched for Options.UploadAge, and removes what they left: the bytes received, and
// bytes that a crash left under a digest without a row. It also drops events that are older than a week.
//
// The order is that of metadb's package comment: claim, delete, end the claim; so it cannot take bytes from a push of
// the same digest.
func (s *Service) Sweep(ctx context.Context) error {
	if s.o.ReadOnly || s.o.KeepUploads {
		return nil
	}
	swept := 0
	for {
		uploads, err := s.o.DB.ExpiredUploads(ctx, s.o.Now().Add(-s.o.UploadAge), sweepBatch)
		if err != nil {
			return fmt.Errorf("registry: sweep: %w", err)
		}
		left := len(uploads)
		for i := range uploads {
			done, err := s.sweepUpload(ctx, &uploads[i])
			if err != nil {
				return fmt.Errorf("registry: sweep upload %s: %w", uploads[i].ID, err)
			}
			if done {
				left--
				swept++
			}
		}
		if len(uploads) < sweepBatch || left > 0 {
			break
		}
	}
	if swept > 0 {
		s.o.Log.Info("uploads swept", "uploads", swept)
	}
	return s.trimEvents(ctx)
}

func (s *Service) sweepUpload(ctx context.Context, u *metadb.Upload) (done bool, err error) {
	release, err := s.busy.take(u.ID)
	if err != nil {
		return false, nil // somebody is writing it after all
	}
	defer release()
	if err := s.o.Blobs.Abort(ctx, u.ID, state(u)); err != nil {
		return false, err
	}
	claimed := false
	until := s.o.Now().Add(claimTime)
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		claimed = false
		if !u.Committing.IsZero() {
			var err error
			if claimed, err = tx.ClaimOrphan(u.Committing, u.ID, until); err != nil || claimed {
				return err
			}
		}
		_, err := tx.DeleteUpload(u.ID)
		return err
	})
	if errors.Is(err, metadb.ErrClaimed) {
		return false, nil
	}
	if err != nil || !claimed {
		return err == nil, err
	}
	limited, stop := context.WithTimeout(ctx, claimTime/2)
	defer stop()
	if err := s.o.Blobs.Delete(limited, u.Committing); err != nil {
		return false, err
	}
	return true, s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.DeleteClaimed(u.Committing); err != nil {
			return err
		}
		_, err := tx.DeleteUpload(u.ID)
		return err
	})
}

func (s *Service) trimEvents(ctx context.Context) error {
	for {
		n := 0
		err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error {
			var err error
			n, err = tx.TrimEvents(s.o.Now().Add(-eventAge), trimEvents)
			return err
		})
		if err != nil || n < trimEvents {
			return err
		}
	}
}
