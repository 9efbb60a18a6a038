package job_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// replicas are yards on one PostgreSQL database, each with connections of its own.
func replicas(t *testing.T, n int) []*yard {
	t.Helper()
	url := metadbtest.Postgres(t)
	all := make([]*yard, n)
	for i := range all {
		all[i] = &yard{T: t, db: openDB(t, metadb.Options{URL: url, MaxOpen: 4}), logs: slog.New(slog.DiscardHandler)}
	}
	return all
}

// quick is a service whose claims run out soon.
func (y *yard) quick(name string) *job.Service {
	return y.service(func(o *job.Options) {
		o.Worker, o.Hold, o.Poll, o.Drain = name, 600*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond
	})
}

// TestTakeover: a worker stands still in the middle of a job (its machine, or its network), another takes over, and what
// the first one does when it comes to again changes nothing.
func TestTakeover(t *testing.T) {
	y := replicas(t, 2)
	frozen := make(chan struct{})
	began := make(chan metadb.Job, 1)
	var writes, late atomic.Int64
	dead := job.Kind{Name: "k"}

	// The first replica claims as a worker does, and never renews: it hangs.
	q := handle(y[0], y[0].quick("first"), dead, func(context.Context, *job.Work, args) error { return nil })
	id := enqueue(y[0], q, args{"x"}, job.Ask{})
	go func() {
		var jobs []metadb.Job
		if err := y[0].db.Update(context.Background(), func(tx *metadb.Tx) (err error) {
			jobs, err = tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: "first", Limit: 1, Hold: 600 * time.Millisecond})
			return err
		}); err != nil || len(jobs) != 1 {
			t.Errorf("%v, %v", jobs, err)
		}
		if err := y[0].db.UpdateSoft(context.Background(), func(tx *metadb.Tx) error {
			_, err := tx.RenewJob(id, jobs[0].Token, 600*time.Millisecond, metadb.JobProgress{Position: "40%"})
			return err
		}); err != nil {
			t.Error(err)
		}
		began <- jobs[0]
	}()
	old := <-began
	second := y[1].quick("second")
	handle(y[1], second, dead, func(ctx context.Context, w *job.Work, _ args) error {
		if w.Position() != "40%" || w.Attempt() != 2 {
			t.Errorf("took over at %q in attempt %d", w.Position(), w.Attempt())
		}
		<-frozen
		return w.Update(ctx, func(tx *metadb.Tx) error { writes.Add(1); return tx.PutSetting("effect", "second") })
	})
	start := time.Now()
	y[1].run(second)
	y[1].until("taken over", func() bool { j := y[1].job(id); return j.Worker == "second" && j.State == metadb.JobRunning })
	t.Logf("taken over %s after the start of the second replica, with claims of 600 ms", time.Since(start).Round(time.Millisecond))
	for what, f := range map[string]func(tx *metadb.Tx) error{
		"its effect": func(tx *metadb.Tx) error {
			if err := tx.HoldJob(id, old.Token); err != nil {
				return err
			}
			late.Add(1)
			return tx.PutSetting("effect", "first")
		},
		"its end": func(tx *metadb.Tx) error { _, err := tx.SucceedJob(id, old.Token, metadb.JobProgress{}); return err },
		"its progress": func(tx *metadb.Tx) error {
			_, err := tx.RenewJob(id, old.Token, time.Hour, metadb.JobProgress{Done: 1})
			return err
		},
	} {
		if err := y[0].db.Update(t.Context(), f); !errors.Is(err, metadb.ErrLost) {
			t.Errorf("%s of the first: %v", what, err)
		}
	}
	close(frozen)
	j := y[1].untilState(id, metadb.JobSucceeded)
	if v, err := y[1].db.Setting(t.Context(), "effect"); v != "second" || err != nil || late.Load() != 0 || writes.Load() != 1 || j.Attempt != 2 {
		t.Errorf("effect %q, %v, by the first %d, %+v", v, err, late.Load(), j)
	}
}

// TestHandover: a replica that is stopped returns its job, and another continues without waiting for the claim to run out.
func TestHandover(t *testing.T) {
	y := replicas(t, 2)
	work := func(finish bool) func(context.Context, *job.Work, args) error {
		return func(ctx context.Context, w *job.Work, _ args) error {
			if !finish {
				w.Save("half")
				<-ctx.Done()
				return ctx.Err()
			}
			if w.Position() != "half" {
				t.Errorf("went on from %q", w.Position())
			}
			return nil
		}
	}
	long := func(o *job.Options) { o.Hold, o.Poll = time.Hour, 50*time.Millisecond }
	first, second := y[0].service(long), y[1].service(long)
	q := handle(y[0], first, job.Kind{Name: "k"}, work(false))
	handle(y[1], second, job.Kind{Name: "k"}, work(true))
	id := enqueue(y[0], q, args{}, job.Ask{})
	stop := y[0].run(first)
	y[0].untilState(id, metadb.JobRunning)
	y[1].run(second)
	stop()
	if j := y[1].untilState(id, metadb.JobSucceeded); j.Attempt != 1 {
		t.Errorf("%+v", j)
	}
}

// TestStorm: replicas come and go, stopped or killed, while jobs are done. Every job has its effect, and each effect once.
func TestStorm(t *testing.T) {
	y := replicas(t, 3)
	const jobs = 150
	var ran, lost atomic.Int64
	do := func(y *yard) func(context.Context, *job.Work, args) error {
		return func(ctx context.Context, w *job.Work, a args) error {
			ran.Add(1)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
			if ran.Load()%9 == 0 {
				return errors.New("now and then")
			}
			err := y.db.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error { // a worker that does not listen
				if err := w.SucceedIn(tx); err != nil {
					return err
				}
				// A second effect of one job is a duplicate key.
				return tx.AddSigningKey(metadb.SigningKey{ID: a.Name, Algorithm: "x", Private: []byte{1}})
			})
			if errors.Is(err, metadb.ErrLost) {
				lost.Add(1)
			}
			return err
		}
	}
	kind := job.Kind{Name: "k", Parallel: 4, MaxAttempts: 1000, FirstPause: 10 * time.Millisecond, MostPause: 50 * time.Millisecond}
	seed := handle(y[0], y[0].quick("seed"), kind, do(y[0]))
	for i := range jobs {
		enqueue(y[0], seed, args{fmt.Sprint("job ", i)}, job.Ask{Project: fmt.Sprint(i % 5), Key: fmt.Sprint(i)})
	}
	ctx, done := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range y {
		all.Go(func() {
			for life := 0; ctx.Err() == nil; life++ {
				s := y[i].quick(fmt.Sprintf("replica %d life %d", i, life))
				handle(y[i], s, kind, do(y[i]))
				life, end := context.WithTimeout(ctx, time.Duration(150+100*i)*time.Millisecond)
				_ = s.Run(life)
				end()
			}
		})
	}
	// A replica that dies again and again with jobs in hand.
	all.Go(func() {
		for ctx.Err() == nil {
			_ = y[0].db.Update(ctx, func(tx *metadb.Tx) error {
				_, err := tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: "dying", Limit: 2, Hold: 300 * time.Millisecond})
				return err
			})
			select {
			case <-ctx.Done():
			case <-time.After(70 * time.Millisecond):
			}
		}
	})
	y[0].until("all jobs done", func() bool {
		live, err := y[0].db.LiveJobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, c := range live {
			if c.Kind == "k" {
				n += c.N
			}
		}
		return n == 0
	})
	done()
	all.Wait()
	keys, err := y[0].db.SigningKeys(t.Context())
	if err != nil || len(keys) != jobs {
		t.Errorf("%d effects of %d jobs, %v", len(keys), jobs, err)
	}
	rows, err := y[0].db.Jobs(t.Context(), metadb.JobFilter{Kind: "k"}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range rows {
		if j.State != metadb.JobSucceeded {
			t.Errorf("%+v", j)
		}
	}
	t.Logf("%d attempts for %d jobs, %d of them by workers that had lost theirs", ran.Load(), jobs, lost.Load())
}

// TestScheduleOfReplicas: however many replicas there are, a tick is one run.
func TestScheduleOfReplicas(t *testing.T) {
	y := replicas(t, 3)
	var ran atomic.Int64
	start := time.Now()
	for i := range y {
		s := y[i].quick(fmt.Sprint(i))
		q := handle(y[i], s, job.Kind{Name: "k"}, func(context.Context, *job.Work, args) error { ran.Add(1); return nil })
		if err := job.Every(q, "s", "@every 1s", args{}); err != nil {
			t.Fatal(err)
		}
		y[i].run(s)
	}
	y[0].until("three runs", func() bool { return ran.Load() >= 3 })
	if most := int64(time.Since(start)/time.Second) + 1; ran.Load() > most {
		t.Errorf("%d runs in %s", ran.Load(), time.Since(start))
	}
}

// TestLoop: a loop runs on one replica, goes on on another when that stops, and ends when its lease is lost.
func TestLoop(t *testing.T) {
	y := replicas(t, 2)
	var inside, most, turns atomic.Int64
	held := make(chan *job.Lease, 9)
	var services []*job.Service
	for i := range y {
		s := y[i].quick(fmt.Sprint(i))
		if err := s.Loop("l", func(ctx context.Context, only *job.Lease) error {
			most.Store(max(most.Load(), inside.Add(1)))
			turns.Add(1)
			held <- only
			<-ctx.Done()
			inside.Add(-1)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		services = append(services, s)
	}
	stop := y[0].run(services[0])
	first := <-held
	y[1].run(services[1])
	time.Sleep(time.Second) // longer than a lease
	if turns.Load() != 1 {
		t.Errorf("%d turns", turns.Load())
	}
	if err := y[0].db.Update(t.Context(), first.Hold); err != nil {
		t.Errorf("the holder: %v", err)
	}
	stop()
	second := <-held
	if err := y[0].db.Update(t.Context(), first.Hold); !errors.Is(err, metadb.ErrLost) {
		t.Errorf("who had it before: %v", err)
	}
	// It is taken away, as if this replica had stood still.
	if err := y[0].db.Update(t.Context(), func(tx *metadb.Tx) error {
		l, err := tx.Lease(t.Context(), "l")
		if err != nil {
			return err
		}
		if err := tx.EndLease(l); err != nil {
			return err
		}
		_, _, err = tx.TakeLease("l", "robber", 300*time.Millisecond)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	<-held // ended, and got it again after the robber
	if err := y[1].db.Update(t.Context(), second.Hold); !errors.Is(err, metadb.ErrLost) {
		t.Errorf("the turn before: %v", err)
	}
	if most.Load() != 1 {
		t.Errorf("%d at a time", most.Load())
	}
}
