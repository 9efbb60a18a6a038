package cluster

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// history is what clients did to one tag that many of them move, each time to a digest of its own, and what they read.
//
// A tag is a register whose values are written once each. Such a history is linearizable, which means that there is an order
// of all moves and reads that agrees with time and in which every read gives the last move, exactly when (Gibbons and Korach,
// "Testing shared memories", 1997): take for every value its move and its reads; let first be the earliest end of one of
// them, and last the latest beginning. When first is before last, the tag surely had this value from first until last. No two
// such times may overlap, and where first is after last, so that the value may have come and gone in a moment, that moment
// must not have to lie inside of another value's time.
//
// A move without an answer may have been made at any later moment, or never. A read is taken to have happened at any moment
// since the one from which on it has to see what was acknowledged: that is how a cache that may be a little behind looks.
type history struct {
	mu    sync.Mutex
	moves map[string]*span   // digest → when it was asked for, and when that was acknowledged
	seen  map[string][]*span // digest → reads; "" is no tag
}

type span struct{ from, to time.Time }

// never is when moves without an answer are acknowledged.
func never() time.Time { return time.Unix(1<<40, 0) }

func newHistory() *history {
	return &history{moves: map[string]*span{"": {}}, seen: map[string][]*span{}}
}

// begin notes that a move is being asked for, which counts as not acknowledged.
func (h *history) begin(digest string, at time.Time) *span {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &span{at, never()}
	h.moves[digest] = s
	return s
}

// acknowledge notes the answer.
func (h *history) acknowledge(move *span, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	move.to = at
}

// forget takes back a move that was surely not made.
func (h *history) forget(digest string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.moves, digest)
}

// read notes what was read. from is the moment from which on it had to be true.
func (h *history) read(digest string, from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[digest] = append(h.seen[digest], &span{from, to})
}

// acknowledged are the digests of acknowledged moves with their times.
func (h *history) acknowledged() map[string]span {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]span{}
	for d, m := range h.moves {
		if d != "" && !m.to.Equal(never()) {
			all[d] = *m
		}
	}
	return all
}

// reads is how many there were.
func (h *history) reads() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.seen {
		n += len(r)
	}
	return n
}

// zone is when the tag had a value, as far as anybody knows.
type zone struct {
	digest      string
	first, last time.Time
}

// forward says that the value was there for a while.
func (z zone) forward() bool { return z.first.Before(z.last) }

func (z zone) String() string {
	const form = "05.000"
	if z.forward() {
		return fmt.Sprintf("%.15s… was the value from %s until %s at least", z.digest, z.first.Format(form), z.last.Format(form))
	}
	return fmt.Sprintf("%.15s… was the value at some moment between %s and %s", z.digest, z.last.Format(form), z.first.Format(form))
}

// check gives every contradiction.
func (h *history) check() (faults []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lasting, passing []zone
	for d, move := range h.moves {
		z := zone{d, move.to, move.from}
		for _, r := range h.seen[d] {
			if r.to.Before(move.from) {
				faults = append(faults, fmt.Sprintf("%s was read before anybody asked for it", d))
			}
			if r.to.Before(z.first) {
				z.first = r.to
			}
			if r.from.After(z.last) {
				z.last = r.from
			}
		}
		switch {
		case z.first.Equal(never()): // not acknowledged and never seen: it need not have happened
		case z.forward():
			lasting = append(lasting, z)
		default:
			passing = append(passing, z)
		}
	}
	for d := range h.seen {
		if h.moves[d] == nil {
			faults = append(faults, fmt.Sprintf("%s was read, which nobody has asked for", d))
		}
	}
	slices.SortFunc(lasting, func(a, b zone) int { return a.first.Compare(b.first) })
	for i, z := range lasting {
		if i > 0 && z.first.Before(lasting[i-1].last) {
			faults = append(faults, fmt.Sprintf("%s, and %s", lasting[i-1], z))
		}
	}
	for _, p := range passing {
		for _, z := range lasting {
			if z.first.Before(p.last) && p.first.Before(z.last) {
				faults = append(faults, fmt.Sprintf("%s, and %s", z, p))
			}
		}
	}
	return faults
}

// agrees holds the order of the outbox against the history: every acknowledged move is there, none that nobody asked for,
// and none before one that was acknowledged before it was asked for.
func (h *history) agrees(order []string) (faults []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := map[string]int{}
	for i, d := range order {
		if _, twice := at[d]; twice {
			faults = append(faults, d+" was moved to once, and is in the outbox twice")
		}
		if at[d] = i; h.moves[d] == nil {
			faults = append(faults, d+" is in the outbox and nobody has asked for it")
		}
	}
	for d, m := range h.moves {
		if _, ok := at[d]; !ok && d != "" && !m.to.Equal(never()) {
			faults = append(faults, d+" was acknowledged and is not in the outbox")
		}
	}
	latest := time.Time{} // beginning of a move so far
	for _, d := range order {
		m := h.moves[d]
		if m == nil {
			continue
		}
		if m.to.Before(latest) {
			faults = append(faults, fmt.Sprintf("%s was acknowledged before a move was asked for that is before it in the outbox", d))
		}
		if m.from.After(latest) {
			latest = m.from
		}
	}
	return faults
}
