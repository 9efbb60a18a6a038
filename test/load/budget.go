package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/berth-registry/berth/internal/testkit/machine"
)

const (
	gib          = 1 << 30
	maxDisk      = 4 * gib
	minFree      = 8 * gib
	maxDiskLarge = 17 * gib // with -large: three times 5 GiB, and what is beside it
	minFreeLarge = 20 * gib
	watchEvery   = 3 * time.Second
	diskBlock    = 512
	folderPrefix = "run-"
)

// budget is the one folder that a run may write to, and the bound on it.
type budget struct {
	dir  string
	free uint64 // bytes at the start
	most int64  // bytes that the run may write

	mu    sync.Mutex
	other []string // folders that could not be in dir
}

// newBudget makes the working folder under parent. It refuses when less than 8 GB (20 GB for large blobs of 5 GiB) is free, and on
// tmpfs, where a sync costs nothing and every durable figure would be a fiction.
func newBudget(parent string, large bool) (*budget, error) {
	most, least := int64(maxDisk), int64(minFree)
	if large {
		most, least = maxDiskLarge, minFreeLarge
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("make the working folder: %w", err)
	}
	free, err := machine.Disk(parent, least, most)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the working folder: %w", err)
	}
	return &budget{dir: dir, free: free, most: most}, nil
}

// add brings a folder elsewhere under the bound.
func (b *budget) add(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.other = append(b.other, dir)
}

// used is the number of bytes that the run occupies.
func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := diskUsed(b.dir)
	for _, dir := range b.other {
		sum += diskUsed(dir)
	}
	return sum
}

// room refuses what could fill the disk.
func (b *budget) room(bytes int64) error {
	free, err := machine.FreeSpace(b.dir)
	if err == nil && free < uint64(bytes) {
		err = fmt.Errorf("%.1f GB are free, want %.1f GB", float64(free)/gib, float64(bytes)/gib)
	}
	return err
}

func (b *budget) remove() { _ = os.RemoveAll(b.dir) }

// watch ends the context with a cause when the folder grows over the bound. The folder holds some 100,000 files, which to
// count is a load of its own, so it is counted only when the free space fell by more than the bound: whoever took it.
func (b *budget) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if free, err := machine.FreeSpace(b.dir); err == nil && free+uint64(b.most) >= b.free {
				continue
			}
			if used := b.used(); used > b.most {
				cancel(fmt.Errorf("the run wrote %.1f GB, more than its %d GB", float64(used)/gib, b.most/gib))
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// diskUsed is the number of bytes that the files and folders under dir occupy.
func diskUsed(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // the file went away while we looked: it costs nothing any more
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * diskBlock
		}
		return nil
	})
	return sum
}
