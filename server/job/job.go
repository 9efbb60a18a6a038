package job

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/server/metadb"
)

// Options configure a Service. DB, Now and Log are required; the zero value of another field means its default.
type Options struct {
	DB      *metadb.DB
	Worker  string // names this replica to people; need not be unique
	Workers int    // most jobs that run here at a time; default 8
	// Hold is for how long a claim holds without a renewal, so how long the jobs of a replica that died wait; default 30 s.
	Hold time.Duration
	// Poll is how often a replica looks for work that others have enqueued, give or take a fifth; default 5 s. When no
	// other process writes to the database it is a minute, because every enqueueing wakes the workers.
	Poll time.Duration
	// Drain is how long handlers have for their end when Run ends; default 10 s.
	Drain time.Duration
	// KeepSucceeded, KeepCancelled and KeepDead say how long ended jobs are kept; default a day, a week, thirty days.
	KeepSucceeded, KeepCancelled, KeepDead time.Duration
	// KeepMost bounds the ended jobs of each state; default 20,000.
	KeepMost int
	// Metrics is where registry_jobs_* are registered; nil for nowhere.
	Metrics prometheus.Registerer

	Now func() time.Time // the clock; see the package comment
	Log *slog.Logger
}

func (o Options) filled() Options {
	o.Worker = cmp.Or(o.Worker, "berthd")
	o.Workers = cmp.Or(o.Workers, 8)
	o.Hold = cmp.Or(o.Hold, 30*time.Second)
	if o.Poll == 0 {
		o.Poll = 5 * time.Second
		if o.DB.Alone() {
			o.Poll = time.Minute
		}
	}
	o.Drain = cmp.Or(o.Drain, 10*time.Second)
	o.KeepSucceeded = cmp.Or(o.KeepSucceeded, 24*time.Hour)
	o.KeepCancelled = cmp.Or(o.KeepCancelled, 7*24*time.Hour)
	o.KeepDead = cmp.Or(o.KeepDead, 30*24*time.Hour)
	o.KeepMost = cmp.Or(o.KeepMost, 20_000)
	return o
}

// Service is the queue of one replica. Make it with New, tell it what there is with Handle, Every and Loop, then Run it.
// Safe for concurrent use.
type Service struct {
	o       Options
	wake    chan struct{} // there may be something to do
	busy    chan struct{} // something has begun to run
	seconds *prometheus.HistogramVec

	mu        sync.Mutex
	started   bool
	kinds     map[string]*kind
	names     []string // of kinds, in the order in which they came
	schedules []*schedule
	loops     []loop
	running   map[int64]*Work
	rotation  int
}

// New returns a Service.
func New(o Options) (*Service, error) {
	s := &Service{
		o: o.filled(), wake: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		kinds: map[string]*kind{}, running: map[int64]*Work{},
	}
	if err := s.measure(); err != nil {
		return nil, err
	}
	return s, s.trimming()
}

// Kind says how jobs of a kind are run.
type Kind struct {
	Name string // such as "gc" or "webhook.deliver": letters, digits, '.', '_' and '-'
	// Parallel bounds how many of them run on this replica at a time; default 1.
	Parallel int
	// Everywhere bounds how many run at a time on all replicas together; 0 is no such bound.
	Everywhere int
	// MaxAttempts is after how many failures a job is dead; default 10, which with the default pauses is about three hours.
	MaxAttempts int
	// FirstPause is the pause after the first failure; default 10 s. It doubles up to MostPause, default 1 h, and is
	// lengthened or shortened by up to a quarter, so that what failed together is not tried together.
	FirstPause, MostPause time.Duration
	// Timeout ends the context of an attempt; 0 is never.
	Timeout time.Duration
}

// kind is a Kind with its handler.
type kind struct {
	Kind
	do func(ctx context.Context, w *Work) error
}

// Queue enqueues jobs of one kind with arguments of type A.
type Queue[A any] struct {
	s    *Service
	kind *kind
}

// Handle tells the Service how to run jobs of a kind, before Run. A is the type of their arguments, which are kept as
// JSON: fields may be added later, and must then mean for a missing value what was done before. Arguments that cannot be
// read make a job dead.
func Handle[A any](s *Service, k Kind, do func(ctx context.Context, w *Work, args A) error) (*Queue[A], error) {
	k.Parallel = cmp.Or(k.Parallel, 1)
	k.MaxAttempts = cmp.Or(k.MaxAttempts, 10)
	k.FirstPause = cmp.Or(k.FirstPause, 10*time.Second)
	k.MostPause = max(cmp.Or(k.MostPause, time.Hour), k.FirstPause)
	if k.Name == "" || strings.Trim(k.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return nil, fmt.Errorf("job: kind %q is not a name of letters, digits, '.', '_' and '-'", k.Name)
	}
	entry := &kind{Kind: k, do: func(ctx context.Context, w *Work) error {
		var args A
		if err := json.Unmarshal([]byte(w.job.Args), &args); err != nil {
			return Permanent(fmt.Errorf("arguments cannot be read: %w", err))
		}
		return do(ctx, w, args)
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return nil, errStarted
	}
	if s.kinds[k.Name] != nil {
		return nil, fmt.Errorf("job: kind %s has two handlers", k.Name)
	}
	s.kinds[k.Name] = entry
	s.names = append(s.names, k.Name)
	return &Queue[A]{s, entry}, nil
}

var errStarted = errors.New("job: the service runs already; handlers, schedules and loops are added before")

// Ask says when and for whom a job is to be run. The zero Ask is now, for the registry.
type Ask struct {
	// Key names the work: while a job of this kind and key is live, asking for another one adds none. A waiting one
	// serves both; one that runs is run again afterwards, since it may have looked already. See metadb.Tx.EnqueueJob.
	Key      string
	NotAgain bool   // a job of this key that runs serves this Ask, too
	Project  string // whose turn it takes
	Priority int    // smaller runs first; 0 is usual
	At       time.Time
}

// Enqueue adds a job that exists when the transaction commits, and returns its number, or that of the live one with its
// key. Workers of this process begin at once, those of other replicas with their next look.
func (q *Queue[A]) Enqueue(tx *metadb.Tx, args A, ask Ask) (int64, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(args); err != nil {
		return 0, fmt.Errorf("job: arguments of %s: %w", q.kind.Name, err)
	}
	id, err := tx.EnqueueJob(metadb.NewJob{
		Kind: q.kind.Name, Key: ask.Key, NotAgain: ask.NotAgain, Project: ask.Project, Priority: ask.Priority,
		Args: string(bytes.TrimSpace(b.Bytes())), RunAt: ask.At, MaxAttempts: q.kind.MaxAttempts,
	})
	if err != nil {
		return 0, fmt.Errorf("job: enqueue %s: %w", q.kind.Name, err)
	}
	tx.AfterCommit(q.s.Wake)
	return id, nil
}

// Wake has the workers of this process look for work now: something may have been enqueued. It does not wait.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
