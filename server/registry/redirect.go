package registry

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
)

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
	if url, err = r.URL(ctx, d); err != nil {
		return "", 0, fmt.Errorf("registry: address of blob %s of %s: %w", d, name, err)
	}
	return url, b.size, nil
}
