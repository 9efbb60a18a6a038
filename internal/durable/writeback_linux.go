package durable

import "golang.org/x/sys/unix"

// StartWriteback asks the kernel to begin writing n bytes at off to disk, without waiting: a later Sync then has less
// left to do. It promises nothing and takes part in no error handling; Sync reports what went wrong.
func (f *File) StartWriteback(off, n int64) {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}
