package oracle

import (
	"errors"
	"fmt"
	"time"
)

// moment is a state of a walker's repositories that was the case at some time between two others, as far as the walker can
// know: from when the request was sent that led to it, to when the next one was answered.
type moment struct {
	state    state
	from, to time.Time
}

// remember keeps what is the case after a request.
func (w *walker) remember(began, ended time.Time) {
	if n := len(w.past); n > 0 {
		w.past[n-1].to = ended
	}
	w.past = append(w.past, moment{w.now.clone(), began, time.Now().Add(time.Hour)})
}

// restore is a round in which a backup is made while the walkers walk. Then everything is lost, and restored from it. The
// registry must be as it was at one moment of the backup: nothing that was acknowledged before its beginning is missing, and
// nothing of after its end is there.
func (r *run) restore() {
	for _, w := range r.walkers {
		w.remembers = true
		w.remember(time.Now(), time.Now())
	}
	var began, ended time.Time
	var failed error
	saved := make(chan struct{})
	before := time.Duration(r.rnd.IntN(200)) * time.Millisecond
	go func() {
		defer close(saved)
		time.Sleep(before)
		began = time.Now()
		failed = r.fleet.Backup()
		ended = time.Now()
	}()
	r.each("walk during a backup", func(w *walker) error { return w.walkUntil(saved) })
	if failed != nil {
		r.t.Fatalf("round %d: %v", r.rounds, failed)
	}
	r.journal.event("a backup was begun %s ago, and ended", time.Since(began).Round(time.Millisecond))
	for _, w := range r.walkers {
		w.remembers = false
	}
	r.each("walk after a backup", func(w *walker) error { return w.walk(stepsOfRound / 2) })

	if err := r.fleet.Lose(); err != nil {
		r.t.Fatal(err)
	}
	r.journal.event("everything is lost")
	passed := time.Since(ended)
	if err := r.fleet.Restore(); err != nil {
		r.t.Fatal(err)
	}
	r.journal.event("it is restored from the backup")
	r.each("compare with the backup", func(w *walker) error { return w.goBack(began, ended, passed) })
	r.sameMoment()
	r.count(restoredWhole)
}

// walkUntil walks until something is done, and for a few steps at least.
func (w *walker) walkUntil(done <-chan struct{}) error {
	for {
		if err := w.walk(stepsOfRound / 3); err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		default:
		}
	}
}

// goBack finds out to which of the remembered moments the registry has gone back. passed is how long promises and the trash
// stood still at least. What is left in past is all moments that it may be.
func (w *walker) goBack(began, ended time.Time, passed time.Duration) error {
	sights := w.observe()
	var may []moment
	var closest []difference
	for _, m := range w.past {
		if m.to.Before(began) || m.from.After(ended) {
			continue
		}
		m.state.postpone(passed)
		all := m.state.compare(w.universe, sights)
		switch {
		case len(all) == 0:
			may = append(may, m)
		case closest == nil || len(all) < len(closest):
			closest = all
		}
	}
	w.other = nil
	if len(may) == 0 {
		return fmt.Errorf("the registry is as at none of the %d moments of the backup; the closest one differs by\n%w", len(w.past), w.report(closest))
	}
	// Of those that it may be, the earliest has promised least.
	w.now, w.past = may[0].state, may
	w.now.absorb(w.universe, sights)
	return nil
}

// postpone moves the end of all promises.
func (s state) postpone(by time.Duration) {
	for _, r := range s {
		for d, until := range r.blobs {
			r.blobs[d] = until.Add(by)
		}
	}
}

// sameMoment says that there is one moment to which all walkers' repositories have gone back: a backup is not one half of before
// a change and one half of after it.
func (r *run) sameMoment() {
	common := func(at time.Time) bool {
		for _, w := range r.walkers {
			found := false
			for _, m := range w.past {
				found = found || !at.Before(m.from) && !at.After(m.to)
			}
			if !found {
				return false
			}
		}
		return true
	}
	found, text := false, ""
	for _, w := range r.walkers {
		for _, m := range w.past {
			found = found || common(m.from)
			text += fmt.Sprintf("%s: %s to %s\n", w.repos, m.from.Sub(r.journal.began), m.to.Sub(r.journal.began))
		}
	}
	if !found {
		r.t.Fatal(errors.New("the repositories have gone back to moments that were not at the same time:\n" + text))
	}
	for _, w := range r.walkers {
		w.past = nil
	}
}
