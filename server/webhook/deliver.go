package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// delivery is the work of whoever holds an endpoint.
type delivery struct {
	s *Service
	e *endpoint
	l lease

	cursor event.Cursor
	batch  *batch          // nil when the next is to be read
	parked map[string]bool // repositories with events that wait
	count  int64           // of events that wait

	// proven says that the endpoint has taken something since an event was last parked for failing without being
	// refused: without it, a second failure says that the endpoint is gone, and not that it dislikes the event.
	proven    bool
	fails     int64 // rounds without any success, in a row
	looked    time.Time
	delivered time.Time // last success; what was noted in the database is older
	noted     time.Time
	reported  bool // the outage is in the log
}

// deliver follows the outbox until ctx ends or the lease is lost.
func (s *Service) deliver(ctx context.Context, e *endpoint, l lease) error {
	d := &delivery{s: s, e: e, l: l, cursor: l.Cursor, proven: true, delivered: l.DeliveredAt, noted: s.o.Now()}
	if err := d.countParked(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		busy, err := d.step(ctx)
		if err != nil {
			return err
		}
		if !busy {
			pause(ctx, d.idle())
		}
	}
	return nil
}

// idle is how long nothing is to be done: until the next look, or until the next attempt when that comes first.
func (d *delivery) idle() time.Duration {
	wait := jitter(d.s.o.Poll)
	if d.batch != nil {
		wait = min(wait, max(d.batch.next.Sub(d.s.o.Now()), 0))
	}
	return wait
}

// step does what is due, and reports whether there may be more at once.
func (d *delivery) step(ctx context.Context) (busy bool, err error) {
	if len(d.parked) > 0 {
		if busy, err = d.retryParked(ctx); err != nil {
			return false, err
		}
	}
	if d.batch == nil {
		more, err := d.next(ctx)
		if err != nil || !more {
			return busy, errors.Join(err, d.note(ctx, nil))
		}
	}
	now := d.s.o.Now()
	if d.batch == nil || now.Before(d.batch.next) {
		return busy, d.note(ctx, nil)
	}
	return true, d.round(ctx)
}

// next reads a batch. Events behind a failure of their repository are parked, too.
func (d *delivery) next(ctx context.Context) (more bool, err error) {
	if d.count >= maxParked {
		return false, nil
	}
	b, behind, err := d.s.read(ctx, d.e, d.cursor, d.parked)
	if err != nil {
		return false, err
	}
	d.pending(ctx, b)
	if b == nil {
		return false, nil
	}
	if len(behind) > 0 {
		if err := d.park(ctx, behind); err != nil {
			return false, err
		}
	}
	d.batch = b
	return true, nil
}

// round makes an attempt at the batch and draws the conclusions.
func (d *delivery) round(ctx context.Context) error {
	b := d.batch
	if len(b.lanes) > 0 {
		gone := d.fails >= int64(d.e.Threshold)
		delivered, failed, err := b.round(ctx, d.e, gone)
		if err != nil {
			return err
		}
		now := d.s.o.Now()
		if delivered > 0 {
			if err := d.succeeded(ctx, now); err != nil {
				return err
			}
		} else if failed != nil && !failed.refused {
			d.fails++
		}
		if failed != nil {
			if err := d.failed(ctx, failed, now); err != nil {
				return err
			}
		}
	}
	if len(b.lanes) > 0 {
		return nil
	}
	err := d.l.change(ctx, func(tx *metadb.Tx) error { return tx.SaveDelivery(d.e.Name, d.l.Fence, b.last) })
	if err == nil {
		d.cursor, d.batch = b.last, nil
	}
	return err
}

// failed parks the lanes that the others need not wait for, and says when the rest is tried again.
func (d *delivery) failed(ctx context.Context, f *failure, now time.Time) error {
	b := d.batch
	if b.since.IsZero() {
		b.since = now
	}
	var away []*lane
	open := b.lanes[:0:0]
	tries := d.fails
	for _, l := range b.lanes {
		tries = max(tries, l.tries)
		switch {
		case l.tries < int64(d.e.Threshold) || d.count+int64(len(away)) >= maxParked:
			open = append(open, l)
		case l.failed != nil && l.failed.refused:
			away = append(away, l)
		case d.proven, now.Sub(b.since) > d.s.o.MaxAge:
			d.proven = false
			away = append(away, l)
		default:
			open = append(open, l)
		}
	}
	if len(away) > 0 {
		d.s.o.Log.Warn("notifications of a repository are parked: the endpoint does not take one of them", "endpoint", d.e.Name, "repo", away[0].repository, "err", away[0].failed)
		if err := d.park(ctx, away); err != nil {
			return err
		}
	}
	b.lanes = open
	b.next = now.Add(d.e.pauseAfter(tries, f))
	if d.fails >= int64(d.e.Threshold) && !d.reported {
		d.reported = true
		d.s.o.Log.Warn("endpoint of notifications is unreachable; events wait for it", "endpoint", d.e.Name, "err", f)
	}
	return d.note(ctx, f)
}

// succeeded takes the endpoint for a living one again.
func (d *delivery) succeeded(ctx context.Context, now time.Time) error {
	was := d.fails
	d.proven, d.fails, d.delivered = true, 0, now
	if d.reported {
		d.reported = false
		d.s.o.Log.Info("endpoint of notifications takes events again", "endpoint", d.e.Name)
	}
	if was == 0 || len(d.parked) == 0 {
		return nil
	}
	return d.l.change(ctx, func(tx *metadb.Tx) error { return tx.HurryParked(d.e.Name) })
}

// park sets lanes aside, durably as far as the cursor is.
func (d *delivery) park(ctx context.Context, lanes []*lane) error {
	now := d.s.o.Now()
	err := d.l.change(ctx, func(tx *metadb.Tx) error {
		for _, l := range lanes {
			since, first := now, time.Time{}
			if l.failed != nil {
				since = d.batch.since
				first = now.Add(d.e.pauseAfter(l.tries, l.failed))
			}
			if err := l.park(tx, d.e.Name, since, first); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.countParked(ctx)
}

// countParked reads what is parked.
func (d *delivery) countParked(ctx context.Context) error {
	names, err := d.s.o.DB.ParkedRepositories(ctx, d.e.Name)
	if err != nil {
		return err
	}
	d.parked = set(names)
	waiting, dead, err := d.s.o.DB.CountParked(ctx, d.e.Name)
	if err == nil {
		d.count = waiting
		d.e.meter.setParked(waiting, dead)
	}
	return err
}

// retryParked tries the first parked event of each repository whose time has come.
func (d *delivery) retryParked(ctx context.Context) (busy bool, err error) {
	heads, err := d.s.o.DB.ParkedHeads(ctx, d.e.Name, d.s.o.Now(), laneLimit)
	if err != nil || len(heads) == 0 {
		return false, err
	}
	errs := make([]error, len(heads))
	var g errgroup.Group
	for i, p := range heads {
		g.Go(func() error { errs[i] = d.e.send(ctx, json.RawMessage(p.Body)); return nil })
	}
	_ = g.Wait()
	now := d.s.o.Now()
	err = d.l.change(ctx, func(tx *metadb.Tx) error {
		for i, p := range heads {
			if err := d.settle(tx, p, errs[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	for i, p := range heads {
		switch {
		case errs[i] == nil:
			busy = true
			if err := d.succeeded(ctx, now); err != nil {
				return false, err
			}
		case d.isDead(p, errs[i], now):
			busy = true
			d.e.meter.count("DeadLetters", 1)
			d.s.o.Log.Error("notification is given up: it is a dead letter now; see berthd notifications status", "endpoint", d.e.Name,
				"repo", p.Repository, "event", p.EventID, "since", p.Since, "err", errs[i])
		}
	}
	return busy, d.countParked(ctx)
}

// settle records what became of a parked event.
func (d *delivery) settle(tx *metadb.Tx, p metadb.Parked, err error, now time.Time) error {
	var f *failure
	switch {
	case err == nil:
		return tx.Unpark(p.Seq)
	case !errors.As(err, &f):
		return err
	}
	p.Attempts, p.Failure = p.Attempts+1, f.text
	p.NextAt = now.Add(d.e.pauseAfter(p.Attempts, f))
	p.Dead = d.isDead(p, err, now)
	return tx.UpdateParked(p)
}

// isDead reports whether an event that failed is given up. While the endpoint takes nothing at all it is given more time:
// most likely the event is not to blame.
func (d *delivery) isDead(p metadb.Parked, err error, now time.Time) bool {
	var f *failure
	age := now.Sub(p.Since)
	return errors.As(err, &f) && age > d.s.o.MaxAge && (f.refused || !d.delivered.Before(p.Since) || age > 3*d.s.o.MaxAge)
}

// noteEvery bounds how often successes are noted in the database.
const noteEvery = 10 * time.Second

// note records the state of the endpoint for operators: failures at once, successes now and then.
func (d *delivery) note(ctx context.Context, f *failure) error {
	now := d.s.o.Now()
	if f == nil && (now.Sub(d.noted) < noteEvery || !d.delivered.After(d.noted)) {
		return nil
	}
	d.noted = now
	var failedAt time.Time
	text := ""
	if f != nil {
		failedAt, text = now, f.text
	}
	return d.l.change(ctx, func(tx *metadb.Tx) error {
		return tx.NoteDelivery(d.e.Name, d.l.Fence, d.delivered, failedAt, text)
	})
}

const (
	pendingEvery = 10 * time.Second
	pendingLimit = 100_000
)

// pending measures what waits in the outbox.
func (d *delivery) pending(ctx context.Context, b *batch) {
	now := d.s.o.Now()
	if b == nil {
		d.e.meter.setPending(0)
		return
	}
	if now.Sub(d.looked) < pendingEvery {
		return
	}
	d.looked = now
	if n, _, err := d.s.o.DB.Behind(ctx, d.cursor, pendingLimit); err == nil {
		d.e.meter.setPending(n)
	}
}
