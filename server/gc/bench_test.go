package gc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/metadb"
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
				url := filepath.Join(b.TempDir(), "berth.db")
				if name == "postgres" {
					url = testkit.Postgres(b)
				}
				w := newWorld(b, url)
				w.fill(n)
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

// fill puts n blobs that are due, of which manifests of 20 layers need every second one.
func (w *world) fill(n int) {
	w.t.Helper()
	const layers = 20
	over := time.Now().Add(-time.Minute)
	for i := 0; i < n; {
		w.update(func(tx *metadb.Tx) error {
			for range 50 {
				if i >= n {
					break
				}
				var edges []metadb.Edge
				for k := 0; k < 2*layers && i < n; k, i = k+1, i+1 {
					d := oci.FromBytes(oci.SHA256, fmt.Append(nil, "layer ", i))
					if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1000, LeaseUntil: over}, nil); err != nil {
						return err
					}
					if _, err := tx.LinkBlob(w.repo.ID, d); err != nil {
						return err
					}
					if k%2 == 0 {
						edges = append(edges, metadb.Edge{Child: d, Kind: metadb.LayerEdge})
					}
				}
				m := oci.FromBytes(oci.SHA256, fmt.Append(nil, "manifest ", i))
				if err := tx.PutBlob(metadb.Blob{Digest: m, Size: 3}, []byte("{ }")); err != nil {
					return err
				}
				if _, err := tx.PutManifest(metadb.Manifest{RepoID: w.repo.ID, Digest: m, MediaType: "m", Size: 3}, edges); err != nil {
					return err
				}
			}
			return nil
		})
	}
}
