package metadbtest

import (
	"fmt"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// garbageManifest is of how many blobs of Garbage one manifest needs every second one.
const garbageManifest = 40

// Garbage puts n blobs into a repository behind the back of who has the database open: a PostgreSQL at dsn, or, when that is
// "", a SQLite file. Their leases were over at a time, and manifests need every second one. The others are in the store alone.
// It is for benchmarks: a million pushes would take an hour. A multiple of 40 is needed, and a database without manifests.
func Garbage(t testing.TB, dsn, file string, repoID int64, n int, over int64) {
	t.Helper()
	testkit.RequireDisk(t, t.TempDir(), int64(n)*3000)
	const part = 40_000
	for from := 0; from < n; from += part {
		to := min(from+part, n)
		// Digests fall anywhere, as those of content do; kind keeps layers and manifests apart.
		rows, digest := `(SELECT generate_series($1::bigint, $2::bigint - 1) AS i) n`, func(kind, i string) string {
			return `'sha256:' || lpad(to_hex(((` + i + `) * 2654435761) & 4294967295), 8, '0') || '` + kind + `' || lpad(to_hex(` + i + `), 55, '0')`
		}
		if dsn == "" {
			rows, digest = `(WITH RECURSIVE n(i) AS (SELECT CAST($1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2) SELECT i FROM n) n`, func(kind, i string) string {
				return `'sha256:' || printf('%08x` + kind + `%055x', ((` + i + `) * 2654435761) & 4294967295, ` + i + `)`
			}
		}
		layer, manifest := digest("a", "n.i"), digest("b", "n.i")
		id := fmt.Sprintf(`1000000 + n.i / %d`, garbageManifest)
		for _, s := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO blob (digest, size, inline, stored, created_at, lease_until) SELECT ` + layer + `, 1000, FALSE, TRUE, 1, $3 FROM ` + rows, []any{over}},
			{`INSERT INTO repo_blob (repo_id, digest, created_at) SELECT $3, ` + layer + `, 1 FROM ` + rows, []any{repoID}},
			{`INSERT INTO edge (manifest_id, child, kind, repo_id) SELECT ` + id + `, ` + layer + `, 2, $3 FROM ` + rows + ` WHERE n.i % 2 = 0`, []any{repoID}},
			{`INSERT INTO blob (digest, size, inline, stored, created_at, lease_until) SELECT ` + manifest + `, 3, TRUE, FALSE, 1, 0 FROM ` + rows + fmt.Sprintf(` WHERE n.i %% %d = 0`, garbageManifest), nil},
			{`INSERT INTO repo_blob (repo_id, digest, created_at) SELECT $3, ` + manifest + `, 1 FROM ` + rows + fmt.Sprintf(` WHERE n.i %% %d = 0`, garbageManifest), []any{repoID}},
			{`INSERT INTO manifest (id, repo_id, digest, media_type, size, pushed_at) SELECT ` + id + `, $3, ` + manifest + `, 'm', 3, 1 FROM ` + rows + fmt.Sprintf(` WHERE n.i %% %d = 0`, garbageManifest), []any{repoID}},
		} {
			testkit.Behind(t, dsn, file, s.text, append([]any{from, to}, s.args...)...)
		}
	}
	// As a server does by itself within a minute.
	if dsn != "" {
		testkit.Behind(t, dsn, "", `VACUUM ANALYZE`)
	} else {
		testkit.Behind(t, "", file, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
}
