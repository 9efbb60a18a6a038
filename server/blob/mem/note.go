package mem

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/berth-registry/berth/server/blob"
)

// PutNote implements blob.NoteKeeper.
func (s *Store) PutNote(ctx context.Context, name string, content []byte) error {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes[name] = slices.Clone(content)
	return nil
}

// Note implements blob.NoteKeeper.
func (s *Store) Note(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	content, ok := s.notes[name]
	if !ok {
		return nil, blob.UnknownNote(name)
	}
	return slices.Clone(content), nil
}

// NoteNames implements blob.NoteKeeper.
func (s *Store) NoteNames(ctx context.Context, folder string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name := range s.notes {
		if folder == "" || strings.HasPrefix(name, folder+"/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// DeleteNotes implements blob.NoteKeeper.
func (s *Store) DeleteNotes(ctx context.Context, names ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.notes, name)
	}
	return nil
}
