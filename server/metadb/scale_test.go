package metadb_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// The size of a registry in these tests, and the names in it.
const (
	scaleTags         = 200_000 // of one repository
	scaleRepositories = 100_000
	scaleManifests    = 50_000 // referrers of one subject
	scaleOthers       = 20_000 // of everything else
)

func scaleDigest(i int) oci.Digest {
	d, err := oci.ParseDigest(fmt.Sprintf("sha256:%064x", i))
	if err != nil {
		panic(err)
	}
	return d
}

// scale fills a PostgreSQL database with a few statements, and gives its planner what autovacuum would.
func scale(t testing.TB, db *sql.DB) (repoID int64) {
	t.Helper()
	const digest = `'sha256:' || lpad(to_hex(i), 64, '0')`
	exec(t, db, `INSERT INTO project (name, public, created_at) VALUES ('scale', TRUE, 1), ('private', FALSE, 1)`)
	exec(t, db, `INSERT INTO repository (project_id, name, listed, created_at) SELECT 1, 'scale/app', TRUE, 1`)
	repoID = value[int64](t, db, `SELECT id FROM repository`)
	for _, q := range []string{
		fmt.Sprintf(`INSERT INTO repository (project_id, name, listed, created_at) SELECT 1 + i %% 2, 'scale/r' || lpad(i::text, 7, '0'), TRUE, 1 FROM generate_series(1, %d) i`, scaleRepositories),
		fmt.Sprintf(`INSERT INTO blob (digest, size, inline, created_at) SELECT %s, 10, TRUE, 1 FROM generate_series(1, %d) i`, digest, scaleManifests),
		fmt.Sprintf(`INSERT INTO blob_content (digest, bytes) SELECT %s, '\x00' FROM generate_series(1, %d) i`, digest, scaleOthers),
		fmt.Sprintf(`INSERT INTO repo_blob (repo_id, digest, created_at) SELECT %d, %s, 1 FROM generate_series(1, %d) i`, repoID, digest, scaleOthers),
		fmt.Sprintf(`INSERT INTO repo_blob (repo_id, digest, created_at) SELECT %d + i, 'sha256:' || lpad('1', 64, '0'), 1 FROM generate_series(1, %d) i`, repoID, scaleOthers),
		fmt.Sprintf(`INSERT INTO manifest (repo_id, digest, media_type, artifact_type, size, subject, descriptor, pushed_at)
			SELECT %d, %s, 'm', 'sig', 10, 'sha256:' || repeat('f', 64), '{"digest":"' || i || '"}', 1 FROM generate_series(1, %d) i`, repoID, digest, scaleManifests),
		fmt.Sprintf(`INSERT INTO edge (repo_id, manifest_id, child, kind) SELECT %d, m.id, 'sha256:' || repeat('f', 64), 4 FROM manifest m`, repoID),
		fmt.Sprintf(`INSERT INTO tag (repo_id, name, digest, updated_at) SELECT %d, 'v' || lpad(i::text, 9, '0'), 'sha256:' || lpad(to_hex(1 + i %% %d), 64, '0'), i FROM generate_series(1, %d) i`, repoID, scaleManifests, scaleTags),
		fmt.Sprintf(`INSERT INTO event (at, kind, repository, digest, tag, principal, payload) SELECT i, 'k', 'scale/app', '', '', 'alice', '{}' FROM generate_series(1, %d) i`, scaleOthers),
		fmt.Sprintf(`INSERT INTO account (name, password_hash, admin, disabled, created_at, updated_at) SELECT 'user' || lpad(i::text, 7, '0'), 'h', FALSE, FALSE, 1, 1 FROM generate_series(1, %d) i`, scaleOthers),
		fmt.Sprintf(`INSERT INTO upload (id, repository, principal, algorithm, started_at, updated_at) SELECT 'u' || i, 'scale/app', 'alice', 'sha256', i, i FROM generate_series(1, %d) i`, scaleOthers),
		fmt.Sprintf(`INSERT INTO security_scans (image_id, scan_time, scanner) SELECT m.id, i, 'berth' FROM generate_series(1, 10) i, (SELECT id FROM manifest ORDER BY id LIMIT %d) m`, scaleOthers/10),
		`INSERT INTO security_scans (image_id, scan_time, scanner) SELECT MIN(m.id), i, 'berth' FROM generate_series(11, 500) i, manifest m GROUP BY i`,
		`VACUUM (ANALYZE)`,
	} {
		exec(t, db, q)
	}
	// A snapshot that somebody else holds at the moment, such as autovacuum, makes it leave pages for the next time.
	for range 50 {
		exec(t, db, `VACUUM tag, repository`)
		if value[bool](t, db, `SELECT bool_and(relallvisible >= relpages) FROM pg_class WHERE relname IN ('tag', 'repository')`) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return repoID
}

// TestPostgresScale: what a request reads does not grow with what is stored. Every question is run with the plan that
// PostgreSQL makes for its arguments and with the one that it keeps for a prepared statement; the pages that each touches are
// counted.
func TestPostgresScale(t *testing.T) {
	if testing.Short() {
		t.Skip("makes half a million rows")
	}
	o := metadb.Options{URL: testkit.Postgres(t), MaxOpen: 2}
	db := open(t, o)
	defer db.Close()
	sql := raw(t, o)
	repoID := scale(t, sql)
	u, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("default_query_exec_mode", "simple_protocol") // the test prepares by itself
	u.RawQuery = q.Encode()
	sql = raw(t, metadb.Options{URL: u.String()})
	sql.SetMaxOpenConns(1)
	asked := metadb.Record(db)
	repository, tag := fmt.Sprintf("scale/r%07d", scaleRepositories/2), fmt.Sprintf("v%09d", scaleTags/2)
	subject, err := oci.ParseDigest("sha256:" + strings.Repeat("f", 64))
	if err != nil {
		t.Fatal(err)
	}
	image, err := db.ImageID(t.Context(), repoID, scaleDigest(1))
	if err != nil {
		t.Fatal(err)
	}
	asked()
	for _, c := range []struct {
		name  string
		ask   func(ctx context.Context) (int, error)
		rows  int
		pages float64 // at most
		only  bool    // nothing but an index is read
	}{
		{"tags", func(ctx context.Context) (int, error) { l, err := db.Tags(ctx, repoID, tag, 100); return len(l), err }, 100, 12, true},
		{"tags/1000", func(ctx context.Context) (int, error) {
			l, err := db.Tags(ctx, repoID, tag, 1000)
			return len(l), err
		}, 1000, 30, true},
		{"tags/first", func(ctx context.Context) (int, error) { l, err := db.Tags(ctx, repoID, "", 100); return len(l), err }, 100, 12, true},
		{"catalog", func(ctx context.Context) (int, error) {
			l, err := db.RepositoryNames(ctx, repository, 100)
			return len(l), err
		}, 100, 12, true},
		{"catalog/public", func(ctx context.Context) (int, error) {
			l, err := db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}}, repository, 100)
			return len(l), err
		}, 100, 450, false},
		{"newest tags", func(ctx context.Context) (int, error) { l, err := db.NewestTags(ctx, repoID, 10); return len(l), err }, 10, 20, false},
		{"tags of a manifest", func(ctx context.Context) (int, error) {
			l, err := db.TagsOf(ctx, repoID, scaleDigest(7))
			return len(l), err
		}, scaleTags / scaleManifests, 20, false},
		{"tag", func(ctx context.Context) (int, error) { _, err := db.Tag(ctx, repoID, tag); return 1, err }, 1, 8, false},
		{"repository", func(ctx context.Context) (int, error) { _, err := db.Repository(ctx, repository); return 1, err }, 1, 10, false},
		{"manifest", func(ctx context.Context) (int, error) {
			_, err := db.Manifest(ctx, repoID, scaleDigest(7))
			return 1, err
		}, 1, 8, false},
		{"manifest with content", func(ctx context.Context) (int, error) {
			_, _, err := db.ManifestContent(ctx, repoID, scaleDigest(7))
			return 1, err
		}, 1, 14, false},
		{"manifest by tag", func(ctx context.Context) (int, error) {
			_, _, err := db.ManifestByTag(ctx, repoID, "v000000006")
			return 1, err
		}, 1, 20, false},
		{"has manifests", func(ctx context.Context) (int, error) { _, err := db.HasManifests(ctx, repoID); return 1, err }, 1, 8, false},
		{"blob", func(ctx context.Context) (int, error) { _, err := db.Blob(ctx, repoID, scaleDigest(7)); return 1, err }, 1, 14, false},
		{"content", func(ctx context.Context) (int, error) { _, err := db.Content(ctx, scaleDigest(7)); return 1, err }, 1, 8, false},
		{"repositories of a blob", func(ctx context.Context) (int, error) {
			l, err := db.BlobRepositories(ctx, scaleDigest(1), 10)
			return len(l), err
		}, 10, 120, false},
		{"parents", func(ctx context.Context) (int, error) {
			l, err := db.Parents(ctx, repoID, subject, 10)
			return len(l), err
		}, 10, 60, false},
		{"children", func(ctx context.Context) (int, error) {
			l, err := db.Children(ctx, repoID, scaleDigest(7))
			return len(l), err
		}, 1, 14, false},
		{"referrers", func(ctx context.Context) (int, error) {
			p, err := db.Referrers(ctx, repoID, subject, "", scaleDigest(scaleManifests/2), 100)
			return p.Count, err
		}, 100, 220, false},
		{"referrers of a type", func(ctx context.Context) (int, error) {
			p, err := db.Referrers(ctx, repoID, subject, "sig", scaleDigest(scaleManifests/2), 100)
			return p.Count, err
		}, 100, 220, false},
		{"events", func(ctx context.Context) (int, error) {
			first, err := db.Events(ctx, event.Cursor{}, 1)
			if err != nil || len(first) == 0 {
				return 0, err
			}
			l, err := db.Events(ctx, event.Cursor{Epoch: first[0].Cursor.Epoch, ID: scaleOthers / 2}, 100)
			return len(l), err
		}, 100, 40, false},
		{"accounts", func(ctx context.Context) (int, error) {
			l, err := db.Accounts(ctx, "user0010000", 100)
			return len(l), err
		}, 100, 110, false},
		{"expired uploads", func(ctx context.Context) (int, error) {
			l, err := db.ExpiredUploads(ctx, time.Now(), metadb.Upload{UpdatedAt: time.UnixMicro(scaleOthers / 2)}, 100)
			return len(l), err
		}, 100, 40, false},
		{"scans", func(ctx context.Context) (int, error) {
			l, err := db.SecurityScans(ctx, image, metadb.SecurityScan{ID: 1, At: time.UnixMicro(400)}, 100)
			return len(l), err
		}, 100, 120, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n, err := c.ask(t.Context()); err != nil || n != c.rows {
				t.Fatalf("%d rows, %v", n, err)
			}
			for _, a := range asked() {
				for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
					p := measure(t, sql, mode, a.Query, a.Args...)
					if p.pages > c.pages || c.only && !p.indexOnly {
						t.Errorf("%s reads %v pages (at most %v), only an index: %v\n%s\n%s", mode, p.pages, c.pages, p.indexOnly, a.Query, p.text)
					}
				}
			}
		})
	}
	t.Run("images", func(t *testing.T) {
		p := measure(t, sql, "force_custom_plan", `SELECT digest FROM images WHERE repository = $1 AND tag = $2`, "scale/app", tag)
		if p.pages > 30 || !strings.Contains(p.text, `"idx_repo_tag"`) {
			t.Errorf("%v pages\n%s", p.pages, p.text)
		}
		p = measure(t, sql, "force_custom_plan", `SELECT s.critical FROM images i JOIN security_scans s ON s.image_id = i.id
			WHERE i.repository = $1 AND i.tag = $2 ORDER BY s.scan_time DESC LIMIT 1`, "scale/app", "v000000007")
		if p.pages > 60 || !strings.Contains(p.text, `"idx_scan_time"`) {
			t.Errorf("%v pages\n%s", p.pages, p.text)
		}
	})
}

// measured is how PostgreSQL ran a statement.
type measured struct {
	pages     float64 // of tables and indexes that were touched
	indexOnly bool
	text      string
}

// measure runs a statement as a prepared one.
func measure(t *testing.T, db *sql.DB, mode, query string, args ...any) measured {
	t.Helper()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	literals := make([]string, len(args))
	for i, a := range args {
		literals[i] = fmt.Sprint(a)
		if s, ok := a.(string); ok {
			literals[i] = "'" + strings.ReplaceAll(s, "'", "''") + "'"
		}
	}
	execute := "EXECUTE measured"
	if len(args) > 0 {
		execute += " (" + strings.Join(literals, ", ") + ")"
	}
	var text string
	for _, s := range []string{"SET plan_cache_mode = " + mode, "DEALLOCATE ALL", "PREPARE measured AS " + query} {
		if _, err := c.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	// Twice: the first looks at catalogs and sets hints.
	for range 2 {
		if err := c.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+execute).Scan(&text); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	var plans []struct {
		Plan map[string]any
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	p := plans[0].Plan
	pages := p["Shared Hit Blocks"].(float64) + p["Shared Read Blocks"].(float64)
	return measured{pages, strings.Contains(text, `"Index Only Scan"`) && strings.Contains(text, `"Heap Fetches": 0`), text}
}

// explain is a plan as lines; width is the number of columns, of which the last is the line.
func explain(t testing.TB, db *sql.DB, query string, width int, args ...any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		columns := make([]any, width)
		var line string
		for i := range columns {
			columns[i] = new(any)
		}
		columns[width-1] = &line
		if err := rows.Scan(columns...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
