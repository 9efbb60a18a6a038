package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	laneLimit  = 8      // repositories that are told at the same time
	batchLimit = 64     // events that are read at once, and repeated at most after a crash
	maxParked  = 10_000 // events that wait behind a failure; then the outbox waits for them
)

// item is an event on its way.
type item struct {
	id   string
	body json.RawMessage
}

// lane is the events of one repository in a batch, in their order.
type lane struct {
	repository string
	items      []item
	failed     *failure // at the last attempt
	tries      int64    // attempts in a row that failed
}

// batch is what was read from the outbox behind the cursor and is not settled yet.
type batch struct {
	last  event.Cursor
	lanes []*lane
	since time.Time // of the first failure; zero without one
	next  time.Time // no attempt before
	probe int       // the lane whose turn it is to find out whether the endpoint is back
}

// read makes a batch of what is behind the cursor; nil when there is nothing. Events of repositories that are parked
// already are set aside behind those.
func (s *Service) read(ctx context.Context, e *endpoint, after event.Cursor, parked map[string]bool) (b *batch, behind []*lane, err error) {
	events, err := s.o.DB.Events(ctx, after, 2*batchLimit)
	if err != nil || len(events) == 0 {
		return nil, nil, err
	}
	events = events[:cut(events, batchLimit)]
	b = &batch{last: events[len(events)-1].Cursor}
	// Of two transactions that changed the same tag one waited for the other, and wrote its event later: the number tells.
	// The cursor's order is that of their beginnings.
	slices.SortFunc(events, func(a, b event.Event) int { return cmp.Compare(a.Cursor.ID, b.Cursor.ID) })
	lanes := map[string]*lane{}
	for _, ev := range events {
		r, ok, err := s.record(ctx, ev)
		if err != nil {
			return nil, nil, err
		}
		if !ok || !e.wants(r.Action, r.Target.MediaType) {
			continue
		}
		body, err := json.Marshal(r)
		if err != nil {
			return nil, nil, err
		}
		e.meter.count("Events", 1)
		l := lanes[ev.Repository]
		if l == nil {
			l = &lane{repository: ev.Repository}
			lanes[ev.Repository] = l
			if parked[ev.Repository] {
				behind = append(behind, l)
			} else {
				b.lanes = append(b.lanes, l)
			}
		}
		l.items = append(l.items, item{r.ID, body})
	}
	return b, behind, nil
}

// cut says how many of the events make a batch: at most limit, or all, so that no event behind the cut has a smaller number
// than one of its repository before it. Such pairs are of transactions that ran at the same time, and become visible
// together, so that they are no further apart than there are writers.
func cut(events []event.Event, limit int) int {
	for n := min(limit, len(events)); n > 0; n-- {
		highest := map[string]int64{}
		for _, e := range events[:n] {
			highest[e.Repository] = max(highest[e.Repository], e.Cursor.ID)
		}
		if !slices.ContainsFunc(events[n:], func(e event.Event) bool { return e.Cursor.ID < highest[e.Repository] }) {
			return n
		}
	}
	return len(events)
}

// round tries each lane once, side by side, until its first failure; of an endpoint that seems to be gone only one event.
// It returns how many were delivered, and the last failure.
func (b *batch) round(ctx context.Context, e *endpoint, gone bool) (delivered int, failed *failure, err error) {
	lanes := b.lanes
	if gone {
		b.probe = (b.probe + 1) % len(lanes)
		lanes = lanes[b.probe : b.probe+1]
	}
	var g errgroup.Group
	g.SetLimit(laneLimit)
	sent := make([]int, len(lanes))
	errs := make([]error, len(lanes))
	for i, l := range lanes {
		g.Go(func() error {
			sent[i], errs[i] = l.run(ctx, e)
			return nil
		})
	}
	_ = g.Wait()
	for i, l := range lanes {
		delivered += sent[i]
		if l.failed != nil {
			failed = l.failed
		}
		err = errors.Join(err, errs[i])
	}
	open := b.lanes[:0:0]
	for _, l := range b.lanes {
		if len(l.items) > 0 {
			open = append(open, l)
		}
	}
	b.lanes = open
	return delivered, failed, err
}

// run sends the lane's events until one fails.
func (l *lane) run(ctx context.Context, e *endpoint) (sent int, err error) {
	l.failed = nil
	for len(l.items) > 0 {
		err := e.send(ctx, l.items[0].body)
		var f *failure
		switch {
		case errors.As(err, &f):
			l.failed, l.tries = f, l.tries+1
			return sent, nil
		case err != nil:
			return sent, err
		}
		l.items, l.tries = l.items[1:], 0
		sent++
	}
	return sent, nil
}

// park keeps the lane's events for later. since is when the first of them failed first, next when it may be tried again.
func (l *lane) park(tx *metadb.Tx, endpoint string, since, next time.Time) error {
	for _, it := range l.items {
		p := metadb.Parked{Endpoint: endpoint, EventID: it.id, Repository: l.repository, Body: string(it.body), Since: since, NextAt: next}
		if l.failed != nil {
			p.Attempts, p.Failure = l.tries, l.failed.text
		}
		if err := tx.Park(p); err != nil {
			return err
		}
		l, next = &lane{repository: l.repository, items: l.items}, time.Time{} // those behind have not been tried
	}
	return nil
}
