package s3

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Place implements blob.Placer. Content of one part is one request, at its Commit. More is a multipart upload to the
// digest's own key, which the service shows when it is completed, and that is after the digest was verified. Content with
// more parts than the service takes goes on in segments, which Commit composes into the last parts.
func (s *Store) Place(ctx context.Context, id string, d oci.Digest) (blob.Placement, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	if d.IsZero() {
		return nil, errors.New("s3: place without a digest")
	}
	return &placement{
		s: s, id: id, key: s.blobKey(d), nonce: nonce(), cur: &pages{}, flights: newFlights(ctx, s.o.buffers()-1),
	}, nil
}

type placement struct {
	s       *Store
	id, key string
	nonce   string
	cur     *pages
	offset  int64 // of cur
	flights *flights
	begun   *multipart // nil while one part is enough
	more    segments   // behind the parts
	closed  bool

	mu    sync.Mutex
	parts []types.CompletedPart // by number-1, filled in as they arrive
}

func (p *placement) Write(b []byte) (int, error) {
	if p.closed {
		return 0, errors.New("s3: write to a closed placement")
	}
	if err := context.Cause(p.flights.ctx); err != nil {
		return 0, p.s.failed("place", err)
	}
	n := 0
	for n < len(b) {
		room := p.s.o.ChunkSize - p.cur.size
		if room == 0 {
			if err := p.seal(); err != nil {
				return n, p.s.failed("place", err)
			}
			continue
		}
		take := b[n:min(len(b), n+int(min(room, math.MaxInt32)))]
		p.cur.write(take)
		n += len(take)
	}
	return n, nil
}

// seal sends what is in memory.
func (p *placement) seal() error {
	if p.begun == nil {
		m, err := p.s.begin(p.flights.ctx, p.id, p.key, true)
		if err != nil {
			return err
		}
		p.begun = m
	}
	body := p.cur
	p.cur = &pages{}
	start := p.offset
	p.offset += body.size
	if len(p.parts) >= p.s.limits.direct {
		g := segment{p.nonce, start, body.size}
		p.more = p.more.add(g)
		return p.flights.do(body, func(ctx context.Context) error { return p.s.put(ctx, p.s.segmentKey(p.id, g), body, false) })
	}
	p.mu.Lock()
	p.parts = append(p.parts, types.CompletedPart{})
	number := len(p.parts)
	p.mu.Unlock()
	return p.flights.do(body, func(ctx context.Context) error {
		done, err := p.begun.part(ctx, number, body)
		p.mu.Lock()
		p.parts[number-1] = done
		p.mu.Unlock()
		return err
	})
}

// Commit implements blob.Placement.
func (p *placement) Commit(ctx context.Context) error {
	if p.closed {
		return errors.New("s3: commit of a closed placement")
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, p.Close())
	}
	if err := p.commit(ctx); err != nil {
		return errors.Join(p.s.failed("commit", err), p.Close())
	}
	p.closed = true
	p.cur.free()
	p.flights.cancel(nil)
	return nil
}

func (p *placement) commit(ctx context.Context) error {
	if p.begun == nil {
		return p.s.put(ctx, p.key, p.cur, true)
	}
	if p.cur.size > 0 {
		if err := p.seal(); err != nil {
			return err
		}
	}
	if err := p.flights.land(ctx); err != nil {
		return err
	}
	parts, made := p.parts, []string{p.begun.marker}
	if len(p.more) > 0 {
		composed, keys, err := p.rest(ctx)
		made = append(made, keys...)
		if err != nil {
			return err
		}
		parts = append(parts, composed...)
	}
	if err := p.begun.complete(ctx, parts, p.offset); err != nil {
		return err
	}
	p.s.forget(ctx, p.id, made)
	return nil
}

// rest composes the segments behind the parts into as many parts as there is room for.
func (p *placement) rest(ctx context.Context) (parts []types.CompletedPart, keys []string, err error) {
	var from []source
	for _, g := range p.more.list() {
		key := p.s.segmentKey(p.id, g)
		from, keys = append(from, source{key, g.size}), append(keys, key)
	}
	if room := p.s.limits.parts - len(p.parts); len(from) > room {
		larger, err := p.s.bundle(ctx, p.id, from, room/2)
		for _, b := range larger {
			keys = append(keys, b.key)
		}
		if err != nil {
			return nil, keys, err
		}
		from = larger
	}
	_, parts, err = p.begun.gather(ctx, len(p.parts)+1, from)
	return parts, keys, err
}

// Close implements blob.Placement.
func (p *placement) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	p.flights.abandon()
	p.cur.free()
	if p.begun == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(p.flights.ctx), cleanWithin)
	defer stop()
	if len(p.more) == 0 {
		p.begun.abort(ctx)
		return nil
	}
	if err := p.s.clear(ctx, p.id); err != nil {
		p.s.log.Warn("what an interrupted upload left is not removed; it is swept later", "upload", p.id, "err", err)
	}
	return nil
}
