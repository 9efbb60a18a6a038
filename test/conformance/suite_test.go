package conformance_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// check is one test: what it shows, the rows of the table it proves, and how.
type check struct {
	name   string
	covers []string
	run    func(t *testing.T, r *registry)
}

// checks returns every check of the suite, in the order of the specification.
func checks() []check {
	return slices.Concat(
		pullManifestChecks(), pullBlobChecks(), nameChecks(),
		pushBlobChecks(), chunkChecks(), mountChecks(),
		pushManifestChecks(), tagParameterChecks(), sha512Checks(),
		tagListChecks(), referrerChecks(), deleteChecks(),
		errorChecks(), httpChecks(), signatureChecks(),
	)
}

// TestConformance runs every check on {files, S3} x {SQLite, PostgreSQL}, or against the registry that
// BERTH_CONFORMANCE_URL names. On S3 small blobs go to the bucket, too, and not to the database, so that the bucket sees all
// that the checks do. MinIO, which takes longest, is asked once; the driver's own tests ask it for more.
func TestConformance(t *testing.T) {
	if base := os.Getenv("BERTH_CONFORMANCE_URL"); base != "" {
		runSuite(t, foreign(base))
		return
	}
	sqlite := func(*testing.T) string { return "" }
	postgres := func(t *testing.T) string { return testkit.Postgres(t) }
	files := func(*testing.T) []string { return nil }
	for _, kind := range []struct {
		name     string
		database func(*testing.T) string
		storage  func(*testing.T) []string
	}{
		{"fs+sqlite", sqlite, files},
		{"fs+postgres", postgres, files},
		{"s3+sqlite", sqlite, bucket(testkit.VersityGW)},
		{"s3+postgres", postgres, bucket(testkit.VersityGW)},
		{"minio+sqlite", sqlite, bucket(testkit.MinIO)},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			runSuite(t, berthd(t, kind.database, kind.storage))
		})
	}
}

// bucket makes one for each registry, and says so in the registry's environment.
func bucket(kind testkit.S3Kind) func(*testing.T) []string {
	return func(t *testing.T) []string {
		server, name := testkit.S3Bucket(t, kind)
		return append(server.Env(name), "BERTH_LIMITS_INLINE_BYTES=0")
	}
}

func runSuite(t *testing.T, r *registry) {
	proved := &ledger{}
	t.Run("checks", func(t *testing.T) {
		for _, c := range checks() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				t.Cleanup(func() {
					switch {
					case t.Failed():
						t.Logf("this shows:\n%s", cite(c.covers))
					case !t.Skipped():
						proved.add(c.covers)
					}
				})
				c.run(t, r)
			})
		}
	})
	// With a filter, or after a failure, holes are no news. A foreign registry may leave optional parts out.
	if t.Failed() || !r.ours || strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	for _, q := range requirements() {
		if !proved.has(q.id) {
			t.Errorf("no check that ran proved %s (%s %s, %s): %s", q.id, q.version, q.level, q.section, q.text)
		}
	}
}

// ledger remembers which rows were proved in a run.
type ledger struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (l *ledger) add(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = map[string]bool{}
	}
	for _, id := range ids {
		l.ids[id] = true
	}
}

func (l *ledger) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

// TestTableIsComplete shows, without any server, that rows and checks fit: ids are unique, every row has a check and
// every check names rows that exist.
func TestTableIsComplete(t *testing.T) {
	rows := map[string]bool{}
	for _, q := range requirements() {
		if rows[q.id] {
			t.Errorf("row %s is there twice", q.id)
		}
		rows[q.id] = true
		if q.section == "" || q.text == "" || !slices.Contains([]string{both, onlyMain}, q.version) ||
			!slices.Contains([]string{must, mustNot, should, shouldNot, may}, q.level) {
			t.Errorf("row %s is not filled in: %+v", q.id, q)
		}
	}
	names, proved := map[string]bool{}, map[string]bool{}
	for _, c := range checks() {
		if names[c.name] {
			t.Errorf("check %q is there twice", c.name)
		}
		names[c.name] = true
		if len(c.covers) == 0 {
			t.Errorf("check %q proves nothing", c.name)
		}
		for _, id := range c.covers {
			if !rows[id] {
				t.Errorf("check %q names row %s, which does not exist", c.name, id)
			}
			proved[id] = true
		}
	}
	for id := range rows {
		if !proved[id] {
			t.Errorf("row %s has no check", id)
		}
	}
}

// cite renders rows for a reader of a failure: what the specification asks, where.
func cite(ids []string) string {
	var b strings.Builder
	for _, q := range requirements() {
		if slices.Contains(ids, q.id) {
			fmt.Fprintf(&b, "  %s: %s (%s) in %q: %s\n", q.id, q.level, q.version, q.section, q.text)
		}
	}
	return b.String()
}
