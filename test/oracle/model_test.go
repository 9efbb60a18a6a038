package oracle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

const (
	walkers      = 4
	stepsOfRound = 30
)

// Whatever clients and operators do, in whatever order, and whatever dies meanwhile: what a registry answers is what a small
// model of it says. What must be there is, what was deleted is not, and what nothing needs goes.
func TestOracle(t *testing.T) {
	seconds, seed := number(t, "BERTH_ORACLE_SECONDS", 30), uint64(number(t, "BERTH_ORACLE_SEED", int(rand.Uint32())))
	for _, m := range stand.Makes() {
		t.Run(m.String(), func(t *testing.T) {
			t.Logf("seed %d, %d s at least; again with BERTH_ORACLE_SEED=%d", seed, seconds, seed)
			s := stand.Settings{Grace: grace, Hold: hold, Interval: interval, UploadAge: time.Hour, Verify: true}
			r := newRun(t, stand.Start(t, m, s), seed)
			r.work(time.Duration(seconds) * time.Second)
			r.end()
		})
	}
}

const (
	grace    = time.Second
	hold     = time.Hour // what is purged, is by request: else nobody knew when
	interval = 50 * time.Millisecond
)

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q; a number from 1 on is needed", name, text)
	}
	return n
}

// run is one registry, its walkers, and what is done to it.
type run struct {
	*world
	t       *testing.T
	rnd     *rand.Rand
	walkers []*walker
	deck    []func() // the rounds that come next
	rounds  int
}

func newRun(t *testing.T, f *stand.Fleet, seed uint64) *run {
	u := newUniverse()
	w := &world{universe: u, fleet: f, journal: newJournal(u), promise: f.Grace, rotten: map[string]bool{}, tally: tally{of: map[kind]int{}}}
	r := &run{world: w, t: t, rnd: rand.New(rand.NewPCG(seed, 1<<32))}
	for i := range walkers {
		r.walkers = append(r.walkers, newWalker(w, i, seed))
	}
	return r
}

// work lets the walkers walk in rounds, and compares after each: for so long at least, and until every kind of step was
// taken.
func (r *run) work(length time.Duration) {
	for began := time.Now(); time.Since(began) < length || r.lacks() != ""; r.rounds++ {
		if time.Since(began) > longest(length) {
			r.t.Fatalf("after %d rounds in %s %s: %s", r.rounds, time.Since(began).Round(time.Second), r.lacks(), r)
		}
		r.next()()
		r.each("compare", (*walker).verify)
	}
}

// longest is how long the rounds may take that are to take so long: a slow machine has time to do everything once.
func longest(length time.Duration) time.Duration { return 3*length + 2*time.Minute }

// next is what a round is about. In a few rounds each kind of them comes, in an order by the dice.
func (r *run) next() (round func()) {
	if len(r.deck) == 0 {
		// The names that a rebuild reads are written by one replica, and by another only 20 seconds after that was killed: so
		// there is no kill between a rebuild and the beginning of a new life.
		deck := [][]func(){{r.collect}, {r.collect}, {r.kill}, {r.kill}, {r.kill}, {r.rot}, {r.restore, r.rebuild}}
		r.rnd.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		r.deck = slices.Concat(deck...)
	}
	round, r.deck = r.deck[0], r.deck[1:]
	return round
}

// collect is a round in which somebody asks for a collection beside those that come by themselves.
func (r *run) collect() {
	client := r.fleet.Client(r.rnd.IntN(walkers))
	id, err := client.StartJob("gc")
	if err != nil {
		r.t.Fatal(err)
	}
	r.each("walk", func(w *walker) error { return w.walk(stepsOfRound) })
	if err := client.AwaitJob(id); err != nil {
		r.t.Fatal(err)
	}
	r.count(collected)
}

// kill is a round in which a replica is killed.
func (r *run) kill() {
	victim := r.rnd.IntN(len(r.fleet.Replicas))
	after := time.Duration(5+r.rnd.IntN(150)) * time.Millisecond
	var killer sync.WaitGroup
	killer.Go(func() {
		time.Sleep(after)
		r.killing.Store(true)
		r.fleet.Kill(victim)
		r.journal.event("replica %d is killed", victim)
		r.count(killed)
	})
	r.each("walk", func(w *walker) error { return w.walk(stepsOfRound) })
	killer.Wait()
	r.fleet.Restart(victim)
	r.killing.Store(false)
	r.journal.event("replica %d is started again", victim)
}

// each has all walkers do something at once, and ends the test when one finds a difference.
func (r *run) each(what string, do func(*walker) error) {
	r.t.Helper()
	var all sync.WaitGroup
	for _, w := range r.walkers {
		all.Go(func() {
			if err := do(w); err != nil {
				r.t.Errorf("round %d, %s: %v", r.rounds, what, err)
			}
		})
	}
	all.Wait()
	r.stopIfFailed()
}

func (r *run) stopIfFailed() {
	r.t.Helper()
	if r.t.Failed() {
		r.t.FailNow()
	}
}

func (r *run) String() string {
	return fmt.Sprintf("%s: %d requests in %d rounds; %s", r.fleet, r.requests.Load(), r.rounds, &r.tally)
}
