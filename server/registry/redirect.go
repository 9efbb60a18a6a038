package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
)

// placeAge is for how long it is taken for true, without a look, that a blob is at a place: nobody notices, as with Open,
// that an address leads nowhere. With the time that an address is good for it is less than that for which bytes stay where
// they were (metadb.Tx.SettleBlob).
const placeAge = 10 * time.Minute

// BlobURL returns an address from which the store itself serves a blob of the repository for a short time, and the blob's
// size in bytes. The address is "" when it does not: the store cannot, or the blob is small and in the database.
//
// Spec: OCI distribution v1.1.1, "Pulling blobs", allows the redirect.
func (s *Service) BlobURL(ctx context.Context, name ref.Name, d oci.Digest) (url string, size int64, err error) {
	b, err := s.blob(ctx, name, d)
	if err != nil {
		return "", 0, err
	}
	r, ok := s.o.Blobs.(blob.Redirector)
	if !ok || b.inline {
		return "", b.size, nil
	}
	if b.place != "" && s.o.Now().Sub(b.readAt) > placeAge { // the bytes may have been moved by another replica
		if b, err = s.blobAnew(ctx, name, d); err != nil {
			return "", 0, err
		}
	}
	if p, parks := blob.ParkerOf(s.o.Blobs); parks && b.place != "" {
		url, err = p.URLAt(ctx, b.place)
	} else {
		url, err = r.URL(ctx, d)
	}
	if err != nil {
		return "", 0, fmt.Errorf("registry: address of blob %s of %s: %w", d, name, err)
	}
	return url, b.size, nil
}
