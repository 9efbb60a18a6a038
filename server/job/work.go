package job

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/berth-registry/berth/server/metadb"
)

// Why the context of a handler ended; see context.Cause.
var (
	ErrCancelled = errors.New("job: cancelled")
	ErrLost      = errors.New("job: another worker has the job, or may have it")
	ErrStopping  = errors.New("job: the process stops; the job goes on elsewhere")
	ErrTimeout   = errors.New("job: the attempt took longer than its kind allows")
)

// Work is an attempt at a job, as its handler sees it. Safe for concurrent use.
type Work struct {
	s       *Service
	kind    *kind
	job     metadb.Job
	stop    context.CancelCauseFunc
	began   time.Time
	stopped chan struct{} // closed when the attempt is recorded, or given up

	mu        sync.Mutex
	progress  metadb.JobProgress
	dirty     bool
	renewed   time.Time // when the last renewal that succeeded began
	succeeded bool      // by SucceedIn
	gone      bool      // returned or lost: nothing is recorded any more
}

// ID is the number of the job.
func (w *Work) ID() int64 { return w.job.ID }

// Attempt is 1 in the first attempt.
func (w *Work) Attempt() int { return w.job.Attempt }

// Project is for whom the job is, "" for the registry.
func (w *Work) Project() string { return w.job.Project }

// Position is what was saved last, by this attempt or one before it; "" is the beginning.
func (w *Work) Position() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.progress.Position
}

// Progress says how far the job is, for people; total 0 is not known. Call it as often as you like: it is written every
// two seconds at most.
func (w *Work) Progress(done, total int64, note string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.Done, w.progress.Total, w.progress.Note = done, total, clean(note, 500)
	w.dirty = true
}

// Save says from where another attempt continues. It is written within seconds and with the end of the attempt, not at
// once: what lies behind the position may be done again. The text is the kind's own, without NUL.
func (w *Work) Save(position string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.Position, w.dirty = position, true
}

// Update is metadb.DB.Update for a worker that still has the job; otherwise nothing is written, and the error is
// metadb.ErrLost.
func (w *Work) Update(ctx context.Context, fn func(tx *metadb.Tx) error) error {
	return w.s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.HoldJob(w.job.ID, w.job.Token); err != nil {
			return err
		}
		return fn(tx)
	})
}

// SucceedIn ends the job in the handler's own transaction, so that its effect and its end are one. When the transaction
// commits, what the handler returns after it does not matter. metadb.ErrLost when another worker has the job.
func (w *Work) SucceedIn(tx *metadb.Tx) error {
	if _, err := tx.SucceedJob(w.job.ID, w.job.Token, w.snapshot()); err != nil {
		return err
	}
	tx.AfterCommit(func() {
		w.mu.Lock()
		w.succeeded = true
		w.mu.Unlock()
		w.s.Wake() // it may be queued again
	})
	return nil
}

func (w *Work) snapshot() metadb.JobProgress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.progress
}

// Permanent marks an error that no other attempt will mend: the job is dead at once. nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ error }

func (p *permanent) Unwrap() error { return p.error }

// RetryAfter asks for the next attempt not before the time has passed, such as a server wishes with Retry-After. nil stays
// nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &later{err, d}
}

type later struct {
	error
	after time.Duration
}

func (l *later) Unwrap() error { return l.error }

// pause is how long a job rests after its attempt failed.
func (k Kind) pause(attempt int, err error) time.Duration {
	p := k.FirstPause
	for range attempt - 1 {
		if p = min(2*p, k.MostPause); p == k.MostPause {
			break
		}
	}
	p += time.Duration((rand.Float64() - 0.5) / 2 * float64(p))
	var l *later
	if errors.As(err, &l) {
		p = max(p, l.after)
	}
	return p
}

// panicked is what a handler panicked with.
type panicked struct {
	with  any
	stack []byte
}

// Error is for the job's row; the stack is for the log.
func (p *panicked) Error() string { return fmt.Sprintf("the handler panicked: %v", p.with) }

// recovered calls f and makes an error of its panic.
func recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, debug.Stack()}
		}
	}()
	return f()
}

// call runs the handler.
func (w *Work) call(ctx context.Context) error {
	if w.kind.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, w.kind.Timeout, ErrTimeout)
		defer stop()
	}
	err := recovered(func() error { return w.kind.do(ctx, w) })
	var p *panicked
	if errors.As(err, &p) {
		w.s.o.Log.ErrorContext(ctx, "job panicked", "job", w.job.ID, "kind", w.kind.Name, "panic", fmt.Sprint(p.with), "stack", string(p.stack))
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrTimeout) {
		err = fmt.Errorf("the attempt was ended after %s: %w", w.kind.Timeout, err)
	}
	return err
}

// clean makes a text that both databases take and that is no longer than most bytes.
func clean(text string, most int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) <= most {
		return text
	}
	text = text[:most]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + " …"
}

const maxError = 2000 // bytes of an error that are kept
