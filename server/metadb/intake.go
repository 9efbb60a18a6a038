package metadb

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
)

// intake makes small blobs durable without a transaction of their own, for SQLite. [DB.KeepBlob] appends the blob to a
// log (intakeLane), many callers with one sync, and answers. The rows are made by the next transaction, whatever it is
// about, before its own statements: an image of ten small layers is ten cheap appends and one transaction. So every
// transaction sees every blob that was acknowledged before it began; a read outside one has the rows made first when it
// asks for a blob that has none yet (settle).
//
// The transaction that makes rows also writes how far in the log it came, so that a restart repeats exactly what the
// database does not have: a link that was deleted since must not come back.
type intake struct {
	lanes  [intakeLanes]*intakeLane
	salt   uint64 // of the log
	logger *slog.Logger
	now    func() time.Time
	poison *atomic.Pointer[error]
	first  chan struct{} // told when something waits for rows again

	opening sync.Mutex
	open    atomic.Bool // the database names the log

	waits atomic.Int64 // entries without rows

	mu       sync.Mutex
	entries  []*intakeEntry  // without rows, oldest first
	digests  map[string]int  // how many of entries have this digest
	bytes    int64           // of their contents
	number   uint64          // of the last entry
	damaged  map[string]bool // digests whose repair takes a transaction
	claiming int             // transactions in progress that claim blobs for deletion
	claimed  uint64          // how many have ended
}

// intakeLanes is how many parts of the log are written at once: a disk syncs several files in the time of one, and who
// finds a lane idle does not wait for the sync of another.
const intakeLanes = 2

type intakeLane struct {
	log      *intakeLog
	next     *intakeBatch // what gathers while another is being written
	flushing bool
}

// Mark is a moment, for KeepLink.
type Mark struct {
	claimed uint64
	calm    bool // nobody was claiming
}

func (k *intake) mark() Mark {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Mark{k.claimed, k.claiming == 0}
}

// hurt says of a digest that it is damaged, or not any more: what the rows of a damaged blob need, makeRows does not do.
func (k *intake) hurt(digest string, is bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !is {
		delete(k.damaged, digest)
		return
	}
	if k.damaged == nil {
		k.damaged = map[string]bool{}
	}
	k.damaged[digest] = true
}

// claim says that a transaction begins to claim; from here on no link is taken in, so those it finds are all there are.
func (k *intake) claim() {
	k.mu.Lock()
	k.claiming++
	k.mu.Unlock()
}

// claimEnded says that it has ended, and that nobody remembers as live what it claimed.
func (k *intake) claimEnded() {
	k.mu.Lock()
	k.claiming--
	k.claimed++
	k.mu.Unlock()
}

// intakeEntry is a blob in the log, or the link of a repository to a blob that has a row.
type intakeEntry struct {
	number  uint64 // of the log, ascending
	repoID  int64
	digest  string
	at      int64 // microseconds
	lease   int64 // microseconds
	link    bool
	content []byte // of a blob
}

// intakeBatch is what is written with one sync.
type intakeBatch struct {
	entries []*intakeEntry
	turn    chan struct{} // closed when its first entry's caller shall write it
	done    chan struct{} // closed when err is set
	err     error
}

// What has no rows yet is in memory and in the log, and is bounded by both numbers. More goes the usual way, with a
// transaction.
const (
	maxIntake        = 4 << 20 // bytes of content
	maxIntakeEntries = 10_000
)

// intakeDelay is how long a blob may be without rows while no other transaction comes along.
const intakeDelay = 50 * time.Millisecond

func newIntake(path string, poison *atomic.Pointer[error], o Options) *intake {
	k := &intake{logger: o.Log, now: o.Now, poison: poison, first: make(chan struct{}, 1), digests: map[string]int{}}
	for i := range k.lanes {
		k.lanes[i] = &intakeLane{log: &intakeLog{path: intakePath(path, i)}, next: newIntakeBatch()}
	}
	return k
}

// lane gives an idle lane, or the one where the fewest wait.
func (k *intake) lane() *intakeLane {
	best := k.lanes[0]
	for _, l := range k.lanes {
		if !l.flushing {
			return l
		}
		if len(l.next.entries) < len(best.next.entries) {
			best = l
		}
	}
	return best
}

func newIntakeBatch() *intakeBatch {
	return &intakeBatch{turn: make(chan struct{}), done: make(chan struct{})}
}

// keep returns when the entry is durable, or kept is false when the log cannot take it now. A link is only taken when
// nothing was claimed since the mark.
func (k *intake) keep(e *intakeEntry, since Mark) (kept bool, err error) {
	if p := k.poison.Load(); p != nil {
		return false, *p
	}
	k.mu.Lock()
	if k.bytes+int64(len(e.content)) > maxIntake || len(k.entries) > maxIntakeEntries ||
		k.damaged[e.digest] || e.link && (k.claiming > 0 || since != Mark{k.claimed, true}) {
		k.mu.Unlock()
		return false, nil
	}
	k.add(e)
	l := k.lane()
	b := l.next
	b.entries = append(b.entries, e)
	leads := len(b.entries) == 1
	wait := leads && l.flushing
	l.flushing = true
	k.mu.Unlock()
	if leads {
		if wait {
			<-b.turn
		}
		k.flush(l)
	} else {
		<-b.done
	}
	if b.err == nil {
		return true, nil
	}
	return false, k.failed(b.err)
}

// failed says what to tell of a batch that was not written: nothing when the usual way may still do.
func (k *intake) failed(err error) error {
	if errors.Is(err, errIntakeSync) {
		return *k.poison.Load()
	}
	return nil
}

// add gives the entry a number and puts it before the next transaction.
func (k *intake) add(e *intakeEntry) {
	k.number++
	e.number = k.number
	k.entries = append(k.entries, e)
	k.digests[e.digest]++
	k.bytes += int64(len(e.content))
	if k.waits.Add(1) == 1 {
		k.again()
	}
}

// again has rows made soon.
func (k *intake) again() {
	select {
	case k.first <- struct{}{}:
	default:
	}
}

// flush writes what has gathered in a lane, and passes it on to who leads the next batch.
func (k *intake) flush(l *intakeLane) {
	k.mu.Lock()
	b := l.next
	l.next = newIntakeBatch()
	k.mu.Unlock()
	err := l.log.append(k.salt, b.entries)
	if err != nil {
		k.logger.Warn("log of small blobs could not be written", "err", err)
		if l.log.broken {
			_ = poisonWith(k.poison, k.logger, k.now(), err)
			err = errIntakeSync
		}
	}
	k.mu.Lock()
	if err != nil {
		k.forget(b.entries)
	}
	if len(l.next.entries) > 0 {
		close(l.next.turn)
	} else {
		l.flushing = false
	}
	k.mu.Unlock()
	b.err = err
	close(b.done)
}

// forget drops entries that nobody was promised. Those that have rows by now keep them; that is harmless.
func (k *intake) forget(es []*intakeEntry) {
	gone := make(map[*intakeEntry]bool, len(es))
	for _, e := range es {
		gone[e] = true
	}
	kept := k.entries[:0]
	for _, e := range k.entries {
		if gone[e] {
			k.subtract(e)
		} else {
			kept = append(kept, e)
		}
	}
	clear(k.entries[len(kept):])
	k.entries = kept
}

func (k *intake) subtract(e *intakeEntry) {
	if k.digests[e.digest]--; k.digests[e.digest] == 0 {
		delete(k.digests, e.digest)
	}
	k.bytes -= int64(len(e.content))
	k.waits.Add(-1)
}

// behind are the entries without rows whose number is above after.
func (k *intake) behind(after uint64) []*intakeEntry {
	if k.waits.Load() == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	i := len(k.entries)
	for i > 0 && k.entries[i-1].number > after {
		i--
	}
	return append([]*intakeEntry(nil), k.entries[i:]...)
}

// committed says that the entries up to a number have rows.
func (k *intake) committed(upto uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for n < len(k.entries) && k.entries[n].number <= upto {
		k.subtract(k.entries[n])
		k.entries[n] = nil
		n++
	}
	if k.entries = k.entries[n:]; len(k.entries) == 0 {
		k.entries = nil
	}
}

// synced says that the rows of the entries up to a number are durable: their place in the log is free.
func (k *intake) synced(upto uint64) {
	for _, l := range k.lanes {
		l.log.settled.Store(upto)
	}
}

// close ends the log; remove says that the database has everything.
func (k *intake) close(remove bool) {
	for _, l := range k.lanes {
		l.log.close(remove)
	}
}

// concerns reports whether a statement outside a transaction could miss rows that are still to be made: it reads of
// blobs, and asks for one that waits or, as lists do, for none in particular.
func (k *intake) concerns(args []any) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	named := false
	for _, a := range args {
		if s, ok := a.(string); ok && len(s) > 7 && (s[:7] == "sha256:" || s[:7] == "sha512:") {
			if named = true; k.digests[s] > 0 {
				return true
			}
		}
	}
	return !named
}

var errIntakeSync = fault.New(fault.Unavailable, fault.UnavailableReason, "metadata log could not be synced")
