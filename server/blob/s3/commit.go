package s3

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Commit implements blob.Store. The segments are joined under the digest by copies inside the service; an upload without
// a whole segment is written there in one request. Then what the upload had is removed.
func (s *Store) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return err
	}
	if d.IsZero() {
		return errors.New("s3: commit without a digest")
	}
	p, fresh, err := progressOf(id, state)
	if err != nil {
		return err
	}
	if fresh || s.ended.has(id) {
		return s.commitAgain(ctx, id, state, d, fresh)
	}
	err = s.join(ctx, id, p, s.blobKey(d))
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

// tidy removes what a committed upload had.
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

// join makes the upload's bytes one object.
func (s *Store) join(ctx context.Context, id string, p progress, key string) error {
	whole, pieces := p.segments.split(s.limits.minPart)
	if len(pieces) == 1 && len(p.tail) == 0 { // the last part may be short
		whole, pieces = p.segments, nil
	}
	var rest *pages
	if len(pieces)+len(p.tail) > 0 || len(whole) == 0 {
		var err error
		if rest, err = s.load(ctx, id, pieces); err != nil {
			return err
		}
		defer rest.free()
		rest.write(p.tail)
	}
	var from []source
	for _, g := range whole.list() {
		from = append(from, source{s.segmentKey(id, g), g.size})
	}
	return s.compose(ctx, id, key, true, from, rest)
}

// source is an object that becomes a part of another.
type source struct {
	key  string
	size int64
}

// compose makes one object of sources, and of rest when it is not nil, in this order. More sources than the service takes
// at once are composed to larger ones first.
func (s *Store) compose(ctx context.Context, id, key string, content bool, from []source, rest *pages) error {
	switch {
	case len(from) == 0:
		return s.put(ctx, key, rest, content)
	case len(from) == 1 && rest == nil && from[0].size <= s.limits.composed:
		return s.copy(ctx, from[0].key, key, content)
	}
	if len(from) >= s.limits.parts {
		larger, err := s.bundle(ctx, id, from, s.limits.parts/2)
		if err == nil {
			err = s.compose(ctx, id, key, content, larger, rest)
		}
		keys := make([]string, len(larger))
		for i, b := range larger {
			keys[i] = b.key
		}
		s.forget(ctx, id, keys)
		return err
	}
	m, err := s.begin(ctx, id, key, content)
	if err != nil {
		return err
	}
	size, parts, err := m.gather(ctx, 1, from)
	if err == nil && rest != nil {
		var last types.CompletedPart
		last, err = m.part(ctx, len(parts)+1, rest)
		parts, size = append(parts, last), size+rest.size
	}
	if err == nil {
		err = m.complete(ctx, parts, size)
	}
	if err != nil {
		m.abort(ctx)
		return err
	}
	s.forget(ctx, id, []string{m.marker})
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
			parts[i], err = m.copy(ctx, first+i, src.key)
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
		larger = append(larger, source{key, size})
		from = from[n:]
	}
	return larger, nil
}

// forget removes what a finished upload needs no more. What stays is swept later: it is no content.
func (s *Store) forget(ctx context.Context, id string, keys []string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer stop()
	if err := s.remove(ctx, keys); err != nil {
		s.log.Warn("leftovers of a finished upload not removed; they are swept later", "upload", id, "err", err)
	}
}
