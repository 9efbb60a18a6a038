//go:build unix

package index

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits until no other process holds the file. The lock ends with the process, whatever becomes of it.
func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
