package s3

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// List implements blob.Lister: a thousand in a request, in the order of the keys, which is that of the digests.
func (s *Store) List(ctx context.Context, after oci.Digest, each func(blob.Listed) error) error {
	prefix := s.contentPrefix()
	in := &s3.ListObjectsV2Input{Bucket: &s.o.Bucket, Prefix: &prefix}
	if !after.IsZero() {
		in.StartAfter = aws.String(s.blobKey(after))
	}
	pages := s3.NewListObjectsV2Paginator(s.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return s.failed("list", err)
		}
		for _, o := range page.Contents {
			d, ok := s.blobOf(aws.ToString(o.Key), prefix)
			if !ok || d.String() <= after.String() {
				continue
			}
			if err := each(blob.Listed{Digest: d, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// blobOf reads what blobKey writes; other keys are of others.
func (s *Store) blobOf(key, prefix string) (oci.Digest, bool) {
	parts := strings.Split(strings.TrimPrefix(key, prefix), "/")
	if len(parts) != 4 {
		return oci.Digest{}, false
	}
	d, err := oci.ParseDigest(parts[0] + ":" + parts[2])
	return d, err == nil && s.blobKey(d) == key
}
