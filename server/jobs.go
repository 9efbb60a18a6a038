package server

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// background is the queue of background work, and what is in it by schedule. docs/operate/jobs.md lists the kinds.
func (s *Server) background(context.Context) (err error) {
	s.jobs, err = job.New(job.Options{
		DB: s.db, Worker: replicaName(), Metrics: s.metrics.Registry, Now: s.clock(), Log: s.log.Logger,
	})
	if err != nil {
		return err
	}
	if err := s.scrub.Jobs(s.jobs); err != nil {
		return err
	}
	if err := s.trimming(); err != nil {
		return err
	}
	if err := s.settling(); err != nil {
		return err
	}
	if err := s.forgetting(); err != nil {
		return err
	}
	if err := s.emptying(); err != nil {
		return err
	}
	return s.sweeping()
}

// emptying deletes projects with what is in them.
func (s *Server) emptying() error {
	return s.project.Jobs(s.jobs, project.Contents{Deletable: s.registry.Deletable, Empty: func(ctx context.Context, name ref.Name) error {
		if _, err := s.registry.EmptyRepository(ctx, name); err != nil {
			return err
		}
		_, err := s.registry.PurgeTrash(ctx, name, oci.Digest{})
		return err
	}})
}

// replicaName tells people which replica has a job.
func replicaName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "berthd"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// sweeping ends old uploads on one of the replicas; it is the configuration's uploadpurging.
func (s *Server) sweeping() error {
	q, err := job.Handle(s.jobs, job.Kind{Name: "upload.sweep", MaxAttempts: 3, FirstPause: time.Minute},
		func(ctx context.Context, _ *job.Work, _ struct{}) error { return s.registry.Sweep(ctx) })
	if err != nil {
		return err
	}
	every := max(s.conf.Storage.Maintenance.UploadPurging.Interval, time.Second)
	return job.Every(q, "upload.sweep", "@every "+every.String(), struct{}{})
}

// forgetBatch is how many expired answers a transaction removes.
const forgetBatch = 500

// forgetting removes the answers of the management API that were kept for requests sent again, when they have expired.
func (s *Server) forgetting() error {
	q, err := job.Handle(s.jobs, job.Kind{Name: "idempotency.trim", MaxAttempts: 3, FirstPause: time.Minute},
		func(ctx context.Context, w *job.Work, _ struct{}) error {
			before, removed := s.clock()(), int64(0)
			for n := forgetBatch; n == forgetBatch; {
				err := s.db.UpdateSoft(ctx, func(tx *metadb.Tx) (err error) {
					n, err = tx.TrimIdempotency(before, forgetBatch)
					return err
				})
				if err != nil {
					return err
				}
				removed += int64(n)
				w.Progress(removed, 0, "")
			}
			return nil
		})
	if err != nil {
		return err
	}
	return job.Every(q, "idempotency.trim", "@hourly", struct{}{})
}
