package collect

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/internal/testkit/stand"
)

const (
	grace    = time.Second
	hold     = 300 * time.Millisecond
	interval = 50 * time.Millisecond
)

func settings() stand.Settings {
	return stand.Settings{Grace: grace, Hold: hold, Interval: interval, UploadAge: time.Hour}
}

// Clients that trust what they are told about blobs are never wrong, while collection runs without a pause.
func TestRace(t *testing.T) {
	for _, m := range stand.Makes() {
		t.Run(m.String(), func(t *testing.T) {
			r := newRace(t, stand.Start(t, m, settings()))
			r.run(nil)
			r.settle()
		})
	}
}

// A replica that dies in the middle of collection leaves claims and half of a deletion behind; the others end it, or it
// itself when it is started again.
func TestRaceWithKills(t *testing.T) {
	for _, m := range []stand.Make{{Replicas: 1}, {Shared: true, Replicas: 3}} {
		t.Run(m.String(), func(t *testing.T) {
			r := newRace(t, stand.Start(t, m, settings()))
			r.run(func(stop <-chan struct{}) {
				rnd := rand.New(rand.NewPCG(r.seed, 99))
				for kills := 0; ; kills++ {
					select {
					case <-stop:
						t.Logf("%d replicas were killed", kills)
						return
					case <-time.After(time.Duration(300+rnd.IntN(900)) * time.Millisecond):
					}
					victim := rnd.IntN(len(r.fleet.Replicas))
					r.dying.Add(1)
					r.fleet.Kill(victim)
					r.fleet.Restart(victim)
					r.deaths.Add(1)
					r.dying.Add(-1)
				}
			})
			r.settle()
		})
	}
}

func number(t testing.TB, name string, otherwise int) int {
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

// race is one registry and who races in it.
type race struct {
	t     *testing.T
	fleet *stand.Fleet
	seed  uint64
	pool  []stand.Blob // content that everybody pushes
	until time.Time

	// While a replica is being killed, or when one was killed during a request, silence is no fault.
	dying, deaths atomic.Int64

	pushes, skips, mounts, deletes, slow, told atomic.Int64
	next                                       atomic.Uint64 // seeds of content of one's own

	mu   sync.Mutex
	kept map[image]stand.Manifest // acknowledged and never deleted
	open []string                 // uploads that their clients have left
}

type image struct{ repo, digest string }

const (
	poolSize  = 40
	keptBytes = 96 << 20 // of live content at the end, about: 1 % of it must be more than chance
)

func newRace(t *testing.T, f *stand.Fleet) *race {
	testkit.RequireDisk(t, f.Replicas[0].Data, 4<<30)
	r := &race{t: t, fleet: f, seed: uint64(number(t, "BERTH_COLLECT_SEED", int(rand.Uint32()))), kept: map[image]stand.Manifest{}}
	for i := range poolSize {
		r.pool = append(r.pool, stand.NewBlob(uint64(i+1), []int{900, 30_000, 40_000, 120_000, 300_000}[i%5]))
	}
	r.next.Store(1 << 40)
	t.Logf("seed %d; again with BERTH_COLLECT_SEED=%d", r.seed, r.seed)
	return r
}

// run lets all clients race, and meanwhile something else happen.
func (r *race) run(meanwhile func(stop <-chan struct{})) {
	r.t.Helper()
	length := time.Duration(number(r.t, "BERTH_COLLECT_SECONDS", 8)) * time.Second
	r.until = time.Now().Add(length)
	var all, other sync.WaitGroup
	stop := make(chan struct{})
	if meanwhile != nil {
		other.Go(func() { meanwhile(stop) })
	}
	n := 0
	start := func(count int, do func(c *client) error) {
		for range count {
			c := newClientOf(r, n)
			n++
			all.Go(func() {
				for time.Now().Before(r.until) && !r.t.Failed() {
					if err := do(c); err != nil && !r.excused(c, err) {
						r.t.Errorf("client %d: %v", c.id, err)
					}
				}
			})
		}
	}
	start(3, (*client).skip)
	start(2, (*client).mountImage)
	start(3, (*client).pushSlowly)
	start(3, (*client).again)
	start(2, (*client).shareAndDelete)
	start(2, (*client).shareAndPush)
	start(1, (*client).keep)
	start(1, (*client).abandon)
	all.Wait()
	close(stop)
	other.Wait()
	r.t.Logf("%s: %d images pushed, %d blobs skipped, %d mounted, %d pushed slowly, %d manifests deleted, %d images kept, %d uploads left open",
		r.fleet, r.pushes.Load(), r.skips.Load(), r.mounts.Load(), r.slow.Load(), r.deletes.Load(), len(r.kept), len(r.open))
	for what, count := range map[string]int64{"pushed": r.pushes.Load(), "skipped": r.skips.Load(), "mounted": r.mounts.Load(), "pushed slowly": r.slow.Load(), "deleted": r.deletes.Load()} {
		if count < int64(length.Seconds()/3) && (what != "pushed slowly" || meanwhile == nil) { // a kill ends them all
			r.t.Errorf("only %d were %s in %s: nothing was tested", count, what, length)
		}
	}
	if n := r.fleet.Metric("registry_gc_deleted_blobs_total"); n < 20 && meanwhile == nil {
		r.t.Errorf("only %.0f blobs were collected meanwhile: nothing was tested", n)
	} else {
		r.t.Logf("%.0f blobs were collected meanwhile, since the last start", n)
	}
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// excused says that a request had no answer because its replica was killed. What had one is never excused.
func (r *race) excused(c *client, err error) bool {
	silent, ok := err.(silence) // it is never wrapped
	return ok && (r.dying.Load() > 0 || r.deaths.Load() != silent.deaths || c.deaths != r.deaths.Load())
}

// silence is a request without an answer.
type silence struct {
	text   string
	deaths int64 // how many replicas had been killed when it began
}

func (s silence) Error() string { return s.text }

func (r *race) keep(repo string, m stand.Manifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[image{repo, m.Digest}] = m
}

func (r *race) newSeed() uint64 { return r.next.Add(1) }
