package job

import (
	"context"

	"github.com/berth-registry/berth/server/metadb"
)

// What administrators ask. Who calls these has asked the access room.

// List is up to limit jobs that the filter chooses, newest first, behind the number before; 0 begins at the newest.
func (s *Service) List(ctx context.Context, f metadb.JobFilter, before int64, limit int) ([]metadb.Job, error) {
	return s.o.DB.Jobs(ctx, f, before, limit)
}

// Get is a job, or metadb.ErrNotFound.
func (s *Service) Get(ctx context.Context, id int64) (metadb.Job, error) { return s.o.DB.Job(ctx, id) }

// Cancel ends a job that waits, and asks the worker of one that runs to stop, on whichever replica that is; it learns it
// within a third of Options.Hold. It returns the job as it is then: a running one is marked. metadb.ErrNotFound when there
// is none; one that has ended stays as it is.
func (s *Service) Cancel(ctx context.Context, id int64) (j metadb.Job, err error) {
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error { j, err = tx.CancelJob(id); return err })
	if err != nil || j.State != metadb.JobRunning {
		return j, err
	}
	s.mu.Lock()
	w := s.running[id]
	s.mu.Unlock()
	if w != nil && w.job.Token == j.Token {
		w.stop(ErrCancelled)
	}
	return j, nil
}

// Retry queues a job that is dead, cancelled or scheduled, with all its attempts before it. Conflict when it has succeeded
// or another job does its work, metadb.ErrNotFound when there is none.
func (s *Service) Retry(ctx context.Context, id int64) (j metadb.Job, err error) {
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		tx.AfterCommit(s.Wake)
		j, err = tx.RetryJob(id)
		return err
	})
	return j, err
}

// Counts is how many jobs there are: live ones by kind and state, ended ones by state.
func (s *Service) Counts(ctx context.Context) (live, ended []metadb.JobCount, err error) {
	if live, err = s.o.DB.LiveJobs(ctx); err == nil {
		ended, err = s.o.DB.EndedJobs(ctx)
	}
	return live, ended, err
}
