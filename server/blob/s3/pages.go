package s3

import (
	"context"
	"errors"
	"io"
	"sync"
)

// pageSize is the unit in which the bytes of a part are held, so that a small upload costs little memory.
const pageSize = 256 << 10

// pagePool keeps pages between uploads, and gives them back to the collector when nobody pushes.
var pagePool = sync.Pool{New: func() any { return new([pageSize]byte) }}

// pages hold the bytes of one part. Not safe for concurrent use, except that any number of readers may read what is
// written while nobody writes.
type pages struct {
	all  []*[pageSize]byte
	used []int // bytes of each
	size int64
}

// write appends p.
func (b *pages) write(p []byte) {
	for len(p) > 0 {
		last := len(b.all) - 1
		if last < 0 || b.used[last] == pageSize {
			b.all = append(b.all, pagePool.Get().(*[pageSize]byte))
			b.used = append(b.used, 0)
			last++
		}
		n := copy(b.all[last][b.used[last]:], p)
		b.used[last] += n
		b.size += int64(n)
		p = p[n:]
	}
}

// readFrom appends exactly n bytes of r.
func (b *pages) readFrom(r io.Reader, n int64) error {
	for n > 0 {
		last := len(b.all) - 1
		if last < 0 || b.used[last] == pageSize {
			b.all = append(b.all, pagePool.Get().(*[pageSize]byte))
			b.used = append(b.used, 0)
			last++
		}
		free := b.all[last][b.used[last]:]
		m, err := io.ReadFull(r, free[:min(int64(len(free)), n)])
		b.used[last] += m
		b.size += int64(m)
		n -= int64(m)
		if err != nil {
			return errors.Join(io.ErrUnexpectedEOF, err)
		}
	}
	return nil
}

// join appends the pages of next, which is empty afterwards.
func (b *pages) join(next *pages) {
	b.all = append(b.all, next.all...)
	b.used = append(b.used, next.used...)
	b.size += next.size
	*next = pages{}
}

// bytes is a copy of all.
func (b *pages) bytes() []byte {
	out := make([]byte, 0, b.size)
	for i, p := range b.all {
		out = append(out, p[:b.used[i]]...)
	}
	return out
}

// orNil is b, or nil when it is empty.
func (b *pages) orNil() *pages {
	if b == nil || b.size == 0 {
		return nil
	}
	return b
}

// free gives the pages back. Nobody may be reading.
func (b *pages) free() {
	for _, p := range b.all {
		pagePool.Put(p)
	}
	*b = pages{}
}

// body is the pages as the SDK wants them: it reads them for the signature and for every attempt.
func (b *pages) body(p *pulse) io.ReadSeeker { return &pageReader{b: b, pulse: p} }

type pageReader struct {
	b     *pages
	pulse *pulse
	at    int64
	page  int   // that has the byte at
	start int64 // of that page
}

func (r *pageReader) Read(p []byte) (int, error) {
	for r.page < len(r.b.all) && r.at >= r.start+int64(r.b.used[r.page]) {
		r.start += int64(r.b.used[r.page])
		r.page++
	}
	if r.page == len(r.b.all) {
		return 0, io.EOF
	}
	n := copy(p, r.b.all[r.page][r.at-r.start:r.b.used[r.page]])
	r.at += int64(n)
	if r.pulse != nil && r.pulse.beat != nil {
		r.pulse.beat()
	}
	return n, nil
}

func (r *pageReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.b.size
	}
	if offset < 0 {
		return 0, errors.New("s3: seek before the beginning")
	}
	r.at, r.page, r.start = offset, 0, 0
	return offset, nil
}

// flights sends parts in the background, a bounded number at once. A failure ends them all.
type flights struct {
	ctx    context.Context //nolint:containedctx // the flights' own, which land and abandon end
	cancel context.CancelCauseFunc
	slots  chan struct{}
	wg     sync.WaitGroup
}

// newFlights makes flights that outlive ctx, whose values they keep: the bytes of a client that went away count.
func newFlights(ctx context.Context, n int) *flights {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	return &flights{ctx: own, cancel: cancel, slots: make(chan struct{}, n)}
}

// do runs send when there is room, and frees b after it. It returns the failure of an earlier one.
func (f *flights) do(b *pages, send func(ctx context.Context) error) error {
	select {
	case f.slots <- struct{}{}:
	case <-f.ctx.Done():
	}
	if err := context.Cause(f.ctx); err != nil {
		b.free()
		return err
	}
	f.wg.Go(func() {
		defer func() { <-f.slots }()
		defer b.free()
		if err := send(f.ctx); err != nil {
			f.cancel(err)
		}
	})
	return nil
}

// land waits for all, or until ctx ends, and returns the first failure.
func (f *flights) land(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	defer stop()
	f.wg.Wait()
	return context.Cause(f.ctx)
}

// errAbandoned ends the flights of a writer that was closed.
var errAbandoned = errors.New("s3: the upload was closed")

// abandon ends all and waits for their goroutines.
func (f *flights) abandon() {
	f.cancel(errAbandoned)
	f.wg.Wait()
}

// pagesOf holds a copy of p.
func pagesOf(p []byte) *pages {
	b := &pages{}
	b.write(p)
	return b
}
