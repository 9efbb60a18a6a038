package s3_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
)

// What is set wrongly keeps the store from starting, with the name of the setting, and never with the secret.
func TestStartRefused(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		for _, c := range []struct {
			name   string
			change func(*s3.Options)
			want   string
		}{
			{"unknown key", func(o *s3.Options) { o.AccessKey = "nobody" }, "storage.s3.accesskey"},
			{"wrong secret", func(o *s3.Options) { o.SecretKey = "hunter2-hunter2" }, "storage.s3.secretkey"},
			{"no such bucket", func(o *s3.Options) { o.Bucket = "no-such-bucket" }, "storage.s3.bucket"},
			{"no bucket", func(o *s3.Options) { o.Bucket = "" }, "storage.s3.bucket"},
			{"half of a key", func(o *s3.Options) { o.SecretKey = "" }, "storage.s3.secretkey"},
			{"small parts", func(o *s3.Options) { o.ChunkSize = 1 << 20 }, "storage.s3.chunksize"},
			{"path in the endpoint", func(o *s3.Options) { o.Endpoint += "/" + o.Bucket }, "storage.s3.regionendpoint"},
			{"TLS on a plain port", func(o *s3.Options) { o.Endpoint = "https://" + strings.TrimPrefix(o.Endpoint, "http://") }, "begin storage.s3.regionendpoint with http://"},
			{"not an address", func(o *s3.Options) { o.RedirectEndpoint = "ftp://x" }, "storage.s3.redirectendpoint"},
		} {
			o := o
			c.change(&o)
			s, err := s3.New(t.Context(), o)
			if err == nil {
				s.Close()
				t.Errorf("%s: it starts", c.name)
				continue
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), server.SecretKey) {
				t.Errorf("%s: %v; want it to name %s", c.name, err, c.want)
			}
		}
	})
}

// Refusals that a server of here cannot be made to give.
func TestRefusalsNameTheSetting(t *testing.T) {
	_, x, _, o := troubled(t, testkit.VersityGW)
	for code, want := range map[string]string{
		"RequestTimeTooSkewed": "clock", "AuthorizationHeaderMalformed": "storage.s3.region", "PermanentRedirect": "storage.s3.region",
		"ExpiredToken": "storage.s3.sessiontoken", "AccessDenied": "policy", "InvalidBucketName": "storage.s3.bucket",
	} {
		x.plan(&plan{times: -1, do: refuse(403, code)})
		if s, err := s3.New(t.Context(), o); err == nil {
			s.Close()
			t.Errorf("%s: it starts", code)
		} else if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v; want it to name %s", code, err, want)
		}
	}
}

// The same at /readyz, of a store that runs already.
func TestCheckTellsWhy(t *testing.T) {
	s, x, _, o := troubled(t, testkit.VersityGW)
	for code, want := range map[string]string{"InvalidAccessKeyId": "storage.s3.accesskey", "NoSuchBucket": o.Bucket, "RequestTimeTooSkewed": "clock"} {
		x.plan(&plan{times: -1, do: refuse(403, code)})
		err := s.Check(t.Context())
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), want) || strings.Contains(fault.Of(err).Message, want) {
			t.Errorf("%s: %v; want the log to name %s and the client not", code, err, want)
		}
	}
}

// A service that does not answer is no reason not to start: it may come back, and then it works.
func TestStartWithoutService(t *testing.T) {
	server := testkit.StartS3(t, testkit.VersityGW)
	server.MakeBucket(t, "later")
	server.Kill()
	var log bytes.Buffer
	o := options(server, "later")
	o.Attempts = 2
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, o)
	if !strings.Contains(log.String(), "storage.s3.regionendpoint") {
		t.Errorf("the log does not say what is missing: %s", log.String())
	}
	if err := s.Check(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("check: %v", err)
	}
	if err := blobtest.Push(s, "too-early", []byte("x")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("push: %v", err)
	}
	server.Restart(t)
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check when it is back: %v", err)
	}
	blobtest.RequireContent(t, s, blobtest.Put(t, s, "in-time", []byte("x")), []byte("x"))

	// A service that hangs is noticed, too.
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	// It may answer what it was about to answer.
	err := s.Check(t.Context())
	for try := 0; err == nil && try < 20; try++ {
		err = s.Check(t.Context())
	}
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("check of a server that hangs: %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check when it goes on: %v", err)
	}
}

// A name without a server behind it, as after a typo.
func TestStartWithoutAddress(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	o := s3.Options{AccessKey: "a", SecretKey: "s", Endpoint: addr, Insecure: true, PathStyle: true, Bucket: "b", Attempts: 1}
	s := open(t, o)
	if err := s.Check(t.Context()); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), addr) {
		t.Errorf("check: %v", err)
	}
}

// A bucket that keeps versions, or locks what is in it, works, and the log says what it costs.
func TestVersionsAndLocks(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		for name, locked := range map[string]bool{"versions": false, "lock": true} {
			o.Bucket = strings.ToLower(name) + "-" + o.Bucket
			in := &awss3.CreateBucketInput{Bucket: &o.Bucket}
			if locked {
				in.ObjectLockEnabledForBucket = aws.Bool(true)
			}
			client := server.Client()
			if _, err := client.CreateBucket(t.Context(), in); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !locked {
				_, err := client.PutBucketVersioning(t.Context(), &awss3.PutBucketVersioningInput{
					Bucket: &o.Bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
				})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			} else {
				_, err := client.PutObjectLockConfiguration(t.Context(), &awss3.PutObjectLockConfigurationInput{
					Bucket: &o.Bucket, ObjectLockConfiguration: &types.ObjectLockConfiguration{
						ObjectLockEnabled: types.ObjectLockEnabledEnabled,
						Rule:              &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: types.ObjectLockRetentionModeGovernance, Days: aws.Int32(1)}},
					},
				})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			var log bytes.Buffer
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			s := open(t, o)
			if !strings.Contains(log.String(), "versions") || strings.Contains(log.String(), "locks") != locked {
				t.Errorf("%s: the log says %s", name, log.String())
			}
			for what, push := range pushes() {
				for _, size := range []int{1, 100_000, 11 << 20} {
					data := blobtest.Random(byte(len(what)), size)
					d := oci.FromBytes(oci.SHA256, data)
					for range 2 { // again after a delete, which leaves a version
						if err := push(s, strings.ToLower(name)+"-"+what, data); err != nil {
							t.Fatalf("%s, %s of %d bytes: %v", name, what, size, err)
						}
						blobtest.RequireContent(t, s, d, data)
						if err := s.Delete(t.Context(), d); err != nil {
							t.Fatalf("%s: delete: %v", name, err)
						}
						blobtest.RequireNoBlob(t, s, d)
					}
				}
			}
			wantClean(t, server, s, o)
		}
	})
}
