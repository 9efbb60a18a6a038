// Package layout holds images outside of registries: the OCI image layout as a directory, and as one tar file. Both have
// the methods of a repository (image/remote), so image/copy moves graphs between any two of them.
//
// A directory or archive that comes from elsewhere is data of a stranger: names in it are looked up below its root only,
// entries that are no layout's are not read, sizes are bounded, and content counts only when its digest is right.
//
// Writing promises that no reader sees a half: content appears under its digest when all of it is there and on the disk, the
// index changes at once, and an archive gets its name last. What was interrupted is taken up again.
//
// Start reading at [Dir] and [Archive]; [Builder] writes archives. [OpenPacked] is for compressed ones; [LookTar] and [LookDir]
// are for places of other forms, which another program's code reads.
//
// Spec: OCI image v1.1.1, image-layout.md.
package layout

import (
	"errors"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// Names in a layout.
const (
	fileLayout = "oci-layout"
	fileIndex  = "index.json"
	fileLock   = ".index.lock" // taken by who changes the index
	dirBlobs   = "blobs"

	// AnnotationName is what an entry of the index is called: a tag, or any other name.
	AnnotationName = "org.opencontainers.image.ref.name"
)

// layoutText is the content of oci-layout.
const layoutText = `{"imageLayoutVersion":"1.0.0"}`

// MaxManifest is the largest manifest that is read, in bytes.
const MaxManifest = 8 << 20

// maxIndex is the largest index.json that is read and written, in bytes: as much as registries have to take of an index, and enough for the
// entries that one may have. It is decoded as a whole, and a hostile one takes twenty times its size.
const maxIndex = 4 << 20

// ReasonLayout is the reason of everything that is no layout, or a damaged one.
const ReasonLayout fault.Reason = "LAYOUT_INVALID"

func damaged(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonLayout, format, args...)
}

// ErrSpoiled is the cause of what was once right: bytes are missing, or are others than their digest says. Another copy helps.
var ErrSpoiled = errors.New("content is damaged or missing")

func spoiled(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonLayout, format, args...).Because(ErrSpoiled)
}

func blobPath(d oci.Digest) string {
	return dirBlobs + "/" + string(d.Algorithm()) + "/" + d.Hex()
}
