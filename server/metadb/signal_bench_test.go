package metadb_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// BenchmarkTagMoves compares moving a tag, which other replicas have to hear of, with making one, which they need not, on
// a PostgreSQL that syncs, with two more replicas listening.
func BenchmarkTagMoves(b *testing.B) {
	dsn := testkit.OwnPostgres(b).DSN
	db, _ := replica(b, dsn, metadb.Options{MaxOpen: 32})
	for range 2 {
		replica(b, dsn, metadb.Options{})
	}
	repo, _, one, two := image(b, db)
	var names atomic.Int64
	for _, c := range []struct {
		name string
		fn   func(tx *metadb.Tx, n int64) error
	}{
		{"make", func(tx *metadb.Tx, n int64) error {
			_, err := tx.PutTag(repo, fmt.Sprint("tag", n), one, metadb.Origin{})
			return err
		}},
		{"move", func(tx *metadb.Tx, n int64) error {
			_, err := tx.PutTag(repo, fmt.Sprint("worker", n%64), []oci.Digest{one, two}[n/64%2], metadb.Origin{})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := names.Add(1)
					if err := db.Update(b.Context(), func(tx *metadb.Tx) error { return c.fn(tx, n) }); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkTrust is what each use of a cache pays on PostgreSQL.
func BenchmarkTrust(b *testing.B) {
	_, e := replica(b, testkit.Postgres(b), metadb.Options{})
	for b.Loop() {
		_ = e.trust()
	}
}
