package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// SetLimits makes the service's limits smaller: parts of one multipart upload, those that a placement sends itself, keys of
// a batch.
func (s *Store) SetLimits(parts, direct, batch int) {
	s.limits.parts, s.limits.direct, s.limits.batch = parts, direct, batch
}

// Leftovers are the keys of all uploads in progress, and of what is parked.
func (s *Store) Leftovers(ctx context.Context) (keys []string, err error) {
	err = s.list(ctx, s.uploadsPrefix(), func(o types.Object) { keys = append(keys, *o.Key) })
	if err != nil {
		return nil, err
	}
	err = s.list(ctx, s.parkedPrefix(), func(o types.Object) { keys = append(keys, *o.Key) })
	return keys, err
}
