package gc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

type open struct{}

func (open) CheckSystem(context.Context, identity.Verb) error { return nil }

// denied is a gate for who may not.
var errDenied = errors.New("denied")

type denied struct{}

func (denied) CheckSystem(context.Context, identity.Verb) error { return errDenied }

// timer is a clock that a test moves.
type timer struct {
	mu  sync.Mutex
	off time.Duration
	age func(time.Duration) // what is stored instead; nil: the clock moves
}

func (c *timer) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *timer) move(d time.Duration) {
	if c.age != nil {
		c.age(d)
		return
	}
	c.mu.Lock()
	c.off += d
	c.mu.Unlock()
}

// world is a database and a store with what collection is about.
type world struct {
	t     testing.TB
	db    *metadb.DB
	store blob.Store
	repo  metadb.Repository
	clock *timer
	n     int
}

const grace = time.Hour

func databases(t *testing.T, run func(t *testing.T, w *world)) {
	t.Run("sqlite", func(t *testing.T) { run(t, newWorld(t, metadbtest.File(t))) })
	t.Run("postgres", func(t *testing.T) {
		dsn := metadbtest.Postgres(t)
		w := newWorld(t, dsn)
		w.clock.age = func(d time.Duration) { metadbtest.Age(t, dsn, d) }
		run(t, w)
	})
}

func newWorld(t testing.TB, url string) *world {
	t.Helper()
	w := &world{t: t, store: mem.New(), clock: &timer{}}
	var err error
	if w.db, err = metadb.Open(t.Context(), metadb.Options{URL: url, Grace: grace, Now: w.clock.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	w.update(func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("gc", true)
		if err != nil {
			return err
		}
		w.repo, err = tx.EnsureRepository(p.ID, "gc/test")
		return err
	})
	return w
}

func (w *world) update(fn func(tx *metadb.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) options() gc.Options {
	return gc.Options{DB: w.db, Blobs: w.store, Access: open{}, Grace: grace, TrashHold: grace, Now: w.clock.now, Log: slog.New(slog.DiscardHandler), Batch: 10}
}

// push puts a blob into store and database, leased for a grace.
func (w *world) push(size int) oci.Digest {
	w.t.Helper()
	w.n++
	body := make([]byte, size)
	copy(body, fmt.Sprint("blob ", w.n))
	d := oci.FromBytes(oci.SHA256, body)
	ctx, id := context.Background(), fmt.Sprint("u", w.n)
	up, err := w.store.Upload(ctx, id, blob.State{})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := up.Write(body); err != nil {
		w.t.Fatal(err)
	}
	st, err := up.Suspend(ctx)
	if err == nil {
		err = w.store.Commit(ctx, id, st, d)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(size), LeaseUntil: w.clock.now().Add(grace)}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(w.repo.ID, d)
		return err
	})
	return d
}

// image puts a manifest over blobs, under the tag if there is one.
func (w *world) image(tag string, layers ...oci.Digest) oci.Digest {
	w.t.Helper()
	w.n++
	body := []byte(fmt.Sprint("manifest ", w.n))
	d := oci.FromBytes(oci.SHA256, body)
	w.update(func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(body)), LeaseUntil: w.clock.now().Add(grace)}, body); err != nil {
			return err
		}
		var edges []metadb.Edge
		for _, l := range layers {
			edges = append(edges, metadb.Edge{Child: l, Kind: metadb.LayerEdge})
		}
		if _, err := tx.PutManifest(metadb.Manifest{RepoID: w.repo.ID, Digest: d, MediaType: "m", Size: int64(len(body))}, edges); err != nil || tag == "" {
			return err
		}
		_, err := tx.PutTag(w.repo.ID, tag, d, metadb.Origin{})
		return err
	})
	return d
}

func (w *world) run(s *gc.Service, a gc.Ask) gc.Report {
	w.t.Helper()
	r, err := s.Collect(context.Background(), a, false, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) has(d oci.Digest) bool {
	c, _, err := w.store.Open(context.Background(), d)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// TestRun: the preview is what the run then does, to the byte; what is needed or promised stays, space comes back.
func TestRun(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		s := gc.New(w.options())
		var garbage, kept []oci.Digest
		for i := range 35 {
			garbage = append(garbage, w.push(100+i))
		}
		for range 5 {
			kept = append(kept, w.push(1000))
		}
		w.image("latest", kept...)
		if r := w.run(s, gc.Ask{}); r.Deleted+r.Failed > 0 {
			t.Fatalf("within the grace: %+v", r)
		}
		w.clock.move(2 * grace)
		promised := w.push(50)
		p, err := s.Preview(t.Context(), gc.Ask{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Blobs != 35 || p.Bytes != 35*100+34*35/2 || p.Later != 1 || p.LaterBytes != 50 {
			t.Fatalf("preview: %+v", p)
		}
		r := w.run(s, gc.Ask{})
		if r.Deleted != p.Blobs || r.Bytes != p.Bytes || r.Failed > 0 {
			t.Fatalf("previewed %+v, did %+v", p, r)
		}
		for _, d := range garbage {
			if w.has(d) {
				t.Fatalf("%s is still there", d)
			}
		}
		for _, d := range append(kept, promised) {
			if !w.has(d) {
				t.Fatalf("%s is gone", d)
			}
		}
		if r := w.run(s, gc.Ask{}); r.Examined > 0 {
			t.Fatalf("a second run: %+v", r)
		}
		st, err := s.Status(t.Context())
		if err != nil || st.Last == nil || st.Queue.Waiting != 1 || st.Queue.Due != 0 {
			t.Fatalf("status %+v, %v", st, err)
		}
	})
}

// TestUntagged: the preview of the policy is what can go when it has been carried out.
func TestUntagged(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		s := gc.New(w.options())
		shared, own := w.push(300), w.push(200)
		w.image("latest", shared)
		loose := w.image("", shared, own)
		w.clock.move(2 * grace)
		w.run(s, gc.Ask{})
		p, err := s.Preview(t.Context(), gc.Ask{DeleteUntagged: true})
		if err != nil {
			t.Fatal(err)
		}
		if p.Manifests != 1 || p.Afterwards != 2 || p.AfterwardsBytes != 200+int64(len("manifest 4")) || p.Blobs != 0 {
			t.Fatalf("preview: %+v", p)
		}
		if r := w.run(s, gc.Ask{DeleteUntagged: true}); r.Trashed != 1 || r.Deleted != 0 {
			t.Fatalf("run: %+v", r)
		}
		why, err := s.Why(t.Context(), own)
		if err != nil || len(why.Holds) != 1 || why.Holds[0].Manifest != loose || why.Holds[0].TrashUntil.IsZero() {
			t.Fatalf("why: %+v, %v", why, err)
		}
		w.clock.move(2 * grace)
		w.run(s, gc.Ask{}) // purges
		w.clock.move(2 * grace)
		if r := w.run(s, gc.Ask{}); r.Deleted != p.Afterwards || r.Bytes != p.AfterwardsBytes {
			t.Fatalf("previewed %+v, did %+v", p, r)
		}
		if w.has(own) || !w.has(shared) {
			t.Fatal("the wrong content went")
		}
	})
}

// TestPreviewOfTrash: the preview counts what leaves the trash because its hold is over, and what that frees, as the run does;
// what waits for its referrer is not counted.
func TestPreviewOfTrash(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		s := gc.New(w.options())
		preview := func() gc.Preview {
			t.Helper()
			p, err := s.Preview(t.Context(), gc.Ask{})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		shared, own, both := w.push(300), w.push(200), w.push(50)
		w.image("latest", shared)
		one, two := w.image("", shared, own, both), w.image("", both)
		subject := w.image("")
		referrer := oci.FromBytes(oci.SHA256, []byte("refers"))
		w.update(func(tx *metadb.Tx) error {
			if err := tx.PutBlob(metadb.Blob{Digest: referrer, Size: 6, LeaseUntil: w.clock.now().Add(grace)}, []byte("refers")); err != nil {
				return err
			}
			_, err := tx.PutManifest(metadb.Manifest{RepoID: w.repo.ID, Digest: referrer, MediaType: "m", Size: 6, Subject: subject},
				[]metadb.Edge{{Child: subject, Kind: metadb.SubjectEdge}})
			return err
		})
		w.clock.move(2 * grace)
		w.run(s, gc.Ask{})
		w.update(func(tx *metadb.Tx) error {
			for _, d := range []oci.Digest{one, two, subject} {
				if _, err := tx.TrashManifest(w.repo.ID, d, metadb.Discard{Hold: grace}); err != nil {
					return err
				}
			}
			return nil
		})
		if p := preview(); p.Purged != 0 || p.Freed != 0 {
			t.Fatalf("before the hold is over: %+v", p)
		}
		w.clock.move(2 * grace)
		w.update(func(tx *metadb.Tx) error { return tx.LeaseBlob(referrer, w.clock.now().Add(grace)) }) // somebody was told that it is there
		p := preview()
		if want := int64(200 + 50 + len("manifest 5") + len("manifest 6")); p.Purged != 2 || p.Freed != 4 || p.FreedBytes != want || p.Blobs != 0 {
			t.Fatalf("while one waits for its referrer: %+v, want %d bytes", p, want)
		}
		if r := w.run(s, gc.Ask{}); r.Purged != p.Purged || r.Deleted != p.Blobs || r.Trashed != 0 {
			t.Fatalf("previewed %+v, did %+v", p, r)
		}
		w.clock.move(2 * grace)
		p2 := preview()
		if p2.Blobs != p.Freed || p2.Bytes != p.FreedBytes || p2.Purged != 1 || p2.Freed != 1 {
			t.Fatalf("a grace later: %+v after %+v", p2, p)
		}
		if r := w.run(s, gc.Ask{}); r.Deleted != p2.Blobs || r.Bytes != p2.Bytes || r.Purged != p2.Purged || r.Trashed != 1 {
			t.Fatalf("previewed %+v, did %+v", p2, r)
		}
		if w.has(own) || w.has(both) || !w.has(shared) {
			t.Fatal("the wrong content went")
		}
	})
}

// bad is a store whose deletions fail.
type bad struct {
	blob.Store
	mu      sync.Mutex
	refuse  map[oci.Digest]bool
	all     bool
	half    bool // delete some of them, then fail
	deletes int
}

func (b *bad) Delete(ctx context.Context, ds ...oci.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deletes++
	if b.all {
		return errors.New("access denied")
	}
	for i, d := range ds {
		if b.refuse[d] || b.half && i == len(ds)/2 {
			return errors.New("access denied")
		}
		if err := b.Store.Delete(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// TestStoreThatRefuses: what the store does not delete is tried again later, does not keep the others, and can be pushed
// meanwhile.
func TestStoreThatRefuses(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		b := &bad{Store: w.store, refuse: map[oci.Digest]bool{}}
		o := w.options()
		o.Blobs = b
		s := gc.New(o)
		var ds []oci.Digest
		for range 30 {
			ds = append(ds, w.push(10))
		}
		stuck := ds[7]
		b.refuse[stuck] = true
		w.clock.move(2 * grace)
		r := w.run(s, gc.Ask{})
		if r.Deleted != 29 || r.Failed != 1 || r.LastError == "" {
			t.Fatalf("one refused: %+v", r)
		}
		if r := w.run(s, gc.Ask{}); r.Examined != 0 {
			t.Fatalf("at once again: %+v", r)
		}
		w.clock.move(2 * time.Minute)
		b.refuse = nil
		b.all = true
		if r := w.run(s, gc.Ask{}); r.Deleted != 0 || r.Failed != 1 {
			t.Fatalf("all refused: %+v", r)
		}
		// It is pushed again: then it is live, and stays.
		w.update(func(tx *metadb.Tx) error {
			if err := tx.PutBlob(metadb.Blob{Digest: stuck, Size: 10, LeaseUntil: w.clock.now().Add(grace)}, nil); err != nil {
				return err
			}
			_, err := tx.LinkBlob(w.repo.ID, stuck)
			return err
		})
		w.image("again", stuck)
		b.all = false
		w.clock.move(2 * grace)
		if r := w.run(s, gc.Ask{}); r.Deleted != 0 || !w.has(stuck) {
			t.Fatalf("after the push: %+v", r)
		}
		for range 20 {
			w.push(10)
		}
		b.half = true
		w.clock.move(2 * grace)
		r = w.run(s, gc.Ask{})
		b.half = false
		w.clock.move(2 * time.Minute)
		r2 := w.run(s, gc.Ask{})
		if r.Deleted+r2.Deleted != 20 || r2.Failed != 0 {
			t.Fatalf("half-done deletions: %+v, then %+v", r, r2)
		}
	})
}

// TestReplicas: several collect at once; each blob is deleted once, and what a dead one had claimed is taken over.
func TestReplicas(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		const blobs = 300
		for range blobs {
			w.push(10)
		}
		w.clock.move(2 * grace)
		w.update(func(tx *metadb.Tx) error { // by one that dies
			c, err := tx.Collect(metadb.Collecting{Due: w.clock.now(), Limit: 25, Hold: time.Minute})
			if err == nil && len(c.Garbage) != 25 {
				err = fmt.Errorf("claimed %d", len(c.Garbage))
			}
			return err
		})
		var wg sync.WaitGroup
		var mu sync.Mutex
		deleted := int64(0)
		for range 3 {
			s := gc.New(w.options())
			wg.Go(func() {
				r, err := s.Collect(context.Background(), gc.Ask{}, false, nil)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				deleted += r.Deleted
				mu.Unlock()
			})
		}
		wg.Wait()
		if deleted != blobs-25 {
			t.Fatalf("deleted %d", deleted)
		}
		s := gc.New(w.options())
		if r := w.run(s, gc.Ask{}); r.Examined != 0 {
			t.Fatalf("the claims of the dead one, while they hold: %+v", r)
		}
		w.clock.move(2 * time.Minute)
		if r := w.run(s, gc.Ask{}); r.Deleted != 25 {
			t.Fatalf("taken over: %+v", r)
		}
	})
}

// TestHold: while somebody holds collection nothing is deleted; also when the hold begins in the middle of a run.
func TestHold(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		d := w.push(10)
		w.clock.move(2 * grace)
		hold := func(tx *metadb.Tx) error { return tx.HoldCollection("backup", time.Minute) }
		w.update(hold)
		s := gc.New(w.options())
		if r := w.run(s, gc.Ask{}); r.Examined > 0 || len(r.Held) != 1 {
			t.Fatalf("held: %+v", r)
		}
		w.update(func(tx *metadb.Tx) error { return tx.ReleaseCollection("backup") })
		o := w.options()
		o.Forget = func(oci.Digest, ...int64) { // called when the claim is made
			go func() { _ = w.db.Update(context.Background(), hold) }()
			time.Sleep(20 * time.Millisecond)
		}
		_ = o
		if !w.has(d) {
			t.Fatal("deleted while held")
		}
		if r := w.run(s, gc.Ask{}); r.Deleted != 1 {
			t.Fatalf("afterwards: %+v", r)
		}
	})
}

// TestClockSteps: a clock that is set forward ends no promise; one that was ahead and is set back keeps nothing for ever.
func TestClockSteps(t *testing.T) {
	w := newWorld(t, metadbtest.File(t))
	real := time.Duration(0)
	o := w.options()
	o.Steady = func() time.Duration { return real }
	s := gc.New(o)
	w.run(s, gc.Ask{})
	d := w.push(10)
	w.clock.move(30 * 24 * time.Hour)
	if w.run(s, gc.Ask{}); !w.has(d) {
		t.Fatal("a clock that was set forward ended a promise")
	}
	pass := func(by time.Duration) {
		for range 10 {
			w.clock.move(by / 10)
			real += by / 10
			w.run(s, gc.Ask{})
		}
	}
	if pass(grace / 2); !w.has(d) {
		t.Fatal("half a grace after the step the promise is over")
	}
	if pass(grace); w.has(d) {
		t.Fatal("the promise never ends")
	}

	ahead := w.push(20) // leased by a clock that is a year ahead
	w.update(func(tx *metadb.Tx) error {
		return tx.LeaseBlob(ahead, w.clock.now().Add(365*24*time.Hour))
	})
	w.clock.move(-time.Hour)
	w.run(s, gc.Ask{})
	if pass(3 * grace); w.has(ahead) {
		t.Fatal("a lease of a clock that was ahead is believed")
	}
}

// TestCancel: a run that is cancelled leaves no claims, and another goes on.
func TestCancel(t *testing.T) {
	databases(t, func(t *testing.T, w *world) {
		for range 100 {
			w.push(10)
		}
		w.clock.move(2 * grace)
		ctx, stop := context.WithCancel(t.Context())
		o := w.options()
		o.Workers = 1
		s := gc.New(o)
		r, err := s.Collect(ctx, gc.Ask{}, false, func(r gc.Report) {
			if r.Deleted >= 30 {
				stop()
			}
		})
		if err == nil || r.Deleted < 30 || r.Deleted == 100 {
			t.Fatalf("cancelled: %+v, %v", r, err)
		}
		st, err := s.Status(t.Context())
		if err != nil || st.Queue.Claimed != 0 {
			t.Fatalf("after the cancellation: %+v, %v", st, err)
		}
		if r2 := w.run(s, gc.Ask{}); r.Deleted+r2.Deleted != 100 {
			t.Fatalf("went on: %+v", r2)
		}
	})
}

// TestRate: no more is deleted in a second than was asked for.
func TestRate(t *testing.T) {
	w := newWorld(t, metadbtest.File(t))
	for range 60 {
		w.push(10)
	}
	w.clock.move(2 * grace)
	s := gc.New(w.options())
	began := time.Now()
	if r := w.run(s, gc.Ask{Rate: 40}); r.Deleted != 60 {
		t.Fatalf("%+v", r)
	}
	if took := time.Since(began); took < time.Second || took > 20*time.Second {
		t.Fatalf("60 blobs at 40 a second took %s", took)
	}
}

// TestAccess: who is no administrator is told nothing and deletes nothing.
func TestAccess(t *testing.T) {
	w := newWorld(t, metadbtest.File(t))
	o := w.options()
	o.Access = denied{}
	s := gc.New(o)
	ctx, d := t.Context(), oci.FromBytes(oci.SHA256, nil)
	for name, call := range map[string]func() error{
		"start":    func() error { _, err := s.Start(ctx, gc.Ask{}); return err },
		"collect":  func() error { _, err := s.Collect(ctx, gc.Ask{}, true, nil); return err },
		"status":   func() error { _, err := s.Status(ctx); return err },
		"preview":  func() error { _, err := s.Preview(ctx, gc.Ask{}); return err },
		"rehearse": func() error { _, err := s.Rehearse(ctx, gc.Ask{}, nil); return err },
		"why":      func() error { _, err := s.Why(ctx, d); return err },
	} {
		if err := call(); !errors.Is(err, errDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWindow: the time of day, also over midnight.
func TestWindow(t *testing.T) {
	at := func(clock string) time.Time {
		v, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		window, at string
		want       bool
	}{
		{"", "12:00", true}, {"02:00-05:00", "02:00", true}, {"02:00-05:00", "04:59", true}, {"02:00-05:00", "05:00", false},
		{"02:00-05:00", "01:59", false}, {"22:00-04:00", "23:00", true}, {"22:00-04:00", "03:00", true}, {"22:00-04:00", "12:00", false},
	} {
		w, err := gc.ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Has(at(c.at)); got != c.want {
			t.Errorf("%q at %s: %v", c.window, c.at, got)
		}
	}
	for _, text := range []string{"2-5", "02:00", "25:00-26:00", "02:00-02:00"} {
		if _, err := gc.ParseWindow(text); err == nil {
			t.Errorf("%q is a window", text)
		}
	}
}
