package registry

import (
	"context"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// Plan is what a manifest is in rows, worked out of its bytes alone: its own, its edges, and the blobs that must be in its
// repository. It is for who makes the metadata again.
func Plan(ctx context.Context, mediaType string, d oci.Digest, body []byte) (row metadb.Manifest, edges []metadb.Edge, required []oci.Digest, err error) {
	m, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		return row, nil, nil, err
	}
	p, err := newPush(ctx, m, d, body)
	if err != nil {
		return row, nil, nil, err
	}
	return p.row, p.edges, p.required, nil
}
