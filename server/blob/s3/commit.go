package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Commit implements blob.Store: Park, and then Settle at once.
func (s *Store) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	p, _, err := s.committed(ctx, id, state, d)
	if err == nil && len(p.parts) > 0 && s.ended.has(id) {
		return s.commitAgain(ctx, id, state, d, false)
	}
	place, err := s.Park(ctx, id, state, d)
	if err != nil || place == "" {
		return err
	}
	if err := s.Settle(ctx, place, d); err != nil {
		s.ended.remove(id) // ask again
		return err
	}
	if err := s.DeleteAt(ctx, place); err != nil {
		s.log.Warn("leftovers of a finished upload not removed; they are swept later", "upload", id, "err", err)
	}
	return nil
}

// commitHere joins the bytes of an upload under the digest: first, then those behind the parts.
func (s *Store) commitHere(ctx context.Context, id string, state blob.State, d oci.Digest, first []source, p progress) error {
	from, rest, err := s.behind(ctx, id, p)
	if err == nil {
		defer rest.free()
		from = append(first, from...)
		body := rest.orNil()
		if len(from) == 0 {
			body = rest // of nothing
		}
		err = s.compose(ctx, id, s.blobKey(d), true, from, body)
	}
	if isMissing(err) {
		return s.commitAgain(ctx, id, state, d, false)
	} else if err != nil {
		return s.failed("commit", err)
	}
	s.ended.add(id)
	s.tidy(ctx, id, p)
	return nil
}

// commitAgain answers for an upload that has ended: its Commit is asked for again by a caller that never heard the
// answer.
func (s *Store) commitAgain(ctx context.Context, id string, state blob.State, d oci.Digest, never bool) error {
	if never {
		return blob.UploadUnknown(id)
	}
	is, err := s.stat(ctx, s.blobKey(d))
	if isMissing(err) || err == nil && is.size != state.Offset {
		return blob.UploadUnknown(id)
	} else if err != nil {
		return s.failed("commit", err)
	}
	return nil
}

// tidy removes what a committed upload had, except what it was made of: that is parked, or swept later.
func (s *Store) tidy(ctx context.Context, id string, p progress) {
	if p.litter {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
		defer stop()
		if err := s.clear(ctx, id); err != nil {
			s.log.Warn("leftovers of a finished upload not removed; they are swept later", "upload", id, "err", err)
		}
		return
	}
	var keys []string
	for _, g := range p.segments.list() {
		keys = append(keys, s.segmentKey(id, g))
	}
	s.forget(ctx, id, keys)
}

// behind is what comes behind the parts of an upload: objects that may be parts, and in memory the rest that may not, except
// as the last. Free it.
func (s *Store) behind(ctx context.Context, id string, p progress) (from []source, rest *pages, err error) {
	whole, pieces := p.segments.split(s.limits.minPart)
	if len(pieces) == 1 && len(p.tail) == 0 {
		return s.sources(id, p.segments), &pages{}, nil
	}
	if rest, err = s.load(ctx, id, pieces); err != nil {
		return nil, nil, err
	}
	rest.write(p.tail)
	return s.sources(id, whole), rest, nil
}

// source is an object that becomes a part of another, or some bytes of it that do.
type source struct {
	key  string
	size int64
	at   int64 // where the bytes begin, when part says that they are not all
	part bool
}

func (s *Store) sources(id string, gs segments) (from []source) {
	for _, g := range gs.list() {
		from = append(from, source{key: s.segmentKey(id, g), size: g.size})
	}
	return from
}

// compose makes one object of sources, and of rest when it is not nil, in this order. More sources than the service takes
// at once are composed to larger ones first.
func (s *Store) compose(ctx context.Context, id, key string, content bool, from []source, rest *pages) error {
	switch {
	case len(from) == 0:
		return s.put(ctx, key, rest, content)
	case len(from) == 1 && rest == nil && !from[0].part && from[0].size <= s.limits.composed:
		return s.copy(ctx, from[0].key, key, content)
	}
	m, err := s.begin(ctx, id, key, nonce(), content)
	if err != nil {
		return err
	}
	made, err := m.finish(ctx, id, nil, from, rest)
	if err != nil {
		m.abort(ctx)
		s.forget(ctx, id, made)
		return err
	}
	s.forget(ctx, id, append(made, m.marker))
	return nil
}

// gather copies the sources into parts from number first on.
func (m *multipart) gather(ctx context.Context, first int, from []source) (size int64, parts []types.CompletedPart, err error) {
	parts = make([]types.CompletedPart, len(from))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.s.o.CopyConcurrency)
	for i, src := range from {
		size += src.size
		g.Go(func() (err error) {
			parts[i], err = m.copy(ctx, first+i, src)
			return err
		})
	}
	return size, parts, g.Wait()
}

// bundle composes neighbours until there are about most of them, none larger than what may be copied as one part.
func (s *Store) bundle(ctx context.Context, id string, from []source, most int) (larger []source, err error) {
	var total int64
	for _, src := range from {
		total += src.size
	}
	aim := min(max(total/int64(max(most, 1)), 1<<30), s.limits.composed)
	for len(from) > 0 {
		n, size := 1, from[0].size
		for n < len(from) && n < s.limits.parts-1 && size < aim && size+from[n].size <= s.limits.composed {
			size += from[n].size
			n++
		}
		key := s.uploadPrefix(id) + "bundle-" + nonce()
		if err := s.compose(ctx, id, key, false, from[:n], nil); err != nil {
			return larger, err
		}
		larger = append(larger, source{key: key, size: size})
		from = from[n:]
	}
	return larger, nil
}

// rangeOf is the header that says which bytes of an object become a part; nil for all.
func (src source) rangeOf() *string {
	if !src.part {
		return nil
	}
	text := fmt.Sprintf("bytes=%d-%d", src.at, src.at+src.size-1)
	return &text
}

// forget removes what a finished upload needs no more. What stays is swept later: it is no content.
func (s *Store) forget(ctx context.Context, id string, keys []string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer stop()
	if err := s.remove(ctx, keys); err != nil {
		s.log.Warn("leftovers of a finished upload not removed; they are swept later", "upload", id, "err", err)
	}
}
