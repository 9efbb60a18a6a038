package s3

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const octets = "application/octet-stream"

// info is what the service tells of an object.
type info struct {
	size     int64
	etag     string
	modified time.Time
}

func (s *Store) stat(ctx context.Context, key string) (info, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.o.Bucket, Key: &key})
	if err != nil {
		return info{}, err
	}
	return info{aws.ToInt64(out.ContentLength), aws.ToString(out.ETag), aws.ToTime(out.LastModified)}, nil
}

// put writes an object in one request. content objects get what is configured for content.
func (s *Store) put(ctx context.Context, key string, body *pages, content bool) error {
	return s.send(body, func(sum *string, opts ...func(*s3.Options)) (*string, error) {
		ctx, beat := withPulse(ctx)
		in := &s3.PutObjectInput{
			Bucket: &s.o.Bucket, Key: &key, Body: body.body(beat), ContentLength: aws.Int64(body.size), ContentType: aws.String(octets),
			ServerSideEncryption: s.encryption(), SSEKMSKeyId: s.keyID(), ChecksumCRC32C: sum,
		}
		if content {
			in.StorageClass, in.ACL = types.StorageClass(s.o.StorageClass), types.ObjectCannedACL(s.o.ObjectACL)
		}
		if s.locked {
			in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		}
		out, err := s.client.PutObject(ctx, in, opts...)
		if err != nil {
			return nil, err
		}
		return out.ChecksumCRC32C, nil
	})
}

// copy makes an object of another one, inside the service.
func (s *Store) copy(ctx context.Context, from, key string, content bool) error {
	in := &s3.CopyObjectInput{
		Bucket: &s.o.Bucket, Key: &key, CopySource: aws.String(s.copySource(from)), ContentType: aws.String(octets),
		MetadataDirective: types.MetadataDirectiveReplace, ServerSideEncryption: s.encryption(), SSEKMSKeyId: s.keyID(),
	}
	if content {
		in.StorageClass, in.ACL = types.StorageClass(s.o.StorageClass), types.ObjectCannedACL(s.o.ObjectACL)
	}
	_, err := s.client.CopyObject(ctx, in)
	return err
}

// copySource is a key as the header of a copy has it.
func (s *Store) copySource(key string) string {
	parts := strings.Split(s.o.Bucket+"/"+key, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

func (s *Store) encryption() types.ServerSideEncryption {
	switch {
	case !s.o.Encrypt:
		return ""
	case s.o.KeyID != "":
		return types.ServerSideEncryptionAwsKms
	}
	return types.ServerSideEncryptionAes256
}

func (s *Store) keyID() *string {
	if !s.o.Encrypt || s.o.KeyID == "" {
		return nil
	}
	return &s.o.KeyID
}
