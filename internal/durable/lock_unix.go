//go:build unix

package durable

import (
	"errors"
	"fmt"
	"syscall"
)

// Lock takes the advisory lock of an open file, for processes that change the same files by agreement: waiting for it, or not.
// It reports whether the lock was got. Closing the file gives it back, and so does the end of the process. What is durable
// never depends on it.
func (f *File) Lock(wait bool) (bool, error) {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	conn, err := f.f.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("durable: lock: %w", err)
	}
	var lockErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if lockErr = syscall.Flock(int(fd), how); lockErr != syscall.EINTR {
				return
			}
		}
	})
	switch {
	case err != nil:
		return false, fmt.Errorf("durable: lock: %w", err)
	case errors.Is(lockErr, syscall.EWOULDBLOCK):
		return false, nil
	case errors.Is(lockErr, syscall.ENOLCK), errors.Is(lockErr, syscall.ENOSYS), errors.Is(lockErr, syscall.EOPNOTSUPP):
		return true, nil // a file system without locks: as good as it gets
	case lockErr != nil:
		return false, fmt.Errorf("durable: lock: %w", lockErr)
	}
	return true, nil
}
