package durable

import (
	"errors"
	"os"
	"syscall"
)

// SyncData makes the content of a file durable, and its length, but not necessarily its times: where a file is written
// again in place that saves a write to the disk. See fdatasync(2).
func SyncData(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for failed = syscall.Fdatasync(int(fd)); errors.Is(failed, syscall.EINTR); failed = syscall.Fdatasync(int(fd)) {
		}
	})
	if failed != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: failed}
	}
	return err
}
