package metadb_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// TestPooler: everything works through a pooler that gives each transaction another connection. The schema is made
// without it, because the lock of a migration belongs to a session.
func TestPooler(t *testing.T) {
	metadbtest.Run(t, func(t *testing.T) *metadb.DB {
		dsn := testkit.Postgres(t)
		if err := open(t, metadb.Options{URL: dsn}).Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, metadb.Options{URL: testkit.PgBouncer(t, dsn)})
	})
}

// TestSignalThroughAPooler: notifications do not come through, and what others change is still heard of in time.
func TestSignalThroughAPooler(t *testing.T) {
	dsn := testkit.Postgres(t)
	if err := open(t, metadb.Options{URL: dsn}).Close(); err != nil {
		t.Fatal(err)
	}
	through := testkit.PgBouncer(t, dsn)
	var log bytes.Buffer
	a, _ := replica(t, through, metadb.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	_, b := replica(t, through, metadb.Options{})
	var most time.Duration
	for range 8 {
		alice := metadb.Change{Kind: metadb.AccountChanged, Key: "alice"}
		before := b.count(alice)
		change(t, a, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "alice"}); return err })
		most = max(most, b.await(t, alice, before))
	}
	t.Logf("heard after %s at most", most)
	if most > metadb.TrustFor {
		t.Errorf("heard after %s", most)
	}
	_ = a.Close()
	if !strings.Contains(log.String(), "pooler") {
		t.Errorf("the log says nothing of the pooler:\n%s", log.String())
	}
}
