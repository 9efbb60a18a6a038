// Package reread keeps what was made of files and makes it anew when one of them changes, so that a certificate authority
// or a revocation list that somebody replaces counts without a restart. What cannot be read or made leaves the old value
// in place.
package reread

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// every is how often the files are looked at, at most.
const every = 2 * time.Second

// maxFile bounds what is read of one file; the largest are revocation lists.
const maxFile = 64 << 20

// Value is something that is made of files. Safe for concurrent use.
type Value[T any] struct {
	files []string
	from  func(contents [][]byte) (T, error)
	now   func() time.Time
	log   *slog.Logger

	current atomic.Pointer[T]
	looked  atomic.Int64 // when the files were looked at last, in Unix nanoseconds
	mu      sync.Mutex   // one look at a time; guards stamps
	stamps  []stamp
}

type stamp struct {
	changed time.Time
	size    int64
	inode   fs.FileInfo
}

// Open reads the files, which must be there and good. from gets their contents in the order of files.
func Open[T any](files []string, from func(contents [][]byte) (T, error), now func() time.Time, log *slog.Logger) (*Value[T], error) {
	v := &Value[T]{files: files, from: from, now: now, log: log}
	v.looked.Store(now().UnixNano())
	return v, v.read()
}

// Get is the present value. It looks at the files when the last look was a moment ago.
func (v *Value[T]) Get() T {
	now := v.now().UnixNano()
	if last := v.looked.Load(); (now-last > int64(every) || now < last) && v.looked.CompareAndSwap(last, now) {
		v.refresh()
	}
	return *v.current.Load()
}

// refresh reads the files when one has changed. The stamps of what was read are kept also when it was not good: it is
// said once and not every two seconds.
func (v *Value[T]) refresh() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.changed() {
		return
	}
	if err := v.load(); err != nil {
		v.log.Error("changed file not taken up; the old content stays in force", "error", err)
		return
	}
	v.log.Info("changed file taken up", "files", v.files)
}

func (v *Value[T]) changed() bool {
	for i, file := range v.files {
		info, err := os.Stat(file)
		if err != nil {
			continue // being replaced; or gone, and what it said stays
		}
		if s := v.stamps[i]; !info.ModTime().Equal(s.changed) || info.Size() != s.size || !os.SameFile(info, s.inode) {
			return true
		}
	}
	return false
}

func (v *Value[T]) read() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.load()
}

func (v *Value[T]) load() error {
	stamps, contents := make([]stamp, len(v.files)), make([][]byte, len(v.files))
	for i, file := range v.files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if info.Size() > maxFile {
			return fmt.Errorf("%s has %d bytes; at most %d are read", file, info.Size(), maxFile)
		}
		stamps[i] = stamp{info.ModTime(), info.Size(), info}
		if contents[i], err = os.ReadFile(file); err != nil {
			return err
		}
	}
	v.stamps = stamps
	value, err := v.from(contents)
	if err != nil {
		return err
	}
	v.current.Store(&value)
	return nil
}
