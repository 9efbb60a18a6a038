package blob

import (
	"context"
	"time"
)

// UploadLister is an optional power of a Store: it knows which uploads it has bytes of. Ask through StaleUploads.
type UploadLister interface {
	// StaleUploads are the ids of uploads to which no byte was added since before.
	StaleUploads(ctx context.Context, before time.Time) ([]string, error)
}

// StaleUploads asks the store where it can tell; else there are none to know of.
func StaleUploads(ctx context.Context, store Store, before time.Time) ([]string, error) {
	if l, ok := store.(UploadLister); ok {
		return l.StaleUploads(ctx, before)
	}
	return nil, nil
}
