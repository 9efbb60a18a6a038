package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// A store that cannot rename leaves a blob whose digest came last where it was uploaded (blob.Parker), and the blob's row
// names the place. Settle copies such blobs under their digest, where everybody finds them who looks at the store without
// the database, and deletes what is left at places that no row names any more.
//
// The row is the queue: there is nothing to enqueue with a push, and what could not be copied is there the next time. A
// copy is announced as a commit is, by the row of an upload that names the digest: while it is there collection keeps the
// blob, and when the process dies the sweep ends it as it ends any commit, with a claim on the digest if the blob is gone.

const (
	settleBatch  = 100
	settleAtOnce = 2
)

// settleWithin bounds one copy of so many bytes, at a rate that every store keeps within itself. What may go on behind our
// back after that writes the same content.
func settleWithin(size int64) time.Duration {
	const slowest = 4 << 20 // bytes a second
	return time.Minute + time.Duration(size/slowest)*time.Second
}

// Settle moves blobs that lie at places of their own under their digests, and deletes places that are due. What fails does
// not keep the rest from it. It costs nothing that grows with what is stored.
func (s *Service) Settle(ctx context.Context) error {
	if _, parks := blob.ParkerOf(s.o.Blobs); !parks || s.o.ReadOnly {
		return nil
	}
	settled, err := s.settleAll(ctx)
	deleted, err2 := s.deleteMoved(ctx)
	if settled+deleted > 0 {
		s.o.Log.Info("blobs moved under their digest", "blobs", settled, "placesDeleted", deleted)
	}
	return errors.Join(err, err2)
}

func (s *Service) settleAll(ctx context.Context) (settled int, err error) {
	var failures failures
	var mu sync.Mutex
	after := ""
	for {
		blobs, err := s.o.DB.ParkedBlobs(ctx, after, settleBatch)
		if err != nil {
			return settled, errors.Join(fmt.Errorf("registry: settle: %w", err), failures.err())
		}
		var wg sync.WaitGroup
		slots := make(chan struct{}, settleAtOnce)
		for _, b := range blobs {
			slots <- struct{}{}
			if ctx.Err() != nil {
				break
			}
			wg.Go(func() {
				defer func() { <-slots }()
				done, err := s.settle(ctx, b)
				mu.Lock()
				defer mu.Unlock()
				if done {
					settled++
				}
				if err != nil {
					failures.add(fmt.Errorf("registry: settle blob %s: %w", b.Digest, err))
				}
			})
		}
		wg.Wait()
		if len(blobs) < settleBatch || ctx.Err() != nil {
			return settled, failures.err()
		}
		after = blobs[len(blobs)-1].Place
	}
}

// settle moves one blob. It is done for the row as it was read: whatever has happened to the blob since, counts.
func (s *Service) settle(ctx context.Context, b metadb.Blob) (done bool, err error) {
	if b.Inline { // nobody reads what the store has of it
		return s.settled(ctx, b, "")
	}
	// Without a repository, which tells the sweep what it is, and with the size, which tells it how long that takes.
	u := metadb.Upload{ID: newCore(), Principal: "settle", Algorithm: oci.SHA256, Received: b.Size, HashState: []byte{}, DriverState: []byte{}}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.CreateUpload(u); err != nil {
			return err
		}
		return tx.SetCommitting(u.ID, b.Digest)
	})
	if errors.Is(err, metadb.ErrClaimed) {
		return false, nil // it is being deleted
	} else if err != nil {
		return false, err
	}
	// The row may have changed before the announcement; from here on nobody deletes the blob.
	now, err := s.o.DB.BlobAnywhere(ctx, b.Digest)
	if err == nil && now.State == metadb.Live && now.Place == b.Place {
		p, _ := blob.ParkerOf(s.o.Blobs)
		limited, stop := context.WithTimeout(ctx, settleWithin(b.Size))
		err = p.Settle(limited, b.Place, b.Digest)
		stop()
		if err == nil {
			return s.settled(ctx, b, u.ID)
		}
	}
	if errors.Is(err, metadb.ErrNotFound) {
		err = nil
	}
	if fault.Has(err, fault.BlobUnknown) { // as a pull would find; a push brings it back
		err = fmt.Errorf("its bytes are gone from where they were: %w", err)
		s.quarantine(ctx, metadb.Damage{Digest: b.Digest, Missing: true, Detail: err.Error()})
	}
	s.discard(ctx, &inProgress{Upload: u, recorded: true}, true)
	return false, err
}

// settled notes that a blob is under its digest, and ends the announcement.
func (s *Service) settled(ctx context.Context, b metadb.Blob, upload string) (done bool, err error) {
	err = s.o.DB.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) (err error) {
		if done, err = tx.SettleBlob(b.Digest, b.Place); err != nil || upload == "" {
			return err
		}
		_, err = tx.DeleteUpload(upload)
		return err
	})
	return done && err == nil, err
}

// deleteMoved deletes places that are due.
func (s *Service) deleteMoved(ctx context.Context) (deleted int, err error) {
	for ctx.Err() == nil {
		places, err := s.o.DB.MovedPlaces(ctx, s.o.Now(), settleBatch)
		if err == nil && len(places) > 0 {
			err = blob.DeleteAt(ctx, s.o.Blobs, places...)
		}
		if err == nil && len(places) > 0 {
			err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.ForgetPlaces(places...) })
		}
		if err != nil {
			return deleted, fmt.Errorf("registry: delete places: %w", err)
		}
		deleted += len(places)
		if len(places) < settleBatch {
			break
		}
	}
	return deleted, nil
}
