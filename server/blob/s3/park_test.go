package s3_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
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
)

// wantAt fails the test unless a place has exactly these bytes.
func wantAt(t *testing.T, s *s3.Store, place string, want []byte) {
	t.Helper()
	c, size, err := s.OpenAt(t.Context(), place)
	if err != nil {
		t.Fatalf("at %q: %v", place, err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Fatalf("at %q: %d bytes, size %d, %v; want %d", place, len(got), size, err, len(want))
	}
}

// A push whose digest comes last copies nothing but its tail: the parts are sent once, completed, and lie where they are.
func TestParkCopiesNothing(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, kind)
			data := blobtest.Random(1, 20<<20+77)
			d := oci.FromBytes(oci.SHA256, data)
			state := send(t, s, "docker", blob.State{}, data)
			place, err := s.Park(t.Context(), "docker", state, d)
			if err != nil {
				t.Fatal(err)
			}
			for op, want := range map[string]int{"CreateMultipartUpload": 1, "UploadPart": 5, "UploadPartCopy": 0, "CopyObject": 0, "CompleteMultipartUpload": 1, "PutObject": 1} {
				if got := x.count(op); got != want {
					t.Errorf("%d × %s, want %d", got, op, want)
				}
			}
			wantAt(t, s, place, data)
			u, err := s.URLAt(t.Context(), place)
			if err != nil {
				t.Fatal(err)
			}
			if status, body, _ := fetch(t, u, ""); status != 200 || !bytes.Equal(body, data) {
				t.Errorf("its address: status %d, %d bytes", status, len(body))
			}
			if err := s.Settle(t.Context(), place, d); err != nil {
				t.Fatal(err)
			}
			blobtest.RequireContent(t, s, d, data)
			if err := s.DeleteAt(t.Context(), place); err != nil {
				t.Fatal(err)
			}
			wantClean(t, server, s, o, keyOf(d))
		})
	}
}

// A writer that has lost its upload to another replica and goes on sending gets none of its bytes into the blob: parts
// behind ours and between them are not named, and one in the place of ours makes the service refuse.
func TestForeignParts(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s, other := open(t, o), open(t, o)
		data := blobtest.Random(1, 15<<20)
		d := oci.FromBytes(oci.SHA256, data)
		first := send(t, s, "foreign", blob.State{}, data[:5<<20])
		for i := range 3 { // they continue from the same state, with something else
			send(t, other, "foreign", first, blobtest.Random(byte(10+i), 10<<20))
		}
		state := send(t, s, "foreign", first, data[5<<20:])
		send(t, other, "foreign", first, blobtest.Random(20, 20<<20))
		place, err := s.Park(t.Context(), "foreign", state, d)
		switch {
		case fault.Has(err, fault.BlobUploadUnknown): // their numbers met ours, in spite of the gaps
			t.Log("refused: ", err)
			end(t, s, "foreign")
		case err != nil:
			t.Fatal(err)
		default:
			wantAt(t, s, place, data)
			if err := s.DeleteAt(t.Context(), place); err != nil {
				t.Fatal(err)
			}
		}

		// With the very number of one of ours.
		state = send(t, s, "foreign-same", blob.State{}, data)
		key, upload := onlyMultipart(t, server, o)
		_, err = server.Client().UploadPart(t.Context(), &awss3.UploadPartInput{
			Bucket: &o.Bucket, Key: &key, UploadId: &upload, PartNumber: aws.Int32(2), Body: bytes.NewReader(blobtest.Random(30, 5<<20)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Park(t.Context(), "foreign-same", state, d); !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("an upload with a part that is not ours: %v", err)
		}
		blobtest.RequireNoBlob(t, s, d)
		end(t, s, "foreign-same")

		// And the last one, which is looked at when an upload goes on.
		state = send(t, s, "foreign-last", blob.State{}, data)
		key, upload = onlyMultipart(t, server, o)
		_, err = server.Client().UploadPart(t.Context(), &awss3.UploadPartInput{
			Bucket: &o.Bucket, Key: &key, UploadId: &upload, PartNumber: aws.Int32(3), Body: bytes.NewReader(blobtest.Random(31, 5<<20)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Upload(t.Context(), "foreign-last", state); !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("an upload whose last part is not ours goes on: %v", err)
		}
		end(t, s, "foreign-last")
		wantClean(t, server, s, o, keyOf(d))
	})
}

// onlyMultipart is the one multipart upload that is not completed.
func onlyMultipart(t *testing.T, server *testkit.S3, o s3.Options) (key, id string) {
	t.Helper()
	out, err := server.Client().ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &o.Bucket, Prefix: aws.String("some/where/berth/parked/")})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) == 0 { // MinIO lists only those of a whole key
		s := open(t, o)
		left, err := s.Leftovers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range left {
			if !strings.Contains(k, "multipart-") {
				continue
			}
			c, err := server.Client().GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &o.Bucket, Key: &k})
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(c.Body)
			if err != nil {
				t.Fatal(err)
			}
			fields := strings.Split(string(text), `"`)
			return fields[3], fields[7]
		}
		t.Fatal("no multipart upload")
	}
	return *out.Uploads[0].Key, *out.Uploads[0].UploadId
}

// The answer to the last step is lost, or the process dies behind it: asked again, here or on another replica, the place is
// the same.
func TestParkAnswerLost(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, kind)
			for i, size := range []int{10 << 20, 10<<20 + 100, 13 << 20} { // no tail; one in the state; one that is an object
				data := blobtest.Random(byte(i), size)
				d := oci.FromBytes(oci.SHA256, data)
				id := fmt.Sprint("lost-", i)
				state := send(t, s, id, blob.State{}, data)
				x.plan(&plan{operation: "CompleteMultipartUpload", times: 1, do: loseAnswer}, &plan{operation: "CompleteMultipartUpload", times: -1, do: refuse(503, "SlowDown")})
				_, err := s.Park(t.Context(), id, state, d)
				x.plan()
				if err == nil {
					t.Errorf("%d bytes: the step was answered", size)
				}
				direct := o
				direct.Endpoint = server.Endpoint
				other := open(t, direct)
				place, err := other.Park(t.Context(), id, state, d)
				if err != nil {
					t.Fatal(err)
				}
				wantAt(t, other, place, data)
				if again, err := s.Park(t.Context(), id, state, d); err != nil || again != place {
					t.Errorf("asked once more: %q, %v; want %q", again, err, place)
				}
				end(t, s, id)
			}
			wantClean(t, server, s, o)
		})
	}
}

// What was read back, for a digest by another algorithm, goes on, ends, and can be read again.
func TestReadBack(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s, other := open(t, o), open(t, o)
		for i, size := range []int{10 << 20, 12 << 20, 10<<20 + 9} {
			data := blobtest.Random(byte(i), size+8<<20)
			d := oci.FromBytes(oci.SHA512, data)
			id := fmt.Sprint("read-", i)
			state := send(t, s, id, blob.State{}, data[:size])
			for _, reader := range []*s3.Store{other, s} {
				r, err := reader.OpenUpload(t.Context(), id, state)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[:size]) {
					t.Errorf("%d bytes, %v; want %d", len(got), err, size)
				}
				r.Close()
			}
			state = send(t, other, id, state, data[size:])
			place, err := s.Park(t.Context(), id, state, d)
			if err != nil {
				t.Fatal(err)
			}
			if place != "" {
				t.Errorf("place %q of what had to be copied", place)
			}
			blobtest.RequireContent(t, s, d, data)
			end(t, s, id)
			wantClean(t, server, s, o, keyOf(d))
		}
	})
}

// Who dies behind the last step leaves a marker, by which the object is found when there is no row; Abort keeps both.
func TestParkedAfterDeath(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s, other := open(t, o), open(t, o)
		data := blobtest.Random(1, 6<<20)
		d := oci.FromBytes(oci.SHA256, data)
		place, err := s.Park(t.Context(), "dead", send(t, s, "dead", blob.State{}, data), d)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if ids, err := other.StaleUploads(t.Context(), time.Now().Add(time.Hour)); err != nil || !slices.Equal(ids, []string{"dead"}) {
				t.Fatalf("stale: %q, %v", ids, err)
			}
			if err := other.Abort(t.Context(), "dead", blob.State{}); err != nil {
				t.Fatal(err)
			}
			wantAt(t, other, place, data)
		}
		end(t, other, "dead")
		if ids, err := other.StaleUploads(t.Context(), time.Now().Add(time.Hour)); err != nil || len(ids) > 0 {
			t.Errorf("stale in the end: %q, %v", ids, err)
		}
		wantClean(t, server, s, o, keyOf(d))
	})
}

// A state of the version before, which knew segments only, goes on and ends.
func TestStateOfVersion1(t *testing.T) {
	server, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	o := options(server, bucket)
	s := open(t, o)
	data := blobtest.Random(1, 18<<20)
	d := oci.FromBytes(oci.SHA256, data)
	for i := range 2 {
		_, err := server.Client().PutObject(t.Context(), &awss3.PutObjectInput{
			Bucket: &bucket, Key: aws.String(fmt.Sprint("some/where/berth/uploads/old/abcdefghij-", i*5<<20)), Body: bytes.NewReader(data[i*5<<20 : (i+1)*5<<20]),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	state := blob.State{Offset: 10 << 20, Driver: []byte(`{"v":1,"w":["abcdefghij"],"r":[[0,0,5242880,2]]}`)}
	r, err := s.OpenUpload(t.Context(), "old", state)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[:10<<20]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r.Close()
	state = send(t, s, "old", state, data[10<<20:])
	if _, err := s.Park(t.Context(), "old", state, d); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireContent(t, s, d, data)
	wantClean(t, server, s, o, keyOf(d))
}
