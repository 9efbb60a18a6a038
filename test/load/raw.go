package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// The ceiling of content in a bucket: the S3 server itself, with what berthd does by default (storage.s3.chunksize, and the
// 30 MiB of an upload that may be in memory, one part of which fills while the others are on their way).
const (
	rawPart     = 5 << 20
	rawParallel = 5
)

// startRaw is the target of an S3 server: its process is the stage's, and is left alone when the target ends.
func startRaw(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
	s := &server{target: t, proc: on.objects.proc, borrowed: true, space: "raw", objects: on.objects}
	s.launch.addr = on.objects.addr
	return s, on.objects.makeBucket(ctx, s.space)
}

// put uploads l as one object in parts, several at once, each made where it is sent.
func (o *objects) put(ctx context.Context, bucket, key string, l large) error {
	begun, err := o.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("begin %s: %w", key, err)
	}
	parts := make([]types.CompletedPart, (l.size+rawPart-1)/rawPart)
	errs := make([]error, rawParallel)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range rawParallel {
		wg.Go(func() {
			var body bytes.Buffer
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				body.Reset()
				if errs[w] = l.writeRange(&body, i*rawPart, min(l.size, (i+1)*rawPart)); errs[w] != nil {
					return
				}
				n := aws.Int32(int32(i + 1)) // at most 10,000
				out, err := o.client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: begun.UploadId, PartNumber: n,
					Body: bytes.NewReader(body.Bytes()), ContentLength: aws.Int64(int64(body.Len()))})
				if err != nil {
					errs[w] = fmt.Errorf("part %d of %s: %w", i+1, key, err)
					return
				}
				parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: n}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err = o.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: begun.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	if err != nil {
		return fmt.Errorf("complete %s: %w", key, err)
	}
	return nil
}

// address is a signed address of an object, as berthd redirects to.
func (o *objects) address(ctx context.Context, bucket, key string) (string, error) {
	out, err := s3.NewPresignClient(o.client).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key}, s3.WithPresignExpires(time.Hour))
	if err != nil {
		return "", fmt.Errorf("sign the address of %s: %w", key, err)
	}
	return out.URL, nil
}
