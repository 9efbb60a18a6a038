package server

import (
	"context"
	"time"

	"github.com/berth-registry/berth/server/job"
)

// settling moves content under its digest that was pushed with the digest last to a store that cannot rename.
func (s *Server) settling() error {
	q, err := job.Handle(s.jobs, job.Kind{Name: "blob.settle", MaxAttempts: 1, FirstPause: time.Minute},
		func(ctx context.Context, _ *job.Work, _ struct{}) error { return s.registry.Settle(ctx) })
	if err != nil {
		return err
	}
	return job.Every(q, "blob.settle", "@every 1m", struct{}{})
}
