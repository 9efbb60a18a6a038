package webhook

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/server/metadb"
)

// errHeld says that another replica holds what was asked for.
var errHeld = errors.New("webhook: held by another replica")

// lease is the right to deliver to an endpoint, for as long as the database says so.
type lease struct {
	metadb.Delivery
	db *metadb.DB
}

// change runs fn in a transaction that fails with ErrFenced when the lease is lost. It is soft: what a power loss takes
// back is delivered again under the same ids.
func (l lease) change(ctx context.Context, fn func(tx *metadb.Tx) error) error {
	return l.db.UpdateSoft(ctx, func(tx *metadb.Tx) error {
		if err := tx.HoldDelivery(l.Endpoint, l.Fence); err != nil {
			return err
		}
		return fn(tx)
	})
}

// hold takes the lease and keeps it while do runs; do's context ends when it is lost. It is errHeld when somebody else
// has it.
func (s *Service) hold(ctx context.Context, name string, do func(context.Context, lease) error) error {
	l := lease{db: s.o.DB}
	held := false
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		l.Delivery, held, err = tx.LeaseDelivery(name, s.holder, s.o.Lease)
		return err
	})
	if err != nil {
		return err
	}
	if !held {
		return errHeld
	}
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var g errgroup.Group
	g.Go(func() error { s.renew(work, l, stop); return nil })
	err = do(work, l)
	if cause := context.Cause(work); cause != nil && ctx.Err() == nil {
		err = cause
	}
	stop(nil)
	_ = g.Wait()
	// Also when the process ends: another replica then need not wait for the lease to run out.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if e := s.o.DB.UpdateSoft(last, func(tx *metadb.Tx) error { return tx.ReleaseDelivery(name, l.Fence) }); e != nil && !errors.Is(e, metadb.ErrFenced) {
		s.o.Log.Debug("lease of notifications is not given back; it runs out", "endpoint", name, "err", e)
	}
	return err
}

// renew keeps the lease, and ends the work when it is lost or may be.
func (s *Service) renew(ctx context.Context, l lease, lost context.CancelCauseFunc) {
	good := s.o.Now()
	for {
		pause(ctx, s.o.Lease/4)
		if ctx.Err() != nil {
			return
		}
		try, cancel := context.WithTimeout(ctx, s.o.Lease/4)
		began := s.o.Now()
		err := s.o.DB.UpdateSoft(try, func(tx *metadb.Tx) error { return tx.RenewDelivery(l.Endpoint, l.Fence, s.o.Lease) })
		cancel()
		switch {
		case err == nil:
			good = began
		case errors.Is(err, metadb.ErrFenced), s.o.Now().Sub(good) > s.o.Lease*3/4:
			lost(err)
			return
		}
	}
}
