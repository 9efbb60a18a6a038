package metadb_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// TestPlans: no statement of the suite reads a whole table, or a whole repository to find one row of it. SQLite's
// planner does so when it is left without the shapes of the tables.
func TestPlans(t *testing.T) {
	statements := map[string]bool{}
	t.Run("Suite", func(t *testing.T) {
		metadbtest.Run(t, func(t *testing.T) *metadb.DB {
			db := openSQLite(t)
			t.Cleanup(func() { // after the suite has closed it
				for _, s := range metadb.Statements(db) {
					statements[s] = true
				}
			})
			return db
		})
	})
	if len(statements) < 50 {
		t.Fatalf("only %d statements were seen", len(statements))
	}
	// Small tables, reads of a whole by design, and lists that end with their limit.
	meant := regexp.MustCompile(`FROM account|EXISTS \(SELECT 1 FROM manifest m WHERE m.repo_id = r.id\)|DELETE FROM tag_history WHERE repo_id|FROM signing_key|DELETE FROM damage WHERE NOT EXISTS|FROM gc_hold|LIKE \$1|DELETE FROM event|FROM delivery|FROM damage d WHERE EXISTS|SELECT id FROM event ORDER BY id|ORDER BY updated_at DESC|SELECT EXISTS \(SELECT 1 FROM manifest WHERE repo_id = \$1\)`)
	bad := regexp.MustCompile(`^SCAN ([a-z]\w*)|\(repo_id=\?\)`)
	// A page of a list in the order of an index, which ends with its limit, is no more than a page wherever it begins.
	page := regexp.MustCompile(`(?s)^SELECT .*\sFROM (repository r JOIN project p ON p.id = r.project_id|project|robot|account|account_group|tag t) WHERE .* ORDER BY (r\.|t\.)?(id|name|updated_at|last_used_at)\b.* LIMIT \$\d+$`)
	inner := map[string]bool{"page": true, "oldest": true, "o": true, "v": true, "behind": true, "CONSTANT": true, "json_each": true, "u": true, "holder": true}
	db := openSQLite(t)
	defer db.Close()
	for s := range statements {
		if meant.MatchString(s) {
			continue
		}
		lines, err := metadb.Plan(db, s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		for _, line := range lines {
			if page.MatchString(s) && !strings.Contains(s, "expires_at > 0") && !strings.Contains(s, "json_each") {
				if strings.Contains(line, "TEMP B-TREE") {
					t.Errorf("%s\n\tis sorted: %s", s, line)
				}
				continue
			}
			if m := bad.FindStringSubmatch(line); m != nil && !inner[m[1]] {
				t.Errorf("%s\n\tis run as: %s", s, line)
			}
		}
	}
}

// TestFull: a full database refuses what does not fit and nobody else, reads go on, and writing goes on when there is
// space again.
func TestFull(t *testing.T) {
	db := openSQLite(t)
	defer db.Close()
	ctx := t.Context()
	put := func(name string, size int) error {
		return db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting(name, strings.Repeat("x", size)) })
	}
	if err := put("before", 10); err != nil {
		t.Fatal(err)
	}
	pages, err := metadb.PageCount(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := metadb.LimitPages(db, pages+20); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 30)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			size := 10
			if i%10 == 5 {
				size = 1 << 20
			}
			errs[i] = put(fmt.Sprint(i), size)
		})
	}
	wg.Wait()
	for i, err := range errs {
		_, readErr := db.Setting(ctx, fmt.Sprint(i))
		switch {
		case i%10 == 5 && (!fault.Is(err, fault.Full) || !fault.Has(err, fault.StorageFull) || readErr == nil):
			t.Errorf("a row that does not fit: %v, then %v", err, readErr)
		case i%10 != 5 && (err != nil || readErr != nil):
			t.Errorf("a row that fits, beside one that does not: %v, %v", err, readErr)
		}
	}
	if err := metadb.LimitPages(db, 0); err != nil {
		t.Fatal(err)
	}
	if err := put("after", 1<<20); err != nil {
		t.Fatalf("with space again: %v", err)
	}
}

// TestSyncFailure: after a failed sync nothing is acknowledged any more, and readiness says so; reads go on.
func TestSyncFailure(t *testing.T) {
	db := openSQLite(t)
	defer db.Close()
	ctx := t.Context()
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting("a", "1") }); err != nil {
		t.Fatal(err)
	}
	if err := metadb.FailSync(db); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "restart berthd") {
		t.Fatalf("poison: %v", err)
	}
	for range 2 {
		if err := db.Update(ctx, func(tx *metadb.Tx) error { t.Error("a closure ran"); return nil }); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("update after a failed sync: %v", err)
		}
	}
	if err := db.Check(ctx); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("check after a failed sync: %v", err)
	}
	if v, err := db.Setting(ctx, "a"); err != nil || v != "1" {
		t.Fatalf("read after a failed sync: %q, %v", v, err)
	}
}

// TestReopen: what was written is there again, the log is gone after Close, nobody else may read the files, and a
// database with migrations from the future opens.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "berth 100%?.db")
	ctx := context.Background()
	db := open(t, metadb.Options{URL: "sqlite:" + path})
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting("a", "1") }); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode of berth.db%s: %v, %v", suffix, info.Mode(), err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Fatalf("the log is left behind: %v", err)
	}
	future(t, path)
	db = open(t, metadb.Options{Path: path})
	defer db.Close()
	if v, err := db.Setting(ctx, "a"); err != nil || v != "1" {
		t.Fatalf("reopened: %q, %v", v, err)
	}
}

// TestLogStaysShort: under steady writing the log is copied and begins anew.
func TestLogStaysShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.db")
	testkit.RequireDisk(t, filepath.Dir(path), 200<<20)
	db := open(t, metadb.Options{Path: path})
	defer db.Close()
	value := strings.Repeat("x", 32<<10)
	var longest int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 700 { // 90 MB in all, over and over the same rows
				err := db.UpdateSoft(context.Background(), func(tx *metadb.Tx) error { return tx.PutSetting(fmt.Sprint(c, i%50), value) })
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if info, err := os.Stat(path + "-wal"); err != nil {
		t.Fatal(err)
	} else if longest = info.Size(); longest > 64<<20 {
		t.Fatalf("the log has grown to %d bytes", longest)
	}
	t.Logf("90 MB of updates, log of %d MiB", longest>>20)
}

func TestOpenFailures(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("this is no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]metadb.Options{
		"no path":     {},
		"garbage":     {Path: garbage},
		"a folder":    {Path: dir},
		"no server":   {URL: "postgres://nobody:secretword@127.0.0.1:1/none?connect_timeout=1"},
		"a wrong URL": {URL: "postgres://nobody:secretword@127.0.0.1:port/none"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		db, err := metadb.Open(ctx, o)
		cancel()
		if err == nil {
			_ = db.Close()
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
		if name == "no server" && !fault.Is(err, fault.Unavailable) {
			t.Errorf("no server: %v", err)
		}
	}
}
