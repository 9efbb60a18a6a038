package server

import (
	"context"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/gc"
)

// leaseOf is for how long leases are given where the configuration promises a grace. A lease is renewed when a third of it
// is gone, and what memory knows of it is used for a sixth of it: so what is left is never less than the grace.
func leaseOf(c *config.Config) time.Duration { return c.Berth.GC.Grace + c.Berth.GC.Grace/2 }

// collecting makes the engine that deletes what nobody needs any more.
func (s *Server) collecting(context.Context) error {
	c := s.conf.Berth.GC
	window, err := gc.ParseWindow(c.Window)
	if err != nil {
		return err
	}
	untagged := c.Untagged
	if untagged > 0 {
		untagged = max(untagged, leaseOf(s.conf))
	}
	began := s.o.Now() // with the reading of the steady clock
	s.gc = gc.New(gc.Options{
		DB: s.db, Blobs: s.blobs, Access: s.access, Interval: c.Interval, Grace: leaseOf(s.conf), TrashHold: s.conf.Berth.Trash.Hold, Untagged: untagged,
		Rate: c.Rate, Window: window, ReadOnly: s.conf.Storage.Maintenance.ReadOnly.Enabled,
		Forget:  func(d oci.Digest, repos ...int64) { s.registry.Forget(d, repos...) },
		Sweep:   s.registry.Sweep,
		Steady:  func() time.Duration { return s.o.Now().Sub(began) },
		Busy:    func() bool { return s.traffic.busy(s.o.Now()) },
		Metrics: s.metrics.Registry, Now: s.clock(), Log: s.log.Logger,
	})
	return s.gc.Jobs(s.jobs)
}
