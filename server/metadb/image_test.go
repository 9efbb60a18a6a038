package metadb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// TestImages: the view that people query says at every moment what the registry has.
func TestImages(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		ctx := t.Context()
		db := open(t, o)
		defer db.Close()
		sql := raw(t, o)
		list := func() string {
			t.Helper()
			rows, err := sql.QueryContext(ctx, `SELECT project || '|' || repository || '|' || COALESCE(tag, '-') || '|' || digest || '|' || CAST(size AS TEXT) || '|' || pushed_by
				FROM images ORDER BY repository, tag IS NULL, tag`)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var lines []string
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				lines = append(lines, line)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return strings.Join(lines, "\n")
		}
		config, layer := oci.FromBytes(oci.SHA256, []byte("config")), oci.FromBytes(oci.SHA256, []byte("layer"))
		d := []oci.Digest{oci.FromBytes(oci.SHA256, []byte("0")), oci.FromBytes(oci.SHA256, []byte("1"))}
		var repoID int64
		change := func(fn func(tx *metadb.Tx) error) {
			t.Helper()
			if err := db.Update(ctx, fn); err != nil {
				t.Fatal(err)
			}
		}
		change(func(tx *metadb.Tx) error {
			p, _, err := tx.EnsureProject("team", false)
			if err != nil {
				return err
			}
			r, err := tx.EnsureRepository(p.ID, "team/app")
			if err != nil {
				return err
			}
			repoID = r.ID
			for blob, size := range map[oci.Digest]int64{config: 10, layer: 1000, d[0]: 1, d[1]: 2} {
				if err := tx.PutBlob(metadb.Blob{Digest: blob, Size: size}, nil); err != nil {
					return err
				}
			}
			for i := range d {
				if _, err := tx.PutManifest(metadb.Manifest{RepoID: repoID, Digest: d[i], MediaType: "m", Size: int64(1 + i), PushedBy: "alice"}, []metadb.Edge{
					{Child: config, Kind: metadb.ConfigEdge}, {Child: layer, Kind: metadb.LayerEdge}, {Child: config, Kind: metadb.LayerEdge},
					{Child: oci.FromBytes(oci.SHA256, []byte("foreign")), Kind: metadb.LayerEdge}, {Child: d[0], Kind: metadb.SubjectEdge},
				}); err != nil {
					return err
				}
			}
			_, err = tx.PutTag(repoID, "v1", d[0], metadb.Origin{})
			return err
		})
		line := func(tag string, i int) string { return fmt.Sprintf("team|team/app|%s|%s|%d|alice", tag, d[i], 1011+i) }
		same := func(want ...string) {
			t.Helper()
			if got := list(); got != strings.Join(want, "\n") {
				t.Fatalf("images are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
		}
		same(line("v1", 0), line("-", 1))
		change(func(tx *metadb.Tx) error { _, err := tx.PutTag(repoID, "v2", d[0], metadb.Origin{}); return err })
		same(line("v1", 0), line("v2", 0), line("-", 1))
		change(func(tx *metadb.Tx) error { _, err := tx.PutTag(repoID, "v2", d[1], metadb.Origin{}); return err })
		same(line("v1", 0), line("v2", 1))
		id, err := db.ImageID(ctx, repoID, d[1])
		if err != nil || id != value[int64](t, sql, `SELECT id FROM images WHERE repository = $1 AND tag = $2`, "team/app", "v2") {
			t.Fatalf("the number of the image: %d, %v", id, err)
		}
		change(func(tx *metadb.Tx) error { _, _, err := tx.DeleteTag(repoID, "v2", metadb.Origin{}); return err })
		same(line("v1", 0), line("-", 1))
	})
}

// TestImageIndexes: the indexes that people look for are there by their names, and serve the questions that they are for.
func TestImageIndexes(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		if err := open(t, o).Close(); err != nil {
			t.Fatal(err)
		}
		db := raw(t, o)
		db.SetMaxOpenConns(1)
		for query, want := range map[string][2]string{ // on SQLite, on PostgreSQL
			`SELECT digest FROM images WHERE repository = 'team/app' AND tag = 'v1'`: {
				"SEARCH t USING PRIMARY KEY (repo_id=? AND name=?)", ""}, // of PostgreSQL see TestPostgresScale: it wants to know the tables
			`SELECT critical FROM security_scans WHERE image_id = 1 ORDER BY scan_time DESC LIMIT 1`: {
				"SEARCH security_scans USING INDEX idx_scan_time (image_id=?)", "Index Scan using idx_scan_time on security_scans"},
			`SELECT s.scan_time, s.critical FROM images i JOIN security_scans s ON s.image_id = i.id WHERE i.repository = 'team/app' AND i.tag = 'v1'`: {
				"SEARCH s USING INDEX idx_scan_time (image_id=?)", "using idx_scan_time on security_scans s"},
		} {
			var plan string
			if o.URL == "" {
				plan = explain(t, db, "EXPLAIN QUERY PLAN "+query, 4)
			} else {
				// Empty tables are read as a whole by right; the question is what the index can do.
				exec(t, db, `SET enable_seqscan = off`)
				exec(t, db, `SET enable_bitmapscan = off`)
				plan = explain(t, db, "EXPLAIN "+query, 1)
			}
			i := 0
			if o.URL != "" {
				i = 1
			}
			if !strings.Contains(plan, want[i]) || strings.Contains(plan, "Sort") || strings.Contains(plan, "ORDER BY") || strings.Contains(plan, "SCAN") {
				t.Errorf("%s\nis run as\n%s\nwant %s, no sort and no scan of a table", query, plan, want[i])
			}
		}
		if o.URL != "" {
			if got := value[string](t, db, `SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_scan_time'`); !strings.HasSuffix(got, "(image_id, scan_time DESC)") {
				t.Errorf("idx_scan_time is %s", got)
			}
			if got := value[string](t, db, `SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_repo_tag'`); !strings.HasSuffix(got, "ON public.tag USING btree (repo_id, name)") {
				t.Errorf("idx_repo_tag is %s", got)
			}
		}
	})
}
