package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
)

// benchSize is what one operation moves, in bytes.
const benchSize = 256 << 20

const benchPiece = 128 << 10 // as blob.Receive writes

func benchStore(b *testing.B, kind testkit.S3Kind) (*s3.Store, *testkit.S3, s3.Options) {
	b.Helper()
	testkit.RequireDisk(b, b.TempDir(), 4<<30)
	server, bucket := testkit.S3Bucket(b, kind)
	o := options(server, bucket)
	o.Log = slog.New(slog.DiscardHandler)
	return open(b, o), server, o
}

func feed(b *testing.B, w io.Writer, data []byte) {
	for rest := data; len(rest) > 0; {
		n := min(len(rest), benchPiece)
		if _, err := w.Write(rest[:n]); err != nil {
			b.Fatal(err)
		}
		rest = rest[n:]
	}
}

// BenchmarkPut is a push of 256 MiB: by the service's own multipart upload, with as many parts of the same size on their
// way; placed, as a client does that names the digest first; and uploaded and committed, as docker does.
func BenchmarkPut(b *testing.B) {
	data := blobtest.Random(1, benchSize)
	d := oci.FromBytes(oci.SHA256, data)
	ctx := context.Background()
	for _, kind := range kinds() {
		for how, put := range map[string]func(b *testing.B, s *s3.Store, server *testkit.S3, o s3.Options, id string){
			"raw": func(b *testing.B, _ *s3.Store, server *testkit.S3, o s3.Options, id string) {
				rawPut(b, server, o.Bucket, "raw/"+id, data)
			},
			"place": func(b *testing.B, s *s3.Store, _ *testkit.S3, _ s3.Options, id string) {
				p, err := s.Place(ctx, id, d)
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				feed(b, p, data)
				if err := p.Commit(ctx); err != nil {
					b.Fatal(err)
				}
			},
			"upload": func(b *testing.B, s *s3.Store, _ *testkit.S3, _ s3.Options, id string) {
				w, err := s.Upload(ctx, id, blob.State{})
				if err != nil {
					b.Fatal(err)
				}
				defer w.Close()
				feed(b, w, data)
				state, err := w.Suspend(ctx)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Commit(ctx, id, state, d); err != nil {
					b.Fatal(err)
				}
			},
		} {
			b.Run(string(kind)+"/"+how, func(b *testing.B) {
				s, server, o := benchStore(b, kind)
				b.SetBytes(benchSize)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					put(b, s, server, o, fmt.Sprint("bench-", i))
					b.StopTimer()
					_ = s.Delete(ctx, d)
					_, _ = server.Client().DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &o.Bucket, Key: aws.String(fmt.Sprint("raw/bench-", i))})
					b.StartTimer()
				}
			})
		}
	}
}

// rawPut is a multipart upload with the plain client: four parts of 5 MiB on their way.
func rawPut(b *testing.B, server *testkit.S3, bucket, key string, data []byte) {
	ctx := context.Background()
	client := server.Client()
	m, err := client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	if err != nil {
		b.Fatal(err)
	}
	const part = 5 << 20
	parts := make([]types.CompletedPart, (len(data)+part-1)/part)
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i := range parts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n := aws.Int32(int32(i + 1))
			out, err := client.UploadPart(ctx, &awss3.UploadPartInput{
				Bucket: &bucket, Key: &key, UploadId: m.UploadId, PartNumber: n, Body: bytes.NewReader(data[i*part : min((i+1)*part, len(data))]),
			})
			if err != nil {
				b.Error(err)
				return
			}
			parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: n}
		})
	}
	wg.Wait()
	if _, err := client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: &key, UploadId: m.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkGet is a download of 256 MiB, by the plain client and by the driver.
func BenchmarkGet(b *testing.B) {
	data := blobtest.Random(2, benchSize)
	d := oci.FromBytes(oci.SHA256, data)
	ctx := context.Background()
	for _, kind := range kinds() {
		for how, get := range map[string]func(s *s3.Store, client *awss3.Client, o s3.Options) (io.ReadCloser, error){
			"raw": func(_ *s3.Store, client *awss3.Client, o s3.Options) (io.ReadCloser, error) {
				out, err := client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &o.Bucket, Key: aws.String(keyOf(d))})
				if err != nil {
					return nil, err
				}
				return out.Body, nil
			},
			"driver": func(s *s3.Store, _ *awss3.Client, _ s3.Options) (io.ReadCloser, error) {
				c, _, err := s.Open(ctx, d)
				return c, err
			},
		} {
			b.Run(string(kind)+"/"+how, func(b *testing.B) {
				s, server, o := benchStore(b, kind)
				p, err := s.Place(ctx, "get", d)
				if err != nil {
					b.Fatal(err)
				}
				feed(b, p, data)
				if err := p.Commit(ctx); err != nil {
					b.Fatal(err)
				}
				client := server.Client()
				b.SetBytes(benchSize)
				b.ReportAllocs()
				for b.Loop() {
					c, err := get(s, client, o)
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 128<<10))
					if err != nil || n != benchSize {
						b.Fatal(n, err)
					}
					c.Close()
				}
			})
		}
	}
}

// BenchmarkCopy is what naming content by its digest costs when the digest comes last: 256 MiB copied inside the service,
// as one object or in the parts in which it came.
func BenchmarkCopy(b *testing.B) {
	data := blobtest.Random(3, benchSize)
	d := oci.FromBytes(oci.SHA256, data)
	ctx := context.Background()
	for _, kind := range kinds() {
		b.Run(string(kind)+"/object", func(b *testing.B) {
			_, server, o := benchStore(b, kind)
			rawPut(b, server, o.Bucket, "copy/from", data)
			client := server.Client()
			b.SetBytes(benchSize)
			for b.Loop() {
				_, err := client.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: &o.Bucket, Key: aws.String("copy/to"), CopySource: aws.String(o.Bucket + "/copy/from")})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(string(kind)+"/parts", func(b *testing.B) {
			s, _, _ := benchStore(b, kind)
			b.SetBytes(benchSize)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				id := fmt.Sprint("copy-", i)
				w, err := s.Upload(ctx, id, blob.State{})
				if err != nil {
					b.Fatal(err)
				}
				feed(b, w, data)
				state, err := w.Suspend(ctx)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := s.Commit(ctx, id, state, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
