package durable

import (
	"fmt"
	"io/fs"
	"os"
)

// File is a file that is being written. Not safe for concurrent use.
type File struct {
	f      *os.File
	name   string // below the Dir that opened it
	label  string // for hooks
	hook   Hook
	failed error // of a sync: nothing may be done with the file any more
}

// OpenFile opens a file for writing, with the flags and permissions of os.OpenFile. Neither the file nor its name is
// durable before Publish.
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (*File, error) {
	var f *os.File
	err := d.on(func(r *os.Root) (err error) {
		if err := d.hook.call(OpOpen, d.in(name), ""); err != nil {
			return err
		}
		f, err = r.OpenFile(name, flag, perm)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("durable: open file: %w", err)
	}
	return &File{f: f, name: name, label: d.in(name), hook: d.hook}, nil
}

// WriteAt writes p at offset off, like os.File.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.may(OpWrite); err != nil {
		return 0, err
	}
	n, err := f.f.WriteAt(p, off)
	if err != nil {
		return n, fmt.Errorf("durable: write: %w", err)
	}
	return n, nil
}

// ReadAt reads like os.File, where the file was opened for reading too.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

// Truncate sets the size of the file.
func (f *File) Truncate(size int64) error {
	if err := f.may(OpTruncate); err != nil {
		return err
	}
	if err := f.f.Truncate(size); err != nil {
		return fmt.Errorf("durable: truncate: %w", err)
	}
	return nil
}

// Size is the size of the file in bytes.
func (f *File) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("durable: stat: %w", err)
	}
	return info.Size(), nil
}

// Info describes the open file, whatever its name is by now.
func (f *File) Info() (fs.FileInfo, error) { return f.f.Stat() }

// Sync makes the content durable. Once it has failed, it and every writing method fail with the same error.
func (f *File) Sync() error {
	if err := f.may(OpSync); err != nil {
		f.failed = err
		return err
	}
	if err := f.f.Sync(); err != nil {
		f.failed = fmt.Errorf("durable: sync: %w", err)
		return f.failed
	}
	return nil
}

// Close releases the file without any promise about its content; its error still matters, since a network file system
// may report a failed write only here.
func (f *File) Close() error {
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("durable: close: %w", err)
	}
	return nil
}

func (f *File) may(op Op) error {
	if f.failed != nil {
		return f.failed
	}
	return f.hook.call(op, f.label, "")
}
