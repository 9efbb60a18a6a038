package metadb

import (
	"math"
	"sync/atomic"
)

// gate counts those who use the database, so that Close can wait for them. It is no RWMutex because a hook or a closure
// may read while its own update is inside: with a Close waiting, that would lock up; here the inner one is refused.
type gate struct {
	inside atomic.Int64  // negative once shut
	empty  chan struct{} // told when the last one has left a shut gate
}

func newGate() *gate { return &gate{empty: make(chan struct{}, 1)} }

// enter reports whether the database is open; then leave must follow.
func (g *gate) enter() bool {
	if g.inside.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.inside.Add(-1) == math.MinInt64 {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// shut refuses newcomers, waits for those inside, and reports whether it was open before.
func (g *gate) shut() bool {
	for {
		n := g.inside.Load()
		if n < 0 {
			return false
		}
		if g.inside.CompareAndSwap(n, n+math.MinInt64) {
			if n > 0 {
				<-g.empty
			}
			return true
		}
	}
}
