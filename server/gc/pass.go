package gc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	// claimTime is how long a claim holds; the deletion gets a third of it, so that it has surely ended when somebody else may
	// take the claim over, and is not begun when half of it is over, as after a machine stood still.
	claimTime = 15 * time.Second
	// yield is many times what a push that waits needs to ask again.
	yield = 2 * time.Second
	// retryPause is when collection comes back to what the store did not delete.
	retryPause = time.Minute
	// policyEvery is how often Run looks through the manifests.
	policyEvery = time.Hour
	// oldestLease is the longest lease that anybody can have asked for who did not know the wrong time, if it is longer than
	// two graces.
	oldestLease = 7 * 24 * time.Hour
	purgeBatch  = 200
	policyBatch = 1000
)

// errHeld says that somebody has begun to hold collection.
var errHeld = errors.New("gc: collection is held")

// plan is what a pass does.
type plan struct {
	due      time.Time     // leases that are over then are over
	untagged time.Duration // 0: no policy
	budget   *budget
	within   func() bool                      // false ends it early; nil: never
	show     func(r *Report, position string) // after each batch; nil for nobody
}

// pass does once all that there is to do.
func (s *Service) pass(ctx context.Context, p plan, r *Report) error {
	held, err := s.o.DB.CollectionHolds(ctx, s.o.Now())
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	if r.Held = held; len(held) > 0 {
		return nil
	}
	if err := s.capLeases(ctx); err != nil {
		return fmt.Errorf("gc: leases of a clock that was ahead: %w", err)
	}
	if p.untagged > 0 {
		if err := s.untagged(ctx, p, r); err != nil {
			return fmt.Errorf("gc: untagged manifests: %w", err)
		}
	}
	// First those that follow what is in the trash, then what they follow.
	if err := s.collect(ctx, p, r); err != nil && !errors.Is(err, errHeld) {
		return fmt.Errorf("gc: %w", err)
	}
	if err := s.purge(ctx, p, r); err != nil {
		return fmt.Errorf("gc: purge the trash: %w", err)
	}
	return nil
}

func (s *Service) capLeases(ctx context.Context) error {
	now := s.o.Now()
	most := now.Add(max(2*s.o.Grace, oldestLease))
	for {
		var n int64
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
			n, err = tx.CapLeases(most, now.Add(s.o.Grace), s.o.Batch)
			return err
		})
		if err != nil || n < int64(s.o.Batch) {
			return err
		}
	}
}

// untagged looks through all manifests.
func (s *Service) untagged(ctx context.Context, p plan, r *Report) error {
	for after := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var trashed []metadb.Unlinked
		var next int64
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
			trashed, next, err = tx.TrashUntagged(after, p.due, p.untagged, s.o.TrashHold, policyBatch)
			tx.AfterCommit(func() { s.forget(trashed) })
			return err
		})
		if err != nil {
			return err
		}
		r.Trashed += int64(len(trashed))
		if after = next; after == 0 || p.over() {
			return nil
		}
	}
}

func (s *Service) purge(ctx context.Context, p plan, r *Report) error {
	for after := (metadb.PurgeCursor{}); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var n int
		var next metadb.PurgeCursor
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
			n, next, err = tx.PurgeDue(after, purgeBatch)
			return err
		})
		if err != nil {
			return err
		}
		r.Purged += int64(n)
		if after = next; after == (metadb.PurgeCursor{}) || p.over() {
			return nil
		}
	}
}

func (p *plan) over() bool { return p.within != nil && !p.within() }

// forget drops what memory has of what is no longer so, before anybody hears that it is not.
func (s *Service) forget(lists ...[]metadb.Unlinked) {
	for _, us := range lists {
		for _, u := range us {
			s.o.Forget(u.Digest, u.RepoID)
		}
	}
}

// collecting is a pass through the queue by several workers.
type collecting struct {
	s *Service
	p plan

	turn sync.Mutex // batches are read one after the other

	mu   sync.Mutex // of what follows
	next metadb.DueCursor
	done bool
	r    *Report
}

// collect goes through what is due: decides batch by batch and deletes several batches at a time.
func (s *Service) collect(ctx context.Context, p plan, r *Report) error {
	c := &collecting{s: s, p: p, r: r}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for range s.o.Workers {
		wg.Go(func() {
			if err := c.work(ctx); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (c *collecting) work(ctx context.Context) error {
	for {
		more, err := c.batch(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// batch decides about the next batch, and deletes what goes; more is false when there was none.
func (c *collecting) batch(ctx context.Context) (more bool, err error) {
	size, end, err := c.s.manners.begin(ctx, c.s.o.Batch)
	if err != nil {
		return false, err
	}
	defer end()
	found, err := c.decide(ctx, size)
	if err != nil || found == nil {
		return false, err
	}
	c.add(func(r *Report) {
		r.Examined += int64(found.Examined)
		r.Deleted += int64(len(found.Gone))
		r.Bytes += found.GoneBytes
		r.Unlinked += int64(len(found.Unlinked))
		r.Trashed += int64(len(found.Trashed))
	})
	c.s.metrics.gone(len(found.Gone), found.GoneBytes)
	if len(found.Garbage) > 0 {
		if err := c.remove(ctx, found); err != nil {
			return false, err
		}
	}
	if c.p.show != nil {
		c.add(func(r *Report) { c.p.show(r, found.Next.Digest) })
	}
	return true, nil
}

// decide claims the next batch of at most size; nil when there is none. The next worker begins where this one has read to while this one
// waits for the disk or for the database's commit.
func (c *collecting) decide(ctx context.Context, size int) (*metadb.Collected, error) {
	n, err := c.p.budget.take(ctx, size)
	if err != nil {
		return nil, err
	}
	c.turn.Lock()
	pass := sync.OnceFunc(c.turn.Unlock)
	defer pass()
	c.mu.Lock()
	after, done := c.next, c.done
	c.mu.Unlock()
	if done || c.p.over() {
		c.p.budget.giveBack(n)
		return nil, nil
	}
	var found metadb.Collected
	err = c.s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		found, err = tx.Collect(metadb.Collecting{Due: c.p.due, After: after, Limit: n, Hold: claimTime, Yield: yield, TrashHold: c.s.o.TrashHold,
			Read: func(next metadb.DueCursor, more bool) { c.read(next, more, pass) }})
		if err != nil {
			return err
		}
		tx.AfterCommit(func() { c.s.forget(found.Unlinked, found.Dropped, found.Trashed) })
		return nil
	})
	if err != nil {
		c.p.budget.giveBack(n)
		return nil, err
	}
	c.p.budget.giveBack(n - len(found.Garbage) - len(found.Gone))
	if found.Examined == 0 {
		return nil, nil
	}
	return &found, nil
}

// read notes how far a batch has read, and lets the next one read; a transaction that runs again reads no further.
func (c *collecting) read(next metadb.DueCursor, more bool, pass func()) {
	c.mu.Lock()
	if next.At > c.next.At || next.At == c.next.At && next.Digest > c.next.Digest {
		c.next = next
	}
	c.done = c.done || !more
	c.mu.Unlock()
	pass()
}

func (c *collecting) add(f func(r *Report)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.r)
}

// remove deletes the bytes of a batch and ends its claims. It finishes what it has begun when ctx ends.
func (c *collecting) remove(ctx context.Context, found *metadb.Collected) error {
	ctx = context.WithoutCancel(ctx)
	s := c.s
	// Asked after the claims are made: a backup that holds collection from now on sees them, one that was before has been
	// waited for.
	held, err := s.o.DB.CollectionHolds(ctx, s.o.Now())
	if err == nil && len(held) > 0 {
		err = errHeld
		c.add(func(r *Report) { r.Held = held })
	}
	if err != nil {
		return errors.Join(err, s.release(ctx, found.Garbage, found.Until))
	}
	if left := found.Until.Sub(s.o.Now()); left < claimTime/2 {
		return nil // somebody else may soon have the claims, and has them in time
	}
	limited, stop := context.WithTimeout(ctx, claimTime/3)
	defer stop()
	done, failed, cause := s.erase(limited, found.Garbage)
	if len(done) > 0 {
		if err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.EndClaims(done, found.Until) }); err != nil {
			return err
		}
	}
	var bytes int64
	for _, g := range done {
		bytes += g.Size
	}
	s.metrics.gone(len(done), bytes)
	c.add(func(r *Report) {
		r.Deleted += int64(len(done))
		r.Bytes += bytes
		r.Failed += int64(len(failed))
		if cause != nil {
			r.LastError = cause.Error()
		}
	})
	if cause == nil {
		return nil
	}
	s.metrics.failed(len(failed))
	s.o.Log.WarnContext(ctx, "blobs could not be deleted; it is tried again", "blobs", len(failed), "err", cause)
	if limited.Err() != nil {
		return nil // the deletion may go on behind our back: the claims hold until it has surely ended
	}
	return s.release(ctx, failed, found.Until)
}

func (s *Service) release(ctx context.Context, garbage []metadb.Garbage, until time.Time) error {
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.ReleaseClaims(garbage, until, retryPause) })
}

// erasePart is into how many parts a batch is divided that was not deleted whole.
const erasePart = 8

// erase deletes what the store has of blobs. When that fails it tries parts, for as long as some of them succeed, so that
// one that cannot be deleted does not keep the others. failed are those of which anything may be left.
func (s *Service) erase(ctx context.Context, garbage []metadb.Garbage) (done, failed []metadb.Garbage, cause error) {
	ds, places := make([]oci.Digest, len(garbage)), make([]string, len(garbage))
	for i, g := range garbage {
		ds[i], places[i] = g.Digest, g.Place
	}
	err := blob.Remove(ctx, s.o.Blobs, ds, places)
	if err == nil {
		return garbage, nil, nil
	}
	if len(garbage) == 1 || ctx.Err() != nil {
		return nil, garbage, err
	}
	size := (len(garbage) + erasePart - 1) / erasePart
	for rest, first := garbage, true; len(rest) > 0; first = false {
		part := rest[:min(size, len(rest))]
		rest = rest[len(part):]
		d, f, e := s.erase(ctx, part)
		done, failed = append(done, d...), append(failed, f...)
		if e != nil {
			cause = e
		}
		if first && len(d) == 0 { // the store deletes nothing now
			return nil, garbage, err
		}
	}
	return done, failed, cause
}
