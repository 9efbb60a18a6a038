//go:build !linux || (cgo && !exclude_graphdriver_btrfs)

package cli

import "go.podman.io/image/v5/types"

// storageTransport is nil: see storage.go.
func storageTransport() types.ImageTransport { return nil }

// storageMisses is false: see storage.go.
func storageMisses(error) bool { return false }
