package metadbtest

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// Age makes everything in a PostgreSQL database older, as if that much time had passed: replicas go by the server's clock,
// which a test cannot move.
func Age(t testing.TB, dsn string, by time.Duration) {
	t.Helper()
	for _, text := range []string{
		`UPDATE blob SET lease_until = GREATEST(1, lease_until - $1) WHERE lease_until > 0`,
		`UPDATE trash SET hold_until = hold_until - $1, deleted_at = deleted_at - $1, pushed_at = pushed_at - $1`,
		`UPDATE manifest SET pushed_at = pushed_at - $1`,
		`UPDATE tag SET since = since - $1, updated_at = updated_at - $1`,
		`UPDATE tag_history SET since = since - $1`,
		`UPDATE gc_hold SET held_until = held_until - $1`,
	} {
		testkit.Behind(t, dsn, "", text, by.Microseconds())
	}
}
