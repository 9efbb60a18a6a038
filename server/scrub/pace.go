package scrub

import (
	"context"
	"io"
	"sync"
	"time"
)

// pace bounds how many bytes a second all readers together read. nil is without a bound.
type pace struct {
	rate int64
	now  func() time.Time

	mu   sync.Mutex
	free time.Time // when the bytes that were read so far are paid for
}

func newPace(rate int64, now func() time.Time) *pace {
	if rate <= 0 {
		return nil
	}
	return &pace{rate: rate, now: now}
}

// burst is up to how much time that nobody used may be used later.
const burst = 100 * time.Millisecond

// take waits until n bytes may be read.
func (p *pace) take(ctx context.Context, n int) error {
	p.mu.Lock()
	now := p.now()
	if earliest := now.Add(-burst); p.free.Before(earliest) {
		p.free = earliest
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	return pause(ctx, wait)
}

// reader paces r.
func (p *pace) reader(ctx context.Context, r io.Reader) io.Reader {
	if p == nil {
		return &stoppable{ctx, r}
	}
	return &paced{ctx, r, p}
}

type paced struct {
	ctx context.Context //nolint:containedctx // of the look that reads
	r   io.Reader
	p   *pace
}

func (r *paced) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if terr := r.p.take(r.ctx, n); terr != nil {
		return n, terr
	}
	return n, err
}

// stoppable ends with its context: a file does not.
type stoppable struct {
	ctx context.Context //nolint:containedctx // of the look that reads
	r   io.Reader
}

func (r *stoppable) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
