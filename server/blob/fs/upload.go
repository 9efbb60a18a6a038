package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/server/blob"
)

// writeback is after how many bytes the kernel is asked to begin writing: often enough that little is left for the
// sync at the end, seldom enough that the disk sees long runs.
const writeback = 8 << 20

// Upload implements blob.Store.
func (s *Store) Upload(ctx context.Context, id string, state blob.State) (blob.Writer, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	if s.inAttempts(state) {
		return s.begin(id, state)
	}
	flag := os.O_WRONLY
	if state.Offset == 0 {
		flag |= os.O_CREATE
	}
	f, err := s.root.OpenFile(s.uploadName(id), flag, filePerm)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UploadUnknown(id)
	} else if err != nil {
		return nil, failed("upload", err)
	}
	if err := restore(f, id, state); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &writer{s: s, id: id, f: f, begun: state.Offset == 0, offset: state.Offset, started: state.Offset}, nil
}

// Abort implements blob.Store. It does its work also when ctx has ended: that is when uploads are aborted. The removal
// is synced, because the row that names the upload goes next.
func (s *Store) Abort(_ context.Context, id string, state blob.State) error {
	if err := blob.CheckID(id); err != nil {
		return err
	}
	var err error
	if s.inAttempts(state) {
		err = s.abortAttempts(id, state)
	} else {
		err = s.root.Remove(s.uploadName(id))
	}
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return failed("abort", err)
	}
	if err := s.root.SyncDir("uploads"); err != nil {
		return failed("abort", err)
	}
	return nil
}

// OpenUpload implements blob.UploadReader.
func (s *Store) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	if s.inAttempts(state) {
		return s.readAttempts(id, state)
	}
	f, err := s.root.Open(s.uploadName(id))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UploadUnknown(id)
	} else if err != nil {
		return nil, failed("read upload", err)
	}
	info, err := f.Stat()
	if err == nil && (state.Offset < 0 || info.Size() < state.Offset) {
		err = blob.UploadUnknown(id)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, state.Offset), f}, nil
}

// StaleUploads implements blob.UploadLister. The clock is that of the file system.
func (s *Store) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	names, err := s.root.Names("uploads")
	if err != nil {
		return nil, failed("list uploads", err)
	}
	// An upload is as old as its youngest file.
	at := map[string]time.Time{}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		info, err := s.root.Stat(s.uploadName(name))
		if errors.Is(err, iofs.ErrNotExist) {
			continue // it has ended meanwhile
		} else if err != nil {
			return nil, failed("list uploads", err)
		}
		if id, _, _ := strings.Cut(name, "."); info.Mode().IsRegular() && blob.CheckID(id) == nil && info.ModTime().After(at[id]) {
			at[id] = info.ModTime()
		}
	}
	var ids []string
	for id, last := range at {
		if last.Before(before) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// restore brings the file to where state says that it is.
func restore(f *durable.File, id string, state blob.State) error {
	size, err := f.Size()
	switch {
	case err != nil:
		return failed("upload", err)
	case state.Offset < 0 || size < state.Offset:
		return blob.UploadUnknown(id)
	}
	if size > state.Offset {
		if err := f.Truncate(state.Offset); err != nil {
			return failed("upload", err)
		}
	}
	return nil
}

type writer struct {
	s       *Store
	id      string
	f       *durable.File // nil once closed
	begun   bool          // it may have made the file
	offset  int64
	started int64 // up to where the kernel was asked to write
}

func (w *writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errors.New("fs: write to a closed upload")
	}
	if err := w.s.allow(len(p)); err != nil {
		return 0, err
	}
	n, err := w.f.WriteAt(p, w.offset)
	w.offset += int64(n)
	if err != nil {
		return n, failed("upload", err)
	}
	if due := w.offset - w.started; due >= writeback {
		w.f.StartWriteback(w.started, due)
		w.started = w.offset
	}
	return n, nil
}

// Suspend syncs the bytes, and the name of a file that is new, while their digest may still be announced elsewhere, so
// that Commit has only the last name to make durable. Closing is what shows the bytes to other machines on NFS.
func (w *writer) Suspend(context.Context) (blob.State, error) {
	if w.f == nil {
		return blob.State{}, errors.New("fs: suspend of a closed upload")
	}
	f := w.f
	w.f = nil
	state := blob.State{Offset: w.offset}
	err := f.Sync()
	if err == nil && w.begun {
		err = w.s.root.SyncDir("uploads")
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		// What the disk has of it is unknown: it must not be continued, also not from an earlier state.
		if removeErr := w.s.root.Remove(w.s.uploadName(w.id)); removeErr != nil && !errors.Is(removeErr, iofs.ErrNotExist) {
			err = fmt.Errorf("%w; and its file is left: %w", err, removeErr)
		}
		return blob.State{}, failed("suspend", err)
	}
	return state, nil
}

func (w *writer) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}
