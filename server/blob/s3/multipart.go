package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// multipart is a multipart upload to key. Its parts are nowhere to be seen until it is complete, so an object of the same
// upload, the marker, names it: who ends the upload after a crash finds it there.
type multipart struct {
	s      *Store
	key    string
	id     string
	marker string
	since  time.Time // by the service's clock; zero when it does not tell
	marked time.Time // when the marker was written, if here
}

// markerPrefix begins the names of markers, which no segment's name does.
const markerPrefix = "multipart-"

// mark is what a marker says.
type mark struct {
	Key string `json:"key"`
	ID  string `json:"upload"`
}

// markerKey is the marker of what a writer of upload id has begun.
func (s *Store) markerKey(id, word string) string { return s.uploadPrefix(id) + markerPrefix + word }

// begin starts a multipart upload to key on behalf of upload id; word is its writer's.
func (s *Store) begin(ctx context.Context, id, key, word string, content bool) (*multipart, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: &s.o.Bucket, Key: &key, ContentType: aws.String(octets), ServerSideEncryption: s.encryption(), SSEKMSKeyId: s.keyID(),
	}
	if content {
		in.StorageClass, in.ACL = types.StorageClass(s.o.StorageClass), types.ObjectCannedACL(s.o.ObjectACL)
	}
	out, err := s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return nil, err
	}
	m := &multipart{s: s, key: key, id: aws.ToString(out.UploadId), marker: s.markerKey(id, word)}
	m.since, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	if err := m.mark(ctx); err != nil {
		m.abort(ctx)
		return nil, err
	}
	return m, nil
}

// mark writes the marker. Its age is that of the last byte, as far as StaleUploads can see.
func (m *multipart) mark(ctx context.Context) error {
	text, err := json.Marshal(mark{m.key, m.id})
	if err != nil {
		return err
	}
	body := pagesOf(text)
	defer body.free()
	m.marked = m.s.now()
	return m.s.put(ctx, m.marker, body, false)
}

// part sends a part; numbers begin with 1.
func (m *multipart) part(ctx context.Context, number int, body *pages) (types.CompletedPart, error) {
	n := aws.Int32(int32(number)) //nolint:gosec // at most 10,000
	done := types.CompletedPart{PartNumber: n}
	err := m.s.send(body, func(sum *string, opts ...func(*s3.Options)) (*string, error) {
		ctx, beat := withPulse(ctx)
		out, err := m.s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &m.s.o.Bucket, Key: &m.key, UploadId: &m.id, PartNumber: n,
			Body: body.body(beat), ContentLength: aws.Int64(body.size), ChecksumCRC32C: sum,
		}, opts...)
		if err != nil {
			return nil, err
		}
		done.ETag = out.ETag
		return out.ChecksumCRC32C, nil
	})
	return done, err
}

// copy makes an object, or bytes of it, a part, inside the service.
func (m *multipart) copy(ctx context.Context, number int, from source) (types.CompletedPart, error) {
	select {
	case m.s.copies <- struct{}{}:
		defer func() { <-m.s.copies }()
	case <-ctx.Done():
		return types.CompletedPart{}, ctx.Err()
	}
	n := aws.Int32(int32(number)) //nolint:gosec // at most 10,000
	out, err := m.s.client.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: &m.s.o.Bucket, Key: &m.key, UploadId: &m.id, PartNumber: n, CopySource: aws.String(m.s.copySource(from.key)), CopySourceRange: from.rangeOf(),
	})
	if err != nil {
		return types.CompletedPart{}, err
	}
	if out.CopyPartResult == nil {
		return types.CompletedPart{}, fmt.Errorf("s3: the service answers a copy without saying what it made")
	}
	return types.CompletedPart{ETag: out.CopyPartResult.ETag, PartNumber: n}, nil
}

// complete makes the parts one object of size bytes. It is atomic: before, there is nothing or what was there.
func (m *multipart) complete(ctx context.Context, parts []types.CompletedPart, size int64) error {
	_, err := m.s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &m.s.o.Bucket, Key: &m.key, UploadId: &m.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if isMissingUpload(err) { // the answer to an earlier attempt was lost, or somebody aborted it
		now, statErr := m.s.stat(ctx, m.key)
		if statErr == nil && now.size == size && !m.since.IsZero() && !now.modified.Before(m.since.Truncate(time.Second)) {
			return nil
		}
	}
	return err
}

// abort gives up what was not completed. What fails is found by its marker later.
func (m *multipart) abort(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer stop()
	err := m.s.abortMultipart(ctx, m.key, m.id)
	if err == nil {
		err = m.s.remove(ctx, []string{m.marker})
	}
	if err != nil {
		m.s.log.Warn("multipart upload not aborted; it is swept later", "key", m.key, "err", err)
	}
}

func (s *Store) abortMultipart(ctx context.Context, key, id string) error {
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.o.Bucket, Key: &key, UploadId: &id})
	if isMissingUpload(err) || isMissing(err) {
		return nil
	}
	return err
}

// abortMarked aborts the multipart upload that a marker names, and returns the key of its object.
func (s *Store) abortMarked(ctx context.Context, marker string) (key string, err error) {
	m, err := s.readMark(ctx, marker)
	if isMissing(err) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return m.Key, s.abortMultipart(ctx, m.Key, m.ID)
}

// readMark reads a marker.
func (s *Store) readMark(ctx context.Context, marker string) (m mark, err error) {
	c, err := s.open(ctx, marker)
	if err != nil {
		return m, err
	}
	defer func() { _ = c.Close() }()
	text, err := io.ReadAll(io.LimitReader(c, 64<<10))
	if err != nil {
		return m, err
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil || !strings.HasPrefix(m.Key, s.root) {
		return m, fmt.Errorf("s3: the marker %s cannot be read: %w", marker, err)
	}
	return m, nil
}

// sameTag compares ETags, around which some services put quotes in one answer and none in another.
func sameTag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }
