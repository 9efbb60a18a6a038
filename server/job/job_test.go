package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// clock is a clock that tests move.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.at.Load()).UTC() }
func (c *clock) forward(d time.Duration) { c.at.Add(d.Microseconds()) }

// yard is a database and what works on it.
type yard struct {
	*testing.T
	db    *metadb.DB
	clock *clock // nil on PostgreSQL, whose own clock counts
	logs  *slog.Logger
}

func openDB(t *testing.T, o metadb.Options) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// newYard is SQLite with a clock that is moved.
func newYard(t *testing.T) *yard {
	t.Helper()
	c := newClock()
	return &yard{T: t, db: openDB(t, metadb.Options{Path: metadbtest.File(t), Now: c.now}), clock: c, logs: slog.New(slog.DiscardHandler)}
}

func (y *yard) service(change func(*job.Options)) *job.Service {
	y.Helper()
	o := job.Options{DB: y.db, Worker: "here", Log: y.logs, Now: time.Now}
	if y.clock != nil {
		o.Now = y.clock.now
	}
	if change != nil {
		change(&o)
	}
	s, err := job.New(o)
	if err != nil {
		y.Fatal(err)
	}
	return s
}

// run runs the service until the test ends, or the function that it returns is called.
func (y *yard) run(s *job.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					y.Error(err)
				}
			case <-time.After(30 * time.Second):
				y.Error("the service does not stop")
			}
		})
	}
	y.Cleanup(stop)
	return stop
}

func handle[A any](y *yard, s *job.Service, k job.Kind, do func(ctx context.Context, w *job.Work, args A) error) *job.Queue[A] {
	y.Helper()
	q, err := job.Handle(s, k, do)
	if err != nil {
		y.Fatal(err)
	}
	return q
}

func enqueue[A any](y *yard, q *job.Queue[A], args A, ask job.Ask) (id int64) {
	y.Helper()
	err := y.db.Update(y.Context(), func(tx *metadb.Tx) (err error) { id, err = q.Enqueue(tx, args, ask); return err })
	if err != nil {
		y.Fatal(err)
	}
	return id
}

// until waits for a condition.
func (y *yard) until(what string, ok func() bool) {
	y.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			y.Fatalf("after 20 seconds there is still not: %s", what)
		}
	}
}

func (y *yard) job(id int64) metadb.Job {
	y.Helper()
	j, err := y.db.Job(context.Background(), id)
	if err != nil {
		y.Fatal(err)
	}
	return j
}

func (y *yard) untilState(id int64, want metadb.JobState) metadb.Job {
	y.Helper()
	y.until(fmt.Sprintf("job %d %s", id, want), func() bool { return y.job(id).State == want })
	return y.job(id)
}

type args struct {
	Name string `json:"name"`
}

func TestRun(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	var got atomic.Value
	q := handle(y, s, job.Kind{Name: "k"}, func(_ context.Context, w *job.Work, a args) error {
		got.Store(fmt.Sprint(a.Name, " ", w.Attempt(), " ", w.Project()))
		w.Progress(3, 4, "almost")
		w.Save("there")
		return nil
	})
	before := enqueue(y, q, args{"<before>"}, job.Ask{Project: "p"})
	y.run(s)
	j := y.untilState(before, metadb.JobSucceeded)
	if got.Load() != "<before> 1 p" || j.Args != `{"name":"<before>"}` || j.Worker != "here" {
		t.Errorf("ran %v, %+v", got.Load(), j)
	}
	if j.Progress != (metadb.JobProgress{Done: 3, Total: 4, Note: "almost", Position: "there"}) {
		t.Errorf("progress: %+v", j.Progress)
	}
	start := time.Now()
	y.untilState(enqueue(y, q, args{"after"}, job.Ask{}), metadb.JobSucceeded)
	if took := time.Since(start); took > 5*time.Second { // the next look by itself is a minute away
		t.Errorf("a job that was enqueued here waited %s", took)
	}
}

// TestRetry: pauses double, within a quarter, and a job that fails each time dies with its last error. A retry gives it all
// attempts again.
func TestRetry(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	var mended atomic.Bool
	q := handle(y, s, job.Kind{Name: "k", MaxAttempts: 4, FirstPause: 10 * time.Second, MostPause: 30 * time.Second}, func(_ context.Context, w *job.Work, _ args) error {
		switch {
		case mended.Load():
			return nil
		case w.Attempt() == 2:
			panic("at the disco\x00")
		case w.Attempt() == 3:
			return job.RetryAfter(time.Hour, errors.New("ask later"))
		}
		return fmt.Errorf("attempt %d\x00\xff", w.Attempt())
	})
	id := enqueue(y, q, args{}, job.Ask{})
	y.run(s)
	for i, want := range []struct {
		pause time.Duration
		err   string
	}{{10 * time.Second, "attempt 1\uFFFD"}, {20 * time.Second, "the handler panicked: at the disco"}, {time.Hour, "ask later"}} {
		y.until("a failure", func() bool { j := y.job(id); return j.State == metadb.JobScheduled && j.Attempt == i+1 })
		j := y.job(id)
		pause := j.RunAt.Sub(y.clock.now())
		if pause < want.pause*3/4 || pause > want.pause*5/4 || j.Error != want.err {
			t.Errorf("after attempt %d: again in %s, %q; want %s, %q", i+1, pause, j.Error, want.pause, want.err)
		}
		y.clock.forward(pause - time.Millisecond)
		s.Wake()
		time.Sleep(20 * time.Millisecond)
		if n := y.job(id).Attempt; n != i+1 {
			t.Errorf("attempt %d before its time", n)
		}
		y.clock.forward(time.Millisecond)
		s.Wake()
	}
	if j := y.untilState(id, metadb.JobDead); j.Error != "attempt 4\uFFFD" || j.Attempt != 4 {
		t.Errorf("dead: %+v", j)
	}
	mended.Store(true)
	if _, err := s.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if j := y.untilState(id, metadb.JobSucceeded); j.Attempt != 1 || j.Error != "" {
		t.Errorf("retried: %+v", j)
	}
}

func TestPermanent(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	q := handle(y, s, job.Kind{Name: "k"}, func(context.Context, *job.Work, args) error {
		return fmt.Errorf("outer: %w", job.Permanent(errors.New("no such target")))
	})
	other := handle(y, s, job.Kind{Name: "numbers"}, func(context.Context, *job.Work, int) error { return nil })
	id := enqueue(y, q, args{}, job.Ask{})
	var unreadable int64
	if err := y.db.Update(t.Context(), func(tx *metadb.Tx) (err error) {
		unreadable, err = tx.EnqueueJob(metadb.NewJob{Kind: "numbers", Args: `"text"`, MaxAttempts: 9})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	fine := enqueue(y, other, 7, job.Ask{})
	y.run(s)
	if j := y.untilState(id, metadb.JobDead); j.Attempt != 1 || j.Error != "outer: no such target" {
		t.Errorf("%+v", j)
	}
	y.untilState(unreadable, metadb.JobDead)
	y.untilState(fine, metadb.JobSucceeded)
}

// TestTimeout: an attempt that takes too long is ended, and says so.
func TestTimeout(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	q := handle(y, s, job.Kind{Name: "k", Timeout: 10 * time.Millisecond, MaxAttempts: 1}, func(ctx context.Context, _ *job.Work, _ args) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	id := enqueue(y, q, args{}, job.Ask{})
	y.run(s)
	if j := y.untilState(id, metadb.JobDead); j.Error != "the attempt was ended after 10ms: "+job.ErrTimeout.Error() {
		t.Errorf("%q", j.Error)
	}
}

// TestBounds: no more of a kind, and in all, than is allowed, and a kind with many jobs does not keep others from it.
func TestBounds(t *testing.T) {
	y := newYard(t)
	s := y.service(func(o *job.Options) { o.Workers = 4 })
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	open := make(chan struct{})
	count := func(kind string, d int) {
		mu.Lock()
		defer mu.Unlock()
		for _, k := range []string{kind, "all"} {
			now[k] += d
			most[k] = max(most[k], now[k])
		}
	}
	var ids []int64
	for _, k := range []job.Kind{{Name: "one"}, {Name: "three", Parallel: 3}, {Name: "many", Parallel: 50}, {Name: "two", Parallel: 9, Everywhere: 2}} {
		q := handle(y, s, k, func(context.Context, *job.Work, args) error {
			count(k.Name, 1)
			<-open
			count(k.Name, -1)
			return nil
		})
		for range 20 {
			ids = append(ids, enqueue(y, q, args{}, job.Ask{}))
		}
	}
	y.run(s)
	y.until("four at work", func() bool { mu.Lock(); defer mu.Unlock(); return now["all"] == 4 })
	mu.Lock()
	if now["one"] != 1 || now["three"] != 1 || now["many"] != 1 || now["two"] != 1 {
		t.Errorf("four workers for four kinds do %v", now)
	}
	mu.Unlock()
	close(open)
	for _, id := range ids {
		y.untilState(id, metadb.JobSucceeded)
	}
	if most["one"] != 1 || most["three"] > 3 || most["two"] > 2 || most["all"] != 4 {
		t.Errorf("at most at a time: %v", most)
	}
}

// TestFairness: behind ten thousand jobs of one project, those of another are done next.
func TestFairness(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	var done atomic.Int64
	var mu sync.Mutex
	var small []int64
	q := handle(y, s, job.Kind{Name: "k", Parallel: 4}, func(_ context.Context, w *job.Work, _ args) error {
		n := done.Add(1)
		if w.Project() == "small" {
			mu.Lock()
			small = append(small, n)
			mu.Unlock()
		}
		return nil
	})
	const many = 10_000
	for range many / 1000 {
		if err := y.db.UpdateSoft(t.Context(), func(tx *metadb.Tx) error {
			for range 1000 {
				if _, err := q.Enqueue(tx, args{}, job.Ask{Project: "big"}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	var last int64
	for range 5 {
		last = enqueue(y, q, args{}, job.Ask{Project: "small"})
	}
	start := time.Now()
	stop := y.run(s)
	y.until("the small project's jobs done", func() bool { mu.Lock(); defer mu.Unlock(); return len(small) == 5 })
	took := time.Since(start)
	stop()
	y.untilState(last, metadb.JobSucceeded)
	t.Logf("the fifth job of the small project was done after %s, as number %v of %d (in all %d were done)", took, small, many, done.Load())
	if len(small) != 5 || slices.Max(small) > 20 {
		t.Errorf("the jobs of the small project were done as numbers %v", small)
	}
}

// TestCancel: a waiting job never runs; the handler of one that runs is told at once here, and by its renewal elsewhere.
func TestCancel(t *testing.T) {
	y := newYard(t)
	s := y.service(func(o *job.Options) { o.Hold = 3 * time.Second })
	began := make(chan struct{}, 9)
	var cause atomic.Value
	q := handle(y, s, job.Kind{Name: "k"}, func(ctx context.Context, _ *job.Work, _ args) error {
		began <- struct{}{}
		<-ctx.Done()
		cause.Store(context.Cause(ctx))
		return ctx.Err()
	})
	first := enqueue(y, q, args{}, job.Ask{})
	waiting := enqueue(y, q, args{}, job.Ask{})
	y.run(s)
	<-began
	if j, err := s.Cancel(t.Context(), waiting); err != nil || j.State != metadb.JobCancelled {
		t.Fatalf("%+v, %v", j, err)
	}
	if j, err := s.Cancel(t.Context(), first); err != nil || j.State != metadb.JobRunning || !j.Cancel {
		t.Fatalf("%+v, %v", j, err)
	}
	y.untilState(first, metadb.JobCancelled)
	if cause.Load() != job.ErrCancelled {
		t.Errorf("cause: %v", cause.Load())
	}
	remote := enqueue(y, q, args{}, job.Ask{})
	<-began
	elsewhere := y.service(nil) // has the row only
	if _, err := elsewhere.Cancel(t.Context(), remote); err != nil {
		t.Fatal(err)
	}
	y.clock.forward(1100 * time.Millisecond) // a third of Hold
	y.untilState(remote, metadb.JobCancelled)
	if y.job(waiting).Attempt != 0 {
		t.Error("a cancelled job ran")
	}
}

// TestDrain: a stop returns what is not finished, with its position and without costing an attempt, also from a handler
// that does not listen.
func TestDrain(t *testing.T) {
	y := newYard(t)
	s := y.service(func(o *job.Options) { o.Drain = 50 * time.Millisecond })
	began := make(chan struct{}, 9)
	deaf := make(chan struct{})
	work := func(listens bool) func(context.Context, *job.Work, args) error {
		return func(ctx context.Context, w *job.Work, _ args) error {
			w.Save("half")
			began <- struct{}{}
			if !listens {
				<-deaf
				return nil
			}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), job.ErrStopping) {
				t.Errorf("cause: %v", context.Cause(ctx))
			}
			return ctx.Err()
		}
	}
	polite := enqueue(y, handle(y, s, job.Kind{Name: "polite", MaxAttempts: 1}, work(true)), args{}, job.Ask{})
	rude := enqueue(y, handle(y, s, job.Kind{Name: "rude", MaxAttempts: 1}, work(false)), args{}, job.Ask{})
	stop := y.run(s)
	<-began
	<-began
	stop()
	for _, id := range []int64{polite, rude} {
		if j := y.job(id); j.State != metadb.JobQueued || j.Attempt != 0 || j.Progress.Position != "half" {
			t.Errorf("after the stop: %+v", j)
		}
	}
	next := y.service(nil)
	var positions sync.Map
	for _, kind := range []string{"polite", "rude"} {
		handle(y, next, job.Kind{Name: kind}, func(_ context.Context, w *job.Work, _ args) error {
			positions.Store(w.ID(), w.Position())
			return nil
		})
	}
	y.run(next)
	for _, id := range []int64{polite, rude} {
		y.untilState(id, metadb.JobSucceeded)
		if p, _ := positions.Load(id); p != "half" {
			t.Errorf("went on from %v", p)
		}
	}
	close(deaf) // its answer comes late, and must change nothing
	time.Sleep(20 * time.Millisecond)
	if j := y.job(rude); j.Token != 2 || j.State != metadb.JobSucceeded {
		t.Errorf("after the late answer: %+v", j)
	}
}

// TestSucceedIn: a job and its effect are one transaction.
func TestSucceedIn(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	q := handle(y, s, job.Kind{Name: "k", FirstPause: time.Millisecond}, func(ctx context.Context, w *job.Work, _ args) error {
		err := y.db.Update(ctx, func(tx *metadb.Tx) error {
			if err := w.SucceedIn(tx); err != nil {
				return err
			}
			return tx.PutSetting("effect", "1")
		})
		return errors.Join(err, errors.New("too late to fail"))
	})
	id := enqueue(y, q, args{}, job.Ask{})
	y.run(s)
	y.untilState(id, metadb.JobSucceeded)
	if v, err := y.db.Setting(t.Context(), "effect"); v != "1" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

// TestSchedule: one run per tick, missed ticks are one, and a restart changes nothing.
func TestSchedule(t *testing.T) {
	y := newYard(t)
	var ran atomic.Int64
	start := func() (*job.Service, func()) {
		s := y.service(nil)
		q := handle(y, s, job.Kind{Name: "k"}, func(context.Context, *job.Work, args) error { ran.Add(1); return nil })
		if err := job.Every(q, "nightly", "30 3 * * *", args{"x"}); err != nil {
			t.Fatal(err)
		}
		if err := job.Every(q, "nightly", "@daily", args{}); err == nil {
			t.Error("two schedules of one name")
		}
		if err := job.Every(q, "other", "every tuesday", args{}); err == nil {
			t.Error("a schedule that nobody understands")
		}
		return s, y.run(s)
	}
	due := func() time.Time {
		at, err := y.db.Schedule(t.Context(), "nightly")
		if err != nil {
			return time.Time{}
		}
		return at
	}
	s, stop := start()
	first := time.Date(2026, 3, 2, 3, 30, 0, 0, time.UTC)
	y.until("the first tick recorded", func() bool { return due().Equal(first) })
	y.clock.forward(first.Sub(y.clock.now()))
	s.Wake()
	y.until("a run", func() bool { return ran.Load() == 1 })
	if want := first.AddDate(0, 0, 1); !due().Equal(want) {
		t.Errorf("due next at %s, want %s", due(), want)
	}
	stop()
	y.clock.forward(5*24*time.Hour + time.Hour)
	s, _ = start()
	y.until("one run for all that were missed", func() bool { return ran.Load() == 2 })
	y.until("the next tick", func() bool { return due().Equal(time.Date(2026, 3, 8, 3, 30, 0, 0, time.UTC)) })
	for range 5 {
		s.Wake()
		time.Sleep(5 * time.Millisecond)
	}
	if ran.Load() != 2 {
		t.Errorf("%d runs", ran.Load())
	}
}

// TestTrim: ended jobs do not stay for ever, and not too many.
func TestTrim(t *testing.T) {
	y := newYard(t)
	s := y.service(func(o *job.Options) { o.KeepMost, o.KeepSucceeded = 10, 2*time.Hour })
	q := handle(y, s, job.Kind{Name: "k", Parallel: 8}, func(context.Context, *job.Work, args) error { return nil })
	y.run(s)
	ended := func() (n int64) {
		_, counts, err := s.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			n += c.N
		}
		return n
	}
	for range 30 {
		y.untilState(enqueue(y, q, args{}, job.Ask{}), metadb.JobSucceeded)
		y.clock.forward(time.Second)
	}
	y.until("thirty jobs done", func() bool { return ended() == 30 })
	y.clock.forward(time.Hour)
	s.Wake()
	y.until("no more than ten, and the trimming itself", func() bool { return ended() == 11 })
	y.clock.forward(3 * time.Hour)
	s.Wake()
	y.until("the old gone", func() bool { return ended() <= 2 })
}

// TestCrash: on a database of one process, what ran when that died is begun again at once.
func TestCrash(t *testing.T) {
	y := newYard(t)
	s := y.service(nil)
	q := handle(y, s, job.Kind{Name: "k"}, func(context.Context, *job.Work, args) error { return nil })
	id := enqueue(y, q, args{}, job.Ask{})
	if err := y.db.Update(t.Context(), func(tx *metadb.Tx) error { // by a process that is no more
		_, err := tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: "dead", Limit: 1, Hold: time.Hour})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	y.run(s)
	if j := y.untilState(id, metadb.JobSucceeded); j.Attempt != 2 {
		t.Errorf("%+v", j)
	}
}

func TestMetrics(t *testing.T) {
	y := newYard(t)
	reg := prometheus.NewRegistry()
	s := y.service(func(o *job.Options) { o.Metrics = reg })
	q := handle(y, s, job.Kind{Name: "k", MaxAttempts: 1}, func(_ context.Context, _ *job.Work, a args) error {
		if a.Name == "bad" {
			return errors.New("no")
		}
		return nil
	})
	value := func(name, outcome string) float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if f.GetName() != name || labels["kind"] != "k" || labels["outcome"] != outcome {
					continue
				}
				if h := m.GetHistogram(); h != nil {
					return float64(h.GetSampleCount())
				}
				return m.GetGauge().GetValue()
			}
		}
		return -1
	}
	if v := value("registry_jobs_queued", ""); v != 0 {
		t.Errorf("an empty queue is %v", v)
	}
	enqueue(y, q, args{"good"}, job.Ask{})
	bad := enqueue(y, q, args{"bad"}, job.Ask{})
	enqueue(y, q, args{}, job.Ask{At: y.clock.now().Add(time.Hour)})
	y.clock.forward(time.Minute)
	for name, want := range map[string]float64{"queued": 2, "scheduled": 1, "running": 0, "oldest_queued_age_seconds": 60} {
		if v := value("registry_jobs_"+name, ""); v != want {
			t.Errorf("%s: %v, want %v", name, v, want)
		}
	}
	y.run(s)
	y.untilState(bad, metadb.JobDead)
	y.until("both counted", func() bool {
		return value("registry_jobs_seconds", "succeeded") == 1 && value("registry_jobs_seconds", "dead") == 1
	})
}

// TestIdle: who has nothing to do writes nothing, however often it looks.
func TestIdle(t *testing.T) {
	path := metadbtest.File(t)
	y := &yard{T: t, db: openDB(t, metadb.Options{Path: path}), logs: slog.New(slog.DiscardHandler)}
	s := y.service(func(o *job.Options) { o.Poll = time.Millisecond })
	q := handle(y, s, job.Kind{Name: "k"}, func(context.Context, *job.Work, args) error { return nil })
	enqueue(y, q, args{}, job.Ask{At: time.Now().Add(time.Hour)})
	y.run(s)
	y.until("the schedules recorded", func() bool { _, err := y.db.Schedule(t.Context(), "job.trim"); return err == nil })
	time.Sleep(300 * time.Millisecond)
	written := func() time.Time {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	before := written()
	for range 50 {
		s.Wake()
		time.Sleep(10 * time.Millisecond)
	}
	if !written().Equal(before) {
		t.Error("an idle queue writes")
	}
	enqueue(y, q, args{}, job.Ask{})
	if written().Equal(before) {
		t.Error("the test does not see writes")
	}
	const looks = 500
	start := time.Now()
	for range looks {
		if _, err := y.db.Outlook(t.Context(), []string{"k", "l", "m", "n", "o", "p"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("a look at six kinds takes %s", time.Since(start)/looks)
}
