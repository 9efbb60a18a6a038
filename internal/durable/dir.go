// Package durable does file operations that hold after a power loss once they have returned: a file is synced before
// its name changes, and the directory that holds a changed name is synced before the change is reported.
//
// Everything happens under a [Dir], which no name can leave (it is an [os.Root]), with rename as the only means to make
// content visible: it needs no locks and no links, so a directory on NFS works the same; one that its server has forgotten (ESTALE)
// is opened again. It may assume nothing about its caller
// and has no product meaning.
//
// After a failed sync nobody knows what the disk holds: the kernel may have dropped the dirty pages, and a second sync
// of the same file may then succeed without having written them. So a file whose sync failed is removed and refuses
// every further operation; whoever needs its content starts over. See Rebello et al., "Can Applications Recover from
// fsync Failures?" (USENIX ATC 2020).
//
// Start reading at [Dir.Publish]. [WriteFile] and [MkdirAll] serve callers that only have a path.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
)

// ErrDoubtful marks a change that was made but whose directory could not be synced: it is visible now and may be gone
// after a power loss.
var ErrDoubtful = errors.New("the change may not survive a power loss")

// Dir is a directory below which all names are resolved; a name that would leave it is an error. Safe for concurrent
// use.
type Dir struct {
	root   atomic.Pointer[os.Root]
	again  func() (*os.Root, error) // opens root anew
	prefix string                   // where this directory is below the one that was opened first, for hooks and messages
	hook   Hook
}

// OpenDir opens the directory at path. hook may be nil.
func OpenDir(path string, hook Hook) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("durable: open directory: %w", err)
	}
	d := &Dir{again: func() (*os.Root, error) { return os.OpenRoot(path) }, hook: hook}
	d.root.Store(root)
	return d, nil
}

// on does f, and once more in the directory opened anew when the file server does not know the open one any more: it was
// restarted or replaced. What was open in it is for the garbage collector, since others may be using it.
func (d *Dir) on(f func(*os.Root) error) error {
	root := d.root.Load()
	err := f(root)
	if !errors.Is(err, syscall.ESTALE) {
		return err
	}
	fresh, openErr := d.again()
	if openErr != nil {
		return err
	}
	d.root.CompareAndSwap(root, fresh)
	return f(fresh)
}

// Sub opens a directory below d. Names below it are resolved without walking to it again.
func (d *Dir) Sub(name string) (*Dir, error) {
	again := func() (root *os.Root, err error) {
		err = d.on(func(r *os.Root) error { root, err = r.OpenRoot(name); return err })
		return root, err
	}
	root, err := again()
	if err != nil {
		return nil, fmt.Errorf("durable: open directory: %w", err)
	}
	sub := &Dir{again: again, prefix: path.Join(d.prefix, name), hook: d.hook}
	sub.root.Store(root)
	return sub, nil
}

// Close releases the directory. Files that were opened through it stay open.
func (d *Dir) Close() error { return d.root.Load().Close() }

// Open opens a file for reading. The error is the one of package os, unwrapped: this is where readers spend their time.
func (d *Dir) Open(name string) (f *os.File, err error) {
	if f, err = d.root.Load().Open(name); errors.Is(err, syscall.ESTALE) {
		err = d.on(func(r *os.Root) error { f, err = r.Open(name); return err })
	}
	return f, err
}

// Stat describes the file that name leads to.
func (d *Dir) Stat(name string) (info fs.FileInfo, err error) {
	err = d.on(func(r *os.Root) error { info, err = r.Stat(name); return err })
	return info, err
}

// Lstat is Stat of a link itself, where the last name is one.
func (d *Dir) Lstat(name string) (info fs.FileInfo, err error) {
	err = d.on(func(r *os.Root) error { info, err = r.Lstat(name); return err })
	return info, err
}

// Names lists the directory name, in no order.
func (d *Dir) Names(name string) ([]string, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, fmt.Errorf("durable: open directory: %w", err)
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("durable: list directory: %w", err)
	}
	return names, nil
}

// Mkdir makes the directory name, or accepts it when it is there, and syncs its parent in both cases: whoever made it
// may not have come that far.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	err := d.on(func(r *os.Root) error {
		if err := d.hook.call(OpMkdir, d.in(name), ""); err != nil {
			return err
		}
		return r.Mkdir(name, perm)
	})
	if errors.Is(err, fs.ErrExist) {
		info, statErr := d.Stat(name)
		if statErr != nil {
			err = statErr
		} else if info.IsDir() {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("durable: make directory: %w", err)
	}
	return d.SyncDir(path.Dir(name))
}

// Rename gives old the name new, replacing what has it, and syncs the directory of new. When only that sync fails the
// error is ErrDoubtful. The directory of old is not synced: after a power loss old may be there again, as a second
// name of the same content or of none, so it must be a name that nobody takes for more than an unfinished file.
func (d *Dir) Rename(old, new string) error {
	if err := d.rename(old, new); err != nil {
		return err
	}
	if err := d.SyncDir(path.Dir(new)); err != nil {
		return fmt.Errorf("%w: %w", ErrDoubtful, err)
	}
	return nil
}

// rename is Rename without the sync.
func (d *Dir) rename(old, new string) error {
	err := d.on(func(r *os.Root) error {
		if err := d.hook.call(OpRename, d.in(old), d.in(new)); err != nil {
			return err
		}
		return r.Rename(old, new)
	})
	if err != nil {
		return fmt.Errorf("durable: rename: %w", err)
	}
	return nil
}

// Remove removes a file. It is not synced: a caller that removes many syncs the directory once, one that removes what
// a power loss may bring back does not sync at all. A file that is not there is fs.ErrNotExist.
func (d *Dir) Remove(name string) error {
	err := d.on(func(r *os.Root) error {
		if err := d.hook.call(OpRemove, d.in(name), ""); err != nil {
			return err
		}
		return r.Remove(name)
	})
	if err != nil {
		return fmt.Errorf("durable: remove: %w", err)
	}
	return nil
}

// SyncDir makes the names in the directory name durable; "." is d itself.
func (d *Dir) SyncDir(name string) error {
	if err := d.hook.call(OpSyncDir, d.in(name), ""); err != nil {
		return err
	}
	f, err := d.Open(name)
	if err != nil {
		return fmt.Errorf("durable: open directory to sync: %w", err)
	}
	err = f.Sync()
	// Some network and FUSE file systems cannot sync a directory and say so; they are as durable as they get.
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("durable: sync directory: %w", err)
	}
	return nil
}

// Publish makes the content of f durable and then visible as name, replacing what has that name, and closes f: sync,
// close, rename, sync of the directory, in this order, so that no moment shows a part of the content. When it fails
// before the rename, f is removed; when only the last sync fails the error is ErrDoubtful and the content is visible.
// f must have been opened through d.
func (d *Dir) Publish(f *File, name string) error {
	err := f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = d.Rename(f.name, name)
	}
	if err != nil && !errors.Is(err, ErrDoubtful) {
		// Left behind it could be taken up again, with content that the disk may not have.
		if removeErr := d.Remove(f.name); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// Publication is a file and the name that it is to get.
type Publication struct {
	File *File
	Name string
}

// syncs is how many files are synced at the same time: enough that a disk always has work, and that a journal takes many at once.
const syncs = 8

// PublishAll is Publish of many files: all are made durable side by side, then each gets its name, then every directory that has a
// new name is synced once. All of them are closed. A file that cannot be made durable is removed and does not keep the others from
// getting their names; the error joins all failures.
func (d *Dir) PublishAll(files []Publication) error {
	errs := make([]error, len(files))
	var g sync.WaitGroup
	slots := make(chan struct{}, syncs)
	for i, p := range files {
		slots <- struct{}{}
		g.Go(func() {
			defer func() { <-slots }()
			err := p.File.Sync()
			if closeErr := p.File.Close(); err == nil {
				err = closeErr
			}
			errs[i] = err
		})
	}
	g.Wait()
	changed := map[string]bool{}
	for i, p := range files {
		if errs[i] == nil {
			errs[i] = d.rename(p.File.name, p.Name)
		}
		if errs[i] == nil {
			changed[path.Dir(p.Name)] = true
		} else if err := d.Remove(p.File.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs[i] = errors.Join(errs[i], err)
		}
	}
	for name := range changed {
		if err := d.SyncDir(name); err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrDoubtful, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Dir) in(name string) string { return path.Join(d.prefix, name) }
