package job

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

// loop is what one replica does all the time.
type loop struct {
	name string
	do   func(ctx context.Context, only *Lease) error
}

// Lease is the right of a loop's function to be the only one.
type Lease struct {
	row  metadb.Lease
	only bool // no other process has the database: there is no row
}

// Hold is asked in transactions that must not be done by two: metadb.ErrLost when another replica has begun. It keeps the
// lease until the transaction ends.
func (l *Lease) Hold(tx *metadb.Tx) error {
	if l.only {
		return nil
	}
	return tx.HoldLease(l.row)
}

// Loop has do run on one replica at a time while Run does, before Run: for what never ends, such as following the events.
// (What ends is a job.) When do returns it is begun again, after a pause when it failed. Its context ends when Run ends or
// the lease is lost; when the replica dies, another begins within Options.Hold and a few seconds.
func (s *Service) Loop(name string, do func(ctx context.Context, only *Lease) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return errStarted
	}
	s.loops = append(s.loops, loop{name, do})
	return nil
}

// loop waits for its turn, and takes it, until ctx ends.
func (s *Service) loop(ctx context.Context, l loop) {
	const firstPause, mostPause = time.Second, time.Minute
	for pause := firstPause; ctx.Err() == nil; {
		lease, wait, err := s.lease(ctx, l.name)
		if lease != nil {
			began := s.o.Now()
			err = s.turn(ctx, l, lease)
			if s.o.Now().Sub(began) > mostPause {
				pause = firstPause
			}
			wait = leastRest
		}
		if err != nil && ctx.Err() == nil {
			s.o.Log.WarnContext(ctx, "background loop failed; it is begun again", "loop", l.name, "in", pause, "err", err)
			wait, pause = pause, min(2*pause, mostPause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// lease takes the lease, or says how long to wait. While another replica has it nothing is written.
func (s *Service) lease(ctx context.Context, name string) (_ *Lease, wait time.Duration, err error) {
	if s.o.DB.Alone() {
		return &Lease{only: true}, 0, nil
	}
	wait = s.o.Hold/3 + rand.N(s.o.Hold/6+1)
	row, err := s.o.DB.Lease(ctx, name)
	if err == nil && row.Until.After(s.o.Now()) || err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return nil, wait, err
	}
	var held bool
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		row, held, err = tx.TakeLease(name, s.o.Worker, s.o.Hold)
		return err
	})
	if err != nil || !held {
		return nil, wait, err
	}
	return &Lease{row: row}, 0, nil
}

// turn runs the loop's function while the lease is ours.
func (s *Service) turn(ctx context.Context, l loop, lease *Lease) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	if lease.only {
		close(ended)
	} else {
		go func() {
			defer close(ended)
			s.keep(ctx, lease, stop)
		}()
	}
	err = recovered(func() error { return l.do(ctx, lease) })
	cause := context.Cause(ctx)
	stop(nil)
	<-ended
	if !lease.only {
		giveBack, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		_ = s.o.DB.Update(giveBack, func(tx *metadb.Tx) error { return tx.EndLease(lease.row) }) // it ends by itself
	}
	if errors.Is(cause, ErrLost) {
		return cause
	}
	return err
}

// keep renews the lease until ctx ends, and ends it when the lease is lost or may be.
func (s *Service) keep(ctx context.Context, lease *Lease, stop context.CancelCauseFunc) {
	tick := time.NewTicker(s.o.Hold / 3)
	defer tick.Stop()
	renewed := s.o.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := s.o.Now()
		within, done := context.WithTimeout(ctx, s.o.Hold/4)
		err := s.o.DB.UpdateSoft(within, func(tx *metadb.Tx) error { return tx.RenewLease(lease.row, s.o.Hold) })
		done()
		switch {
		case err == nil:
			renewed = began
		case errors.Is(err, metadb.ErrLost), s.o.Now().Sub(renewed) >= s.o.Hold*6/10: // the next try would come too late
			stop(ErrLost)
			return
		}
	}
}
