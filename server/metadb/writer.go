package metadb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/fault"
)

// writer has the one connection that writes to SQLite. It commits together whatever waits: the sync of the disk, which
// is the cost of a durable update, is paid once per batch. There is no goroutine: whoever comes first leads, runs the
// closures of those who came meanwhile with its own, commits, hands the connection to the next in line and syncs, while
// that one is already at work; its transaction stays open for more requests until the disk is free. So an update that
// is alone costs no switch between goroutines. Nobody is answered before the sync that follows the commit.
type writer struct {
	conn    *conn
	d       *dialect
	log     *slog.Logger
	now     func() time.Time
	grace   time.Duration
	poison  *atomic.Pointer[error]
	syncer  *syncer
	intake  *intake
	written chan struct{} // tells the checkpointer that the log has grown by a step
	pages   int           // written to the log since the last such telling

	mu      sync.Mutex
	waiting []*request
	led     bool // somebody has the connection
	closed  bool
	came    chan struct{} // tells the leader of an open transaction that more wait
	ended   chan struct{} // closed when nobody will have the connection any more
}

// maxBatch bounds how long the first of a batch waits for the last.
const maxBatch = 256

// checkpointPages is the step of the log's growth, 16 MiB, after which it is copied into the database. A page that many
// commits changed is copied once, and the syncs of a copy disturb those of commits: so not too often.
const checkpointPages = 4096

// request is a closure on its way, or, without one, somebody who wants the connection alone.
type request struct {
	fn    func(*Tx) error
	soft  bool
	state atomic.Int32 // waiting, then started or left, decided by one compare-and-swap
	done  chan error   // the answer, or errLead

	hooks []func()
	err   error
}

const (
	stateWaiting = iota
	stateStarted
	stateLeft
)

// errLead tells a request that it is its turn to have the connection.
var errLead = errors.New("metadb: lead")

func newWriter(c *conn, d *dialect, poison *atomic.Pointer[error], wal string, in *intake, o Options) *writer {
	return &writer{
		conn: c, d: d, log: o.Log, now: o.Now, grace: o.Grace, poison: poison, syncer: newSyncer(wal, poison, in, o), intake: in,
		written: make(chan struct{}, 1), came: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

func (w *writer) update(ctx context.Context, soft bool, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{fn: fn, soft: soft, done: make(chan error, 1)}
	leads, err := w.enter(r)
	if err != nil {
		return err
	}
	if !leads {
		select {
		case err = <-r.done:
		case <-ctx.Done():
			if r.state.CompareAndSwap(stateWaiting, stateLeft) {
				return ctx.Err()
			}
			err = <-r.done // it is running: fn may still use what the caller's function holds
		}
		if err != errLead { //nolint:errorlint // a signal, never wrapped
			return err
		}
	}
	w.serve(append([]*request{r}, w.more(maxBatch-1)...))
	return <-r.done
}

// enter puts a request in line, or says that it leads because nobody else does.
func (w *writer) enter(r *request) (leads bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false, closedFault()
	}
	if !w.led {
		w.led = true
		r.state.Store(stateStarted)
		return true, nil
	}
	w.waiting = append(w.waiting, r)
	select {
	case w.came <- struct{}{}:
	default:
	}
	return false, nil
}

// pass gives the connection to the first in line.
func (w *writer) pass() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.waiting {
		if r.state.CompareAndSwap(stateWaiting, stateStarted) {
			w.waiting = w.waiting[i+1:]
			r.done <- errLead
			return
		}
	}
	w.waiting = nil
	w.led = false
	if w.closed {
		close(w.ended)
	}
}

// more takes up to most requests that wait to run in the transaction of another, and whose callers still do.
func (w *writer) more(most int) []*request {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []*request
	for len(w.waiting) > 0 && len(batch) < most && w.waiting[0].fn != nil {
		if r := w.waiting[0]; r.state.CompareAndSwap(stateWaiting, stateStarted) {
			batch = append(batch, r)
		}
		w.waiting = w.waiting[1:]
	}
	if len(w.waiting) == 0 {
		w.waiting = nil
	}
	return batch
}

// chore runs f on the writer's connection between two batches, and returns when it has run; false when it never will.
func (w *writer) chore(f func(*conn)) bool {
	r := &request{done: make(chan error, 1)}
	leads, err := w.enter(r)
	if err != nil {
		return false
	}
	if !leads {
		<-r.done //nolint:errcheck // errLead: a chore has no other answer
	}
	defer w.pass()
	f(w.conn)
	return true
}

// close lets what waits be done, and refuses what comes.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	if !w.led {
		close(w.ended)
	}
	w.mu.Unlock()
	<-w.ended
	w.syncer.close()
	w.conn.close()
}

// serve runs a batch, with what joins it, passes the connection on and has everyone in the batch answered.
func (w *writer) serve(batch []*request) {
	batch, claimed, err := w.transact(batch, true)
	defer claimed()
	switch {
	case err == nil:
		w.pass()
		w.syncer.finish(batch)
	case (len(batch) > 1 || errors.Is(err, errUndo)) && w.poison.Load() == nil:
		w.syncer.release()
		// Whose fault it was cannot be known, so nobody pays for another.
		for _, r := range batch {
			alone, claimed, err := w.transact([]*request{r}, false)
			if err == nil {
				w.syncer.finish(alone)
			} else {
				w.syncer.release()
				r.answer(err, w.log)
			}
			claimed()
		}
		w.pass()
	default:
		w.syncer.release()
		w.pass()
		for _, r := range batch {
			r.answer(err, w.log)
		}
	}
}

// transact runs the requests, and with open those that join them while the disk is busy, in one transaction. It
// returns with the syncer held. Its error means that nothing was committed for any of them; otherwise each one's own
// err says how it went. Call claimed when they have been answered.
func (w *writer) transact(rs []*request, open bool) (all []*request, claimed func(), err error) {
	t := &batchTx{w: w, now: w.now()}
	all, err = w.commit(t, rs, open)
	return all, func() {
		if t.claiming {
			w.intake.claimEnded()
		}
	}, err
}

func (w *writer) commit(t *batchTx, rs []*request, open bool) ([]*request, error) {
	if p := w.poison.Load(); p != nil {
		w.syncer.hold()
		return rs, *p
	}
	ctx := context.Background()
	if _, err := w.conn.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		w.syncer.hold()
		return rs, w.broken(err)
	}
	rs, err := t.run(rs, open)
	if err == nil && t.kept > 0 {
		if _, err = w.conn.exec(ctx, "COMMIT"); err == nil {
			w.intake.committed(t.upto)
			w.syncer.covers(t.upto)
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

// batchTx is the open transaction of a batch.
type batchTx struct {
	w    *writer
	now  time.Time
	kept int    // requests that have not failed
	upto uint64 // the entries of the intake up to this number have their rows in it

	claiming bool
}

// claim is called before a request looks whether a blob may be claimed for deletion. What was linked before has its rows
// now, and nothing is linked behind its back until everybody knows of the claim.
func (t *batchTx) claim() error {
	if !t.claiming {
		t.claiming = true
		t.w.intake.claim()
	}
	return t.rows()
}

// run runs the requests, until the syncer is free to take them. It returns with the syncer held.
func (t *batchTx) run(rs []*request, open bool) (all []*request, err error) {
	for i := 0; ; i++ {
		for i == len(rs) {
			if !open || len(rs) >= maxBatch {
				t.w.syncer.hold()
				return rs, t.mark()
			}
			if t.w.syncer.holdOr(t.w.came) {
				return rs, t.mark()
			}
			rs = append(rs, t.w.more(maxBatch-len(rs))...)
		}
		err := t.rows()
		if err == nil {
			err = t.runOne(rs[i], open)
		}
		if err != nil {
			t.w.syncer.hold()
			return rs, err
		}
		if rs[i].err == nil {
			t.kept++
		}
	}
}

// rows makes the rows of what the intake has: whatever was acknowledged before a request ran, it sees.
func (t *batchTx) rows() error {
	es := t.w.intake.behind(t.upto)
	if len(es) == 0 {
		return nil
	}
	t.upto = es[len(es)-1].number
	return makeRows(context.Background(), t.w.conn, es)
}

// mark writes how far in the intake the transaction came.
func (t *batchTx) mark() error {
	if t.upto == 0 {
		return nil
	}
	_, err := t.w.conn.exec(context.Background(), putSetting, intakeSetting, intakeMark(t.w.intake.salt, t.upto))
	return err
}

// runOne runs one request. Its error means that the whole transaction is lost; what the request itself made of it is
// r.err. A request that fails has mostly only looked; beside others, one that has also written takes the transaction with
// it, and everyone is run alone. That is rare, and a savepoint for each request would cost all of them.
func (t *batchTx) runOne(r *request, beside bool) error {
	s := &transaction{on: t.w.conn, d: t.w.d, claim: t.claim, hurt: t.w.intake.hurt}
	tx := &Tx{Reads: Reads{s, t.w.d}, ctx: context.Background(), now: t.now, grace: t.w.grace}
	r.err = run(r.fn, tx)
	r.hooks = tx.hooks
	if r.err == nil && s.err != nil {
		r.err = t.w.d.fail(s.err)
	}
	switch {
	case s.err != nil && (beside || t.w.d.classify(s.err) == classSyncFailed):
		return s.err
	case r.err != nil && s.wrote && beside:
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
