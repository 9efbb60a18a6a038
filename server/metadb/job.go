package metadb

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// The queue of background work. What is done with it is in the room job; this is its rows.
//
// A job that is not due is scheduled; when its time has come somebody makes it queued (QueueDueJobs) and gives it its
// turn: one behind the last of its project, or the turn of whoever is first, when its project has none in the queue. So
// projects alternate, however many jobs each has, and the next job of a kind is the first entry of an index. Jobs of one
// project that many transactions enqueue at the same moment may get the same turn.
//
// Who claims a job holds it for a time, by the database's clock, and extends that while it works. When it does not, the
// job goes to somebody else (ReclaimJobs). The token of a claim is in every statement of its worker, so a worker that
// lost its job changes nothing any more, whatever it and its clock believe.

// JobState is where a job is in its life.
type JobState int16

// The states. The first three are live, the others are ends.
const (
	JobScheduled JobState = iota // not due yet: asked for later, or waiting to be tried again
	JobQueued                    // due
	JobRunning
	JobSucceeded
	JobDead // gave up after its last attempt; an administrator may retry it
	JobCancelled
)

// JobStates are all states, in their order.
func JobStates() []JobState {
	return []JobState{JobScheduled, JobQueued, JobRunning, JobSucceeded, JobDead, JobCancelled}
}

// String is the word that people read.
func (s JobState) String() string {
	names := []string{"scheduled", "queued", "running", "succeeded", "dead", "cancelled"}
	if s < 0 || int(s) >= len(names) {
		return "state " + strconv.Itoa(int(s))
	}
	return names[s]
}

// Ended says that the job will not run any more unless somebody retries it.
func (s JobState) Ended() bool { return s >= JobSucceeded }

// Job is a piece of background work.
type Job struct {
	ID       int64
	Kind     string
	Key      string // at most one live job of a kind has it; "" for no such limit
	Project  string // whose turn it takes; "" for the registry's own work
	Priority int    // smaller runs first, within a kind; 0 is usual
	Args     string // JSON
	State    JobState
	RunAt    time.Time // not before; of a running job that is asked for again, of the next run
	Attempt  int       // claims so far
	// MaxAttempts is after how many failed attempts it is dead.
	MaxAttempts int
	Worker      string // who has it, or had it last
	Token       int64  // of the last claim
	LeaseUntil  time.Time
	Cancel      bool // its worker is asked to stop
	Again       bool // to be run again after this run
	Progress    JobProgress
	Error       string // of the last attempt that failed
	CreatedAt   time.Time
	StartedAt   time.Time // of the last attempt
	EndedAt     time.Time // zero while it is live
}

// JobProgress is how far a job is, in units of its kind.
type JobProgress struct {
	Done, Total int64 // Total is 0 while it is not known
	Note        string
	Position    string // from where another worker continues; the kind's own format
}

const jobColumns = `id, kind, dedupe, project, priority, args, state, run_at, attempt, max_attempts, worker, token, lease_until,
	cancel, again, done, total, note, position, error, created_at, started_at, ended_at`

func scanJob(rows *sql.Rows, j *Job) error {
	return rows.Scan(&j.ID, &j.Kind, &j.Key, &j.Project, &j.Priority, &j.Args, &j.State, micros{&j.RunAt}, &j.Attempt, &j.MaxAttempts,
		&j.Worker, &j.Token, micros{&j.LeaseUntil}, &j.Cancel, &j.Again, &j.Progress.Done, &j.Progress.Total, &j.Progress.Note,
		&j.Progress.Position, &j.Error, micros{&j.CreatedAt}, micros{&j.StartedAt}, micros{&j.EndedAt})
}

// NewJob is a job to be enqueued.
type NewJob struct {
	Kind, Key, Project string
	Priority           int
	Args               string
	RunAt              time.Time // zero is now
	MaxAttempts        int       // at least 1
	// NotAgain leaves a job of this key that runs at this moment as it is.
	NotAgain bool
}

// EnqueueJob adds a job, which exists when the transaction commits, and returns its number. When a live job has its kind
// and key none is added, and the number is that one's, which gets the new arguments:
//
//   - a queued one is as good as the new one;
//   - a scheduled one runs at the earlier of both times, but one that waits to be tried again waits on;
//   - a running one runs again when this run has ended, because it may have looked already at what has changed since.
func (tx *Tx) EnqueueJob(n NewJob) (id int64, err error) {
	now := toMicros(tx.clock())
	at := now
	if !n.RunAt.IsZero() {
		at = toMicros(n.RunAt)
	}
	type row struct {
		id, attempt, at int64
		state           JobState
	}
	r, err := one(tx.ctx, tx.s, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.id, &r.state, &r.attempt, &r.at) },
		`INSERT INTO job (kind, dedupe, project, priority, args, run_at, max_attempts, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (kind, dedupe) WHERE dedupe <> '' AND state <= 2 DO UPDATE SET
			args = excluded.args, again = (job.state = 2),
			run_at = CASE
				WHEN job.state = 2 AND (NOT job.again OR excluded.run_at < job.run_at) THEN excluded.run_at
				WHEN job.state = 0 AND job.attempt = 0 AND excluded.run_at < job.run_at THEN excluded.run_at
				ELSE job.run_at END
		WHERE job.state <> 2 OR NOT $9
		RETURNING id, state, attempt, run_at`,
		n.Kind, n.Key, n.Project, n.Priority, n.Args, at, max(n.MaxAttempts, 1), toMicros(tx.now), n.NotAgain)
	switch {
	case errors.Is(err, ErrNotFound):
		return one(tx.ctx, tx.s, column[int64], `SELECT id FROM job WHERE kind = $1 AND dedupe = $2 AND dedupe <> '' AND state <= 2`, n.Kind, n.Key)
	case err != nil:
		return 0, err
	case r.state == JobScheduled && r.attempt == 0 && r.at <= now:
		err = tx.queueJob(r.id)
	}
	return r.id, err
}

// queueJob gives a job its turn.
func (tx *Tx) queueJob(id int64) error {
	_, err := tx.exec(`UPDATE job SET state = 1, worker = '', lease_until = 0, turn = COALESCE(
			(SELECT MAX(r.turn) + 1 FROM job r WHERE r.kind = job.kind AND r.state = 1 AND r.priority = job.priority AND r.project = job.project),
			(SELECT MIN(r.turn) FROM job r WHERE r.kind = job.kind AND r.state = 1 AND r.priority = job.priority), 1)
		WHERE id = $1`, id)
	return err
}

// QueueDueJobs makes up to limit scheduled jobs whose time has come queued, and returns how many: call it again while
// that is limit.
func (tx *Tx) QueueDueJobs(limit int) (int, error) {
	ids, err := many(tx.ctx, tx.s, column[int64], `SELECT id FROM job WHERE state = 0 AND run_at <= $1 ORDER BY run_at, id LIMIT $2`+tx.d.skipLocked,
		toMicros(tx.clock()), limit)
	for _, id := range ids {
		if err == nil {
			err = tx.queueJob(id)
		}
	}
	return len(ids), err
}

// Job finds a job, or ErrNotFound.
func (r *Reads) Job(ctx context.Context, id int64) (Job, error) {
	return one(ctx, r.s, scanJob, `SELECT `+jobColumns+` FROM job WHERE id = $1`, id)
}

// JobFilter chooses jobs. The zero filter chooses all.
type JobFilter struct {
	States        []JobState // none is any
	Kind, Project string     // "" is any
	Oldest        bool       // first, and not the newest
}

// Jobs are up to limit jobs that the filter chooses, newest first, behind the job with the number behind; 0 is the beginning.
// Of several filters the database uses one index.
func (r *Reads) Jobs(ctx context.Context, f JobFilter, behind int64, limit int) ([]Job, error) {
	sign, order := "<", " DESC"
	if f.Oldest {
		sign, order = ">", ""
	} else if behind <= 0 {
		behind = math.MaxInt64
	}
	var b strings.Builder
	args := []any{behind, limit}
	b.WriteString(`SELECT ` + jobColumns + ` FROM job WHERE id ` + sign + ` $1`)
	for i, s := range f.States {
		b.WriteString([]string{" AND state IN (", ","}[min(i, 1)] + strconv.Itoa(int(s)))
	}
	if len(f.States) > 0 {
		b.WriteString(")")
	}
	for _, want := range [][2]string{{"kind", f.Kind}, {"project", f.Project}} {
		if want[1] != "" {
			args = append(args, want[1])
			b.WriteString(` AND ` + want[0] + ` = $` + strconv.Itoa(len(args)))
		}
	}
	return many(ctx, r.s, scanJob, b.String()+` ORDER BY id`+order+` LIMIT $2`, args...)
}

// JobCount is how many jobs of a kind are in a state, and since when the first of them has been due.
type JobCount struct {
	Kind  string
	State JobState
	N     int64
	Since time.Time // the smallest RunAt
}

func scanJobCount(rows *sql.Rows, c *JobCount) error {
	return rows.Scan(&c.Kind, &c.State, &c.N, micros{&c.Since})
}

// LiveJobs counts jobs that are not ended, by state and kind. It reads an index entry and a row of each.
func (r *Reads) LiveJobs(ctx context.Context) ([]JobCount, error) {
	return many(ctx, r.s, scanJobCount, `SELECT kind, state, COUNT(*), MIN(run_at) FROM job WHERE state IN (0, 1, 2) GROUP BY state, kind ORDER BY state, kind`)
}

// EndedJobs counts the jobs that have ended and are still kept, by state.
func (r *Reads) EndedJobs(ctx context.Context) ([]JobCount, error) {
	return many(ctx, r.s, scanJobCount, `SELECT '', state, COUNT(*), 0 FROM job WHERE state >= 3 GROUP BY state ORDER BY state`)
}

// JobOutlook is what a worker has to know before it takes anything.
type JobOutlook struct {
	Heads     []JobHead // of the kinds that have queued jobs
	NextRun   time.Time // of the first scheduled job; zero for none
	NextLease time.Time // the end of the first claim; zero for none
}

// JobHead is the first job in the queue of a kind.
type JobHead struct {
	Kind     string
	Priority int
}

// Outlook is what there is to do of these kinds: one statement, which reads the first entry of some indexes and no row.
func (r *Reads) Outlook(ctx context.Context, kinds []string) (o JobOutlook, err error) {
	var b strings.Builder
	b.WriteString(`SELECT -2, (SELECT run_at FROM job WHERE state = 0 AND run_at > 0 ORDER BY run_at LIMIT 1)
		UNION ALL SELECT -1, (SELECT lease_until FROM job WHERE state = 2 AND lease_until > 0 ORDER BY lease_until LIMIT 1)`)
	args := make([]any, len(kinds))
	for i, k := range kinds {
		args[i] = k
		b.WriteString(` UNION ALL SELECT ` + strconv.Itoa(i) + `, (SELECT priority FROM job WHERE kind = $` + strconv.Itoa(i+1) +
			` AND state = 1 ORDER BY priority, turn, id LIMIT 1)`)
	}
	err = r.s.query(ctx, func(rows *sql.Rows) error {
		var i int
		var v sql.NullInt64
		if err := rows.Scan(&i, &v); err != nil || !v.Valid {
			return err
		}
		switch i {
		case -2:
			o.NextRun = time.UnixMicro(v.Int64).UTC()
		case -1:
			o.NextLease = time.UnixMicro(v.Int64).UTC()
		default:
			o.Heads = append(o.Heads, JobHead{kinds[i], int(v.Int64)})
		}
		return nil
	}, b.String(), args...)
	return o, err
}

// TrimJobs removes up to limit jobs of an end state that ended before the time, oldest first, and returns how many: call
// it again while that is limit.
func (tx *Tx) TrimJobs(state JobState, before time.Time, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM job WHERE id IN (SELECT id FROM job WHERE state = `+strconv.Itoa(int(state))+`
		AND state >= 3 AND ended_at < $1 ORDER BY ended_at LIMIT $2)`, toMicros(before), limit)
	return int(n), err
}

// JobEnded is when the n-th youngest of the jobs of an end state ended, or ErrNotFound when there are not so many.
func (r *Reads) JobEnded(ctx context.Context, state JobState, n int) (time.Time, error) {
	return one(ctx, r.s, func(rows *sql.Rows, t *time.Time) error { return rows.Scan(micros{t}) },
		`SELECT ended_at FROM job WHERE state = `+strconv.Itoa(int(state))+` AND state >= 3 ORDER BY ended_at DESC LIMIT 1 OFFSET $1`, n)
}
