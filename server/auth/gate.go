package auth

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/berth-registry/berth/fault"
)

// maxWaiting is how many logins may wait for the gate. Each waits at most for the ones before it; beyond this a
// storm is answered at once instead of in minutes.
const maxWaiting = 256

// gate bounds the password hashes that are computed at once: 64 logins that arrive together would otherwise take
// 64 × 19 MiB and every core away from pulls.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newGate(n int) *gate {
	if n <= 0 {
		n = min(4, max(1, runtime.GOMAXPROCS(0)/2))
	}
	return &gate{slots: make(chan struct{}, n)}
}

// enter waits for a slot; the caller must leave.
func (g *gate) enter(ctx context.Context) error {
	if g.waiting.Add(1) > maxWaiting {
		g.waiting.Add(-1)
		f := fault.New(fault.RateLimited, fault.TooManyRequests, "too many logins are being checked at once; try again in 2 seconds")
		f.After = 2
		return f
	}
	defer g.waiting.Add(-1)
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) leave() { <-g.slots }

// flights lets concurrent logins with the same credential share one check: a client that pulls over eight connections
// costs one hash, and guesses that run in parallel stay distinguishable from one client's honest burst.
type flights struct {
	mu sync.Mutex
	m  map[route]*flight
}

// route is a credential and where it comes from: callers share an answer only when they would share the delay, too.
type route struct {
	credential
	addr string
}

type flight struct {
	done chan struct{}
	acc  Account
	err  error
}

func newFlights() *flights { return &flights{m: make(map[route]*flight)} }

// do runs check, or waits for the one that runs with the same key. When that one's caller went away before there was
// an answer, a waiter takes over.
func (f *flights) do(ctx context.Context, key route, check func() (Account, error)) (Account, error) {
	for {
		f.mu.Lock()
		fl, running := f.m[key]
		if !running {
			fl = &flight{done: make(chan struct{}), err: context.Canceled} // stands if check panics
			f.m[key] = fl
		}
		f.mu.Unlock()
		if !running {
			return f.lead(key, fl, check)
		}
		select {
		case <-fl.done:
			if !abandoned(fl.err) {
				return fl.acc, fl.err
			}
		case <-ctx.Done():
			return Account{}, ctx.Err()
		}
	}
}

func (f *flights) lead(key route, fl *flight, check func() (Account, error)) (Account, error) {
	defer func() {
		f.mu.Lock()
		delete(f.m, key)
		f.mu.Unlock()
		close(fl.done)
	}()
	fl.acc, fl.err = check()
	return fl.acc, fl.err
}
