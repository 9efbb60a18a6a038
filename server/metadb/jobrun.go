package metadb

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
)

// ErrLost says that somebody else has the lease by now, or nobody: what its holder wanted to write is not written.
var ErrLost = errors.New("metadb: the lease is lost")

// claimJobs finds and takes in one statement. The rows of the page are locked, and those that others have just locked are
// skipped, so that replicas do not wait for each other.
func (d *dialect) claimJobs() string {
	return `WITH page AS MATERIALIZED (
			SELECT id FROM job WHERE kind = $1 AND state = 1 ORDER BY priority, turn, id LIMIT $2` + d.skipLocked + `)
		UPDATE job SET state = 2, attempt = attempt + 1, token = token + 1, worker = $3, lease_until = $4, started_at = $5
		WHERE id IN (SELECT id FROM page) AND state = 1
		RETURNING ` + jobColumns
}

// Claim says who takes how much.
type Claim struct {
	Kind   string
	Worker string
	Limit  int           // most jobs
	Hold   time.Duration // how long they are held without a renewal
	// Everywhere bounds how many jobs of the kind run at a time, on all replicas together; 0 is no bound.
	Everywhere int
}

// ClaimJobs takes the next jobs in the queue of a kind.
func (tx *Tx) ClaimJobs(c Claim) ([]Job, error) {
	if c.Everywhere > 0 {
		// Two claims of a bounded kind must not count at the same time.
		if tx.d.lockText != "" {
			if _, err := tx.exec(tx.d.lockText, "job "+c.Kind); err != nil {
				return nil, err
			}
		}
		running, err := one(tx.ctx, tx.s, column[int], `SELECT COUNT(*) FROM job WHERE state = 2 AND lease_until > 0 AND kind = $1`, c.Kind)
		if err != nil {
			return nil, err
		}
		c.Limit = min(c.Limit, c.Everywhere-running)
	}
	if c.Limit <= 0 {
		return nil, nil
	}
	now := tx.clock()
	jobs, err := many(tx.ctx, tx.s, scanJob, tx.d.claimJobs(), c.Kind, c.Limit, c.Worker, toMicros(now.Add(c.Hold)), toMicros(now))
	slices.SortFunc(jobs, func(a, b Job) int {
		if a.Priority != b.Priority {
			return a.Priority - b.Priority
		}
		return int(a.ID - b.ID)
	})
	return jobs, err
}

// RenewJob extends a claim and records the progress; cancel says that the worker is asked to stop. ErrLost when the job
// is not held with this token any more.
func (tx *Tx) RenewJob(id, token int64, hold time.Duration, p JobProgress) (cancel bool, err error) {
	cancel, err = one(tx.ctx, tx.s, column[bool], `UPDATE job SET lease_until = $3, done = $4, total = $5, note = $6, position = $7
		WHERE id = $1 AND token = $2 AND state = 2 RETURNING cancel`,
		id, token, toMicros(tx.clock().Add(hold)), p.Done, p.Total, p.Note, p.Position)
	if errors.Is(err, ErrNotFound) {
		err = ErrLost
	}
	return cancel, err
}

// HoldJob makes sure that the job is held with this token until the transaction ends, so that what it writes is not
// written by two workers. ErrLost when it is not.
func (tx *Tx) HoldJob(id, token int64) error {
	_, err := tx.heldJob(id, token)
	return err
}

func (tx *Tx) heldJob(id, token int64) (Job, error) {
	j, err := one(tx.ctx, tx.s, scanJob, `SELECT `+jobColumns+` FROM job WHERE id = $1 AND token = $2 AND state = 2`+tx.d.forUpdate, id, token)
	if errors.Is(err, ErrNotFound) {
		err = ErrLost
	}
	return j, err
}

// SucceedJob ends an attempt well and returns the state of the job then: succeeded, unless it is to run again. ErrLost
// when it is not held with this token any more.
func (tx *Tx) SucceedJob(id, token int64, p JobProgress) (JobState, error) {
	j, err := tx.heldJob(id, token)
	if err != nil {
		return 0, err
	}
	j.Progress, j.Error = p, ""
	return tx.endJob(j, JobSucceeded)
}

// JobFailure is how an attempt failed.
type JobFailure struct {
	Error    string
	RetryIn  time.Duration
	Final    bool // no other attempt will be better
	Progress JobProgress
}

// FailJob ends an attempt that failed and returns the state of the job then: scheduled for another one, dead, or
// cancelled when that was asked for. ErrLost is as of SucceedJob.
func (tx *Tx) FailJob(id, token int64, f JobFailure) (JobState, error) {
	j, err := tx.heldJob(id, token)
	if err != nil {
		return 0, err
	}
	j.Progress, j.Error = f.Progress, f.Error
	switch {
	case j.Cancel:
		return tx.endJob(j, JobCancelled)
	case f.Final || j.Attempt >= j.MaxAttempts:
		return tx.endJob(j, JobDead)
	}
	j.RunAt = tx.clock().Add(f.RetryIn)
	return JobScheduled, tx.restJob(j)
}

// ReturnJob gives a job back that its worker has no time to finish; the attempt does not count. ErrLost is as of
// SucceedJob.
func (tx *Tx) ReturnJob(id, token int64, p JobProgress) (JobState, error) {
	j, err := tx.heldJob(id, token)
	if err != nil {
		return 0, err
	}
	j.Progress = p
	if j.Cancel {
		return tx.endJob(j, JobCancelled)
	}
	j.Attempt--
	j.RunAt = tx.clock()
	if err := tx.restJob(j); err != nil {
		return 0, err
	}
	return JobQueued, tx.queueJob(id)
}

// ReclaimJobs takes up to limit jobs from workers that have not renewed their claims, and returns them with the states
// that they have then: queued, cancelled, or dead when that was the last attempt.
func (tx *Tx) ReclaimJobs(limit int) ([]Job, error) {
	jobs, err := many(tx.ctx, tx.s, scanJob, `SELECT `+jobColumns+` FROM job WHERE state = 2 AND lease_until <= $1 ORDER BY lease_until LIMIT $2`+tx.d.skipLocked,
		toMicros(tx.clock()), limit)
	for i := range jobs {
		j := &jobs[i]
		if err != nil {
			return nil, err
		}
		j.Error = "worker " + j.Worker + " was lost while it ran"
		switch {
		case j.Cancel:
			j.State, err = tx.endJob(*j, JobCancelled)
		case j.Attempt >= j.MaxAttempts:
			j.State, err = tx.endJob(*j, JobDead)
		default:
			j.State, j.RunAt = JobQueued, tx.clock()
			if err = tx.restJob(*j); err == nil {
				err = tx.queueJob(j.ID)
			}
		}
	}
	return jobs, err
}

// restJob puts a job back among the scheduled. The run that comes is the one that was asked for meanwhile.
func (tx *Tx) restJob(j Job) error {
	p := j.Progress
	_, err := tx.exec(`UPDATE job SET state = 0, lease_until = 0, cancel = FALSE, again = FALSE, run_at = $2, attempt = $3, error = $4,
		done = $5, total = $6, note = $7, position = $8, ended_at = 0 WHERE id = $1`,
		j.ID, toMicros(j.RunAt), j.Attempt, j.Error, p.Done, p.Total, p.Note, p.Position)
	return err
}

// clockDoubt is by how much two readings of the database's clock may differ that were made by different replicas, or before
// and after one measured anew how far its own clock is from it.
const clockDoubt = 100 * time.Millisecond

// endJob ends a job, or begins it anew when it was asked for again.
func (tx *Tx) endJob(j Job, end JobState) (JobState, error) {
	if j.Again {
		j.Attempt, j.Progress = 0, JobProgress{}
		if err := tx.restJob(j); err != nil || j.RunAt.After(tx.clock().Add(clockDoubt)) {
			return JobScheduled, err
		}
		return JobQueued, tx.queueJob(j.ID)
	}
	p := j.Progress
	_, err := tx.exec(`UPDATE job SET state = $2, lease_until = 0, cancel = FALSE, error = $3, done = $4, total = $5, note = $6, position = $7, ended_at = $8
		WHERE id = $1`, j.ID, int16(end), j.Error, p.Done, p.Total, p.Note, p.Position, toMicros(tx.now))
	return end, err
}

// CancelJob ends a job that waits, and asks the worker of one that runs to stop: the worker learns it with its next
// renewal, and the job is cancelled when it has stopped, unless it succeeded before that. What was asked for again
// meanwhile is cancelled, too. It returns the job as it is then; one that had ended stays as it is. ErrNotFound when there
// is none.
func (tx *Tx) CancelJob(id int64) (Job, error) {
	j, err := tx.lockJob(id)
	if err != nil || j.State.Ended() {
		return j, err
	}
	if j.State != JobRunning {
		j.Again = false
		j.State, err = tx.endJob(j, JobCancelled)
		return j, err
	}
	j.Cancel, j.Again = true, false
	_, err = tx.exec(`UPDATE job SET cancel = TRUE, again = FALSE WHERE id = $1`, id)
	return j, err
}

// RetryJob queues a job that is dead, cancelled or waits for its time, with all its attempts before it; one that is
// queued or runs stays as it is. It returns the job as it is then. A Conflict says that the job has succeeded, or that
// another one does its work. ErrNotFound when there is none.
func (tx *Tx) RetryJob(id int64) (Job, error) {
	j, err := tx.lockJob(id)
	if err != nil || j.State == JobQueued || j.State == JobRunning {
		return j, err
	}
	if j.State == JobSucceeded {
		return j, fault.New(fault.Conflict, fault.Unknown, "job %d has succeeded; there is nothing to retry", id)
	}
	if j.State.Ended() && j.Key != "" {
		other, err := one(tx.ctx, tx.s, column[int64], `SELECT id FROM job WHERE kind = $1 AND dedupe = $2 AND dedupe <> '' AND state <= 2`, j.Kind, j.Key)
		if err == nil {
			return j, fault.New(fault.Conflict, fault.Unknown, "job %d cannot be retried; job %d does its work", id, other)
		}
		if !errors.Is(err, ErrNotFound) {
			return j, err
		}
	}
	j.State, j.RunAt, j.Attempt, j.EndedAt = JobQueued, tx.clock(), 0, time.Time{}
	if err := tx.restJob(j); err != nil {
		return j, err
	}
	return j, tx.queueJob(id)
}

func (tx *Tx) lockJob(id int64) (Job, error) {
	return one(tx.ctx, tx.s, scanJob, `SELECT `+jobColumns+` FROM job WHERE id = $1`+tx.d.forUpdate, id)
}

// ExpireJobs ends all claims: of a process that has died, on a database that has only one.
func (tx *Tx) ExpireJobs() error {
	_, err := tx.exec(`UPDATE job SET lease_until = 1 WHERE state = 2 AND lease_until > 1`)
	return err
}

// EnsureSchedule records a schedule that is due next at the time, or keeps when it is due if it is known with this spec.
// It returns when it is due.
func (tx *Tx) EnsureSchedule(name, spec string, next time.Time) (time.Time, error) {
	at, err := one(tx.ctx, tx.s, column[int64], `INSERT INTO job_schedule (name, spec, next_at) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET next_at = CASE WHEN job_schedule.spec = excluded.spec THEN job_schedule.next_at ELSE excluded.next_at END,
			spec = excluded.spec RETURNING next_at`, name, spec, toMicros(next))
	return time.UnixMicro(at).UTC(), err
}

// Schedule is when a schedule is due next, or ErrNotFound.
func (r *Reads) Schedule(ctx context.Context, name string) (time.Time, error) {
	at, err := one(ctx, r.s, column[int64], `SELECT next_at FROM job_schedule WHERE name = $1`, name)
	return time.UnixMicro(at).UTC(), err
}

// AdvanceSchedule moves a schedule from the time at which it was due, which has come by the database's clock, to the
// next. moved is false when another replica did so, or the time has not come.
func (tx *Tx) AdvanceSchedule(name string, due, next time.Time) (moved bool, err error) {
	n, err := tx.exec(`UPDATE job_schedule SET next_at = $3, last_at = $4 WHERE name = $1 AND next_at = $2 AND next_at <= $4`,
		name, toMicros(due), toMicros(next), toMicros(tx.clock()))
	return n == 1, err
}

// DatabaseNow is the time of the transaction by the database's clock: what RunAt of jobs and leases are compared with.
func (tx *Tx) DatabaseNow() time.Time { return tx.clock() }
