package recall_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/recall"
)

func one(int, string) uint32 { return 1 }

func loader(v string, err error, calls *int) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { *calls++; return v, err }
}

var errAway = fault.New(fault.Unavailable, fault.UnavailableReason, "away")

func TestTrust(t *testing.T) {
	for _, c := range []struct {
		name  string
		trust recall.Trust
		err   error
		want  string // of the second Get, "" for the error
		calls int
	}{
		{"current", recall.Current, nil, "old", 0},
		{"doubtful", recall.Doubtful, nil, "new", 1},
		{"doubtful and away", recall.Doubtful, errAway, "old", 1},
		{"doubtful and wrong", recall.Doubtful, errors.New("damaged"), "", 1},
		{"expired", recall.Expired, nil, "new", 1},
		{"expired and away", recall.Expired, errAway, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var trust atomic.Uint32
			k := recall.New(recall.Options[int, string]{Max: 100, Weigh: one, Trust: func() recall.Trust { return recall.Trust(trust.Load()) }})
			calls := 0
			if v, err := k.Get(t.Context(), 1, loader("old", nil, &calls)); v != "old" || err != nil {
				t.Fatal(v, err)
			}
			trust.Store(uint32(c.trust))
			calls = 0
			v, err := k.Get(t.Context(), 1, loader("new", c.err, &calls))
			if calls != c.calls || (err == nil) != (c.want != "") || err == nil && v != c.want {
				t.Errorf("%q, %v after %d questions; want %q after %d", v, err, calls, c.want, c.calls)
			}
			if _, err := k.Get(t.Context(), 2, loader("", errAway, &calls)); !fault.Is(err, fault.Unavailable) {
				t.Errorf("what was never seen: %v", err)
			}
		})
	}
}

// What was read before a drop is not remembered after it.
func TestReaderOnItsWay(t *testing.T) {
	for name, forget := range map[string]func(*recall.Cache[int, string]){
		"drop":  func(c *recall.Cache[int, string]) { c.Drop(1) },
		"clear": func(c *recall.Cache[int, string]) { c.Clear() },
	} {
		t.Run(name, func(t *testing.T) {
			c := recall.New(recall.Options[int, string]{Max: 100, Weigh: one})
			v, err := c.Get(t.Context(), 1, func(context.Context) (string, error) { forget(c); return "old", nil })
			if v != "old" || err != nil {
				t.Fatal(v, err)
			}
			if v, ok := c.Peek(1); ok {
				t.Errorf("%q was remembered, which was read before it changed", v)
			}
			c.Put(1, "new")
			forget(c)
			if v, ok := c.Peek(1); ok {
				t.Errorf("%q is remembered after it was forgotten", v)
			}
		})
	}
}

func TestHitsAllocateNothing(t *testing.T) {
	c := recall.New(recall.Options[int, string]{Max: 100, Weigh: one})
	load := func(context.Context) (string, error) { return "v", nil }
	_, _ = c.Get(t.Context(), 1, load)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Get(t.Context(), 1, load) }); n > 0 {
		t.Errorf("%v allocations per hit", n)
	}
}

func BenchmarkHit(b *testing.B) {
	c := recall.New(recall.Options[int, string]{Max: 100, Weigh: one})
	load := func(context.Context) (string, error) { return "v", nil }
	_, _ = c.Get(b.Context(), 1, load)
	for b.Loop() {
		_, _ = c.Get(b.Context(), 1, load)
	}
}
