package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
)

// eachKind runs a test on both servers, with a bucket of its own.
func eachKind(t *testing.T, test func(t *testing.T, server *testkit.S3, o s3.Options)) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server, bucket := testkit.S3Bucket(t, kind)
			test(t, server, options(server, bucket))
		})
	}
}

// send appends data to an upload in one go.
func send(t *testing.T, s *s3.Store, id string, state blob.State, data []byte) blob.State {
	t.Helper()
	w, err := s.Upload(t.Context(), id, state)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	next, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// wantClean fails the test when uploads have left something: objects, or parts that no list of objects shows.
func wantClean(t *testing.T, server *testkit.S3, s *s3.Store, o s3.Options, keys ...string) {
	t.Helper()
	left, err := s.Leftovers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("uploads left %q", left)
	}
	for _, key := range append(keys, "") {
		out, err := server.Client().ListMultipartUploads(context.Background(), &awss3.ListMultipartUploadsInput{Bucket: &o.Bucket, Prefix: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range out.Uploads {
			t.Errorf("a multipart upload to %s is left", *u.Key)
		}
	}
}

// keyOf is where the stores of these tests keep d, as distribution does.
func keyOf(d oci.Digest) string {
	return "some/where/docker/registry/v2/blobs/" + string(d.Algorithm()) + "/" + d.Hex()[:2] + "/" + d.Hex() + "/data"
}

// The keys are those of distribution, and content says what it is.
func TestLayout(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s := open(t, o)
		d := blobtest.Put(t, s, "layout", []byte("content"))
		out, err := server.Client().HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: &o.Bucket, Key: aws.String(keyOf(d))})
		if err != nil {
			t.Fatal(err)
		}
		if *out.ContentType != "application/octet-stream" || *out.ContentLength != 7 {
			t.Errorf("type %s, %d bytes", *out.ContentType, *out.ContentLength)
		}
		wantClean(t, server, s, o, keyOf(d))
	})
}

// An upload of many chunks of any size goes on through one replica after the other, each of which knows only the state.
func TestChunksOnManyReplicas(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		replicas := []*s3.Store{open(t, o), open(t, o), open(t, o)}
		data := blobtest.Random(1, 23<<20)
		var state blob.State
		for i, size := 0, 1000; state.Offset < int64(len(data)); i++ {
			end := min(int(state.Offset)+size, len(data))
			state = send(t, replicas[i%3], "chunks", state, data[state.Offset:end])
			if len(state.Driver) > 64<<10 {
				t.Fatalf("the state of an upload of %d bytes has %d", state.Offset, len(state.Driver))
			}
			size = size*5/2%7_000_000 + 100
		}
		r, err := replicas[1].OpenUpload(t.Context(), "chunks", state)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if closeErr := r.Close(); err != nil || closeErr != nil || !bytes.Equal(got, data) {
			t.Errorf("the upload reads as %d bytes, %v, %v", len(got), err, closeErr)
		}
		d := oci.FromBytes(oci.SHA256, data)
		if err := replicas[2].Commit(t.Context(), "chunks", state, d); err != nil {
			t.Fatal(err)
		}
		blobtest.RequireContent(t, replicas[0], d, data)
		// Reading it made an object of the parts, which only who knows the rows may delete.
		end(t, replicas[0], "chunks")
		wantClean(t, server, replicas[0], o, keyOf(d))
	})
}

// end ends an upload of which no row names anything.
func end(t *testing.T, s *s3.Store, id string) {
	t.Helper()
	if err := s.Abort(t.Context(), id, blob.State{}); err != nil {
		t.Fatal(err)
	}
	places, err := s.Parked(t.Context(), id)
	if err == nil {
		err = s.DeleteAt(t.Context(), places...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Small chunks one after the other cost neither a request each nor a state that grows without end.
func TestSmallChunks(t *testing.T) {
	server, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	o := options(server, bucket)
	s := open(t, o)
	data := blobtest.Random(2, 6<<20)
	var state blob.State
	largest := 0
	for state.Offset < int64(len(data)) {
		state = send(t, s, "small-chunks", state, data[state.Offset:min(int(state.Offset)+65_536, len(data))])
		largest = max(largest, len(state.Driver))
	}
	if largest > 4096 {
		t.Errorf("the state has up to %d bytes", largest)
	}
	d := oci.FromBytes(oci.SHA256, data)
	if err := s.Commit(t.Context(), "small-chunks", state, d); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireContent(t, s, d, data)
	wantClean(t, server, s, o, keyOf(d))
}

// More segments than a multipart upload takes are composed in steps: what 5 TiB need, with small numbers.
func TestComposeInSteps(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s := open(t, o)
		s.SetLimits(4, 2, 3)
		data := blobtest.Random(3, 52<<20+12_345)
		d := oci.FromBytes(oci.SHA256, data)
		state := send(t, s, "steps", blob.State{}, data)
		if err := s.Commit(t.Context(), "steps", state, d); err != nil {
			t.Fatal(err)
		}
		blobtest.RequireContent(t, s, d, data)
		wantClean(t, server, s, o, keyOf(d))
		if err := s.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}

		p, err := s.Place(t.Context(), "steps-placed", d)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		blobtest.RequireContent(t, s, d, data)
		wantClean(t, server, s, o, keyOf(d))
	})
}

// What processes that died have left of an upload is gone after Abort, by any replica; and who has no row is found by
// StaleUploads.
func TestAbortAfterDeath(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s, other := open(t, o), open(t, o)
		data := blobtest.Random(4, 12<<20)
		d := oci.FromBytes(oci.SHA256, data)

		w, err := s.Upload(t.Context(), "dead-writer", blob.State{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		p, err := s.Place(t.Context(), "dead-placement", d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Write(data); err != nil {
			t.Fatal(err)
		}
		// The parts are on their way; a process that dies now says nothing more. These writers are closed later, as the
		// test's own cleaning.
		for {
			if left, err := s.Leftovers(t.Context()); err != nil {
				t.Fatal(err)
			} else if len(left) >= 2 { // a marker of each
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)

		if ids, err := other.StaleUploads(t.Context(), time.Now().Add(-time.Hour)); err != nil || len(ids) > 0 {
			t.Errorf("stale for an hour: %q, %v", ids, err)
		}
		ids, err := other.StaleUploads(t.Context(), time.Now().Add(time.Hour))
		if err != nil || !slices.Equal(ids, []string{"dead-placement", "dead-writer"}) {
			t.Fatalf("stale in an hour: %q, %v", ids, err)
		}
		for _, id := range ids {
			if err := other.Abort(t.Context(), id, blob.State{}); err != nil {
				t.Errorf("abort %s: %v", id, err)
			}
		}
		wantClean(t, server, other, o, keyOf(d))
		blobtest.RequireNoBlob(t, other, d)
		w.Close()
		p.Close()
	})
}

// A multipart upload that its beginner never heard of, or died before it could say so, is found by nobody's name: it is
// ended when it is old, and one that has a marker is not.
func TestMultipartWithoutMarker(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		store := open(t, o)
		data := blobtest.Random(5, 12<<20)
		state := send(t, store, "goes-on", blob.State{}, data)
		d := oci.FromBytes(oci.SHA256, data)
		for _, key := range []string{keyOf(d), "some/where/berth/parked/lost/abcdefghij", "elsewhere/not-ours"} {
			if _, err := server.Client().CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: &o.Bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
		open := func() (keys []string) {
			t.Helper()
			out, err := server.Client().ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &o.Bucket, Prefix: aws.String("")})
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range out.Uploads {
				keys = append(keys, aws.ToString(u.Key))
			}
			return keys
		}
		for _, step := range []struct {
			before time.Time
			want   int
		}{{time.Now().Add(-time.Hour), 4}, {time.Now().Add(time.Hour), 2}} {
			if _, err := store.StaleUploads(t.Context(), step.before); err != nil {
				t.Fatal(err)
			}
			if keys := open(); server.Kind == testkit.VersityGW && len(keys) != step.want {
				t.Errorf("of what was begun before %s there are %q, want %d", step.before, keys, step.want)
			}
		}
		if err := store.Commit(t.Context(), "goes-on", state, d); err != nil {
			t.Errorf("the upload that has a marker: %v", err)
		}
		if size := int64(len(data)); size > 0 {
			c, n, err := store.Open(t.Context(), d)
			if err != nil || n != size {
				t.Fatalf("%d bytes, %v", n, err)
			}
			c.Close()
		}
	})
}

// Deleting is done in batches, also of more than one holds, and of what is not there.
func TestDeleteMany(t *testing.T) {
	eachKind(t, func(t *testing.T, _ *testkit.S3, o s3.Options) {
		s := open(t, o)
		s.SetLimits(10_000, 8_000, 7)
		var ds []oci.Digest
		for i := range 20 {
			ds = append(ds, blobtest.Put(t, s, fmt.Sprint("many-", i), fmt.Appendf(nil, "content %d", i)), oci.FromBytes(oci.SHA256, fmt.Appendf(nil, "absent %d", i)))
		}
		kept := blobtest.Put(t, s, "kept", []byte("kept"))
		if err := s.Delete(t.Context(), ds...); err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			blobtest.RequireNoBlob(t, s, d)
		}
		blobtest.RequireContent(t, s, kept, []byte("kept"))
	})
}

// The memory of an upload is bounded whatever its size, also when the bucket is slower than the client.
func TestMemoryOfAnUpload(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 400 MB")
	}
	server, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	testkit.RequireDisk(t, t.TempDir(), 2<<30)
	s := open(t, options(server, bucket))
	piece := blobtest.Random(5, 1<<20)
	w, err := s.Upload(t.Context(), "memory", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 3 { // also what pools keep of other tests
		runtime.GC()
	}
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var most uint64
	for i := range 400 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	if used := int64(most) - int64(before.HeapAlloc); used > 32<<20 {
		t.Errorf("an upload of 400 MiB has %d MiB in memory", used>>20)
	} else {
		t.Logf("at most %.1f MiB", float64(used)/(1<<20))
	}
	if err := s.Abort(t.Context(), "memory", blob.State{}); err != nil {
		t.Fatal(err)
	}
}

// Whoever has the address gets the bytes without an account, whole and in parts, until it expires.
func TestURL(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		o.URLExpiry = time.Minute
		o.RedirectEndpoint = strings.Replace(server.Endpoint, "127.0.0.1", "localhost", 1)
		s := open(t, o)
		data := blobtest.Random(6, 100_000)
		d := blobtest.Put(t, s, "url", data)
		u, err := s.URL(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(u, "http://localhost:") {
			t.Errorf("the address %s is not at redirectendpoint", u)
		}
		status, body, header := fetch(t, u, "")
		if status != 200 || !bytes.Equal(body, data) || header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("status %d, %d bytes, %v", status, len(body), header)
		}
		if status, body, _ := fetch(t, u, "bytes=5-14"); status != 206 || !bytes.Equal(body, data[5:15]) {
			t.Errorf("a part: status %d, %d bytes", status, len(body))
		}
		if status, _, _ := fetch(t, strings.Replace(u, "X-Amz-Expires=60", "X-Amz-Expires=600", 1), ""); status != 403 {
			t.Errorf("an address that was changed: status %d", status)
		}
	})
}

// Small content that ends in the database, as the config of every image that docker pushes, costs the bucket no request.
func TestSmallUploadAsksNothing(t *testing.T) {
	s, x, _, _ := troubled(t, testkit.VersityGW)
	x.plan(&plan{times: -1, do: refuse(500, "InternalError")})
	data := blobtest.Random(7, 10_000)
	state := send(t, s, "small", blob.State{}, data[:4000])
	state = send(t, s, "small", state, data[4000:])
	r, err := s.OpenUpload(t.Context(), "small", state)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r.Close()
	if err := s.Abort(t.Context(), "small", state); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Upload(t.Context(), "small", state); err == nil {
		t.Error("an upload that was aborted goes on")
	}
}
