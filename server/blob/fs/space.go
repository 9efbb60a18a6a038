//go:build linux || darwin || freebsd

package fs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berth-registry/berth/server/blob"
)

func statfs(path string) (blob.Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return blob.Space{}, fmt.Errorf("fs: free space: %w", err)
	}
	// Bavail: what is kept back for root is not ours.
	return blob.Space{Total: int64(st.Blocks) * int64(st.Bsize), Free: int64(st.Bavail) * int64(st.Bsize)}, nil
}

// writable asks whether uploads could be made, without making one.
func (s *Store) writable() error {
	if err := unix.Access(s.path+"/uploads", unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("fs: uploads: %w", err)
	}
	return nil
}
