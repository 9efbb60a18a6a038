package metadb_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
)

// future records a migration that this binary does not know.
func future(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`); err != nil {
		t.Fatal(err)
	}
}

// TestReplicasStartTogether: of several processes that open an empty PostgreSQL database at once, all succeed.
func TestReplicasStartTogether(t *testing.T) {
	dsn := testkit.Postgres(t)
	const replicas = 4
	dbs, errs := make([]*metadb.DB, replicas), make(chan error, replicas)
	for i := range replicas {
		go func() {
			var err error
			dbs[i], err = metadb.Open(context.Background(), metadb.Options{URL: dsn, MaxOpen: 2})
			errs <- err
		}()
	}
	var all error
	for range replicas {
		all = errors.Join(all, <-errs)
	}
	for _, db := range dbs {
		if db != nil {
			_ = db.Close()
		}
	}
	if all != nil {
		t.Fatal(all)
	}
}
