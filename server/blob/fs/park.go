package fs

import (
	"errors"
	"slices"
	"sync"

	"github.com/berth-registry/berth/internal/durable"
)

// maxParked bounds the files that are held open for suspended uploads.
const maxParked = 64

// parked are the files of suspended uploads, at most maxParked; the one that waits longest is closed for a new one.
type parked struct {
	mu    sync.Mutex
	queue []parkedFile // the longest waiting first; short enough to be searched
}

type parkedFile struct {
	id string
	f  *durable.File
}

// put keeps f and gives back what it displaced: the file that waited longest, or an older one of the same upload.
func (p *parked) put(id string, f *durable.File) (out parkedFile) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.queue, func(f parkedFile) bool { return f.id == id })
	if i < 0 && len(p.queue) == maxParked {
		i = 0
	}
	if i >= 0 {
		out = p.queue[i]
		p.queue = slices.Delete(p.queue, i, i+1)
	}
	p.queue = append(p.queue, parkedFile{id, f})
	return out
}

// take is the upload's file, which is then the caller's, or nil.
func (p *parked) take(id string) *durable.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.queue, func(f parkedFile) bool { return f.id == id })
	if i < 0 {
		return nil
	}
	f := p.queue[i].f
	p.queue = slices.Delete(p.queue, i, i+1)
	return f
}

func (p *parked) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, f := range p.queue {
		errs = append(errs, f.f.Close())
	}
	p.queue = nil
	return errors.Join(errs...)
}

// park keeps the file of a suspended upload open.
func (s *Store) park(id string, f *durable.File) error {
	out := s.parked.put(id, f)
	if out.f == nil {
		return nil
	}
	if err := out.f.Close(); err != nil && out.id != id {
		// NFS reports failed writes here. The state of that upload promises bytes that are not there: it must not
		// be continued, and without its file it cannot be.
		return s.root.Remove(s.uploadName(out.id))
	}
	return nil
}
