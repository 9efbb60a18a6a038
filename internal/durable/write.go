package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// WriteFile makes data the content of name, at once and durably: whoever reads name, now or after a power loss, gets
// all of the old content or all of data. On failure the old content stays.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	temp := path.Join(path.Dir(name), "."+path.Base(name)+"."+strings.ToLower(rand.Text())+".tmp")
	f, err := d.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Close(), d.Remove(temp))
	}
	return d.Publish(f, name)
}

// WriteFile is Dir.WriteFile for a path. Its directory must exist.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	d, err := OpenDir(filepath.Dir(name), nil)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.WriteFile(filepath.Base(name), data, perm)
}

// MkdirAll makes the directory at path and those above it that are missing. The parent of each one that it made is
// synced, and so is the parent of path when path was there already.
func MkdirAll(name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	parent := filepath.Dir(name)
	if parent == name {
		return nil
	}
	if info, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("durable: make directory: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("durable: make directory %s: %s: %w", name, parent, syscall.ENOTDIR)
	}
	if base := filepath.Base(name); base != "." && base != ".." {
		return mkdir(parent, base, perm)
	}
	return nil
}

func mkdir(parent, base string, perm fs.FileMode) error {
	info, err := os.Stat(filepath.Join(parent, base))
	if err == nil && info.IsDir() {
		// It may be a symbolic link out of parent, or parent may be unreadable (a mount point prepared by root): a
		// directory that was given to us needs no sync of ours to succeed.
		if d, err := OpenDir(parent, nil); err == nil {
			defer d.Close()
			_ = d.SyncDir(".")
		}
		return nil
	}
	d, err := OpenDir(parent, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Mkdir(base, perm)
}

// IsFull reports whether err says that there is no space left: of the file system, of a quota on it, or of what a file may
// have (of the file system, or of the process: RLIMIT_FSIZE).
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
