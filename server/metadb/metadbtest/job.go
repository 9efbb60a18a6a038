package metadbtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

func enqueue(t testing.TB, db *metadb.DB, n metadb.NewJob) (id int64) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) (err error) { id, err = tx.EnqueueJob(n); return err })
	return id
}

// take claims up to n jobs; a negative hold is a claim that has run out already.
func take(t testing.TB, db *metadb.DB, kind string, n int, hold time.Duration) (jobs []metadb.Job) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) (err error) {
		jobs, err = tx.ClaimJobs(metadb.Claim{Kind: kind, Worker: "w", Limit: n, Hold: hold})
		return err
	})
	return jobs
}

func takeOne(t testing.TB, db *metadb.DB, kind string) metadb.Job {
	t.Helper()
	jobs := take(t, db, kind, 1, time.Minute)
	if len(jobs) != 1 {
		t.Fatalf("claimed %d jobs of kind %s, want 1", len(jobs), kind)
	}
	return jobs[0]
}

func testJobs(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	id := enqueue(t, db, metadb.NewJob{Kind: "k", Project: "p", Args: `{"a":1}`, MaxAttempts: 2})
	j := get[metadb.Job](t)(db.Job(ctx, id))
	if j.State != metadb.JobQueued || j.Args != `{"a":1}` || j.Project != "p" || j.Attempt != 0 || j.CreatedAt.IsZero() || !j.EndedAt.IsZero() {
		t.Fatalf("enqueued: %+v", j)
	}
	equal(t, "of another kind", len(take(t, db, "other", 9, time.Minute)), 0)
	j = takeOne(t, db, "k")
	if j.ID != id || j.State != metadb.JobRunning || j.Attempt != 1 || j.Token != 1 || j.Worker != "w" || j.StartedAt.IsZero() || !j.LeaseUntil.After(j.StartedAt) {
		t.Fatalf("claimed: %+v", j)
	}
	equal(t, "claimed twice", len(take(t, db, "k", 9, time.Minute)), 0)
	p := metadb.JobProgress{Done: 3, Total: 7, Note: "layer 3", Position: "sha256:x"}
	update(t, db, func(tx *metadb.Tx) error {
		cancel, err := tx.RenewJob(id, 1, time.Hour, p)
		equal(t, "asked to stop", cancel, false)
		return err
	})
	now := get[metadb.Job](t)(db.Job(ctx, id))
	if now.Progress != p || !now.LeaseUntil.After(j.LeaseUntil) {
		t.Fatalf("renewed: %+v", now)
	}
	update(t, db, func(tx *metadb.Tx) error {
		s, err := tx.FailJob(id, 1, metadb.JobFailure{Error: "no", RetryIn: time.Hour, Progress: p})
		equal(t, "failed once", s, metadb.JobScheduled)
		return err
	})
	equal(t, "before its time", len(take(t, db, "k", 9, time.Minute)), 0)
	update(t, db, func(tx *metadb.Tx) error {
		n, err := tx.QueueDueJobs(10)
		equal(t, "due", n, 0)
		if err == nil {
			j, err = tx.RetryJob(id)
			equal(t, "retried", j.State, metadb.JobQueued)
		}
		return err
	})
	for attempt, want := range []metadb.JobState{metadb.JobScheduled, metadb.JobDead} {
		j = takeOne(t, db, "k")
		equal(t, "attempt", j.Attempt, attempt+1)
		equal(t, "position", j.Progress.Position, "sha256:x")
		update(t, db, func(tx *metadb.Tx) error {
			s, err := tx.FailJob(id, j.Token, metadb.JobFailure{Error: "no again", RetryIn: -time.Second, Progress: j.Progress})
			equal(t, "state", s, want)
			if err == nil {
				_, err = tx.QueueDueJobs(10)
			}
			return err
		})
	}
	j = get[metadb.Job](t)(db.Job(ctx, id))
	if j.State != metadb.JobDead || j.Error != "no again" || j.EndedAt.IsZero() {
		t.Fatalf("dead: %+v", j)
	}
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.RetryJob(id); return err })
	j = takeOne(t, db, "k")
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.SucceedJob(id, j.Token, p); return err })
	j = get[metadb.Job](t)(db.Job(ctx, id))
	if j.State != metadb.JobSucceeded || j.Error != "" || j.Progress != p {
		t.Fatalf("succeeded: %+v", j)
	}
	if err := db.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.RetryJob(id); return err }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("retry of what succeeded: %v", err)
	}
	for what, f := range map[string]func(tx *metadb.Tx, id int64) (metadb.Job, error){"cancel": (*metadb.Tx).CancelJob, "retry": (*metadb.Tx).RetryJob} {
		wantErr(t, what+" of no job", db.Update(ctx, func(tx *metadb.Tx) error { _, err := f(tx, id+1000); return err }), metadb.ErrNotFound)
	}
}

// testJobRollback: a job is there exactly when the change that caused it is.
func testJobRollback(t *testing.T, db *metadb.DB) {
	refused := errors.New("refused")
	wantErr(t, "the change", db.Update(t.Context(), func(tx *metadb.Tx) error {
		if _, err := tx.EnqueueJob(metadb.NewJob{Kind: "k", Args: "{}"}); err != nil {
			return err
		}
		return refused
	}), refused)
	equal(t, "jobs", len(get[[]metadb.Job](t)(db.Jobs(t.Context(), metadb.JobFilter{}, 0, 10))), 0)
}

// testJobFencing: a worker that lost its job writes nothing.
func testJobFencing(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	id := enqueue(t, db, metadb.NewJob{Kind: "k", Args: "{}", MaxAttempts: 2})
	old := take(t, db, "k", 1, -time.Second)[0]
	reclaim := func(want metadb.JobState) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) error {
			jobs, err := tx.ReclaimJobs(10)
			if len(jobs) != 1 || jobs[0].ID != id || jobs[0].State != want {
				t.Fatalf("reclaimed %+v", jobs)
			}
			return err
		})
	}
	reclaim(metadb.JobQueued)
	stale := func() {
		t.Helper()
		for what, f := range map[string]func(tx *metadb.Tx) error{
			"renew": func(tx *metadb.Tx) error {
				_, err := tx.RenewJob(id, old.Token, time.Hour, metadb.JobProgress{Done: 9})
				return err
			},
			"hold":    func(tx *metadb.Tx) error { return tx.HoldJob(id, old.Token) },
			"succeed": func(tx *metadb.Tx) error { _, err := tx.SucceedJob(id, old.Token, metadb.JobProgress{}); return err },
			"fail":    func(tx *metadb.Tx) error { _, err := tx.FailJob(id, old.Token, metadb.JobFailure{}); return err },
			"return":  func(tx *metadb.Tx) error { _, err := tx.ReturnJob(id, old.Token, metadb.JobProgress{}); return err },
		} {
			before := get[metadb.Job](t)(db.Job(ctx, id))
			wantErr(t, what+" by who lost it", db.Update(ctx, f), metadb.ErrLost)
			equal(t, "after "+what, get[metadb.Job](t)(db.Job(ctx, id)), before)
		}
	}
	stale() // nobody has it
	next := take(t, db, "k", 1, -time.Second)[0]
	equal(t, "token", next.Token, old.Token+1)
	stale() // another has it
	reclaim(metadb.JobDead)
	stale()
	j := get[metadb.Job](t)(db.Job(ctx, id))
	equal(t, "error", j.Error, "worker w was lost while it ran")
}

func testJobReturn(t *testing.T, db *metadb.DB) {
	id := enqueue(t, db, metadb.NewJob{Kind: "k", Args: "{}", MaxAttempts: 1})
	for range 3 {
		j := takeOne(t, db, "k")
		update(t, db, func(tx *metadb.Tx) error {
			s, err := tx.ReturnJob(id, j.Token, metadb.JobProgress{Position: "here"})
			equal(t, "state", s, metadb.JobQueued)
			return err
		})
	}
	j := takeOne(t, db, "k")
	equal(t, "attempt", j.Attempt, 1)
	equal(t, "position", j.Progress.Position, "here")
	update(t, db, func(tx *metadb.Tx) error { return tx.ExpireJobs() })
	update(t, db, func(tx *metadb.Tx) error {
		jobs, err := tx.ReclaimJobs(10)
		equal(t, "left by a process that died", len(jobs), 1)
		return err
	})
}

func testJobDedupe(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	n := metadb.NewJob{Kind: "k", Key: "x", Args: "1"}
	id := enqueue(t, db, n)
	n.Args = "2"
	equal(t, "asked twice", enqueue(t, db, n), id)
	equal(t, "arguments", get[metadb.Job](t)(db.Job(ctx, id)).Args, "2")
	other := n
	other.Kind = "l"
	if enqueue(t, db, other) == id {
		t.Fatal("a key of another kind is the same")
	}
	j := takeOne(t, db, "k")
	n.NotAgain, n.Args = true, "3"
	equal(t, "not again", enqueue(t, db, n), id)
	equal(t, "as it was", get[metadb.Job](t)(db.Job(ctx, id)), j)
	n.NotAgain = false
	equal(t, "again", enqueue(t, db, n), id)
	update(t, db, func(tx *metadb.Tx) error {
		s, err := tx.SucceedJob(id, j.Token, metadb.JobProgress{Done: 1})
		equal(t, "after a run during which it was asked for", s, metadb.JobQueued)
		return err
	})
	j = takeOne(t, db, "k")
	if j.ID != id || j.Attempt != 1 || j.Args != "3" || j.Again || j.Progress.Done != 0 {
		t.Fatalf("the run after: %+v", j)
	}
	n.RunAt = time.Now().Add(time.Hour)
	enqueue(t, db, n)
	update(t, db, func(tx *metadb.Tx) error {
		s, err := tx.SucceedJob(id, j.Token, metadb.JobProgress{})
		equal(t, "asked for later", s, metadb.JobScheduled)
		return err
	})
	n.RunAt = time.Time{}
	enqueue(t, db, n) // sooner
	j = takeOne(t, db, "k")
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.SucceedJob(id, j.Token, metadb.JobProgress{})
		return err
	})
	second := enqueue(t, db, n)
	if second == id {
		t.Fatal("a job that has ended was taken for a live one")
	}
	j = takeOne(t, db, "k")
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.FailJob(second, j.Token, metadb.JobFailure{Error: "no", Final: true})
		return err
	})
	n.MaxAttempts = 2
	third := enqueue(t, db, n)
	err := db.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.RetryJob(second); return err })
	if !fault.Is(err, fault.Conflict) {
		t.Fatalf("retry beside a live one: %v", err)
	}
	j = takeOne(t, db, "k")
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.FailJob(third, j.Token, metadb.JobFailure{Error: "no", RetryIn: time.Hour})
		return err
	})
	equal(t, "while it waits to be tried again", enqueue(t, db, metadb.NewJob{Kind: "k", Key: "x", Args: "{}", MaxAttempts: 5}), third)
	equal(t, "it waits on", len(take(t, db, "k", 9, time.Minute)), 0)
}

// testJobDedupeRace: however many ask at once, there is one live job.
func testJobDedupeRace(t *testing.T, db *metadb.DB) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := db.Update(background(), func(tx *metadb.Tx) error {
					_, err := tx.EnqueueJob(metadb.NewJob{Kind: "k", Key: "x", Args: "{}", MaxAttempts: 1})
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	equal(t, "jobs", len(get[[]metadb.Job](t)(db.Jobs(t.Context(), metadb.JobFilter{}, 0, 10))), 1)
}

func testJobCancel(t *testing.T, db *metadb.DB) {
	cancel := func(id int64) (j metadb.Job) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) { j, err = tx.CancelJob(id); return err })
		return j
	}
	for _, at := range []time.Time{{}, time.Now().Add(time.Hour)} {
		id := enqueue(t, db, metadb.NewJob{Kind: "k", Args: "{}", RunAt: at})
		equal(t, "cancelled", cancel(id).State, metadb.JobCancelled)
		equal(t, "cancelled again", cancel(id).State, metadb.JobCancelled)
	}
	equal(t, "left to do", len(take(t, db, "k", 9, time.Minute)), 0)
	for what, end := range map[string]func(tx *metadb.Tx, j metadb.Job) (metadb.JobState, error){
		"fail": func(tx *metadb.Tx, j metadb.Job) (metadb.JobState, error) {
			return tx.FailJob(j.ID, j.Token, metadb.JobFailure{Error: "stopped"})
		},
		"return": func(tx *metadb.Tx, j metadb.Job) (metadb.JobState, error) {
			return tx.ReturnJob(j.ID, j.Token, metadb.JobProgress{})
		},
		"succeed": func(tx *metadb.Tx, j metadb.Job) (metadb.JobState, error) {
			return tx.SucceedJob(j.ID, j.Token, metadb.JobProgress{})
		},
		"die": func(tx *metadb.Tx, j metadb.Job) (metadb.JobState, error) {
			if err := tx.ExpireJobs(); err != nil {
				return 0, err
			}
			jobs, err := tx.ReclaimJobs(1)
			return jobs[0].State, err
		},
	} {
		id := enqueue(t, db, metadb.NewJob{Kind: "k", Key: "x", Args: "{}", MaxAttempts: 9})
		j := takeOne(t, db, "k")
		enqueue(t, db, metadb.NewJob{Kind: "k", Key: "x", Args: "{}"})
		if j := cancel(id); j.State != metadb.JobRunning || !j.Cancel || j.Again {
			t.Fatalf("asked to stop: %+v", j)
		}
		update(t, db, func(tx *metadb.Tx) error {
			asked, err := tx.RenewJob(id, j.Token, time.Minute, metadb.JobProgress{})
			equal(t, "the worker learns it", asked, true)
			return err
		})
		update(t, db, func(tx *metadb.Tx) error {
			s, err := end(tx, j)
			want := metadb.JobCancelled
			if what == "succeed" {
				want = metadb.JobSucceeded
			}
			equal(t, what, s, want)
			return err
		})
	}
}

// testJobFairness: one project with many jobs does not keep another waiting, also with jobs that became due later.
func testJobFairness(t *testing.T, db *metadb.DB) {
	const many = 300
	update(t, db, func(tx *metadb.Tx) error {
		for i := range many {
			n := metadb.NewJob{Kind: "k", Project: "big", Args: "{}", MaxAttempts: 1}
			if i%2 == 1 {
				n.RunAt = time.UnixMicro(int64(i + 1)) // long due
			}
			if _, err := tx.EnqueueJob(n); err != nil {
				return err
			}
		}
		return nil
	})
	for range many / 2 {
		takeOne(t, db, "k")
	}
	for _, project := range []string{"small", "", "smaller"} {
		for range 3 {
			enqueue(t, db, metadb.NewJob{Kind: "k", Project: project, Args: "{}"})
		}
	}
	enqueue(t, db, metadb.NewJob{Kind: "k", Project: "big", Args: `"urgent"`, Priority: -1})
	var order []string
	for range 13 {
		j := takeOne(t, db, "k")
		if j.Priority != 0 {
			order = append(order, "urgent")
			continue
		}
		order = append(order, j.Project)
	}
	equal(t, "first", order[0], "urgent")
	for i, round := range slices.Collect(slices.Chunk(order[1:], 4)) {
		slices.Sort(round)
		equal(t, fmt.Sprint("round ", i), round, []string{"", "big", "small", "smaller"})
	}
	equal(t, "then", takeOne(t, db, "k").Project, "big")
}

// testJobBound: of a bounded kind no more run than that, whoever claims.
func testJobBound(t *testing.T, db *metadb.DB) {
	for range 20 {
		enqueue(t, db, metadb.NewJob{Kind: "k", Args: "{}"})
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var got []metadb.Job
	for range 6 {
		all.Go(func() {
			var jobs []metadb.Job
			err := db.Update(background(), func(tx *metadb.Tx) (err error) {
				jobs, err = tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: "w", Limit: 2, Hold: time.Minute, Everywhere: 3})
				return err
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, jobs...)
		})
	}
	all.Wait()
	equal(t, "run at a time", len(got), 3)
}

// testJobClaimRace: no job is claimed by two.
func testJobClaimRace(t *testing.T, db *metadb.DB) {
	const jobs = 60
	update(t, db, func(tx *metadb.Tx) error {
		for i := range jobs {
			if _, err := tx.EnqueueJob(metadb.NewJob{Kind: "k", Project: fmt.Sprint(i % 7), Args: "{}"}); err != nil {
				return err
			}
		}
		return nil
	})
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[int64]bool{}
	for w := range 6 {
		all.Go(func() {
			for misses := 0; misses < 3; {
				var got []metadb.Job
				err := db.Update(background(), func(tx *metadb.Tx) (err error) {
					got, err = tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: fmt.Sprint(w), Limit: 1 + w%3, Hold: time.Minute})
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) == 0 {
					misses++
				}
				mu.Lock()
				for _, j := range got {
					if seen[j.ID] {
						t.Errorf("job %d was claimed twice", j.ID)
					}
					seen[j.ID] = true
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	equal(t, "claimed", len(seen), jobs)
}

func testJobLists(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	soon := time.Now().Add(time.Hour)
	var ids []int64
	for i := range 9 {
		n := metadb.NewJob{Kind: []string{"a", "b", "c"}[i%3], Project: []string{"p", "q"}[i%2], Args: "{}"}
		if i >= 6 {
			n.RunAt = soon
		}
		ids = append(ids, enqueue(t, db, n))
	}
	slices.Reverse(ids)
	list := func(f metadb.JobFilter, limit int) (all []int64) {
		t.Helper()
		for before := int64(0); ; {
			page := get[[]metadb.Job](t)(db.Jobs(ctx, f, before, limit))
			for _, j := range page {
				all = append(all, j.ID)
				before = j.ID
			}
			if len(page) < limit {
				return all
			}
		}
	}
	at := func(is ...int) (some []int64) {
		for _, i := range is {
			some = append(some, ids[i])
		}
		return some
	}
	for _, limit := range []int{1, 2, 4, 100} {
		equal(t, "all", list(metadb.JobFilter{}, limit), ids)
		equal(t, "of a kind", list(metadb.JobFilter{Kind: "b"}, limit), at(1, 4, 7))
		equal(t, "of a project", list(metadb.JobFilter{Project: "q"}, limit), at(1, 3, 5, 7))
		equal(t, "scheduled", list(metadb.JobFilter{States: []metadb.JobState{metadb.JobScheduled}}, limit), at(0, 1, 2))
		up := slices.Clone(ids)
		slices.Reverse(up)
		equal(t, "the oldest first", list(metadb.JobFilter{Oldest: true}, limit), up)
		equal(t, "the oldest first of a kind", list(metadb.JobFilter{Kind: "b", Oldest: true}, limit), at(7, 4, 1))
		equal(t, "of all three", list(metadb.JobFilter{Kind: "a", Project: "p", States: []metadb.JobState{metadb.JobScheduled, metadb.JobQueued}}, limit), at(2, 8))
	}
	o := get[metadb.JobOutlook](t)(db.Outlook(ctx, []string{"z", "b", "a"}))
	equal(t, "heads", o.Heads, []metadb.JobHead{{Kind: "b"}, {Kind: "a"}})
	if d := o.NextRun.Sub(soon); d.Abs() > time.Millisecond || !o.NextLease.IsZero() {
		t.Fatalf("outlook: %+v", o)
	}
	j := takeOne(t, db, "a")
	o = get[metadb.JobOutlook](t)(db.Outlook(ctx, []string{"a"}))
	equal(t, "first claim to run out", o.NextLease, j.LeaseUntil)
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.SucceedJob(j.ID, j.Token, metadb.JobProgress{}); return err })
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.CancelJob(ids[0]); return err })
	var counts []string
	for _, c := range append(get[[]metadb.JobCount](t)(db.LiveJobs(ctx)), get[[]metadb.JobCount](t)(db.EndedJobs(ctx))...) {
		counts = append(counts, fmt.Sprint(c.Kind, " ", c.State, " ", c.N))
	}
	equal(t, "counts", counts, []string{"a scheduled 1", "b scheduled 1", "a queued 1", "b queued 2", "c queued 2", " succeeded 1", " cancelled 1"})
}

func testJobTrim(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	var ids []int64
	for range 5 {
		ids = append(ids, enqueue(t, db, metadb.NewJob{Kind: "k", Args: "{}"}))
	}
	for _, id := range ids[:4] {
		update(t, db, func(tx *metadb.Tx) error { _, err := tx.CancelJob(id); return err })
		time.Sleep(time.Millisecond)
	}
	second := get[metadb.Job](t)(db.Job(ctx, ids[1]))
	equal(t, "third youngest", get[time.Time](t)(db.JobEnded(ctx, metadb.JobCancelled, 2)), second.EndedAt)
	_, err := db.JobEnded(ctx, metadb.JobCancelled, 4)
	wantErr(t, "fifth youngest", err, metadb.ErrNotFound)
	trim := func(s metadb.JobState, before time.Time, limit int) (n int) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) { n, err = tx.TrimJobs(s, before, limit); return err })
		return n
	}
	equal(t, "of another state", trim(metadb.JobDead, time.Now().Add(time.Hour), 10), 0)
	equal(t, "live", trim(metadb.JobQueued, time.Now().Add(time.Hour), 10), 0)
	equal(t, "old", trim(metadb.JobCancelled, second.EndedAt.Add(time.Microsecond), 10), 2)
	equal(t, "some", trim(metadb.JobCancelled, time.Now().Add(time.Hour), 1), 1)
	equal(t, "the rest", trim(metadb.JobCancelled, time.Now().Add(time.Hour), 10), 1)
	get[metadb.Job](t)(db.Job(ctx, ids[4]))
}

func testSchedule(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	past := time.UnixMicro(1000).UTC()
	ensure := func(spec string, next time.Time) (at time.Time) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) { at, err = tx.EnsureSchedule("s", spec, next); return err })
		return at
	}
	_, err := db.Schedule(ctx, "s")
	wantErr(t, "unknown", err, metadb.ErrNotFound)
	equal(t, "new", ensure("@hourly", past), past)
	equal(t, "known", ensure("@hourly", past.Add(time.Hour)), past)
	equal(t, "with another spec", ensure("@daily", past.Add(time.Minute)), past.Add(time.Minute))
	due := past.Add(time.Minute)
	future := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	var all sync.WaitGroup
	var mu sync.Mutex
	ran := 0
	for range 6 {
		all.Go(func() {
			won := false
			if err := db.Update(background(), func(tx *metadb.Tx) (err error) { won, err = tx.AdvanceSchedule("s", due, future); return err }); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if won {
				ran++
			}
		})
	}
	all.Wait()
	equal(t, "replicas that run it", ran, 1)
	equal(t, "then", get[time.Time](t)(db.Schedule(ctx, "s")), future)
	update(t, db, func(tx *metadb.Tx) error {
		won, err := tx.AdvanceSchedule("s", future, future.Add(time.Hour))
		equal(t, "before its time", won, false)
		return err
	})
}

func testLease(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	grab := func(holder string, hold time.Duration) (l metadb.Lease, held bool) {
		t.Helper()
		update(t, db, func(tx *metadb.Tx) (err error) { l, held, err = tx.TakeLease("l", holder, hold); return err })
		return l, held
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var holders []metadb.Lease
	for i := range 6 {
		all.Go(func() {
			l, held := grab(fmt.Sprint(i), time.Hour)
			mu.Lock()
			defer mu.Unlock()
			if held {
				holders = append(holders, l)
			}
		})
	}
	all.Wait()
	equal(t, "holders", len(holders), 1)
	first := holders[0]
	equal(t, "row", get[metadb.Lease](t)(db.Lease(ctx, "l")), first)
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.RenewLease(first, -time.Second); err != nil { // as if it had not been renewed
			return err
		}
		return tx.HoldLease(first)
	})
	second, held := grab("next", time.Hour)
	if !held || second.Token <= first.Token {
		t.Fatalf("after it ran out: %+v, %v", second, held)
	}
	wantErr(t, "renewal of who lost it", db.Update(ctx, func(tx *metadb.Tx) error { return tx.RenewLease(first, time.Hour) }), metadb.ErrLost)
	wantErr(t, "hold of who lost it", db.Update(ctx, func(tx *metadb.Tx) error { return tx.HoldLease(first) }), metadb.ErrLost)
	update(t, db, func(tx *metadb.Tx) error { return tx.EndLease(first) })
	if _, held := grab("third", time.Hour); held {
		t.Fatal("who lost it ended it")
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.EndLease(second) })
	if _, held := grab("third", time.Hour); !held {
		t.Fatal("it was given back and cannot be taken")
	}
}

// modelJob is what a job should be.
type modelJob struct {
	state         metadb.JobState
	key           string
	attempt, most int
	token         int64
	cancel, again bool
	out           bool // its claim has run out
}

// jobModel is the queue as a map.
type jobModel struct {
	t    testing.TB
	db   *metadb.DB
	jobs map[int64]*modelJob
	old  map[int64][]int64 // tokens of claims that are over
}

func (m *jobModel) some(r *rapid.T) (int64, *modelJob) {
	if len(m.jobs) == 0 {
		r.Skip("no jobs")
	}
	var ids []int64
	for id := range m.jobs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(ids).Draw(r, "job")
	return id, m.jobs[id]
}

func (m *jobModel) live(key string) int64 {
	for id, j := range m.jobs {
		if key != "" && j.key == key && !j.state.Ended() {
			return id
		}
	}
	return 0
}

func (m *jobModel) do(r *rapid.T, fn func(tx *metadb.Tx) error) {
	if err := m.db.Update(background(), fn); err != nil {
		r.Fatalf("%v", err)
	}
}

// end is what becomes of a job that came to an end.
func (j *modelJob) end(s metadb.JobState) {
	if j.again {
		s, j.attempt = metadb.JobQueued, 0
	}
	j.state, j.again, j.cancel = s, false, false
}

func (m *jobModel) enqueue(r *rapid.T) {
	n := metadb.NewJob{Kind: "k", Args: "{}", Key: rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "key"), MaxAttempts: rapid.IntRange(1, 3).Draw(r, "most")}
	n.NotAgain = rapid.Bool().Draw(r, "notAgain")
	later := rapid.Bool().Draw(r, "later")
	if have := m.live(n.Key); have != 0 && m.jobs[have].state == metadb.JobRunning {
		later = false
	}
	if later {
		n.RunAt = time.Now().Add(time.Hour)
	}
	want := m.live(n.Key)
	var id int64
	m.do(r, func(tx *metadb.Tx) (err error) { id, err = tx.EnqueueJob(n); return err })
	if want != 0 && id != want || want == 0 && m.jobs[id] != nil {
		r.Fatalf("enqueued as %d, want %d", id, want)
	}
	j := m.jobs[id]
	if j == nil {
		j = &modelJob{key: n.Key, most: n.MaxAttempts}
		m.jobs[id] = j
	}
	switch {
	case j.state == metadb.JobRunning:
		j.again = j.again || !n.NotAgain
	case j.state == metadb.JobScheduled && j.attempt == 0 && !later:
		j.state = metadb.JobQueued
	}
}

func (m *jobModel) claim(r *rapid.T) {
	limit, out := rapid.IntRange(1, 3).Draw(r, "limit"), rapid.Bool().Draw(r, "out")
	hold := time.Hour
	if out {
		hold = -time.Second
	}
	queued := 0
	for _, j := range m.jobs {
		if j.state == metadb.JobQueued {
			queued++
		}
	}
	var got []metadb.Job
	m.do(r, func(tx *metadb.Tx) (err error) {
		got, err = tx.ClaimJobs(metadb.Claim{Kind: "k", Worker: "w", Limit: limit, Hold: hold})
		return err
	})
	if len(got) != min(limit, queued) {
		r.Fatalf("claimed %d of %d with limit %d", len(got), queued, limit)
	}
	for _, g := range got {
		j := m.jobs[g.ID]
		if j.state != metadb.JobQueued {
			r.Fatalf("claimed job %d, which is %s", g.ID, j.state)
		}
		m.old[g.ID] = append(m.old[g.ID], j.token)
		j.state, j.token, j.out = metadb.JobRunning, j.token+1, out
		j.attempt++
	}
}

// finish ends an attempt with the right token or with an old one.
func (m *jobModel) finish(r *rapid.T) {
	id, j := m.some(r)
	token, right := j.token, j.state == metadb.JobRunning
	if stale := m.old[id]; len(stale) > 0 && rapid.Bool().Draw(r, "stale") {
		token, right = rapid.SampledFrom(stale).Draw(r, "token"), false
	}
	how := rapid.SampledFrom([]string{"succeed", "fail", "final", "return", "renew"}).Draw(r, "how")
	err := m.db.Update(background(), func(tx *metadb.Tx) (err error) {
		switch how {
		case "succeed":
			_, err = tx.SucceedJob(id, token, metadb.JobProgress{})
		case "return":
			_, err = tx.ReturnJob(id, token, metadb.JobProgress{})
		case "renew":
			_, err = tx.RenewJob(id, token, time.Hour, metadb.JobProgress{})
		default:
			_, err = tx.FailJob(id, token, metadb.JobFailure{Error: "no", Final: how == "final", RetryIn: time.Hour})
		}
		return err
	})
	if !right {
		if !errors.Is(err, metadb.ErrLost) {
			r.Fatalf("%s with token %d of a job with %d: %v", how, token, j.token, err)
		}
		return
	}
	switch {
	case err != nil:
		r.Fatalf("%s: %v", how, err)
	case how == "renew":
		j.out = false
	case how == "succeed":
		j.end(metadb.JobSucceeded)
	case j.cancel:
		j.end(metadb.JobCancelled)
	case how == "return":
		j.attempt--
		j.state, j.again = metadb.JobQueued, false
	case how == "final" || j.attempt >= j.most:
		j.end(metadb.JobDead)
	default:
		j.state, j.again = metadb.JobScheduled, false
	}
}

func (m *jobModel) reclaim(r *rapid.T) {
	var got []metadb.Job
	m.do(r, func(tx *metadb.Tx) (err error) { got, err = tx.ReclaimJobs(100); return err })
	for _, j := range m.jobs {
		if j.state != metadb.JobRunning || !j.out {
			continue
		}
		got = got[min(1, len(got)):]
		switch {
		case j.cancel:
			j.end(metadb.JobCancelled)
		case j.attempt >= j.most:
			j.end(metadb.JobDead)
		default:
			j.state, j.again = metadb.JobQueued, false
		}
	}
	if len(got) > 0 {
		r.Fatalf("%d jobs too many were reclaimed", len(got))
	}
}

func (m *jobModel) cancelOne(r *rapid.T) {
	id, j := m.some(r)
	m.do(r, func(tx *metadb.Tx) error { _, err := tx.CancelJob(id); return err })
	switch {
	case j.state == metadb.JobRunning:
		j.cancel, j.again = true, false
	case !j.state.Ended():
		j.state = metadb.JobCancelled
	}
}

func (m *jobModel) retry(r *rapid.T) {
	id, j := m.some(r)
	err := m.db.Update(background(), func(tx *metadb.Tx) error { _, err := tx.RetryJob(id); return err })
	if j.state == metadb.JobSucceeded || j.state.Ended() && m.live(j.key) != 0 {
		if !fault.Is(err, fault.Conflict) {
			r.Fatalf("retry of a job that is %s: %v", j.state, err)
		}
		return
	}
	if err != nil {
		r.Fatalf("retry: %v", err)
	}
	if j.state != metadb.JobRunning && j.state != metadb.JobQueued {
		j.state, j.attempt = metadb.JobQueued, 0
	}
}

// check compares every row with the model.
func (m *jobModel) check(r *rapid.T) {
	rows, err := m.db.Jobs(background(), metadb.JobFilter{}, 0, 10_000)
	if err != nil {
		r.Fatalf("%v", err)
	}
	for _, row := range rows {
		j := m.jobs[row.ID]
		if j == nil {
			continue // of a run before
		}
		got := modelJob{row.State, row.Key, row.Attempt, row.MaxAttempts, row.Token, row.Cancel, row.Again, j.out}
		if got != *j {
			r.Fatalf("job %d is %+v, want %+v", row.ID, got, *j)
		}
		if row.State.Ended() == row.EndedAt.IsZero() {
			r.Fatalf("job %d is %s and ended at %s", row.ID, row.State, row.EndedAt)
		}
	}
}

// testJobModel runs what workers and administrators may do, in any order, against the model.
func testJobModel(t *testing.T, db *metadb.DB) {
	rapid.Check(t, func(r *rapid.T) {
		update(t, db, func(tx *metadb.Tx) error { // what the run before has left
			rows, err := tx.Jobs(t.Context(), metadb.JobFilter{}, 0, 10_000)
			for _, j := range rows {
				if err == nil {
					_, err = tx.CancelJob(j.ID)
				}
			}
			if err == nil {
				err = tx.ExpireJobs()
			}
			if err == nil {
				_, err = tx.ReclaimJobs(10_000)
			}
			for s := metadb.JobSucceeded; s <= metadb.JobCancelled && err == nil; s++ {
				_, err = tx.TrimJobs(s, time.Now().Add(time.Hour), 10_000)
			}
			return err
		})
		m := &jobModel{t: t, db: db, jobs: map[int64]*modelJob{}, old: map[int64][]int64{}}
		r.Repeat(map[string]func(*rapid.T){
			"enqueue": m.enqueue, "claim": m.claim, "claimMore": m.claim, "finish": m.finish, "finishMore": m.finish,
			"reclaim": m.reclaim, "cancel": m.cancelOne, "retry": m.retry, "": m.check,
		})
	})
}
