package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/berth-registry/berth/server/blob"
)

// notes is the directory of notes below the root. It is made with the first.
const notes = "berth"

// PutNote implements blob.NoteKeeper: a file that is synced before it gets its name.
func (s *Store) PutNote(ctx context.Context, name string, content []byte) error {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return err
	}
	name = path.Join(notes, name)
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := s.root.Mkdir(name[:i], dirPerm); err != nil {
			return failed("write "+name, err)
		}
	}
	if err := s.root.WriteFile(name, content, filePerm); err != nil {
		return failed("write "+name, err)
	}
	return nil
}

// Note implements blob.NoteKeeper.
func (s *Store) Note(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
		return nil, err
	}
	f, err := s.root.Open(path.Join(notes, name))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UnknownNote(name)
	} else if err != nil {
		return nil, failed("read "+name, err)
	}
	defer f.Close()
	content, err := readAll(f)
	if err != nil {
		return nil, failed("read "+name, err)
	}
	return content, nil
}

func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	content := make([]byte, min(info.Size(), blob.MaxNote))
	_, err = f.ReadAt(content, 0)
	return content, err
}

// NoteNames implements blob.NoteKeeper.
func (s *Store) NoteNames(ctx context.Context, folder string) ([]string, error) {
	if folder != "" {
		if err := blob.CheckNote(folder); err != nil {
			return nil, err
		}
	}
	names, err := s.noteNames(ctx, folder)
	slices.Sort(names)
	return names, err
}

func (s *Store) noteNames(ctx context.Context, folder string) (names []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	base := path.Join(notes, folder)
	entries, err := s.root.Names(base)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, failed("list "+base, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry, ".") { // on its way to its name
			continue
		}
		info, err := s.root.Stat(path.Join(base, entry))
		switch {
		case errors.Is(err, iofs.ErrNotExist): // removed meanwhile
		case err != nil:
			return nil, failed("list "+base, err)
		case info.IsDir():
			below, err := s.noteNames(ctx, path.Join(folder, entry))
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
		default:
			names = append(names, path.Join(folder, entry))
		}
	}
	return names, nil
}

// DeleteNotes implements blob.NoteKeeper.
func (s *Store) DeleteNotes(ctx context.Context, names ...string) error {
	dirs := map[string]bool{}
	var errs []error
	for _, name := range names {
		if err := errors.Join(ctx.Err(), blob.CheckNote(name)); err != nil {
			errs = append(errs, err)
			break
		}
		err := s.root.Remove(path.Join(notes, name))
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			errs = append(errs, failed("delete "+name, err))
		} else if err == nil {
			dirs[path.Dir(path.Join(notes, name))] = true
		}
	}
	for dir := range dirs {
		if err := s.root.SyncDir(dir); err != nil {
			errs = append(errs, failed("delete notes", err))
		}
	}
	return errors.Join(errs...)
}
