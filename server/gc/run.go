package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// kRun is the kind of runs on demand.
const kRun = "gc.run"

// reportSetting keeps the report of the run that did something last, on whatever replica.
const reportSetting = "gc.report"

// Run collects at every interval until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	pause := time.NewTimer(s.o.Interval)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		if !s.o.ReadOnly && s.o.Window.Has(s.o.Now().Local()) {
			if err := s.look(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.WarnContext(ctx, "collection failed; it is tried again", "in", s.o.Interval, "err", err)
			}
		}
		pause.Reset(s.o.Interval)
	}
}

// look is a pass of Run.
func (s *Service) look(ctx context.Context) error {
	now := s.o.Now()
	p := plan{due: s.due(ctx), budget: s.budget, within: func() bool { return s.o.Window.Has(s.o.Now().Local()) }}
	s.mu.Lock()
	if s.o.Untagged > 0 && now.Sub(s.policyAt).Abs() >= policyEvery {
		p.untagged, s.policyAt = s.o.Untagged, now
	}
	s.mu.Unlock()
	r := Report{StartedAt: now}
	err := s.pass(ctx, p, &r)
	return errors.Join(err, s.ended(ctx, &r))
}

// due is now, as far as it may be believed.
func (s *Service) due(ctx context.Context) time.Time {
	t, stepped := s.clock.time()
	if stepped > 0 {
		s.o.Log.WarnContext(ctx, "the clock was set forward: what was promised before is kept for a grace", "by", stepped.Round(time.Second), "grace", s.o.Grace)
	}
	return t
}

// ended remembers a run, and gives space of the database back.
func (s *Service) ended(ctx context.Context, r *Report) error {
	r.EndedAt = s.o.Now()
	s.measure(ctx)
	if r.idle() && r.Job == 0 {
		return nil
	}
	s.mu.Lock()
	s.last = *r
	s.mu.Unlock()
	s.o.Log.InfoContext(ctx, "collected", "examined", r.Examined, "deleted", r.Deleted, "bytes", r.Bytes, "failed", r.Failed,
		"trashed", r.Trashed, "purged", r.Purged, "seconds", r.EndedAt.Sub(r.StartedAt).Seconds())
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.PutSetting(reportSetting, string(text)) }); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return s.o.DB.Shrink(ctx)
}

// Jobs makes runs on demand jobs of j, one at a time on all replicas.
func (s *Service) Jobs(j *job.Service) (err error) {
	s.runs, err = job.Handle(j, job.Kind{Name: kRun, Everywhere: 1, MaxAttempts: 5, FirstPause: 10 * time.Second}, s.work)
	return err
}

// Start has a berthd begin a run now, and returns the number of its job. While one waits for which the same was asked, that
// is its number; one that runs is run again when it has ended, under the number that it has.
func (s *Service) Start(ctx context.Context, a Ask) (jobID int64, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCWrite); err != nil {
		return 0, err
	}
	key, err := json.Marshal(a)
	if err != nil {
		return 0, err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		jobID, err = s.runs.Enqueue(tx, a, job.Ask{Key: string(key)})
		return err
	})
	return jobID, err
}

// work is a run as a job. Its position is the report so far: the queue itself knows what is left.
func (s *Service) work(ctx context.Context, w *job.Work, a Ask) error {
	r := Report{StartedAt: s.o.Now()}
	if text := w.Position(); text != "" {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return job.Permanent(fmt.Errorf("gc: position of the job: %w", err))
		}
	}
	r.Job = w.ID()
	show := func(r *Report, position string) {
		if text, err := json.Marshal(r); err == nil {
			w.Save(string(text))
		}
		w.Progress(r.Examined, 0, r.note(position))
	}
	p := s.plan(ctx, a)
	p.show = show
	err := s.pass(ctx, p, &r)
	if err == nil && s.o.Sweep != nil {
		err = s.o.Sweep(ctx)
	}
	if err == nil {
		err = s.ended(ctx, &r)
	}
	show(&r, "")
	return err
}

func (r *Report) note(position string) string {
	if len(r.Held) > 0 {
		return fmt.Sprintf("held by %v: nothing is deleted now", r.Held)
	}
	note := fmt.Sprintf("examined %d blobs, deleted %d with %d bytes, %d failed; %d manifests to the trash, %d purged", r.Examined, r.Deleted, r.Bytes, r.Failed, r.Trashed, r.Purged)
	if position != "" {
		note += "; at " + position
	}
	return note
}

// plan is what is done for who asks.
func (s *Service) plan(ctx context.Context, a Ask) plan {
	p := plan{due: s.due(ctx), untagged: s.o.Untagged, budget: s.budget}
	if a.DeleteUntagged {
		p.untagged = s.o.Grace
	}
	if a.Rate > 0 {
		p.budget = newBudget(a.Rate, pace(s.o))
	}
	return p
}

// alone is the plan of who has the database alone: nobody relies on a lease.
func (s *Service) alone(ctx context.Context, a Ask) plan {
	p := s.plan(ctx, a)
	p.due = s.ever()
	if a.DeleteUntagged {
		p.untagged = time.Microsecond
	}
	return p
}

// ever is when every lease is over.
func (s *Service) ever() time.Time { return s.o.Now().Add(100 * 365 * 24 * time.Hour) }

// Collect is a run by the caller itself, for who has the database alone: without a server nobody relies on a lease, so with
// now leases that are not over count as over. show may be nil.
func (s *Service) Collect(ctx context.Context, a Ask, now bool, show func(Report)) (Report, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCWrite); err != nil {
		return Report{}, err
	}
	p := s.plan(ctx, a)
	if now {
		p = s.alone(ctx, a)
	}
	if show != nil {
		p.show = func(r *Report, _ string) { show(*r) }
	}
	r := Report{StartedAt: s.o.Now()}
	err := s.pass(ctx, p, &r)
	for purged := int64(0); err == nil && now && r.Purged > purged; { // what the trash has released is no promise either
		purged = r.Purged
		err = s.pass(ctx, p, &r)
	}
	if err == nil && s.o.Sweep != nil {
		err = s.o.Sweep(ctx)
	}
	return r, errors.Join(err, s.ended(ctx, &r))
}
