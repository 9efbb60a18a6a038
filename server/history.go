package server

import (
	"context"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
)

// trimming forgets what tags were longer ago than the configuration wants to know, once a day on one of the replicas.
func (s *Server) trimming() error {
	keep := s.conf.Berth.History.Keep
	q, err := job.Handle(s.jobs, job.Kind{Name: "history.trim", MaxAttempts: 3, FirstPause: time.Minute},
		func(ctx context.Context, _ *job.Work, _ struct{}) error {
			if keep == 0 { // of another replica's configuration
				return nil
			}
			return s.registry.TrimHistory(identity.With(ctx, identity.Principal{Kind: identity.System}), keep)
		})
	if err != nil || keep == 0 {
		return err
	}
	return job.Every(q, "history.trim", "@daily", struct{}{})
}
