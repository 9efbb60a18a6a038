package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// Desk is where an operator looks at deliveries and has them repeated, beside running berthds.
type Desk struct {
	DB      *metadb.DB
	Enabled map[string]bool // endpoints of the configuration
	Now     func() time.Time
}

// Status is the state of an endpoint.
type Status struct {
	metadb.Delivery
	State   string        // "active", "waiting" (nobody delivers), "disabled" or "removed" (not in the configuration)
	Pending int           // events in the outbox that it does not have, with those it does not want; counted up to 100,000
	Oldest  time.Duration // age of the first of them
	Parked  int64
	Dead    int64
}

// Status is the state of every endpoint that ever was, by name.
func (d *Desk) Status(ctx context.Context) (all []Status, err error) {
	known, err := d.DB.Deliveries(ctx)
	if err != nil {
		return nil, err
	}
	now := d.Now()
	for _, k := range known {
		if strings.HasPrefix(k.Endpoint, "berth:") { // a reader that is no endpoint
			continue
		}
		s := Status{Delivery: k}
		on, there := d.Enabled[k.Endpoint]
		switch {
		case !there:
			s.State = "removed"
		case !on:
			s.State = "disabled"
		case k.Holder == "":
			s.State = "waiting"
		default:
			s.State = "active"
		}
		var oldest time.Time
		if s.Pending, oldest, err = d.DB.Behind(ctx, k.Cursor, pendingLimit); err != nil {
			return nil, err
		}
		if s.Pending > 0 {
			s.Oldest = max(now.Sub(oldest), 0)
		}
		if s.Parked, s.Dead, err = d.DB.CountParked(ctx, k.Endpoint); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// DeadLetters are up to limit events that an endpoint has not taken and that were given up, the oldest first.
func (d *Desk) DeadLetters(ctx context.Context, endpoint string, limit int) ([]metadb.Parked, error) {
	if err := d.known(ctx, endpoint); err != nil {
		return nil, err
	}
	return d.DB.DeadLetters(ctx, endpoint, 0, limit)
}

func (d *Desk) known(ctx context.Context, endpoint string) error {
	_, err := d.DB.Delivery(ctx, endpoint)
	if errors.Is(err, metadb.ErrNotFound) {
		return fault.New(fault.NotFound, fault.Unknown, "endpoint %q has never been one of this registry; berthd notifications status lists them", endpoint)
	}
	return err
}

// Replay has the endpoint told again, under the same ids, what happened since that time, or from that event on: an id
// that a receiver saw, or a number. It begins within moments, wherever berthd runs. n is how many events there are, with
// those that the endpoint does not want; counted up to 100,000.
func (d *Desk) Replay(ctx context.Context, endpoint string, since time.Time, from string) (n int, err error) {
	if err := d.known(ctx, endpoint); err != nil {
		return 0, err
	}
	var number int64
	if from != "" {
		if number, err = strconv.ParseInt(from, 10, 64); err != nil {
			if number, err = outboxNumber(from); err != nil {
				return 0, err
			}
		}
	}
	c, err := d.DB.Before(ctx, since, number)
	if errors.Is(err, metadb.ErrNotFound) {
		return 0, fault.New(fault.NotFound, fault.Unknown, "the outbox has no event of that time or later; nothing is replayed")
	}
	if err != nil {
		return 0, err
	}
	if n, err = d.rewind(ctx, endpoint, c); err != nil {
		return 0, fmt.Errorf("webhook: replay %s: %w", endpoint, err)
	}
	return n, nil
}

func (d *Desk) rewind(ctx context.Context, endpoint string, c event.Cursor) (int, error) {
	n, _, err := d.DB.Behind(ctx, c, pendingLimit)
	if err != nil {
		return 0, err
	}
	return n, d.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.RewindDelivery(endpoint, c) })
}

// ReplayDead has the endpoint's dead letters tried again, and says how many there are.
func (d *Desk) ReplayDead(ctx context.Context, endpoint string) (n int64, err error) {
	if err := d.known(ctx, endpoint); err != nil {
		return 0, err
	}
	err = d.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		n, err = tx.ReviveDead(endpoint)
		return err
	})
	return n, err
}
