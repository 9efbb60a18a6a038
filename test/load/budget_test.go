package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDiskUsedCountsWhatFilesOccupy(t *testing.T) {
	dir := t.TempDir()
	before := diskUsed(dir)
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	f, err := os.Create(filepath.Join(dir, "a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil { // blocks are given out late
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := diskUsed(dir) - before; got < size || got > size+64<<10 {
		t.Errorf("a file of 1 MiB in two folders occupies %d bytes", got)
	}
}
