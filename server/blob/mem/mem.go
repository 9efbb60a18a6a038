// Package mem keeps blobs in memory: the store of tests and of a registry that is meant to forget. It may assume that
// what it is given fits.
package mem

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Store is a blob.Store in memory. Make one with New.
type Store struct {
	mu      sync.RWMutex
	blobs   map[oci.Digest][]byte
	uploads map[string][]byte
	notes   map[string][]byte
}

// New is an empty store.
func New() *Store {
	return &Store{blobs: map[oci.Digest][]byte{}, uploads: map[string][]byte{}, notes: map[string][]byte{}}
}

// Upload implements blob.Store.
func (s *Store) Upload(ctx context.Context, id string, state blob.State) (blob.Writer, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.uploads[id]
	if state.Offset < 0 || state.Offset > int64(len(held)) {
		return nil, blob.UploadUnknown(id)
	}
	s.uploads[id] = held[:state.Offset]
	return &writer{s: s, id: id, offset: state.Offset}, nil
}

// Commit implements blob.Store.
func (s *Store) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return err
	}
	if d.IsZero() {
		return errors.New("mem: commit without a digest")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.uploads[id]
	if !ok {
		if b, ok := s.blobs[d]; ok && int64(len(b)) == state.Offset {
			return nil
		}
		return blob.UploadUnknown(id)
	}
	if state.Offset < 0 || state.Offset > int64(len(held)) {
		return blob.UploadUnknown(id)
	}
	// Clipped, so that a writer that was left open can no longer reach what readers see.
	s.blobs[d] = slices.Clone(held[:state.Offset])
	delete(s.uploads, id)
	return nil
}

// Abort implements blob.Store.
func (s *Store) Abort(_ context.Context, id string, _ blob.State) error {
	if err := blob.CheckID(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, id)
	return nil
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, ok := s.blobs[d]
	if !ok {
		return nil, 0, blob.Unknown(d)
	}
	return content{bytes.NewReader(b)}, int64(len(b)), nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, ds ...oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		delete(s.blobs, d)
	}
	return nil
}

// OpenUpload implements blob.UploadReader.
func (s *Store) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	held, ok := s.uploads[id]
	if !ok || state.Offset > int64(len(held)) {
		return nil, blob.UploadUnknown(id)
	}
	return content{bytes.NewReader(slices.Clone(held[:state.Offset]))}, nil
}

// Check implements blob.Store.
func (s *Store) Check(ctx context.Context) error { return ctx.Err() }

type content struct{ *bytes.Reader }

func (content) Close() error { return nil }

type writer struct {
	s      *Store
	id     string
	offset int64
	closed bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	held, ok := w.s.uploads[w.id]
	switch {
	case w.closed:
		return 0, errors.New("mem: write to a closed upload")
	case !ok || int64(len(held)) < w.offset:
		return 0, blob.UploadUnknown(w.id) // aborted meanwhile
	}
	w.s.uploads[w.id] = append(held[:w.offset], p...)
	w.offset += int64(len(p))
	return len(p), nil
}

func (w *writer) Suspend(context.Context) (blob.State, error) {
	closed := w.closed
	w.closed = true
	if closed {
		return blob.State{}, errors.New("mem: suspend of a closed upload")
	}
	return blob.State{Offset: w.offset}, nil
}

func (w *writer) Close() error {
	w.closed = true
	return nil
}
