package scrub_test

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// work runs the jobs of a house until stop is called.
func (h *house) work(t *testing.T) (stop func()) {
	t.Helper()
	j, err := job.New(job.Options{DB: h.db, Poll: 20 * time.Millisecond, Hold: 2 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	must(t, h.scrub.Jobs(j))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func (h *house) await(t *testing.T, id int64) metadb.Job {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		j, err := h.db.Job(t.Context(), id)
		must(t, err)
		if j.State.Ended() {
			if j.State != metadb.JobSucceeded {
				t.Fatalf("job %d is %s: %s", id, j.State, j.Error)
			}
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("job %d is %s after half a minute: %+v", id, j.State, j.Progress)
		}
	}
}

// A check whose process stops goes on where it was: no blob is read twice, but for a page, and what was found counts.
func TestCheckGoesOn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		var opened atomic.Int64
		gate := make(chan struct{})
		h := newHouse(t, database, func(o *options) {
			o.wrap = func(s blob.Store) blob.Store { return &counting{s, &opened, 600, gate} }
		})
		const blobs = 700
		var first oci.Digest
		for i := range blobs {
			d := h.put(t, "team/app", random(i, 33<<10))
			if first.IsZero() || d.String() < first.String() {
				first = d
			}
		}
		must(t, os.Truncate(h.file(first), 10))
		stop := h.work(t)
		id, err := h.scrub.Start(admin(), scrub.Ask{})
		must(t, err)
		if again, err := h.scrub.Start(admin(), scrub.Ask{}); err != nil || again != id {
			t.Errorf("a second check is job %d, %v; the first is %d", again, err, id)
		}
		for deadline := time.Now().Add(20 * time.Second); opened.Load() < 600; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d blobs were opened", opened.Load())
			}
		}
		if r, err := h.scrub.Report(admin(), id); err == nil && !r.EndedAt.IsZero() {
			t.Errorf("it has ended already: %s", r.String())
		}
		stop()
		close(gate)
		h2 := h.reopen(t)
		h2.work(t)
		h2.await(t, id)
		r, err := h2.scrub.Report(admin(), id)
		if err != nil || r.Blobs != blobs || r.Damaged != 1 || r.EndedAt.IsZero() || r.Total != blobs {
			t.Errorf("its report: %s, %v", r.String(), err)
		}
		if last, err := h2.scrub.Report(admin(), 0); err != nil || last.String() != r.String() || last.Job != id {
			t.Errorf("the last report: %+v, %v", last, err)
		}
		if n := opened.Load(); n > blobs+256+10 {
			t.Errorf("%d blobs were opened for %d", n, blobs)
		}
	})
}

// counting counts, and holds whoever opens more than most until the gate opens.
type counting struct {
	blob.Store
	opened *atomic.Int64
	most   int64
	gate   chan struct{}
}

func (c *counting) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if c.opened.Add(1) > c.most {
		select {
		case <-c.gate:
		case <-ctx.Done():
			c.opened.Add(-1)
			return nil, 0, context.Cause(ctx)
		}
	}
	return c.Store.Open(ctx, d)
}

// A blob that was pushed again while a slow pull read the old bytes is put aside for a moment, and looked at again.
func TestSuspicionIsLookedInto(t *testing.T) {
	var suspect func(tx *metadb.Tx, m metadb.Damage) error
	h := newHouse(t, func(o *options) {
		o.registry.Verify = registry.VerifyAlways
		o.registry.Suspect = func(tx *metadb.Tx, m metadb.Damage) error { return suspect(tx, m) }
	})
	suspect = h.scrub.Suspect
	h.work(t)
	img := newImage(1, "team/app", "v1")
	h.push(t, img)
	_, layer, _ := img.digests()
	h.flip(t, layer, 1)
	c, size, err := h.OpenBlob(admin(), name(t, img.repo), layer)
	must(t, err)
	defer c.Close()
	must(t, os.Rename(h.file(layer), h.file(layer)+".old")) // the open file goes on having the old bytes
	h.put(t, img.repo, img.layer)
	if _, err := h.SendBlob(admin(), discard{}, layer, c, size); err == nil {
		t.Fatal("the old bytes were taken for the right ones")
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = h.StatBlob(admin(), name(t, img.repo), layer); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody looked again: %v", err)
		}
	}
	must(t, h.pull(t, img))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
