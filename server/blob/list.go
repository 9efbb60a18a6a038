package blob

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Listed is a blob as a listing of the store shows it.
type Listed struct {
	Digest   oci.Digest
	Size     int64     // bytes
	Modified time.Time // by the storage's clock
}

// Lister is an optional power of a Store: it can say what it has. Ask through List.
type Lister interface {
	// List calls each for every blob behind a digest, in the order of their digests; the zero digest begins. What comes
	// or goes meanwhile may be in it or not. An error of each ends it and is returned as it is. Its cost grows with what is
	// stored; memory does not.
	List(ctx context.Context, after oci.Digest, each func(Listed) error) error
}

// ErrNoLister says that a store cannot tell what it has.
var ErrNoLister = errors.New("blob: the store cannot list what it has")

// List lists a store that can, else it is ErrNoLister.
func List(ctx context.Context, store Store, after oci.Digest, each func(Listed) error) error {
	if l, ok := underlying(store).(Lister); ok {
		return l.List(ctx, after, each)
	}
	return ErrNoLister
}
