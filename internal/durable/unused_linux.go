package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Unused reports whether the system says that f is the only way in which any process has its file open. Until f is closed, who opens
// it waits. Where the system cannot say, as on some network file systems and of files of other users, it is false.
func Unused(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	alone := false
	err = c.Control(func(fd uintptr) {
		_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_WRLCK)
		alone = err == nil
	})
	return alone && err == nil
}
