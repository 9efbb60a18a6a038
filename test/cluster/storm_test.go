package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

const (
	writers = 8
	pullers = 3

	bytesWritten = 700 << 20 // of content, at most, in a storm of ordinary length

	// breath is what a client takes between two steps.
	breath = 5 * time.Millisecond

	// rollingAfter is how long clients work between the restarts of a rolling restart.
	rollingAfter = 700 * time.Millisecond
)

// TestStorm lets clients work while everything under them dies and comes back, and asks for everything afterwards.
func TestStorm(t *testing.T) {
	seconds, seed := number(t, "BERTH_CLUSTER_SECONDS", 30), uint64(number(t, "BERTH_CLUSTER_SEED", int(rand.Uint32())))
	testkit.RequireDisk(t, t.TempDir(), 3<<30)
	t.Logf("seed %d, %s; again with BERTH_CLUSTER_SEED=%d", seed, s3Kind(t), seed)
	f := newFleet(t)
	crowd := newCrowd(f, seed)

	c := &chaos{f: f, rnd: rand.New(rand.NewPCG(seed, 1))}
	stop := crowd.work()
	c.run(time.Duration(seconds) * time.Second)
	stop()
	t.Logf("storm: %s; %s", c, f.judge)
	c.prove(seconds)

	crowd.roll(f)
	if t.Failed() {
		t.FailNow()
	}
	began := time.Now()
	for _, phase := range []func(*fleet){crowd.verify, crowd.abandon, crowd.verifyNotifications} {
		phase(f)
		t.Logf("took %s", time.Since(began).Round(100*time.Millisecond))
		began = time.Now()
	}
}

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

// crowd is all clients.
type crowd struct {
	f         *fleet
	writers   []*writer
	movers    []*mover
	pullers   []*puller
	histories []*history
	shelf     *shelf
}

func newCrowd(f *fleet, seed uint64) *crowd {
	c := &crowd{f: f, shelf: &shelf{}}
	b := &budget{}
	b.left.Store(bytesWritten)
	for range hotTags {
		c.histories = append(c.histories, newHistory())
	}
	random := func(kind, i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(1000*kind+i))) }
	for i := range writers {
		c.writers = append(c.writers, &writer{
			ledger: newLedger(), c: f.client(), judge: f.judge, shelf: c.shelf, budget: b,
			repo: fmt.Sprint("cluster/w", i), rnd: random(1, i),
		})
	}
	for i := range movers {
		m := &mover{
			sql: &testkit.SQL{DSN: f.postgres.DSN}, c: f.client(), judge: f.judge, name: fmt.Sprint("m", i), rnd: random(2, i), histories: c.histories,
		}
		c.movers = append(c.movers, m)
		f.t.Cleanup(m.sql.Close)
	}
	for i := range pullers {
		c.pullers = append(c.pullers, &puller{c: f.client(), judge: f.judge, shelf: c.shelf, rnd: random(3, i)})
	}
	return c
}

// work lets all clients work until the function that it returns is called; it returns when all have ended.
func (c *crowd) work() (stop func()) {
	var all sync.WaitGroup
	end := make(chan struct{})
	loop := func(step func()) {
		all.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					step()
					time.Sleep(breath)
				}
			}
		})
	}
	for _, w := range c.writers {
		loop(w.step)
	}
	for _, m := range c.movers {
		loop(m.step)
	}
	for _, p := range c.pullers {
		loop(p.step)
	}
	return func() {
		close(end)
		all.Wait()
	}
}

// roll restarts the replicas one by one under load, as an operator does. First each is taken out of the balancer before it
// is told to end, as Kubernetes does: then nobody may notice anything. Then none is: connections that arrive while it ends
// may be refused, and nothing else may happen. No replica may answer 5xx.
func (c *crowd) roll(f *fleet) {
	f.judge.strict.Store(true)
	defer f.judge.strict.Store(false)
	for _, announced := range []bool{true, false} {
		f.judge.severed.Store(announced)
		before, killed := f.judge.acks.Load(), f.judge.killed.Load()
		stop := c.work()
		for i, d := range f.replicas {
			time.Sleep(rollingAfter)
			if announced {
				f.balancer.Hold(i)
			}
			back := f.judge.away(&f.judge.replicas[i])
			d.Restart(f.t)
			back()
			f.balancer.Release(i)
		}
		time.Sleep(rollingAfter)
		stop()
		f.judge.severed.Store(false)
		acks := f.judge.acks.Load() - before
		f.t.Logf("rolling restart, announced to the balancer %v: %d writes acknowledged, %d connections refused or cut, no answer 5xx",
			announced, acks, f.judge.killed.Load()-killed)
		if acks < 50 {
			f.t.Errorf("only %d writes were acknowledged in a rolling restart: nothing was tested", acks)
		}
	}
}
