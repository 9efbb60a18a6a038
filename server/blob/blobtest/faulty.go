package blobtest

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Action names a call of a Store or of one of its Writers.
type Action string

// The actions that can be made to fail.
const (
	Upload  Action = "upload"
	Write   Action = "write"
	Suspend Action = "suspend"
	Commit  Action = "commit"
	Abort   Action = "abort"
	Open    Action = "open"
	Delete  Action = "delete"
	Check   Action = "check"
)

// Faulty is a blob.Store that does what the store below it does until it is told to fail: a disk under test. Without
// faults it keeps the contract. Safe for concurrent use.
type Faulty struct {
	store blob.Store

	mu     sync.Mutex
	faults map[Action][]*planned
	room   int64 // bytes that writes still take, -1 for any number
	delay  time.Duration
}

// planned is a fault that waits for its call.
type planned struct {
	after int // calls to let pass
	keep  int // of a write: bytes that it takes before it fails
	late  bool
	err   error
}

// NewFaulty wraps a store.
func NewFaulty(store blob.Store) *Faulty {
	return &Faulty{store: store, faults: map[Action][]*planned{}, room: -1}
}

// Fail makes the nth call of the action from now on, 1 for the next, fail with err before it does anything. A Commit
// that fails loses the upload, as after a failed sync.
func (f *Faulty) Fail(a Action, nth int, err error) { f.plan(a, planned{after: nth - 1, err: err}) }

// FailAfter makes the nth call do its work and then report err: the answer that never arrived.
func (f *Faulty) FailAfter(a Action, nth int, err error) {
	f.plan(a, planned{after: nth - 1, err: err, late: true})
}

// ShortWrite makes the nth write from now on take only keep bytes and fail with err.
func (f *Faulty) ShortWrite(nth, keep int, err error) {
	f.plan(Write, planned{after: nth - 1, keep: keep, err: err})
}

// Fill leaves room for so many bytes: the write that crosses the end is short, and it and all after it fail with
// STORAGE_FULL, until Fill is called with more room. A negative room is endless.
func (f *Faulty) Fill(room int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = max(room, -1)
}

// Slow makes every call and every write take at least d.
func (f *Faulty) Slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

func (f *Faulty) plan(a Action, p planned) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[a] = append(f.faults[a], &p)
}

// due counts a call and gives the fault that was planned for it, or nil.
func (f *Faulty) due(a Action) *planned {
	f.mu.Lock()
	delay := f.delay
	var hit *planned
	rest := f.faults[a][:0]
	for _, p := range f.faults[a] {
		if p.after--; p.after < 0 && hit == nil {
			hit = p
		} else {
			rest = append(rest, p)
		}
	}
	f.faults[a] = rest
	f.mu.Unlock()
	time.Sleep(delay)
	return hit
}

// do runs call unless a fault comes before it.
func (f *Faulty) do(a Action, call func() error) error {
	p := f.due(a)
	if p == nil {
		return call()
	}
	if p.late {
		return errors.Join(p.err, call())
	}
	return p.err
}

// Upload implements blob.Store.
func (f *Faulty) Upload(ctx context.Context, id string, state blob.State) (w blob.Writer, err error) {
	err = f.do(Upload, func() error {
		w, err = f.store.Upload(ctx, id, state)
		return err
	})
	if err != nil {
		if w != nil {
			err = errors.Join(err, w.Close())
		}
		return nil, err
	}
	return &faultyWriter{f, w}, nil
}

// Commit implements blob.Store.
func (f *Faulty) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	done := false
	err := f.do(Commit, func() error {
		done = true
		return f.store.Commit(ctx, id, state, d)
	})
	if !done {
		err = errors.Join(err, f.store.Abort(ctx, id, state))
	}
	return err
}

// Abort implements blob.Store.
func (f *Faulty) Abort(ctx context.Context, id string, state blob.State) error {
	return f.do(Abort, func() error { return f.store.Abort(ctx, id, state) })
}

// OpenUpload implements blob.UploadReader where the store does.
func (f *Faulty) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	return blob.OpenUpload(ctx, f.store, id, state)
}

// StaleUploads implements blob.UploadLister where the store does.
func (f *Faulty) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	return blob.StaleUploads(ctx, f.store, before)
}

// Open implements blob.Store.
func (f *Faulty) Open(ctx context.Context, d oci.Digest) (c blob.Content, size int64, err error) {
	err = f.do(Open, func() error {
		c, size, err = f.store.Open(ctx, d)
		return err
	})
	if err != nil {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
		return nil, 0, err
	}
	return c, size, nil
}

// Delete implements blob.Store.
func (f *Faulty) Delete(ctx context.Context, ds ...oci.Digest) error {
	return f.do(Delete, func() error { return f.store.Delete(ctx, ds...) })
}

// Check implements blob.Store.
func (f *Faulty) Check(ctx context.Context) error {
	return f.do(Check, func() error { return f.store.Check(ctx) })
}

type faultyWriter struct {
	f *Faulty
	w blob.Writer
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if fault := w.f.due(Write); fault != nil {
		keep := min(fault.keep, len(p))
		if fault.late {
			keep = len(p)
		}
		n, err := w.w.Write(p[:keep])
		return n, errors.Join(fault.err, err)
	}
	take := w.f.take(len(p))
	n, err := w.w.Write(p[:take])
	if err == nil && take < len(p) {
		err = blob.Full(syscall.ENOSPC)
	}
	return n, err
}

// take is how many of n bytes there is room for.
func (f *Faulty) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room < 0 {
		return n
	}
	n = int(min(int64(n), f.room))
	f.room -= int64(n)
	return n
}

func (w *faultyWriter) Suspend(ctx context.Context) (state blob.State, err error) {
	err = w.f.do(Suspend, func() error {
		state, err = w.w.Suspend(ctx)
		return err
	})
	if err != nil {
		return blob.State{}, errors.Join(err, w.w.Close()) // closed, also on error
	}
	return state, nil
}

func (w *faultyWriter) Close() error { return w.w.Close() }
