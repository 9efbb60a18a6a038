package scrub

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// phase is a part of a pass; they come in this order.
type phase int

const (
	phaseBlobs phase = iota
	phaseReferences
	phaseOrphans
	phaseDone
)

const (
	pageOfBlobs = 256
	atOnce      = 4  // blobs that are read at once
	manyMissing = 20 // in a row, and nobody believes that it is the blobs; nor when they are all that there is
)

// pass goes on from p to its end. show is told of progress, with a position from which another pass may go on.
func (s *Service) pass(ctx context.Context, a Ask, p *position, show func(*position)) error {
	w := &walk{s: s, a: a, p: p, show: show, pace: newPace(a.Rate, s.o.Now)}
	if a.RepairFrom != "" {
		var err error
		if w.copies, err = openCopies(a.RepairFrom); err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		defer func() { _ = w.copies.close() }()
	}
	for p.Phase < phaseDone {
		var err error
		switch p.Phase {
		case phaseBlobs:
			err = w.blobs(ctx)
		case phaseReferences:
			if a.References || a.By == byFsck {
				err = w.references(ctx)
			}
		case phaseOrphans:
			if a.Orphans {
				err = w.orphans(ctx)
			}
		}
		if err != nil {
			return err
		}
		p.Phase, p.After, p.Number = p.Phase+1, oci.Digest{}, 0
		show(p)
	}
	p.Report.EndedAt = s.o.Now()
	show(p)
	s.metrics.ended(&p.Report)
	s.o.Log.InfoContext(ctx, "stored content was checked", "by", a.By, "result", p.Report.String())
	return nil
}

// walk is a pass in progress.
type walk struct {
	s      *Service
	a      Ask
	p      *position
	show   func(*position)
	pace   *pace
	copies *copies // nil without other copies

	mu       sync.Mutex // of what follows, and of p.Report
	good     *metadb.Blob
	doubtful []doubt
}

// doubt is a blob that the store does not have, as long as it is not known whether the store has anything.
type doubt struct {
	b metadb.Blob
	v verdict
}

// blobs looks at every blob, by digest.
func (w *walk) blobs(ctx context.Context) error {
	r := &w.p.Report
	if r.Total == 0 {
		total, _, err := w.s.o.DB.CountBlobs(ctx)
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		r.Total = total
	}
	for after := w.p.After; ; {
		page, err := w.s.o.DB.BlobsBehind(ctx, after, pageOfBlobs)
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		if len(page) == 0 {
			break
		}
		if err := w.page(ctx, page); err != nil {
			return err
		}
		after = page[len(page)-1].Digest
		if err := w.settle(ctx, false); err != nil {
			return err
		}
		if len(w.doubtful) == 0 { // else who goes on looks at these again
			w.p.After = after
		}
		w.show(w.p)
	}
	if err := w.settle(ctx, true); err != nil {
		return err
	}
	return w.s.o.DB.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.ForgetRepaired(); return err })
}

func (w *walk) page(ctx context.Context, page []metadb.Blob) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, b := range page {
		g.Go(func() error { return w.one(ctx, b) })
	}
	return g.Wait()
}

// one looks at a blob and does what follows from it.
func (w *walk) one(ctx context.Context, b metadb.Blob) error {
	if w.garbage(ctx, b) {
		return nil
	}
	v := w.s.look(ctx, b, w.pace)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !v.right {
		// It may have been deleted or pushed again while it was read.
		now, err := w.s.o.DB.BlobAnywhere(ctx, b.Digest)
		if errors.Is(err, metadb.ErrNotFound) || err == nil && now.State == metadb.Claimed {
			return nil
		}
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		if w.garbage(ctx, now) {
			return nil
		}
		if now.Place != b.Place || now.Inline != b.Inline || now.State != b.State {
			b = now
			v = w.s.look(ctx, b, w.pace)
		}
	}
	w.mu.Lock()
	w.p.Report.Blobs++
	w.p.Report.Bytes += b.Size
	if v.right && !b.Inline {
		w.good = &b
	}
	if v.err != nil {
		w.p.Report.Unchecked++
		w.p.Report.LastUnchecked = fmt.Sprintf("%s: %s", b.Digest, fault.Of(v.err).Message)
	}
	w.mu.Unlock()
	w.s.metrics.looked(b.Size)
	switch {
	case v.err != nil:
		w.s.o.Log.WarnContext(ctx, "a blob could not be looked at", "digest", b.Digest, "err", v.err)
		return nil
	case v.right && b.State == metadb.Damaged:
		return w.rightAgain(ctx, b)
	case v.right:
		return nil
	case !b.Inline && b.State == metadb.Live && (v.missing || v.sick): // it would be the same if the whole store were away
		w.mu.Lock()
		defer w.mu.Unlock()
		w.doubtful = append(w.doubtful, doubt{b, v})
		return nil
	}
	return w.bad(ctx, b, v)
}

// garbage says of a blob that is put aside that nothing is wrong with it: collection has given its deletion up half-way, or
// it was repaired since.
func (w *walk) garbage(ctx context.Context, b metadb.Blob) bool {
	if b.State != metadb.Damaged {
		return false
	}
	_, err := w.s.o.DB.Damage(ctx, b.Digest)
	return errors.Is(err, metadb.ErrNotFound)
}

// settle decides about what the store does not have: once it has shown that it has something else. end says that there
// is nothing more to come.
func (w *walk) settle(ctx context.Context, end bool) error {
	if len(w.doubtful) == 0 || w.good == nil && !end && len(w.doubtful) < manyMissing {
		return nil
	}
	if w.good == nil && (len(w.doubtful) >= manyMissing || end && len(w.doubtful) > 1) || w.good != nil && !w.has(ctx, *w.good) {
		return fault.New(fault.Unavailable, fault.UnavailableReason,
			"the store has none of %d blobs that it should have, and nothing else: is it the right one, and is it mounted? nothing was put aside", len(w.doubtful))
	}
	for _, d := range w.doubtful {
		if err := w.bad(ctx, d.b, d.v); err != nil {
			return err
		}
	}
	w.doubtful = nil
	return nil
}

// has says that the store still has a blob that it had.
func (w *walk) has(ctx context.Context, b metadb.Blob) bool {
	c, _, err := blob.OpenAt(ctx, w.s.o.Blobs, b.Place, b.Digest)
	if err == nil {
		_ = c.Close()
	}
	if fault.Has(err, fault.BlobUnknown) { // deleted since, perhaps
		now, dberr := w.s.o.DB.BlobAnywhere(ctx, b.Digest)
		return errors.Is(dberr, metadb.ErrNotFound) || dberr == nil && (now.State != metadb.Live || now.Place != b.Place)
	}
	return err == nil
}

func (w *walk) rightAgain(ctx context.Context, b metadb.Blob) error {
	released, err := w.s.release(ctx, b.Digest)
	if err != nil {
		return fmt.Errorf("scrub: release %s: %w", b.Digest, err)
	}
	if released {
		w.count(func(r *Report) { r.Released++ })
	}
	return nil
}

// bad puts a blob aside that is not so yet, and repairs it when there is another copy.
func (w *walk) bad(ctx context.Context, b metadb.Blob, v verdict) error {
	if b.State == metadb.Live {
		done, err := w.s.quarantine(ctx, b, w.a.By, v)
		if err != nil {
			return fmt.Errorf("scrub: put %s aside: %w", b.Digest, err)
		}
		if !done {
			return nil
		}
	}
	from, err := w.repair(ctx, b)
	if err != nil {
		return err
	}
	if from != "" {
		w.count(func(r *Report) { r.repaired(from) })
		return nil
	}
	w.count(func(r *Report) {
		if v.missing {
			r.Missing++
		} else {
			r.Damaged++
		}
	})
	return nil
}

// directory is where a repair came from that --repair-from has named.
const directory = "directory"

// repair gives a damaged blob the bytes of another copy, and says where from; "" when there is none that is right.
func (w *walk) repair(ctx context.Context, b metadb.Blob) (from string, err error) {
	if w.copies != nil {
		repaired, err := w.s.repair(ctx, b, w.copies)
		if err != nil {
			w.s.o.Log.WarnContext(ctx, "a damaged blob could not be repaired", "digest", b.Digest, "err", err)
			w.count(func(r *Report) { r.notRepaired(b.Digest, err) })
		}
		if repaired && err == nil {
			w.s.metrics.repaired(directory)
			return directory, nil
		}
	}
	if len(w.s.upstreams) == 0 {
		return "", nil
	}
	host, err := w.s.fetch(ctx, b, w.pace)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		w.count(func(r *Report) { r.notRepaired(b.Digest, err) })
		return "", nil
	}
	w.s.metrics.repaired(host)
	return host, nil
}

func (w *walk) count(f func(*Report)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.p.Report)
}
