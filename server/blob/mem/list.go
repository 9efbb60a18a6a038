package mem

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// List implements blob.Lister. Nothing here has a time.
func (s *Store) List(ctx context.Context, after oci.Digest, each func(blob.Listed) error) error {
	s.mu.RLock()
	var all []blob.Listed
	for d, b := range s.blobs {
		if d.String() > after.String() {
			all = append(all, blob.Listed{Digest: d, Size: int64(len(b))})
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b blob.Listed) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	for _, b := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(b); err != nil {
			return err
		}
	}
	return ctx.Err()
}
