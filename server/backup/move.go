package backup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// uploadPrefix begins the ids of uploads of this room, so that it knows what a run that was killed has left.
const uploadPrefix = "backup-"

// word is a random word.
func word() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// put makes size bytes of r the content of d in a store, when they are right: a *blob.WrongError says that they are not,
// and a *blob.SourceError that they could not be read.
func put(ctx context.Context, store blob.Store, d oci.Digest, size int64, r io.Reader) error {
	id := uploadPrefix + word()
	p, err := blob.Place(ctx, store, id, d)
	if errors.Is(err, blob.ErrNoPlacer) {
		return upload(ctx, store, id, d, size, r)
	} else if err != nil {
		return err
	}
	if _, err := blob.Send(p, r, size, d); err != nil {
		return errors.Join(err, p.Close())
	}
	return errors.Join(p.Commit(ctx), p.Close())
}

func upload(ctx context.Context, store blob.Store, id string, d oci.Digest, size int64, r io.Reader) error {
	w, err := store.Upload(ctx, id, blob.State{})
	if err != nil {
		return err
	}
	state := blob.State{}
	if _, err = blob.Send(w, r, size, d); err == nil {
		if state, err = w.Suspend(ctx); err == nil {
			err = store.Commit(ctx, id, state, d)
		}
	}
	err = errors.Join(err, w.Close())
	if err != nil {
		err = errors.Join(err, store.Abort(context.WithoutCancel(ctx), id, state))
	}
	return err
}

// abandoned removes what runs that were killed have left half-done. Nobody else is at work here.
func abandoned(ctx context.Context, store blob.Store, now time.Time) error {
	ids, err := blob.StaleUploads(ctx, store, now)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if strings.HasPrefix(id, uploadPrefix) {
			if err := store.Abort(ctx, id, blob.State{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// wrong reports whether an error is about the content: it is not there, or is not what its digest says.
func wrong(err error) bool {
	var w *blob.WrongError
	return errors.As(err, &w)
}

// pace bounds bytes per second, of all who share it. The zero rate is no bound.
type pace struct {
	rate int64
	now  func() time.Time

	mu   sync.Mutex
	free time.Time // when what was taken is paid for
}

// wait takes n bytes and returns when they may pass.
func (p *pace) wait(ctx context.Context, n int) error {
	if p == nil || p.rate <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := p.now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	pause := p.free.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, pause)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// paced is a reader at a pace, which reports what passed.
type paced struct {
	ctx    context.Context //nolint:containedctx // of the copy that it is read for
	r      io.Reader
	p      *pace
	passed func(n int)
}

func (r *paced) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), 64<<10)])
	if r.passed != nil {
		r.passed(n)
	}
	if waited := r.p.wait(r.ctx, n); waited != nil && err == nil {
		err = waited
	}
	return n, err
}

// closing closes a store at the end of its use.
func closing(err error, stop func() error) error {
	if stop == nil {
		return err
	}
	return errors.Join(err, stop())
}
