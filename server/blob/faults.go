package blob

import (
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// The faults of the contract, so that every driver says the same.

// Unknown is the fault of a digest that is not in the store.
func Unknown(d oci.Digest) *fault.Error {
	return fault.New(fault.NotFound, fault.BlobUnknown, "blob %s is not known to this registry", d)
}

// UploadUnknown is the fault of an upload whose bytes are gone.
func UploadUnknown(id string) *fault.Error {
	return fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s is not known to this registry, or its bytes are gone; start a new upload", id)
}

// Full is the fault of a store without space; cause is for the log.
func Full(cause error) *fault.Error {
	return fault.New(fault.Full, fault.StorageFull,
		"the registry has no space left for this content; pulls and deletes still work, push again when space was freed").Because(cause)
}
