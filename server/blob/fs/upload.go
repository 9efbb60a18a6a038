package fs

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"os"

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
	flag := os.O_WRONLY
	if state.Offset == 0 {
		flag |= os.O_CREATE
	}
	f, err := s.reopen(id, flag)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UploadUnknown(id)
	} else if err != nil {
		return nil, failed("upload", err)
	}
	if err := trim(f, id, state.Offset); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &writer{s: s, id: id, f: f, offset: state.Offset, started: state.Offset}, nil
}

// Abort implements blob.Store. It does its work also when ctx has ended: that is when uploads are aborted. The removal
// is synced, because the row that names the upload goes next.
func (s *Store) Abort(_ context.Context, id string, _ blob.State) error {
	if err := blob.CheckID(id); err != nil {
		return err
	}
	if f := s.parked.take(id); f != nil {
		_ = f.Close() // what it would report is about bytes that nobody wants any more
	}
	err := s.root.Remove(s.uploadName(id))
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
	f, err := s.root.Open(s.uploadName(id))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UploadUnknown(id)
	} else if err != nil {
		return nil, failed("upload", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, state.Offset), f}, nil
}

// reopen is the upload's file: as the last Suspend of this process left it, else opened anew.
func (s *Store) reopen(id string, flag int) (*durable.File, error) {
	if f := s.parked.take(id); f != nil {
		return f, nil
	}
	return s.root.OpenFile(s.uploadName(id), flag, filePerm)
}

// trim discards what is behind offset. A file that ends before it lost bytes that were promised, to a power loss.
func trim(f *durable.File, id string, offset int64) error {
	size, err := f.Size()
	switch {
	case err != nil:
		return failed("upload", err)
	case offset < 0 || size < offset:
		return blob.UploadUnknown(id)
	case size > offset:
		if err := f.Truncate(offset); err != nil {
			return failed("upload", err)
		}
	}
	return nil
}

type writer struct {
	s       *Store
	id      string
	f       *durable.File // nil once closed
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

// Suspend keeps the file open for whoever continues: mostly the Commit that follows at once. The kernel tells of a
// failed write-back to those who had the file open, so this is also how an error between now and Commit is not missed.
func (w *writer) Suspend(context.Context) (blob.State, error) {
	if w.f == nil {
		return blob.State{}, errors.New("fs: suspend of a closed upload")
	}
	f := w.f
	w.f = nil
	if err := w.s.park(w.id, f); err != nil {
		return blob.State{}, err
	}
	return blob.State{Offset: w.offset}, nil
}

func (w *writer) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}
