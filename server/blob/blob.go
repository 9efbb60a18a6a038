// Package blob keeps content-addressed bytes. It holds the [Store] contract that every storage driver implements, the
// streaming of uploads ([Receive]) that all of them share, and nothing of repositories, rights or rows: which
// repository may see which digest is metadata.
//
// The order that makes a store safe is bytes first, row second: a driver's Commit returns only when the bytes are
// durable, and only then does a caller write the row that makes them visible. What a crash leaves is an orphan that the
// upload's own row still names, never a row without bytes.
//
// Start reading at [Store]; a new driver is done when blobtest.Run passes.
package blob

import (
	"context"
	"errors"
	"io"

	"github.com/berth-registry/berth/oci"
)

// Store keeps immutable bytes under their digest, and uploads in progress under an id that the caller chose
// ([a-z0-9-]{1,64}, never reused). All methods are safe for concurrent use; one upload is written by one caller of
// this process at a time, which the caller arranges. Where several processes share the storage, others may write to the
// same upload, from the same state, at the same moment and long after it has ended: what becomes a blob is the bytes of the
// state that Commit was given, and never a mixture.
//
// Errors: NotFound BLOB_UNKNOWN for a digest that is not there, NotFound BLOB_UPLOAD_UNKNOWN for an upload whose state
// names bytes that are gone, Full STORAGE_FULL when space is exhausted, Unavailable when the backend cannot be reached.
// Everything else is an internal error.
type Store interface {
	// Upload opens an upload for appending at state.Offset. The zero State starts one; bytes beyond state.Offset that
	// an interrupted writer left are discarded.
	Upload(ctx context.Context, id string, state State) (Writer, error)

	// Commit makes the upload's bytes readable under d and ends the upload. The caller has verified the digest while
	// the bytes passed. It returns only after the bytes and their name are durable. Committing a digest that is
	// already there succeeds, and repairs what is there: the new bytes replace the old. Committing an upload that has
	// ended succeeds while d is there with state.Offset bytes, so that a caller that never heard the answer can ask
	// again. An error may have ended the upload; Abort it and let the client start over.
	Commit(ctx context.Context, id string, state State, d oci.Digest) error

	// Abort removes what the upload left. Aborting an unknown or ended upload succeeds. It does not look at whether ctx
	// has been cancelled on a local store, but a caller gives it a live one: context.WithoutCancel of the request's.
	Abort(ctx context.Context, id string, state State) error

	// Open gives the content of d for reading and seeking, and its size in bytes. The fs driver's Content is an
	// *os.File, so that an HTTP server can hand it to sendfile.
	Open(ctx context.Context, d oci.Digest) (Content, int64, error)

	// Delete removes digests; one that is not there is no error. When it fails, any part may have been removed.
	Delete(ctx context.Context, ds ...oci.Digest) error

	// Check reports whether the store can serve: a cheap probe for readiness, at most a second. A store without space
	// can: it reads and deletes.
	Check(ctx context.Context) error
}

// Content is open content; close it.
type Content interface {
	io.ReadSeekCloser
}

// State is what must be remembered to continue an upload: on this process after a restart, or on another one.
type State struct {
	Offset int64  // bytes received
	Driver []byte // the driver's own, opaque and small (an upload id and part list on S3)
}

// Writer appends to an upload. It is not safe for concurrent use.
type Writer interface {
	// Write appends p, which it does not keep.
	io.Writer
	// Suspend makes what was written durable and returns the state from which Upload or Commit continue, here or on
	// another machine. When Suspend fails the upload is lost. The Writer is closed afterwards, also on error. After a
	// client went away it is given context.WithoutCancel of the request's context.
	Suspend(ctx context.Context) (State, error)
	// Close releases the writer. Without a Suspend the bytes that it wrote do not count; where several processes share the
	// storage it removes them. Closing twice is harmless.
	io.Closer
}

// Redirector is an optional power of a Store: clients may fetch the bytes from the backend itself.
type Redirector interface {
	// URL is an address that serves d to anyone who holds it for a short time.
	URL(ctx context.Context, d oci.Digest) (string, error)
}

// UploadReader is an optional power of a Store: it can read what an upload has received so far. Without it, the bytes
// of an upload can only be seen once they are committed. Ask through OpenUpload.
type UploadReader interface {
	// OpenUpload gives the first state.Offset bytes of the upload, after its Suspend; close it.
	OpenUpload(ctx context.Context, id string, state State) (io.ReadCloser, error)
}

// ErrNoUploadReader says that the store cannot read uploads.
var ErrNoUploadReader = errors.New("blob: the store cannot read an upload in progress")

// OpenUpload reads an upload in progress where the store can, else it is ErrNoUploadReader.
func OpenUpload(ctx context.Context, store Store, id string, state State) (io.ReadCloser, error) {
	if r, ok := store.(UploadReader); ok {
		return r.OpenUpload(ctx, id, state)
	}
	return nil, ErrNoUploadReader
}
