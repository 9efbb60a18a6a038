package metadb_test

import (
	"context"
	"testing"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

func openSQLite(t testing.TB) *metadb.DB {
	t.Helper()
	return open(t, metadb.Options{Path: metadbtest.File(t)})
}

func open(t testing.TB, o metadb.Options) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestSQLite(t *testing.T) {
	metadbtest.Run(t, func(t *testing.T) *metadb.DB { return openSQLite(t) })
}

func TestPostgres(t *testing.T) {
	metadbtest.Run(t, func(t *testing.T) *metadb.DB { return open(t, metadb.Options{URL: metadbtest.Postgres(t)}) })
}

// TestPostgresFewConnections: a small pool is slow, not stuck.
func TestPostgresFewConnections(t *testing.T) {
	metadbtest.Run(t, func(t *testing.T) *metadb.DB { return open(t, metadb.Options{URL: metadbtest.Postgres(t), MaxOpen: 2}) })
}
