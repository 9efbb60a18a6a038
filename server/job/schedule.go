package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/berth-registry/berth/server/metadb"
)

// schedule is work that comes again and again.
type schedule struct {
	name, spec string
	when       cron.Schedule
	enqueue    func(tx *metadb.Tx) error
	due        time.Time // as far as this replica knows; used by dispatch alone
}

// Every has a job enqueued on a schedule, before Run: spec is cron's five fields (minute, hour, day of month, month, day of
// week) in UTC, or @hourly, @daily, @weekly, @monthly, or @every with a duration of whole seconds. The name is kept in the
// database with the time of the next run, so of all replicas one enqueues each run, and a restart changes nothing. Runs
// that were missed, because no berthd was running, become one; a run whose predecessor has not ended is left out.
func Every[A any](q *Queue[A], name, spec string, args A) error {
	when, err := cron.ParseStandard(spec)
	if err != nil {
		return fmt.Errorf("job: schedule %s: %q is neither five cron fields nor @every with a duration: %w", name, spec, err)
	}
	s := q.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return errStarted
	}
	for _, other := range s.schedules {
		if other.name == name {
			return fmt.Errorf("job: two schedules have the name %s", name)
		}
	}
	s.schedules = append(s.schedules, &schedule{name: name, spec: spec, when: when, enqueue: func(tx *metadb.Tx) error {
		_, err := q.Enqueue(tx, args, Ask{Key: "schedule/" + name, NotAgain: true})
		return err
	}})
	return nil
}

// ensureSchedules records the schedules, and learns when each is due.
func (s *Service) ensureSchedules(ctx context.Context) error {
	if len(s.schedules) == 0 {
		return nil
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		for _, e := range s.schedules {
			if e.due, err = tx.EnsureSchedule(e.name, e.spec, e.when.Next(tx.DatabaseNow().UTC())); err != nil {
				return err
			}
		}
		return nil
	})
}

// tick enqueues what is due by schedule and returns when the next is. A replica that comes second finds the time moved on,
// by reading.
func (s *Service) tick(ctx context.Context) (next time.Time, err error) {
	now := s.o.Now()
	for _, e := range s.schedules {
		if !e.due.After(now) {
			if err := s.tickOne(ctx, e, now); err != nil {
				return next, fmt.Errorf("job: schedule %s: %w", e.name, err)
			}
		}
		if next.IsZero() || e.due.Before(next) {
			next = e.due
		}
	}
	return next, nil
}

func (s *Service) tickOne(ctx context.Context, e *schedule, now time.Time) error {
	due, err := s.o.DB.Schedule(ctx, e.name)
	if errors.Is(err, metadb.ErrNotFound) { // somebody has emptied the table
		return s.ensureSchedules(ctx)
	}
	if err != nil || due.After(now) {
		e.due = due
		return err
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		next := e.when.Next(tx.DatabaseNow().UTC())
		moved, err := tx.AdvanceSchedule(e.name, due, next)
		if err != nil || !moved {
			return err
		}
		e.due = next
		return e.enqueue(tx)
	})
}

// nothing are the arguments of a job that needs none.
type nothing struct{}

// trimming makes the trimming of ended jobs a job itself.
func (s *Service) trimming() error {
	q, err := Handle(s, Kind{Name: "job.trim", MaxAttempts: 3}, func(ctx context.Context, w *Work, _ nothing) error { return s.trim(ctx, w) })
	if err != nil {
		return err
	}
	return Every(q, "job.trim", "@hourly", nothing{})
}

// trim removes ended jobs that are too old or too many.
func (s *Service) trim(ctx context.Context, w *Work) error {
	removed := int64(0)
	for state, keep := range map[metadb.JobState]time.Duration{
		metadb.JobSucceeded: s.o.KeepSucceeded, metadb.JobCancelled: s.o.KeepCancelled, metadb.JobDead: s.o.KeepDead,
	} {
		before := s.o.Now().Add(-keep)
		if most, err := s.o.DB.JobEnded(ctx, state, s.o.KeepMost); err == nil && most.After(before) {
			before = most.Add(time.Microsecond)
		} else if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return err
		}
		for n := batch; n == batch; {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) (err error) { n, err = tx.TrimJobs(state, before, batch); return err })
			if err != nil {
				return err
			}
			removed += int64(n)
			w.Progress(removed, 0, "")
		}
	}
	return nil
}
