package s3

import (
	"context"
	"errors"
	"math"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Place implements blob.Placer. Content of one part is one request, at its Commit. More is a multipart upload to the
// digest's own key, which the service shows when it is completed, and that is after the digest was verified.
func (s *Store) Place(ctx context.Context, id string, d oci.Digest) (blob.Placement, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	if d.IsZero() {
		return nil, errors.New("s3: place without a digest")
	}
	return &placement{assembly: assembly{
		s: s, id: id, key: s.blobKey(d), nonce: nonce(), next: 1, flights: newFlights(ctx, s.o.buffers()-1),
	}, cur: &pages{}}, nil
}

type placement struct {
	assembly
	cur    *pages
	closed bool
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
	body := p.cur
	p.cur = &pages{}
	return p.add(body)
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
	made, err := p.begun.finish(ctx, p.id, p.parts, p.s.sources(p.id, p.more), nil)
	if err != nil {
		p.s.forget(ctx, p.id, made)
		return err
	}
	for _, g := range p.sent {
		made = append(made, p.s.segmentKey(p.id, g))
	}
	p.s.forget(ctx, p.id, append(made, p.begun.marker))
	return nil
}

// Close implements blob.Placement.
func (p *placement) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	p.flights.abandon()
	p.cur.free()
	if err := p.drop(p.flights.ctx); err != nil {
		p.s.log.Warn("what an interrupted upload left is not removed; it is swept later", "upload", p.id, "err", err)
	}
	return nil
}
