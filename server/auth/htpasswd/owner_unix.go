//go:build unix

package htpasswd

import (
	"io/fs"
	"os"
	"syscall"
)

// chown gives the file to the owner and group that it had before.
func chown(path string, before, after fs.FileInfo) error {
	was, ok := before.Sys().(*syscall.Stat_t)
	is, also := after.Sys().(*syscall.Stat_t)
	if !ok || !also || was.Uid == is.Uid && was.Gid == is.Gid {
		return nil
	}
	return os.Chown(path, int(was.Uid), int(was.Gid))
}
