package gc_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/blob/s3"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// nowhere is a store that has no bytes: what is measured is the database.
type nowhere struct{ *bad }

func (nowhere) Delete(context.Context, ...oci.Digest) error { return nil }

// benchBlobs is how many blobs a benchmark is about; half of them are garbage.
func benchBlobs() int {
	n, err := strconv.Atoi(os.Getenv("BERTH_GC_BLOBS"))
	if err != nil {
		return 20_000
	}
	return n
}

// BenchmarkCollect decides and deletes rows; preview is counted before.
func BenchmarkCollect(b *testing.B) {
	for _, name := range []string{"sqlite", "postgres"} {
		b.Run(name, func(b *testing.B) {
			n := benchBlobs()
			for range b.N {
				b.StopTimer()
				file, dsn := filepath.Join(b.TempDir(), "berth.db"), ""
				if name == "postgres" {
					dsn = testkit.Postgres(b)
				}
				w := newWorld(b, cmp.Or(dsn, file))
				metadbtest.Garbage(b, dsn, file, w.repo.ID, n, time.Now().Add(-time.Minute).UnixMicro())
				o := w.options()
				o.Blobs, o.Batch = nowhere{}, 0
				s := gc.New(o)
				began := time.Now()
				p, err := s.Preview(b.Context(), gc.Ask{})
				if err != nil {
					b.Fatal(err)
				}
				preview := time.Since(began)
				b.StartTimer()
				began = time.Now()
				r := w.run(s, gc.Ask{})
				took := time.Since(began)
				if r.Deleted != p.Blobs || r.Deleted != int64(n/2) {
					b.Fatalf("previewed %+v, did %+v", p, r)
				}
				b.ReportMetric(float64(r.Examined)/took.Seconds(), "decided/s")
				b.ReportMetric(float64(r.Deleted)/took.Seconds(), "deleted/s")
				b.ReportMetric(float64(n)/preview.Seconds(), "previewed/s")
			}
		})
	}
}

// BenchmarkDecide decides by four workers and deletes nothing: what is garbage is claimed.
func BenchmarkDecide(b *testing.B) {
	for _, name := range []string{"sqlite", "postgres"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				file, dsn := filepath.Join(b.TempDir(), "berth.db"), ""
				if name == "postgres" {
					dsn = testkit.Postgres(b)
				}
				w := newWorld(b, cmp.Or(dsn, file))
				metadbtest.Garbage(b, dsn, file, w.repo.ID, benchBlobs(), time.Now().Add(-time.Minute).UnixMicro())
				d := decider{due: time.Now(), db: w.db}
				b.StartTimer()
				began := time.Now()
				var g errgroup.Group
				for range 4 {
					g.Go(func() error { return d.work(b.Context()) })
				}
				if err := g.Wait(); err != nil || d.garbage.Load() != int64(benchBlobs()/2) {
					b.Fatalf("%d are garbage, %v", d.garbage.Load(), err)
				}
				b.ReportMetric(float64(benchBlobs())/time.Since(began).Seconds(), "decided/s")
			}
		})
	}
}

// decider reads the queue as the engine does.
type decider struct {
	due     time.Time
	db      *metadb.DB
	garbage atomic.Int64

	turn  sync.Mutex // of what follows
	after metadb.DueCursor
	done  bool
}

func (d *decider) work(ctx context.Context) error {
	for {
		d.turn.Lock()
		pass := sync.OnceFunc(d.turn.Unlock)
		if d.done {
			pass()
			return nil
		}
		after := d.after
		err := d.db.Update(ctx, func(tx *metadb.Tx) error {
			c, err := tx.Collect(metadb.Collecting{Due: d.due, After: after, Limit: 1000, Hold: time.Hour, Read: func(next metadb.DueCursor, more bool) {
				d.after, d.done = next, !more
				pass()
			}})
			d.garbage.Add(int64(len(c.Garbage)))
			return err
		})
		pass()
		if err != nil {
			return err
		}
	}
}

// BenchmarkErase collects blobs with their bytes.
func BenchmarkErase(b *testing.B) {
	type place struct {
		store blob.Store
		put   func(d oci.Digest) error
	}
	for name, open := range map[string]func(b *testing.B) place{
		"files": func(b *testing.B) place {
			dir := b.TempDir()
			store, err := fs.New(dir, fs.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = store.Close() })
			return place{store, func(d oci.Digest) error {
				shard := filepath.Join(dir, "blobs", string(d.Algorithm()), d.Hex()[:2])
				return errors.Join(os.MkdirAll(shard, 0o700), os.WriteFile(filepath.Join(shard, d.Hex()), []byte{0}, 0o600))
			}}
		},
		"versitygw": func(b *testing.B) place {
			server, bucket := testkit.S3Bucket(b, testkit.VersityGW)
			store, err := s3.New(b.Context(), s3.Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey, Endpoint: server.Endpoint,
				PathStyle: true, Bucket: bucket, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = store.Close() })
			client := server.Client()
			return place{store, func(d oci.Digest) error {
				key := fmt.Sprintf("docker/registry/v2/blobs/%s/%s/%s/data", d.Algorithm(), d.Hex()[:2], d.Hex())
				_, err := client.PutObject(b.Context(), &awss3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("0")})
				return err
			}}
		},
	} {
		for _, base := range []string{"sqlite", "postgres"} {
			b.Run(name+"/"+base, func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					file, dsn := filepath.Join(b.TempDir(), "berth.db"), ""
					if base == "postgres" {
						dsn = testkit.Postgres(b)
					}
					w := newWorld(b, cmp.Or(dsn, file))
					metadbtest.Garbage(b, dsn, file, w.repo.ID, benchBlobs(), time.Now().Add(-time.Minute).UnixMicro())
					p := open(b)
					o := w.options()
					o.Blobs, o.Batch = p.store, 0
					s := gc.New(o)
					var g errgroup.Group
					g.SetLimit(32)
					if err := errors.Join(s.Each(b.Context(), func(d oci.Digest) { g.Go(func() error { return p.put(d) }) }), g.Wait()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					began := time.Now()
					r := w.run(s, gc.Ask{})
					took := time.Since(began)
					if r.Deleted != int64(benchBlobs()/2) || r.Failed > 0 {
						b.Fatalf("did %+v", r)
					}
					b.ReportMetric(float64(r.Deleted)/took.Seconds(), "deleted/s")
				}
			})
		}
	}
}
