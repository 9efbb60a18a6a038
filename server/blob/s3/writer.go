package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/server/blob"
)

const (
	// cleanWithin bounds the removal of what nobody needs any more. Somebody waits for it, and what a bucket that hangs does
	// not take away is swept later.
	cleanWithin = 5 * time.Second
	// skips is how many numbers of parts a writer that continues may leave out.
	skips = 8
)

// Upload implements blob.Store. Beginning one asks nothing of the bucket.
func (s *Store) Upload(ctx context.Context, id string, state blob.State) (blob.Writer, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	p, whole, fresh, err := s.resume(ctx, id, state)
	if err != nil {
		return nil, err
	}
	if fresh {
		s.ended.remove(id)
	}
	w := &writer{was: p, cur: pagesOf(p.tail), litter: p.litter, assembly: assembly{
		s: s, id: id, nonce: nonce(), next: 1, size: p.parts.size(), flights: newFlights(ctx, s.o.buffers()-1),
	}}
	w.more, w.pieces = p.segments.split(s.limits.minPart)
	w.size += w.more.size()
	switch {
	case p.multipart != "":
		w.begun = s.continued(id, p)
		w.parts = append(w.parts, p.parts...)
		w.next = p.parts.last() + 1 + rand.IntN(skips)
		if whole { // it takes no parts any more
			w.next = s.limits.direct + 1
		}
	default:
		w.key = s.parkedKey(id, w.nonce)
	}
	return w, nil
}

// continued is the multipart upload of a state.
func (s *Store) continued(id string, p progress) *multipart {
	return &multipart{s: s, key: s.parkedKey(id, p.nonce), id: p.multipart, marker: s.markerKey(id, p.nonce)}
}

// resume reads a state and asks whether its bytes are still there; what came last speaks for all, since only ending the
// upload removes anything. whole says that the parts have become an object, so that they could be read.
func (s *Store) resume(ctx context.Context, id string, state blob.State) (p progress, whole, fresh bool, err error) {
	p, fresh, err = progressOf(id, state)
	if err != nil || fresh {
		return p, false, fresh, err
	}
	if s.ended.has(id) {
		return p, false, false, blob.UploadUnknown(id)
	}
	if len(p.parts) > 0 {
		if whole, err = s.hasParts(ctx, id, p); err != nil {
			return p, false, false, s.failed("upload", err)
		}
	}
	if n := len(p.segments); n > 0 {
		last := p.segments[n-1]
		g := segment{last.nonce, last.end() - last.size, last.size}
		info, err := s.stat(ctx, s.segmentKey(id, g))
		if isMissing(err) || err == nil && info.size != g.size {
			return p, false, false, blob.UploadUnknown(id)
		} else if err != nil {
			return p, false, false, s.failed("upload", err)
		}
	}
	return p, whole, false, nil
}

// hasParts asks for the last part of a state, or for the object that the parts have become.
func (s *Store) hasParts(ctx context.Context, id string, p progress) (whole bool, err error) {
	last := p.parts[len(p.parts)-1]
	m := s.continued(id, p)
	in := &s3.ListPartsInput{Bucket: &s.o.Bucket, Key: &m.key, UploadId: &m.id, MaxParts: number(last.number)}
	if n := len(p.parts); n > 1 { // MinIO lists nothing behind a number that is no part
		before := p.parts[n-2].number
		in.PartNumberMarker, in.MaxParts = aws.String(strconv.Itoa(before)), number(last.number-before)
	}
	out, err := s.client.ListParts(ctx, in)
	if isMissingUpload(err) || isMissing(err) {
		at, err := s.stat(ctx, m.key)
		if isMissing(err) || err == nil && at.size != p.parts.size() {
			err = blob.UploadUnknown(id)
		}
		return err == nil, err
	} else if err != nil {
		return false, err
	}
	for _, got := range out.Parts { // among those of writers that have lost the upload
		if aws.ToInt32(got.PartNumber) == *number(last.number) && sameTag(aws.ToString(got.ETag), last.etag) {
			return false, nil
		}
	}
	return false, blob.UploadUnknown(id)
}

// writer continues an upload. At most Options.buffers parts are in memory: one that fills, and those on their way. What is
// too short for a part waits in pieces, objects that are made one with what comes.
type writer struct {
	assembly
	was    progress
	pieces []segment // behind what is assembled, each shorter than a part has to be; together shorter than a part
	cur    *pages    // behind them
	litter bool
	closed bool
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

// seal makes what is in memory, and the pieces before it, a part.
func (w *writer) seal(ctx context.Context) error {
	body := w.cur
	w.cur = &pages{}
	if len(w.pieces) > 0 {
		before, err := w.s.load(ctx, w.id, w.pieces)
		if err != nil {
			body.free()
			return err
		}
		before.join(body)
		body, w.pieces, w.litter = before, nil, true
	}
	return w.add(body)
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
	switch {
	case w.cur.size <= inlineTail:
		p.tail = w.cur.bytes()
		w.cur.free()
	case sizeOf(w.pieces)+w.cur.size >= w.s.limits.minPart:
		err = w.seal(ctx)
	default:
		err = w.piece(ctx)
	}
	if landed := w.flights.land(ctx); err == nil {
		err = landed
	}
	p.parts, p.segments, p.litter = w.parts, w.more, w.litter
	if len(p.parts) > 0 {
		p.multipart, p.nonce = w.begun.id, w.was.nonce
		if w.own {
			p.nonce = w.nonce
		}
	}
	for _, g := range w.pieces {
		p.segments = p.segments.add(g)
	}
	return p, err
}

// piece sends what is in memory as an object that is shorter than a part; many of them are made one.
func (w *writer) piece(ctx context.Context) error {
	body := w.cur
	w.cur = &pages{}
	if len(w.pieces) >= maxPieces {
		before, err := w.s.load(ctx, w.id, w.pieces)
		if err != nil {
			body.free()
			return err
		}
		before.join(body)
		body, w.pieces, w.litter = before, nil, true
	}
	g := segment{w.nonce, w.size + sizeOf(w.pieces), body.size}
	w.pieces = append(w.pieces, g)
	return w.object(g, body)
}

// Close forgets what was not suspended, and removes it.
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.flights.abandon()
	w.cur.free()
	if err := w.drop(w.flights.ctx); err != nil {
		w.s.log.Warn("bytes of an interrupted upload not removed; they are swept later", "upload", w.id, "err", err)
	}
	return nil
}

// OpenUpload implements blob.UploadReader. Parts can only be read when they are an object, so they become one, and what
// comes behind them is composed with it later.
func (s *Store) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	p, whole, fresh, err := s.resume(ctx, id, state)
	if err == nil && fresh {
		err = blob.UploadUnknown(id)
	}
	if err != nil {
		return nil, err
	}
	r := &uploadReader{ctx: ctx, s: s, id: id, tail: p.tail}
	if len(p.parts) > 0 {
		m := s.continued(id, p)
		if !whole {
			if _, err := m.finish(ctx, id, p.parts, nil, nil); err != nil {
				return nil, s.lost(id, "read upload", err)
			}
		}
		r.todo = append(r.todo, source{key: m.key, size: p.parts.size()})
	}
	r.todo = append(r.todo, s.sources(id, p.segments)...)
	return r, nil
}

// uploadReader reads one object after the other.
type uploadReader struct {
	ctx  context.Context //nolint:containedctx // of the call that opened it, which is what it lives in
	s    *Store
	id   string
	todo []source
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
			c, err := r.s.open(r.ctx, next.key)
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
