package metadb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/fault"
)

// writer is the one goroutine that writes to SQLite. It commits together whatever waits: the sync of the disk, which
// is the cost of a durable update, is paid once per batch. SQLite itself commits without a sync; the syncer does that
// beside the next batch, which stays open for more requests until the disk is free again. Nobody is answered before
// the sync that follows the commit.
type writer struct {
	conn    *conn
	d       *dialect
	log     *slog.Logger
	now     func() time.Time
	poison  *atomic.Pointer[error]
	syncer  *syncer
	written chan struct{} // tells the checkpointer that the log has grown by a step
	pages   int           // written to the log since the last such telling

	mu      sync.Mutex
	waiting []*request
	chores  []func(*conn)
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

// maxBatch bounds how long the first of a batch waits for the last.
const maxBatch = 256

// checkpointPages is the step of the log's growth, 16 MiB, after which it is copied into the database. A page that many
// commits changed is copied once, and the syncs of a copy disturb those of commits: so not too often.
const checkpointPages = 4096

// request is a closure on its way.
type request struct {
	ctx   context.Context
	fn    func(*Tx) error
	soft  bool
	state atomic.Int32 // waiting, then started or left, decided by one compare-and-swap
	done  chan error

	hooks []func()
	err   error
}

const (
	stateWaiting = iota
	stateStarted
	stateLeft
)

func newWriter(c *conn, d *dialect, poison *atomic.Pointer[error], wal string, o Options) *writer {
	w := &writer{
		conn: c, d: d, log: o.Log, now: o.Now, poison: poison, syncer: newSyncer(wal, poison, o),
		written: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.loop()
	return w
}

func (w *writer) update(ctx context.Context, soft bool, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{ctx: ctx, fn: fn, soft: soft, done: make(chan error, 1)}
	if err := w.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(stateWaiting, stateLeft) {
			return ctx.Err()
		}
		return <-r.done // it is running: fn may still use what the caller's function holds
	}
}

func (w *writer) enqueue(r *request) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return closedFault()
	}
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
	w.nudge()
	return nil
}

// chore runs f on the writer's connection between two batches, and returns when it has run; false when it never will.
func (w *writer) chore(f func(*conn)) bool {
	ran := make(chan struct{})
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.chores = append(w.chores, func(c *conn) { f(c); close(ran) })
	w.mu.Unlock()
	w.nudge()
	<-ran
	return true
}

func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close lets what waits be done and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.nudge()
	<-w.done
}

func (w *writer) loop() {
	defer close(w.done)
	defer w.conn.close()
	defer w.syncer.close()
	for range w.wake {
		for {
			// Those who were just answered come back with their next update: let them, so that batches fill.
			runtime.Gosched()
			batch, chores, closed := w.take(maxBatch)
			for _, f := range chores {
				f(w.conn)
			}
			if len(batch) > 0 {
				w.serve(batch)
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// take gives up to most of the requests that wait, and whose callers do, and the chores.
func (w *writer) take(most int) (batch []*request, chores []func(*conn), closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch = w.takeRequests(most)
	chores, w.chores = w.chores, nil
	return batch, chores, w.closed
}

func (w *writer) takeRequests(most int) []*request {
	n := min(len(w.waiting), most)
	batch := make([]*request, 0, n)
	for _, r := range w.waiting[:n] {
		if r.state.CompareAndSwap(stateWaiting, stateStarted) {
			batch = append(batch, r)
		}
	}
	w.waiting = w.waiting[n:]
	if len(w.waiting) == 0 {
		w.waiting = nil
	}
	return batch
}

// more gives requests that came while a transaction is open. It leaves chores for later.
func (w *writer) more(most int) []*request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.takeRequests(most)
}

// serve runs a batch, with what joins it, and has everyone in it answered.
func (w *writer) serve(batch []*request) {
	batch, err := w.transact(batch, true)
	switch {
	case err == nil:
		w.syncer.hand(batch)
	case (len(batch) > 1 || errors.Is(err, errUndo)) && w.poison.Load() == nil:
		w.syncer.release()
		// Whose fault it was cannot be known, so nobody pays for another.
		for _, r := range batch {
			alone, err := w.transact([]*request{r}, false)
			if err == nil {
				w.syncer.hand(alone)
			} else {
				w.syncer.release()
				r.answer(err, w.log)
			}
		}
	default:
		w.syncer.release()
		for _, r := range batch {
			r.answer(err, w.log)
		}
	}
}

// transact runs the requests, and with open those that join them while the disk is busy, in one transaction. It
// returns with the syncer held. Its error means that nothing was committed for any of them; otherwise each one's own
// err says how it went.
func (w *writer) transact(rs []*request, open bool) ([]*request, error) {
	if p := w.poison.Load(); p != nil {
		w.syncer.hold()
		return rs, *p
	}
	ctx := context.Background()
	if _, err := w.conn.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		w.syncer.hold()
		return rs, w.broken(err)
	}
	rs, kept, err := w.run(rs, open)
	if err == nil && kept > 0 {
		if _, err = w.conn.exec(ctx, "COMMIT"); err == nil {
			w.grown()
			return rs, nil
		}
	}
	w.rollback()
	if err != nil {
		return rs, w.broken(err)
	}
	return rs, nil
}

// run runs the requests of an open transaction, until the syncer is free to take them.
func (w *writer) run(rs []*request, open bool) (all []*request, kept int, err error) {
	now := w.now()
	for i := 0; ; i++ {
		for i == len(rs) {
			if !open || len(rs) >= maxBatch {
				w.syncer.hold()
				return rs, kept, nil
			}
			if w.syncer.holdOr(w.wake) {
				return rs, kept, nil
			}
			rs = append(rs, w.more(maxBatch-len(rs))...)
		}
		if err := w.runOne(rs[i], now, open); err != nil {
			w.syncer.hold()
			return rs, kept, err
		}
		if rs[i].err == nil {
			kept++
		}
	}
}

// runOne runs one request. Its error means that the whole transaction is lost; what the request itself made of it is
// r.err. A request that fails has mostly only looked; beside others, one that has also written takes the transaction with
// it, and everyone is run alone. That is rare, and a savepoint for each request would cost all of them.
func (w *writer) runOne(r *request, now time.Time, beside bool) error {
	t := &transaction{on: w.conn, d: w.d}
	tx := &Tx{Reads: Reads{t, w.d}, ctx: context.Background(), now: now}
	r.err = run(r.fn, tx)
	r.hooks = tx.hooks
	if r.err == nil && t.err != nil {
		r.err = w.d.fail(t.err)
	}
	switch {
	case t.err != nil && (beside || w.d.classify(t.err) == classSyncFailed):
		return t.err
	case r.err != nil && t.wrote && beside:
		return errUndo
	}
	return nil
}

// errUndo says that a request failed after it had changed something that others must not commit.
var errUndo = errors.New("metadb: a request beside others has to be undone")

// rollback ends a transaction that SQLite may have ended already.
func (w *writer) rollback() {
	_, _ = w.conn.c.ExecContext(context.Background(), "ROLLBACK")
}

// broken judges why a transaction was lost.
func (w *writer) broken(err error) error {
	if errors.Is(err, errUndo) {
		return err
	}
	if w.d.classify(err) == classSyncFailed {
		return poisonWith(w.poison, w.log, w.now(), err)
	}
	return w.d.fail(err)
}

// poisonWith ends all writing. After a failed sync the kernel may have dropped the pages and marked them clean, so that
// a later sync which succeeds proves nothing; only a new process that reads the file again knows what is there.
func poisonWith(p *atomic.Pointer[error], log *slog.Logger, now time.Time, cause error) error {
	var err error = fault.New(fault.Unavailable, fault.UnavailableReason,
		"metadata cannot be written since %s; restart berthd", now.UTC().Format(time.RFC3339)).Because(fmt.Errorf("metadb: sync: %w", cause))
	if p.CompareAndSwap(nil, &err) {
		log.Error("metadata can no longer be written: the disk failed to sync; restart berthd", "err", cause)
	}
	return *p.Load()
}

// answer ends a request: lost says that its transaction was, else its own error counts.
func (r *request) answer(lost error, log *slog.Logger) {
	err := r.err
	if lost != nil {
		err = lost
	} else if err == nil {
		runHooks(r.hooks, log)
	}
	r.done <- err
}

// grown counts what went to the log and wakes the checkpointer at each step.
func (w *writer) grown() {
	_ = w.conn.c.Raw(func(dc any) error {
		if s, ok := dc.(sqlite.DBStatus); ok {
			n, _, err := s.Status(sqlite.DBStatusCacheWrite, true)
			w.pages += n
			return err
		}
		return nil
	})
	if w.pages < checkpointPages {
		return
	}
	w.pages = 0
	select {
	case w.written <- struct{}{}:
	default:
	}
}
