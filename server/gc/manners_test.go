package gc_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// watched is a store whose deletions take their time and are looked at.
type watched struct {
	blob.Store
	take time.Duration

	mu          sync.Mutex
	now, atOnce int
	busy        time.Duration
}

func (w *watched) Delete(ctx context.Context, ds ...oci.Digest) error {
	w.mu.Lock()
	w.now++
	w.atOnce = max(w.atOnce, w.now)
	w.mu.Unlock()
	time.Sleep(w.take)
	w.mu.Lock()
	w.now--
	w.busy += w.take
	w.mu.Unlock()
	return w.Store.Delete(ctx, ds...)
}

// TestManners: while others are at work one worker is, for a tenth of the time; else all are.
func TestManners(t *testing.T) {
	for name, busy := range map[string]bool{"alone": false, "beside others": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, metadbtest.File(t))
			for range 60 {
				w.push(10)
			}
			w.clock.move(2 * grace)
			store := &watched{Store: w.store, take: 20 * time.Millisecond}
			o := w.options()
			o.Blobs, o.Busy = store, func() bool { return busy }
			began := time.Now()
			if r := w.run(gc.New(o), gc.Ask{}); r.Deleted != 60 {
				t.Fatalf("%+v", r)
			}
			took := time.Since(began)
			if busy && (store.atOnce != 1 || took < 9*store.busy) {
				t.Errorf("%d deletions at once, %s of deletions in %s", store.atOnce, store.busy, took)
			}
			if !busy && store.atOnce < 2 {
				t.Errorf("alone, the workers waited for each other")
			}
		})
	}
}
