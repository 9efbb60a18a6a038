//go:build linux && (!cgo || exclude_graphdriver_btrfs)

package cli

import (
	"errors"

	"go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"
)

// storageTransport is containers-storage:, the images of podman and buildah. Its driver for btrfs needs C headers when
// cgo is on; what is shipped is built without.
func storageTransport() types.ImageTransport { return storage.Transport }

// storageMisses reports whether the storage has no such image.
func storageMisses(err error) bool { return errors.Is(err, storage.ErrNoSuchImage) }
