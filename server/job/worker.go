package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

const (
	// leastRest is the shortest rest after a look that found nothing, also when the clocks disagree whether something is due.
	leastRest = 200 * time.Millisecond
	// batch bounds the rows that one transaction makes due, reclaims or trims.
	batch = 100
	// progressEvery is how often progress is written.
	progressEvery = 2 * time.Second
)

// Run works until ctx ends. Then it claims nothing more, ends the contexts of the handlers, waits for them up to
// Options.Drain, and returns to the queue what they did not finish, so that another replica continues at once.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.started {
		s.mu.Unlock()
		return errStarted
	}
	s.started = true
	s.mu.Unlock()
	var others sync.WaitGroup
	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	others.Go(func() { s.beats(beating) })
	for _, l := range s.loops {
		others.Go(func() { s.loop(ctx, l) })
	}
	s.dispatch(ctx)
	s.drain(ctx)
	stopBeating()
	others.Wait()
	return nil
}

// dispatch looks for work, begins it and rests.
func (s *Service) dispatch(ctx context.Context) {
	failing := false
	for prepared := false; ctx.Err() == nil; {
		rest, err := s.poll(), error(nil)
		if !prepared {
			err = s.prepare(ctx)
			prepared = err == nil
		}
		if prepared {
			rest, err = s.round(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				s.o.Log.WarnContext(ctx, "jobs cannot be looked for; it is tried again", "every", s.o.Poll, "err", err)
			}
			rest = s.poll()
		case failing:
			s.o.Log.InfoContext(ctx, "jobs are looked for again")
		}
		failing = err != nil
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// poll is the time between two looks when nothing is known to come.
func (s *Service) poll() time.Duration {
	return s.o.Poll + time.Duration((rand.Float64()-0.5)*0.4*float64(s.o.Poll))
}

// prepare is what Run does first.
func (s *Service) prepare(ctx context.Context) error {
	if s.o.DB.Alone() { // what runs in the rows ran in a process that is no more
		if err := s.o.DB.Update(ctx, (*metadb.Tx).ExpireJobs); err != nil {
			return err
		}
	}
	return s.ensureSchedules(ctx)
}

// round begins what there is to do and there are workers for, and returns how long to rest then.
func (s *Service) round(ctx context.Context) (time.Duration, error) {
	due, err := s.tick(ctx)
	if err != nil {
		return 0, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		kinds, free := s.free()
		if free == 0 {
			return s.rest(due), nil // the end of a job wakes us
		}
		o, err := s.o.DB.Outlook(ctx, kinds)
		if err != nil {
			return 0, err
		}
		again, err := s.tend(ctx, o)
		if err != nil {
			return 0, err
		}
		took, err := s.take(ctx, o.Heads, free)
		if err != nil {
			return 0, err
		}
		if !again && took == 0 {
			return s.rest(due, o.NextRun, o.NextLease), nil
		}
	}
}

// rest is until the first of the times, or the next look.
func (s *Service) rest(times ...time.Time) time.Duration {
	now, rest := s.o.Now(), s.poll()
	for _, t := range times {
		if !t.IsZero() {
			rest = min(rest, t.Sub(now))
		}
	}
	return max(rest, leastRest)
}

// free are the kinds of which more may run here, and how many jobs.
func (s *Service) free() (kinds []string, free int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := map[string]int{}
	for _, w := range s.running {
		running[w.kind.Name]++
	}
	for _, name := range s.names {
		if running[name] < s.kinds[name].Parallel {
			kinds = append(kinds, name)
		}
	}
	if free = s.o.Workers - len(s.running); free <= 0 || len(kinds) == 0 {
		return nil, 0
	}
	// A kind that comes first each time would keep the others from the last free worker.
	s.rotation = (s.rotation + 1) % len(kinds)
	return slices.Concat(kinds[s.rotation:], kinds[:s.rotation]), free
}

// tend makes due what is due, and takes jobs from workers that are gone; again says that it changed something.
func (s *Service) tend(ctx context.Context, o metadb.JobOutlook) (again bool, err error) {
	now := s.o.Now()
	if !o.NextLease.IsZero() && !o.NextLease.After(now) {
		var lost []metadb.Job
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) { lost, err = tx.ReclaimJobs(batch); return err })
		if err != nil {
			return false, err
		}
		for _, j := range lost {
			s.o.Log.WarnContext(ctx, "job was left by its worker", "job", j.ID, "kind", j.Kind, "worker", j.Worker, "attempt", j.Attempt, "now", j.State.String())
		}
		again = len(lost) > 0
	}
	if !o.NextRun.IsZero() && !o.NextRun.After(now) {
		n := 0
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) { n, err = tx.QueueDueJobs(batch); return err })
		if err != nil {
			return false, err
		}
		again = again || n > 0
	}
	return again, nil
}

// take claims jobs of the kinds that have some, by the priority of their first.
func (s *Service) take(ctx context.Context, heads []metadb.JobHead, free int) (took int, err error) {
	slices.SortStableFunc(heads, func(a, b metadb.JobHead) int { return a.Priority - b.Priority })
	for i, h := range heads {
		k, most := s.room(h.Kind)
		n := min(most, free-took, max(1, (free-took)/(len(heads)-i)))
		if n <= 0 {
			continue
		}
		began := s.o.Now()
		var jobs []metadb.Job
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
			jobs, err = tx.ClaimJobs(metadb.Claim{Kind: h.Kind, Worker: s.o.Worker, Limit: n, Hold: s.o.Hold, Everywhere: k.Everywhere})
			return err
		})
		if err != nil {
			return took, err
		}
		for _, j := range jobs {
			s.begin(ctx, k, j, began)
		}
		took += len(jobs)
	}
	return took, nil
}

// room is how many more jobs of a kind may run here.
func (s *Service) room(name string) (*kind, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[name]
	n := k.Parallel
	for _, w := range s.running {
		if w.kind == k {
			n--
		}
	}
	return k, n
}

// begin runs a job that was claimed. Its context does not end with Run's: drain ends it, with a cause.
func (s *Service) begin(ctx context.Context, k *kind, j metadb.Job, claimed time.Time) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	w := &Work{s: s, kind: k, job: j, stop: stop, began: s.o.Now(), renewed: claimed, progress: j.Progress, stopped: make(chan struct{})}
	s.mu.Lock()
	s.running[j.ID] = w
	s.mu.Unlock()
	select {
	case s.busy <- struct{}{}:
	default:
	}
	go func() {
		err := w.call(ctx)
		s.finish(ctx, w, err)
		stop(nil)
		s.forget(w)
	}()
}

// forget frees the worker.
func (s *Service) forget(w *Work) {
	s.mu.Lock()
	if s.running[w.job.ID] == w {
		delete(s.running, w.job.ID)
	}
	s.mu.Unlock()
	close(w.stopped)
	s.Wake()
}

// finish records how an attempt went. While the database cannot be reached it tries again as long as the job is ours:
// otherwise the work would be done twice.
func (s *Service) finish(ctx context.Context, w *Work, result error) {
	cause := context.Cause(ctx)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		w.mu.Lock()
		gone, succeeded := w.gone, w.succeeded
		w.mu.Unlock()
		if succeeded {
			s.report(w, metadb.JobSucceeded.String(), nil)
			return
		}
		if gone {
			s.report(w, "lost", result)
			return
		}
		// Who could not renew its claim may still have it.
		outcome, err := s.record(ctx, w, result, errors.Is(cause, ErrStopping) || errors.Is(cause, ErrLost))
		switch {
		case err == nil:
			s.report(w, outcome, result)
			return
		case errors.Is(err, metadb.ErrLost):
			s.report(w, "lost", result)
			return
		case s.o.Now().Sub(w.lastRenewal()) > s.o.Hold:
			s.o.Log.WarnContext(ctx, "end of a job could not be recorded; it will be run again", "job", w.job.ID, "kind", w.kind.Name, "err", err)
			s.report(w, "lost", result)
			return
		}
		time.Sleep(pause)
	}
}

func (w *Work) lastRenewal() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.renewed
}

// record writes the end of an attempt.
func (s *Service) record(ctx context.Context, w *Work, result error, unfinished bool) (outcome string, err error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), s.o.Hold)
	defer stop()
	var final *permanent
	var state metadb.JobState
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		id, token, p := w.job.ID, w.job.Token, w.snapshot()
		switch {
		case result == nil:
			state, err = tx.SucceedJob(id, token, p)
			outcome = metadb.JobSucceeded.String()
		case unfinished && !errors.As(result, &final):
			state, err = tx.ReturnJob(id, token, p)
			outcome = "returned"
		default:
			state, err = tx.FailJob(id, token, metadb.JobFailure{
				Error: clean(result.Error(), maxError), RetryIn: w.kind.pause(w.job.Attempt, result), Final: errors.As(result, &final), Progress: p,
			})
			outcome = "failed"
		}
		if state == metadb.JobCancelled {
			outcome = state.String()
		}
		return err
	})
	if err == nil && state == metadb.JobDead {
		s.o.Log.ErrorContext(ctx, "job is dead; look at it, mend the cause and retry it", "job", w.job.ID, "kind", w.kind.Name, "attempts", w.job.Attempt, "err", result)
		outcome = state.String()
	}
	return outcome, err
}

// report measures and logs an attempt that has ended.
func (s *Service) report(w *Work, outcome string, err error) {
	took := s.o.Now().Sub(w.began)
	s.seconds.WithLabelValues(w.kind.Name, outcome).Observe(took.Seconds())
	log := s.o.Log.Debug
	if err != nil && outcome == "failed" {
		log = s.o.Log.Warn
	}
	log("job attempt ended", "job", w.job.ID, "kind", w.kind.Name, "attempt", w.job.Attempt, "outcome", outcome, "took", took.Round(time.Millisecond), "err", err)
}

// drain ends what runs, and returns what does not end in time.
func (s *Service) drain(ctx context.Context) {
	s.mu.Lock()
	running := make([]*Work, 0, len(s.running))
	for _, w := range s.running {
		running = append(running, w)
	}
	s.mu.Unlock()
	for _, w := range running {
		w.stop(ErrStopping)
	}
	limit := time.NewTimer(s.o.Drain)
	defer limit.Stop()
	for i, w := range running {
		select {
		case <-w.stopped:
		case <-limit.C:
			s.abandon(ctx, running[i:])
			return
		}
	}
}

// abandon returns jobs whose handlers do not end. They may still run for as long as the process does, but their token is
// of no use any more.
func (s *Service) abandon(ctx context.Context, stuck []*Work) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	for _, w := range stuck {
		select {
		case <-w.stopped:
			continue
		default:
		}
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			_, err := tx.ReturnJob(w.job.ID, w.job.Token, w.snapshot())
			return err
		})
		if errors.Is(err, metadb.ErrLost) {
			err = nil
		}
		s.o.Log.WarnContext(ctx, "job did not stop in time; it was returned to the queue", "job", w.job.ID, "kind", w.kind.Name, "err", err)
	}
}

// beats renews the claims of what runs, and writes its progress, until ctx ends. Nothing happens while nothing runs.
func (s *Service) beats(ctx context.Context) {
	every := min(time.Second, max(s.o.Hold/10, 5*time.Millisecond))
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.busy:
		}
		tick := time.NewTicker(every)
		for s.beat(ctx) {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
		tick.Stop()
	}
}

// beat renews once what has to be; it reports whether anything runs.
func (s *Service) beat(ctx context.Context) bool {
	s.mu.Lock()
	n := len(s.running)
	var due []*Work
	now := s.o.Now()
	for _, w := range s.running {
		w.mu.Lock()
		age := now.Sub(w.renewed)
		if !w.gone && !w.succeeded && (age >= s.o.Hold/3 || w.dirty && age >= progressEvery) {
			due = append(due, w)
			w.dirty = false
		}
		w.mu.Unlock()
	}
	s.mu.Unlock()
	if len(due) > 0 {
		s.renew(ctx, due, now)
	}
	return n > 0
}

// renew extends claims in one transaction, and stops whoever has lost its own or is asked to stop.
func (s *Service) renew(ctx context.Context, due []*Work, began time.Time) {
	ctx, stop := context.WithTimeout(ctx, s.o.Hold/3)
	defer stop()
	causes := make([]error, len(due))
	err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error {
		for i, w := range due {
			cancel, err := tx.RenewJob(w.job.ID, w.job.Token, s.o.Hold, w.snapshot())
			switch {
			case errors.Is(err, metadb.ErrLost):
				causes[i] = ErrLost
			case err != nil:
				return err
			case cancel:
				causes[i] = ErrCancelled
			default:
				causes[i] = nil
			}
		}
		return nil
	})
	for i, w := range due {
		w.mu.Lock()
		if err == nil && causes[i] != ErrLost { //nolint:errorlint // our own
			w.renewed = began
		}
		w.dirty = w.dirty || err != nil
		lost := s.o.Now().Sub(w.renewed) >= s.o.Hold*9/10
		w.mu.Unlock()
		switch {
		case err == nil && causes[i] != nil:
			w.stop(causes[i])
		case err != nil && lost: // before anybody else takes it
			w.stop(fmt.Errorf("%w: it could not be renewed: %w", ErrLost, err))
		}
	}
}
