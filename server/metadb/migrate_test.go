package metadb_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
)

// raw is a connection to a database beside metadb. Like metadb it knows the two kinds by their URL.
func raw(t testing.TB, o metadb.Options) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", o.URL
	if o.URL == "" {
		driver, dsn = "sqlite", (&url.URL{Scheme: "file", Path: o.Path}).String()+"?_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func value[T any](t testing.TB, db *sql.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// onBoth runs a test with a database of each kind that is not there yet or empty.
func onBoth(t *testing.T, run func(t *testing.T, o metadb.Options)) {
	t.Run("SQLite", func(t *testing.T) { run(t, metadb.Options{Path: filepath.Join(t.TempDir(), "berth.db")}) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, metadb.Options{URL: testkit.Postgres(t), MaxOpen: 2}) })
}

// future records a migration that this binary does not know.
func future(t *testing.T, path string) {
	t.Helper()
	exec(t, raw(t, metadb.Options{Path: path}), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
}

// TestReplicasStartTogether: of several processes that open an empty PostgreSQL database at once all succeed, and each
// migration is done by one.
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
	if n := value[int](t, raw(t, metadb.Options{URL: dsn}), `SELECT COUNT(*) - COUNT(DISTINCT version_id) FROM goose_db_version`); n != 0 {
		t.Fatalf("%d migrations were applied twice", n)
	}
}

// TestMigrations: what is told of a database that is not there, is new, and is from the future.
func TestMigrations(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		ctx := t.Context()
		list := func() (all []metadb.Migration) {
			t.Helper()
			all, err := metadb.Migrations(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		pending := list()
		for i, m := range pending {
			if !m.AppliedAt.IsZero() || m.Name == "" || i > 0 && m.Version <= pending[i-1].Version {
				t.Fatalf("before the first start: %+v", m)
			}
		}
		if pending[0].Name != "create_registry" {
			t.Fatalf("the first is %+v", pending[0])
		}
		applied, err := metadb.Migrate(ctx, o)
		if err != nil || len(applied) != len(pending) {
			t.Fatalf("applied %d of %d, %v", len(applied), len(pending), err)
		}
		if again, err := metadb.Migrate(ctx, o); err != nil || len(again) != 0 {
			t.Fatalf("applied again: %v, %v", again, err)
		}
		for _, m := range list() {
			if since := time.Since(m.AppliedAt); since > time.Hour || since < -time.Hour {
				t.Fatalf("%+v was applied %s ago", m, since)
			}
		}
		exec(t, raw(t, o), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
		last := list()
		if m := last[len(last)-1]; m.Version != 9999 || m.Name != "" || m.AppliedAt.IsZero() || len(last) != len(pending)+1 {
			t.Fatalf("from the future: %+v", m)
		}
		db := open(t, o) // a berthd that is older than the schema runs
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestManual: with Manual nothing is migrated by a start, which says what to do.
func TestManual(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		o.Manual = true
		_, err := metadb.Open(t.Context(), o)
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "run berthd migrate up") || !strings.Contains(err.Error(), "0001_create_registry") {
			t.Fatalf("a database without a schema: %v", err)
		}
		if _, err := metadb.Migrate(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if err := open(t, o).Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// online are migrations as later versions may bring them, for tables with data and traffic.
func online() fstest.MapFS {
	return fstest.MapFS{
		"0001_create_thing.sql": {Data: []byte("-- +goose Up\nCREATE TABLE thing (id {{id}}, name {{text}} NOT NULL);\nINSERT INTO thing (name) VALUES ('a');\n")},
		"0002_add_column.sql":   {Data: []byte("-- +goose Up\nALTER TABLE thing ADD COLUMN size BIGINT NOT NULL DEFAULT 0;\n")},
		"0003_index_thing.sql":  {Data: []byte("{{without_transaction}}\n-- +goose Up\n{{drop_index}} thing_name;\n{{create_index}} thing_name ON thing (name);\n")},
	}
}

func first(files fstest.MapFS, n int) fstest.MapFS {
	some := fstest.MapFS{}
	for name, f := range files {
		if name[3] <= byte('0'+n) {
			some[name] = f
		}
	}
	return some
}

// TestWaitForReplica: a replica that dies or hangs while it migrates does not make the others hang, and they say why.
func TestWaitForReplica(t *testing.T) {
	o := metadb.Options{URL: testkit.Postgres(t)}
	holder := raw(t, o)
	holder.SetMaxOpenConns(1)
	exec(t, holder, `SELECT pg_advisory_lock(4097083626)`)
	err := metadb.MigrateWith(t.Context(), o, first(online(), 1), 600*time.Millisecond)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "by another berthd") {
		t.Fatalf("with a replica that hangs: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- metadb.MigrateWith(context.Background(), o, first(online(), 1), time.Minute) }()
	time.Sleep(300 * time.Millisecond)
	if err := holder.Close(); err != nil { // it dies
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("with a replica that died: %v", err)
	}
}

// TestOnline: a migration does not block the others who use the table, whatever they are doing.
func TestOnline(t *testing.T) {
	o := metadb.Options{URL: testkit.Postgres(t)}
	ctx := t.Context()
	if err := metadb.MigrateWith(ctx, o, first(online(), 1), time.Minute); err != nil {
		t.Fatal(err)
	}
	db := raw(t, o)
	long := begin(t, db) // a long transaction, such as a dump
	done := make(chan error, 1)
	migrate := func(n int) {
		go func() { done <- metadb.MigrateWith(context.Background(), o, first(online(), n), time.Minute) }()
	}

	migrate(2)
	var slowest time.Duration
	for range 30 { // others come and go while the migration tries
		start := time.Now()
		exec(t, db, `INSERT INTO thing (name) VALUES ('b')`)
		slowest = max(slowest, time.Since(start))
		time.Sleep(100 * time.Millisecond)
	}
	if slowest > 30*time.Second { // one that waits for the long transaction waits until the migration gives up, after a minute
		t.Errorf("an insert waited %s behind a migration", slowest)
	}
	commit(t, long)
	if err := <-done; err != nil {
		t.Fatalf("add a column: %v", err)
	}

	long = begin(t, db)
	migrate(3)
	slowest = 0
	for range 20 {
		start := time.Now()
		exec(t, db, `INSERT INTO thing (name) VALUES ('c')`)
		slowest = max(slowest, time.Since(start))
		time.Sleep(50 * time.Millisecond)
	}
	if slowest > 30*time.Second {
		t.Errorf("an insert waited %s behind the making of an index", slowest)
	}
	select {
	case err := <-done:
		t.Fatalf("the index was made under a transaction that it has to wait for: %v", err)
	default:
	}
	commit(t, long)
	if err := <-done; err != nil {
		t.Fatalf("make an index: %v", err)
	}
	if !value[bool](t, db, `SELECT indisvalid FROM pg_index WHERE indexrelid = 'thing_name'::regclass`) {
		t.Fatal("the index is not valid")
	}
}

// TestIndexHalfMade: an index that was left half-made is made again.
func TestIndexHalfMade(t *testing.T) {
	o := metadb.Options{URL: testkit.Postgres(t)}
	if err := metadb.MigrateWith(t.Context(), o, first(online(), 2), time.Minute); err != nil {
		t.Fatal(err)
	}
	db := raw(t, o)
	long := begin(t, db)
	err := metadb.MigrateWith(t.Context(), o, online(), 500*time.Millisecond)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Fatalf("with a transaction that does not end: %v", err)
	}
	if value[bool](t, db, `SELECT indisvalid FROM pg_index WHERE indexrelid = 'thing_name'::regclass`) {
		t.Fatal("the test does not leave a half-made index")
	}
	commit(t, long)
	if err := metadb.MigrateWith(t.Context(), o, online(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if !value[bool](t, db, `SELECT indisvalid FROM pg_index WHERE indexrelid = 'thing_name'::regclass`) {
		t.Fatal("the index is not valid")
	}
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec(`INSERT INTO thing (name) VALUES ('long')`); err != nil {
		t.Fatal(err)
	}
	return tx
}

func commit(t *testing.T, tx *sql.Tx) {
	t.Helper()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestOutOfOrder: a migration of a number below one that is applied is not left out.
func TestOutOfOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		if err := open(t, o).Close(); err != nil { // makes the file
			t.Fatal(err)
		}
		name := func(n string) string { return n + "_create_t" + n + ".sql" }
		files := fstest.MapFS{}
		for _, n := range []string{"5002", "5001"} {
			files[name(n)] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE t" + n + " (id {{id}});\n")}
			if err := metadb.MigrateWith(t.Context(), o, files, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		all, err := metadb.Migrations(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []int64{5001, 5002} {
			if !slices.ContainsFunc(all, func(m metadb.Migration) bool { return m.Version == v && !m.AppliedAt.IsZero() }) {
				t.Errorf("migration %d is not applied", v)
			}
		}
	})
}

// TestMigrationsAreOneLine: a start says once that the schema was migrated, and nothing to somebody who begins.
func TestMigrationsAreOneLine(t *testing.T) {
	for fresh, want := range map[bool]int{false: 1, true: 0} {
		var log bytes.Buffer
		o := metadb.Options{Path: filepath.Join(t.TempDir(), "berth.db"), Log: slog.New(slog.NewTextHandler(&log, nil)), Fresh: fresh}
		for range 2 { // the second time there is nothing to migrate
			if err := open(t, o).Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != want {
			t.Errorf("fresh=%v: %d lines are logged, want %d:\n%s", fresh, n, want, log.String())
		}
	}
}

// TestRefusedTLS: what does not change by waiting is not waited for, and what to set is named.
func TestRefusedTLS(t *testing.T) {
	plain := testkit.Postgres(t)
	u, err := url.Parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("sslmode", "require")
	u.RawQuery = q.Encode()
	var log bytes.Buffer
	_, err = metadb.Open(t.Context(), metadb.Options{URL: u.String(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil || !strings.Contains(err.Error(), "sslmode=disable") {
		t.Errorf("with sslmode=require: %v", err)
	}
	if log.Len() > 0 {
		t.Errorf("it was waited for:\n%s", log.String())
	}
}
