package metadb_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

// fillJobs makes 100,000 jobs that have ended and 10,000 that wait, of two projects.
func fillJobs(t *testing.T, o metadb.Options) {
	t.Helper()
	db := raw(t, o)
	numbers := func(n int) string {
		return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", n)
	}
	exec(t, db, numbers(100_000)+`INSERT INTO job (kind, project, args, state, run_at, max_attempts, created_at, ended_at)
		SELECT 'k', 'p', '{}', 3 + i % 3, i, 1, i, i FROM n`)
	exec(t, db, numbers(10_000)+`INSERT INTO job (kind, project, args, state, turn, run_at, max_attempts, created_at)
		SELECT 'k', 'p', '{}', 1, i, i, 1, i FROM n`)
	if o.URL != "" {
		exec(t, db, `ANALYZE job`)
	}
}

// TestClaimPlan: to take a job costs the same whatever has been done and whatever waits.
func TestClaimPlan(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		db := open(t, o)
		defer db.Close()
		empty := claimTime(t, db, "empty")
		fillJobs(t, o)
		args := []any{"k", 1, "w", int64(1), int64(1)}
		statement := metadb.ClaimStatement(o.URL != "")
		var plan string
		if o.URL != "" {
			plan = explain(t, raw(t, o), "EXPLAIN (COSTS OFF) "+statement, 1, args...)
		} else {
			plan = explain(t, raw(t, o), "EXPLAIN QUERY PLAN "+statement, 4, args...)
		}
		if !strings.Contains(plan, "job_queued") || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "SCAN job") || strings.Contains(plan, "Sort") {
			t.Errorf("jobs are claimed by\n%s", plan)
		}
		// What is slow by nature is slow each time; a machine that is busy with something else is not.
		var full, looks time.Duration
		for range 5 {
			full = claimTime(t, db, "k")
			looks = timeOf(t, func() error {
				_, err := db.Outlook(context.Background(), []string{"k", "l", "m", "n"})
				return err
			})
			if full <= 10*empty+5*time.Millisecond && looks <= 10*time.Millisecond {
				break
			}
		}
		enqueues := timeOf(t, func() error {
			return db.UpdateSoft(context.Background(), func(tx *metadb.Tx) error {
				_, err := tx.EnqueueJob(metadb.NewJob{Kind: "k", Project: "p", Args: "{}"})
				return err
			})
		})
		t.Logf("medians: a claim %s in an empty table and %s beside 110,000 jobs; a look %s; an enqueue %s", empty, full, looks, enqueues)
		if full > 10*empty+5*time.Millisecond { // a scan of the table takes more than that
			t.Errorf("a claim takes %s in an empty table and %s beside 110,000 jobs", empty, full)
		}
		if looks > 10*time.Millisecond {
			t.Errorf("a look takes %s", looks)
		}
	})
}

// claimTime is what it costs to take one job of a kind.
func claimTime(t *testing.T, db *metadb.DB, kind string) time.Duration {
	t.Helper()
	return timeOf(t, func() error {
		return db.UpdateSoft(context.Background(), func(tx *metadb.Tx) error {
			if kind == "empty" {
				if _, err := tx.EnqueueJob(metadb.NewJob{Kind: kind, Args: "{}"}); err != nil {
					return err
				}
			}
			jobs, err := tx.ClaimJobs(metadb.Claim{Kind: kind, Worker: "w", Limit: 1, Hold: time.Hour})
			if err == nil && len(jobs) != 1 {
				err = fmt.Errorf("claimed %d jobs", len(jobs))
			}
			return err
		})
	})
}

// timeOf is the median of 51 runs.
func timeOf(t *testing.T, f func() error) time.Duration {
	t.Helper()
	times := make([]time.Duration, 51)
	for i := range times {
		start := time.Now()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2].Round(time.Microsecond)
}
