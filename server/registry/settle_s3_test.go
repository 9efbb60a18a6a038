package registry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// inBucket is a plant whose content is in a bucket. keys are those of all that is in it.
func inBucket(t *testing.T, kind testkit.S3Kind) (p *plant, keys func(part string) []string) {
	t.Helper()
	server, bucket := testkit.S3Bucket(t, kind)
	store, err := s3.New(t.Context(), s3.Options{
		AccessKey: server.AccessKey, SecretKey: server.SecretKey, Endpoint: server.Endpoint, PathStyle: true, Bucket: bucket,
	})
	if err != nil {
		t.Fatal(err)
	}
	p = newPlant(t, metadbtest.Postgres(t))
	t.Cleanup(func() { _ = store.Close() })
	p.blobs = blob.Observe(store, func(string, float64, error) {})
	p.restart()
	return p, func(part string) (all []string) {
		t.Helper()
		pages := awss3.NewListObjectsV2Paginator(server.Client(), &awss3.ListObjectsV2Input{Bucket: &bucket})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				if key := aws.ToString(o.Key); strings.Contains(key, part) {
					all = append(all, key)
				}
			}
		}
		return all
	}
}

// On real services: a push with its digest last is readable at once, at any replica, through berthd and by redirect, and in
// the end the bucket has the blob under its digest and nothing else.
func TestSettleInBucket(t *testing.T) {
	for _, kind := range []testkit.S3Kind{testkit.VersityGW, testkit.MinIO} {
		t.Run(string(kind), func(t *testing.T) {
			p, keys := inBucket(t, kind)
			name := named(t, "library/app")
			for i, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} { // the second is read back, and so copied at once
				data := blobtest.Random(byte(i), 12<<20+5)
				d := oci.FromBytes(a, data)
				first, other := p.replica(), p.replica()
				u, err := first.StartUpload(p.ctx, name, oci.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				if u, err = first.Append(p.ctx, name, u.ID, all(data[:7<<20])); err != nil {
					t.Fatal(err)
				}
				if u, err = other.Append(p.ctx, name, u.ID, all(data[7<<20:])); err != nil {
					t.Fatal(err)
				}
				if err := p.Commit(p.ctx, name, u.ID, d, all(nil)); err != nil {
					t.Fatal(err)
				}
				if parked := p.row(d).Place != ""; parked != (a == oci.SHA256) {
					t.Errorf("%s: parked: %t", a, parked)
				}
				check := func(when string) {
					t.Helper()
					for range 2 { // and remembered
						if got, err := p.read(other, name, d); err != nil || !bytes.Equal(got, data) {
							t.Errorf("%s: %d bytes, %v", when, len(got), err)
						}
						address, _, err := other.BlobURL(p.ctx, name, d)
						if err != nil {
							t.Fatal(err)
						}
						if got := fetched(t, address); !bytes.Equal(got, data) {
							t.Errorf("%s: the address leads to %d bytes", when, len(got))
						}
					}
				}
				check("pushed")
				p.settle()
				check("moved")
				p.later(2 * time.Hour)
				p.settle()
				check("its place gone")
				if left := keys("berth/"); len(left) > 0 {
					t.Errorf("%s: %q are left", a, left)
				}
				if content := keys(d.Hex()); len(content) != 1 {
					t.Errorf("content: %q", content)
				}
			}
		})
	}
}

// Cancelled at one replica while another has parked it, before its commit: nothing is left in the bucket.
func TestCancelParkedInBucket(t *testing.T) {
	p, keys := inBucket(t, testkit.VersityGW)
	name, data := named(t, "library/app"), blobtest.Random(9, 6<<20)
	d := oci.FromBytes(oci.SHA256, data)
	other := p.replica()
	parker, _ := blob.ParkerOf(p.blobs)
	hooked := &afterPark{Parker: parker, Store: p.blobs}
	p.blobs = hooked
	p.restart()
	id := p.start(name, oci.SHA256)
	p.append(name, id, all(data), len(data))
	hooked.then = func() {
		if len(keys("berth/parked/")) != 1 {
			t.Error("nothing is parked")
		}
		if err := other.CancelUpload(p.ctx, name, id); err != nil {
			t.Error(err)
		}
	}
	wantFault(t, "commit", p.Commit(p.ctx, name, id, d, all(nil)), fault.NotFound, fault.BlobUploadUnknown)
	p.wantNoBlob(name, d)
	if left := keys(""); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
	// The same content can be pushed.
	if err := dockerWay(p.ctx, p.Service, name, d, data); err != nil {
		t.Fatal(err)
	}
	p.wantBlob(name, d, data)
}

// afterPark lets something happen behind the next Park.
type afterPark struct {
	blob.Parker
	blob.Store
	then func()
}

func (a *afterPark) Park(ctx context.Context, id string, state blob.State, d oci.Digest) (string, error) {
	place, err := a.Parker.Park(ctx, id, state, d)
	if then := a.then; then != nil {
		a.then = nil
		then()
	}
	return place, err
}

func fetched(t *testing.T, address string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return body
}
