package blob

import (
	"context"
	"errors"
	"io"

	"github.com/berth-registry/berth/oci"
)

// Placer is an optional power of a Store: a blob whose digest is known before its first byte goes straight to its place,
// so that Commit moves nothing. Ask through Place.
type Placer interface {
	// Place begins the content of d. id is that of an upload without bytes, so that Abort with the zero State removes what
	// a process that died left of it.
	Place(ctx context.Context, id string, d oci.Digest) (Placement, error)
}

// Placement is content on its way to its digest. It is not safe for concurrent use. Nothing is readable under the digest
// before Commit, and nothing survives the process before that: what must be resumed is an upload.
type Placement interface {
	// Write appends p, which it does not keep.
	io.Writer
	// Commit makes the content readable. The caller has verified the digest while the bytes passed. It returns only after
	// the bytes and their name are durable, and replaces what was there. An error may come after the content appeared.
	Commit(ctx context.Context) error
	// Close removes what was not committed. Closing twice, and after Commit, is harmless.
	io.Closer
}

// ErrNoPlacer says that a store has no use for a digest before the bytes.
var ErrNoPlacer = errors.New("blob: the store cannot place content")

// Place begins content in its place where the store can, else it is ErrNoPlacer.
func Place(ctx context.Context, store Store, id string, d oci.Digest) (Placement, error) {
	if p, ok := store.(Placer); ok {
		return p.Place(ctx, id, d)
	}
	return nil, ErrNoPlacer
}
