package crash

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

const (
	writers      = 6
	readyWithin  = 15 * time.Second // milliseconds, on a machine that does nothing else
	minAckRound  = 10
	slowPushSize = 2 << 20
)

// Whatever moment the daemon is killed in, everything that it acknowledged is there afterwards, nothing that it
// acknowledged as deleted is, nothing partial is visible, uploads go on where they were, and it is ready in five
// seconds without any repair.
func TestCrash(t *testing.T) {
	rounds, seed := number(t, "BERTH_CRASH_ROUNDS", 12), uint64(number(t, "BERTH_CRASH_SEED", int(rand.Uint32())))
	for name, database := range map[string]func(testing.TB) string{
		"sqlite":   func(testing.TB) string { return "" },
		"postgres": testkit.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			testkit.RequireDisk(t, data, int64(rounds)*(writers*roundBudget*2)+1<<30)
			t.Logf("seed %d, %d rounds; again with BERTH_CRASH_SEED=%d", seed, rounds, seed)
			d := testkit.Start(t, testkit.Options{Data: data, Database: database(t), Env: []string{"BERTH_ANONYMOUS=delete"}})
			newCrasher(t, d, seed).run(t, rounds)
		})
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

// crasher runs the rounds on one daemon.
type crasher struct {
	d       *testkit.Daemon
	rnd     *rand.Rand
	writers []*writer
	hot     *register
	acks    int64
	slowest time.Duration
}

// The hot tag's manifests share one config; it is pushed before the first round.
var (
	emptyConfigData = []byte("{}")
	emptyConfig     = descriptor{"application/vnd.oci.empty.v1+json", digestOf(emptyConfigData), len(emptyConfigData)}
)

func newCrasher(t *testing.T, d *testkit.Daemon, seed uint64) *crasher {
	c := &crasher{d: d, rnd: rand.New(rand.NewPCG(seed, 0)), hot: &register{}}
	for i := range writers {
		c.writers = append(c.writers, newWriter(i, writers, seed))
	}
	cl := newClient(d.URL)
	defer cl.close()
	if a, err := cl.pushAtOnce(sharedRepo, emptyConfig.Digest, emptyConfigData); err != nil || a.status != http.StatusCreated {
		t.Fatalf("push of the shared config: %s, %v", a, err)
	}
	return c
}

func (c *crasher) run(t *testing.T, rounds int) {
	for round := 1; round <= rounds; round++ {
		drains := round%5 == 0
		c.load(t, drains)
		start := time.Now()
		c.d.Restart(t)
		took := time.Since(start)
		c.slowest = max(c.slowest, took)
		if took > readyWithin {
			t.Errorf("round %d: ready %s after the start, want at most %s", round, took, readyWithin)
		}
		c.verify(t)
		if t.Failed() {
			c.explain(t, round)
			return
		}
	}
	t.Logf("%d acknowledged writes, slowest start %s", c.acks, c.slowest)
	if c.acks < int64(rounds*minAckRound) {
		t.Errorf("only %d writes were acknowledged in %d rounds: nothing was tested", c.acks, rounds)
	}
}

// load lets the writers work and ends the daemon under them: after a random time, or with the answer to a random
// write still on its way, which is when one that was answered too early shows.
func (c *crasher) load(t *testing.T, drains bool) {
	l := &load{client: newClient(c.d.URL), drains: drains, reached: make(chan struct{}), hot: c.hot}
	defer l.client.close()
	after := time.Duration(100+c.rnd.IntN(1_200)) * time.Millisecond
	if c.rnd.IntN(2) == 0 {
		l.ackGoal = int64(minAckRound + c.rnd.IntN(400))
		after = 2 * time.Second // also when the machine is slow
	}
	var wg sync.WaitGroup
	for _, w := range c.writers {
		wg.Go(func() {
			if err := w.run(l); err != nil {
				t.Errorf("while it ran: %v", err)
			}
		})
	}
	select {
	case <-l.reached:
	case <-time.After(after):
	}
	if drains {
		digest := c.drain(t, l)
		defer func() { is(c.writers[0].blobs, digest, true) }()
	} else {
		l.ending.Store(true)
		c.d.Kill()
	}
	wg.Wait()
	c.acks += l.acks.Load()
}

// drain ends the daemon with SIGTERM while a request is half sent: that one is answered, and the exit code is 0. It
// gives the digest of what was pushed, to the repository of the first writer.
func (c *crasher) drain(t *testing.T, l *load) (digest string) {
	data := content{c.rnd.Uint64(), slowPushSize}.bytes()
	digest = digestOf(data)
	body, feed := io.Pipe()
	answered := make(chan string, 1)
	go func() { answered <- pushSlowly(l.client, c.writers[0].repo, digest, body) }()
	if _, err := feed.Write(data[:len(data)/2]); err != nil {
		t.Errorf("first half of a slow push: %v", err)
	}
	time.Sleep(50 * time.Millisecond) // it is with the daemon now, which waits for the rest
	l.ending.Store(true)
	stopped := make(chan error, 1)
	go func() { stopped <- c.d.Stop() }()
	time.Sleep(300 * time.Millisecond)
	_, _ = feed.Write(data[len(data)/2:]) // that it was cut off shows in the answer
	feed.Close()
	if fault := <-answered; fault != "" {
		t.Errorf("a push that was half sent at SIGTERM: %s", fault)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	return digest
}

func pushSlowly(c *client, repo, digest string, body io.Reader) (fault string) {
	req, err := http.NewRequest(http.MethodPost, c.base+"/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(digest), body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength = slowPushSize
	resp, err := c.http.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Sprintf("status %d, want 201", resp.StatusCode)
	}
	return ""
}

// verify looks at everything, all writers at once, and finishes the open uploads of half of them.
func (c *crasher) verify(t *testing.T) {
	cl := newClient(c.d.URL)
	defer cl.close()
	var wg sync.WaitGroup
	for _, w := range c.writers {
		finish := c.rnd.IntN(2) == 0
		wg.Go(func() {
			for _, fault := range w.verify(cl, finish) {
				t.Error(fault)
			}
		})
	}
	wg.Wait()
	allowed := c.hot.allowed()
	digest := resolveTag(cl, sharedRepo, hotTag, t.Errorf)
	if !allowed[digest] {
		t.Errorf("%s: tag %s is %q, which an acknowledged move came after; the last ones are %v", sharedRepo, hotTag, digest, allowed)
	}
	c.hot.settle(digest)
}

// explain prints what led to a failure.
func (c *crasher) explain(t *testing.T, round int) {
	t.Logf("failed in round %d", round)
	for _, w := range c.writers {
		t.Logf("last operations of %s:", w.name)
		for _, line := range w.history {
			t.Logf("  %s", line)
		}
	}
}
