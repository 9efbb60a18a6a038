package layout

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
)

// unsettled is how many blobs are written and wait, with open files, for the sync that gives them their names.
const unsettled = 64

// settling keeps the blobs of a Dir that are written and have no name yet. The zero value is ready. Safe for concurrent use.
type settling struct {
	turn sync.Mutex // one settles at a time; who comes later finds done what it waited for

	mu     sync.Mutex
	files  map[oci.Digest]durable.Publication
	failed error // of a sync: what was reported as written is not, so nothing may name it
}

// waits reports whether a blob is written and has no name yet.
func (s *settling) waits(d oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[d]
	return ok
}

// add takes a blob that is written, and reports whether it is time to settle. The same one a second time is given up.
func (s *settling) add(d oci.Digest, p durable.Publication, remove func() error) (due bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[d]; ok {
		return false, errors.Join(p.File.Close(), remove())
	}
	if s.files == nil {
		s.files = map[oci.Digest]durable.Publication{}
	}
	s.files[d] = p
	return len(s.files) >= unsettled, nil
}

// abandon closes what was not settled; the parts stay.
func (s *settling) abandon() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.files {
		errs = append(errs, p.File.Close())
	}
	s.files = nil
	return errors.Join(errs...)
}

// Settle makes the blobs that were written durable and gives them their names, as the next PutManifest would. After a failure the layout
// takes nothing more: some of what it took is lost.
func (l *Dir) Settle() error {
	s := &l.blobs
	s.turn.Lock()
	defer s.turn.Unlock()
	s.mu.Lock()
	files, err := maps.Clone(s.files), s.failed
	s.mu.Unlock()
	if err != nil || len(files) == 0 {
		return err
	}
	err = full(l.d.PublishAll(slices.Collect(maps.Values(files))))
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range files {
		delete(s.files, d)
	}
	s.failed = err
	return err
}
