package metadb

import (
	"context"
	"time"
)

// HoldCollection keeps collection from deleting anything for so long from now, under a name of the caller's choice. Holding
// again extends it; a holder that dies is forgotten when the time is over.
func (tx *Tx) HoldCollection(name string, hold time.Duration) error {
	_, err := tx.exec(`INSERT INTO gc_hold (name, held_until) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET held_until = excluded.held_until`, name, toMicros(tx.clock().Add(hold)))
	return err
}

// ReleaseCollection ends a hold; one that is not there is no error.
func (tx *Tx) ReleaseCollection(name string) error {
	_, err := tx.exec(`DELETE FROM gc_hold WHERE name = $1`, name)
	return err
}

// CollectionHolds are the names of those who hold collection at that time, by the database's clock.
func (r *Reads) CollectionHolds(ctx context.Context, at time.Time) ([]string, error) {
	return many(ctx, r.s, column[string], `SELECT name FROM gc_hold WHERE held_until > $1 ORDER BY name`, toMicros(at))
}
