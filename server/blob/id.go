package blob

import "github.com/berth-registry/berth/fault"

// CheckID refuses an upload id that is not [a-z0-9-]{1,64}, as BLOB_UPLOAD_UNKNOWN: no upload can have it. Drivers
// call it first, so that an id is never a path.
func CheckID(id string) error {
	ok := len(id) >= 1 && len(id) <= 64
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %.80q is not known to this registry; start a new upload", id)
	}
	return nil
}
