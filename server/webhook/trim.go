package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	// trimmer is the row that says whose turn it is to trim.
	trimmer   = ""
	trimEvery = 10 * time.Minute
	trimBatch = 1000
	// maxDead is how many dead letters of an endpoint are kept.
	maxDead = 10_000
)

// trimLoop trims the outbox now and then, on one replica at a time.
func (s *Service) trimLoop(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.hold(ctx, trimmer, func(ctx context.Context, l lease) error {
			for ctx.Err() == nil {
				if err := s.trim(ctx, l); err != nil {
					return err
				}
				pause(ctx, jitter(trimEvery))
			}
			return nil
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, errHeld) {
			s.o.Log.Warn("trimming the outbox of events failed; it is tried again", "err", err)
		}
		pause(ctx, jitter(min(trimEvery, 2*s.o.Lease)))
	}
}

// trim removes events that are older than Options.Keep and that every endpoint has, and, beyond Options.Most, the oldest
// whoever needs them.
func (s *Service) trim(ctx context.Context, l lease) error {
	upto, err := s.slowest(ctx)
	if err != nil {
		return err
	}
	before := s.o.Now().Add(-s.o.Keep)
	for n := trimBatch; n == trimBatch && ctx.Err() == nil; {
		err := l.change(ctx, func(tx *metadb.Tx) (err error) {
			n, err = tx.TrimEvents(before, upto, trimBatch)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := s.cap(ctx, l); err != nil {
		return err
	}
	for _, e := range s.endpoints {
		var n int64
		err := l.change(ctx, func(tx *metadb.Tx) (err error) {
			n, err = tx.DropDead(e.Name, maxDead)
			return err
		})
		if err != nil {
			return err
		}
		if n > 0 {
			s.o.Log.Error("dead letters are dropped for good, because there are too many of them; mend the endpoint and replay them", "endpoint", e.Name, "dropped", n, "kept", maxDead)
		}
	}
	return nil
}

// followers are all whose cursors count.
func (s *Service) followers() []string { return append(s.names(), s.o.Readers...) }

// slowest is the cursor that is the furthest back among the endpoints and other readers.
func (s *Service) slowest(ctx context.Context) (event.Cursor, error) {
	upto := metadb.OutboxEnd()
	for _, name := range s.followers() {
		d, err := s.o.DB.Delivery(ctx, name)
		if err != nil {
			return upto, err
		}
		if c := d.Cursor; c.Epoch < upto.Epoch || c.Epoch == upto.Epoch && c.ID < upto.ID {
			upto = c
		}
	}
	return upto, nil
}

// cap keeps the outbox from filling the disk when an endpoint is away for too long.
func (s *Service) cap(ctx context.Context, l lease) error {
	oldest, newest, err := s.o.DB.EventSpan(ctx)
	if err != nil || newest-oldest < s.o.Most {
		return err
	}
	below := newest - s.o.Most + 1
	var lost int64
	for n := int64(trimBatch); n == trimBatch && ctx.Err() == nil; {
		var gone int64
		err := l.change(ctx, func(tx *metadb.Tx) (err error) {
			n, gone, err = tx.DropEvents(below, trimBatch, s.followers())
			return err
		})
		if err != nil {
			return err
		}
		lost += gone
	}
	if lost > 0 {
		for _, e := range s.endpoints {
			e.meter.count("Lost", int(lost))
		}
		s.o.Log.Error("events are dropped before an endpoint of notifications has them: the outbox is full; see berthd notifications status and notifications.events.most",
			"events", lost, "most", s.o.Most)
	}
	return nil
}
