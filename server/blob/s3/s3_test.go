package s3_test

import (
	"io"
	"log/slog"
	"net/http"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
)

// kinds are the servers that the driver is tested with.
func kinds() []testkit.S3Kind { return []testkit.S3Kind{testkit.VersityGW, testkit.MinIO} }

func TestContract(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Store {
				server, bucket := testkit.S3Bucket(t, kind)
				return open(t, options(server, bucket))
			})
		})
	}
}

// options are those of a store in a bucket of its own, below a prefix.
func options(server *testkit.S3, bucket string) s3.Options {
	return s3.Options{
		AccessKey: server.AccessKey, SecretKey: server.SecretKey, Endpoint: server.Endpoint, PathStyle: true,
		Bucket: bucket, RootDirectory: "/some/where/",
	}
}

// open opens a store and closes it when the test ends.
func open(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := s3.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// fetch is a GET by somebody who knows nothing of S3.
func fetch(t *testing.T, url, part string) (status int, body []byte, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if part != "" {
		req.Header.Set("Range", part)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body, resp.Header
}

// remove takes an object away behind the driver's back.
func remove(t *testing.T, server *testkit.S3, bucket, key string) {
	t.Helper()
	if _, err := server.Client().DeleteObject(t.Context(), &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
}
