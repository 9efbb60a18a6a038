package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/server/blob"
)

// cleanWithin bounds the removal of what nobody needs any more.
const cleanWithin = 30 * time.Second

// Upload implements blob.Store. Beginning one asks nothing of the bucket.
func (s *Store) Upload(ctx context.Context, id string, state blob.State) (blob.Writer, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	p, fresh, err := s.resume(ctx, id, state)
	if err != nil {
		return nil, err
	}
	if fresh {
		s.ended.remove(id)
	}
	w := &writer{
		s: s, id: id, nonce: nonce(), litter: p.litter,
		flights: newFlights(ctx, s.o.buffers()-1), cur: pagesOf(p.tail),
	}
	w.segments, w.pieces = p.segments.split(s.limits.minPart)
	return w, nil
}

// resume reads a state and asks whether its bytes are still there; the last segment speaks for all, since only ending the
// upload removes them.
func (s *Store) resume(ctx context.Context, id string, state blob.State) (p progress, fresh bool, err error) {
	p, fresh, err = progressOf(id, state)
	switch n := len(p.segments); {
	case err != nil || fresh:
	case s.ended.has(id):
		err = blob.UploadUnknown(id)
	case n > 0:
		last := p.segments[n-1]
		g := segment{last.nonce, last.end() - last.size, last.size}
		info, statErr := s.stat(ctx, s.segmentKey(id, g))
		if err = statErr; isMissing(err) || err == nil && info.size != g.size {
			err = blob.UploadUnknown(id)
		} else if err != nil {
			err = s.failed("upload", err)
		}
	}
	return p, fresh, err
}

// writer cuts an upload into segments. At most Options.buffers parts are in memory: one that fills, and those on their
// way.
type writer struct {
	s        *Store
	id       string
	nonce    string
	segments segments  // at least as long as a part has to be; the last may be on its way
	pieces   []segment // behind them, shorter; together shorter than a part
	cur      *pages    // behind them
	own      []segment // written or on their way
	litter   bool
	closed   bool
	flights  *flights
}

func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, errors.New("s3: write to a closed upload")
	}
	if err := context.Cause(w.flights.ctx); err != nil {
		return 0, w.s.failed("upload", err)
	}
	n := 0
	for n < len(p) {
		room := w.s.o.ChunkSize - sizeOf(w.pieces) - w.cur.size
		if room <= 0 {
			if err := w.seal(w.flights.ctx); err != nil {
				return n, w.s.failed("upload", err)
			}
			continue
		}
		take := p[n:min(len(p), n+int(min(room, 1<<30)))]
		w.cur.write(take)
		n += len(take)
	}
	return n, nil
}

func sizeOf(pieces []segment) (size int64) {
	for _, g := range pieces {
		size += g.size
	}
	return size
}

// seal makes what is in memory, and the pieces before it, the next segment, and sends it.
func (w *writer) seal(ctx context.Context) error {
	g := segment{w.nonce, w.segments.end() + sizeOf(w.pieces), w.cur.size}
	body := w.cur
	w.cur = &pages{}
	if len(w.pieces) > 0 {
		before, err := w.s.load(ctx, w.id, w.pieces)
		if err != nil {
			body.free()
			return err
		}
		g = segment{w.nonce, w.segments.end(), before.size + body.size}
		before.join(body)
		body, w.pieces, w.litter = before, nil, true
	}
	w.segments = w.segments.add(g)
	return w.send(g, body)
}

func (w *writer) send(g segment, body *pages) error {
	w.own = append(w.own, g)
	key := w.s.segmentKey(w.id, g)
	return w.flights.do(body, func(ctx context.Context) error { return w.s.put(ctx, key, body, false) })
}

// load reads pieces into memory.
func (s *Store) load(ctx context.Context, id string, pieces []segment) (*pages, error) {
	b := &pages{}
	for _, g := range pieces {
		err := s.loadOne(ctx, id, g, b)
		if err != nil {
			b.free()
			return nil, err
		}
	}
	return b, nil
}

func (s *Store) loadOne(ctx context.Context, id string, g segment, b *pages) error {
	c, err := s.open(ctx, s.segmentKey(id, g))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if c.size != g.size {
		return fmt.Errorf("s3: a segment of upload %s has %d bytes and should have %d", id, c.size, g.size)
	}
	return b.readFrom(c, g.size)
}

// Suspend sends what is in memory, unless it is so little that the state can hold it, and waits for all that is on its
// way.
func (w *writer) Suspend(ctx context.Context) (blob.State, error) {
	if w.closed {
		return blob.State{}, errors.New("s3: suspend of a closed upload")
	}
	p, err := w.settle(ctx)
	if err == nil {
		w.closed = true
		w.flights.cancel(nil)
		return p.state()
	}
	return blob.State{}, errors.Join(w.s.failed("suspend", err), w.Close())
}

func (w *writer) settle(ctx context.Context) (progress, error) {
	var p progress
	var err error
	held := sizeOf(w.pieces) + w.cur.size
	switch {
	case w.cur.size <= inlineTail:
		p.tail = w.cur.bytes()
		w.cur.free()
	case held >= w.s.limits.minPart || len(w.pieces) >= maxPieces:
		err = w.seal(ctx)
	default:
		g := segment{w.nonce, w.segments.end() + sizeOf(w.pieces), w.cur.size}
		w.pieces = append(w.pieces, g)
		body := w.cur
		w.cur = &pages{}
		err = w.send(g, body)
	}
	if landed := w.flights.land(ctx); err == nil {
		err = landed
	}
	p.segments, p.litter = w.segments, w.litter
	for _, g := range w.pieces {
		p.segments = p.segments.add(g)
	}
	return p, err
}

// Close forgets what was not suspended, and removes it.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.flights.abandon()
	w.cur.free()
	if len(w.own) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(w.flights.ctx), cleanWithin)
	defer stop()
	keys := make([]string, len(w.own))
	for i, g := range w.own {
		keys[i] = w.s.segmentKey(w.id, g)
	}
	if err := w.s.remove(ctx, keys); err != nil {
		w.s.log.Warn("bytes of an interrupted upload not removed; they are swept later", "upload", w.id, "err", err)
	}
	return nil
}

// OpenUpload implements blob.UploadReader.
func (s *Store) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	p, fresh, err := s.resume(ctx, id, state)
	if err == nil && fresh {
		err = blob.UploadUnknown(id)
	}
	if err != nil {
		return nil, err
	}
	return &uploadReader{ctx: ctx, s: s, id: id, todo: p.segments.list(), tail: p.tail}, nil
}

// uploadReader reads one segment after the other.
type uploadReader struct {
	ctx  context.Context //nolint:containedctx // of the call that opened it, which is what it lives in
	s    *Store
	id   string
	todo []segment
	tail []byte
	cur  *content
}

func (r *uploadReader) Read(p []byte) (int, error) {
	for {
		switch {
		case r.cur != nil:
			n, err := r.cur.Read(p)
			if errors.Is(err, io.EOF) {
				err = r.Close()
			}
			if n > 0 || err != nil {
				return n, err
			}
		case len(r.todo) > 0:
			next := r.todo[0]
			c, err := r.s.open(r.ctx, r.s.segmentKey(r.id, next))
			if isMissing(err) || err == nil && c.size != next.size {
				return 0, errors.Join(blob.UploadUnknown(r.id), closeIf(c))
			} else if err != nil {
				return 0, r.s.failed("read upload", err)
			}
			r.cur, r.todo = c, r.todo[1:]
		case len(r.tail) > 0:
			n := copy(p, r.tail)
			r.tail = r.tail[n:]
			return n, nil
		default:
			return 0, io.EOF
		}
	}
}

func closeIf(c *content) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

func (r *uploadReader) Close() error {
	c := r.cur
	r.cur = nil
	return closeIf(c)
}
