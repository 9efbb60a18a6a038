package metadb

import (
	"context"
	"database/sql"
	"time"
)

// Queue says how long the queue of collection is.
type Queue struct {
	Waiting int64     // blobs that will be looked at, due or not
	Due     int64     // of them, those that are due
	Claimed int64     // that are being deleted, or were when their worker died
	Oldest  time.Time // when the first of them was due; zero for none
}

// CollectionQueue counts the queue at a time. It reads the part of the index that is the queue.
func (r *Reads) CollectionQueue(ctx context.Context, at time.Time) (Queue, error) {
	return one(ctx, r.s, func(rows *sql.Rows, q *Queue) error {
		return rows.Scan(&q.Waiting, &q.Due, &q.Claimed, micros{&q.Oldest})
	},
		`SELECT COUNT(*), COALESCE(SUM(CASE WHEN lease_until <= $1 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN state = 1 THEN 1 ELSE 0 END), 0),
			COALESCE(MIN(CASE WHEN lease_until <= $1 THEN lease_until END), 0) FROM blob WHERE lease_until > 0`, toMicros(at))
}

// GarbageCount is what can be counted before it is deleted.
type GarbageCount struct {
	Blobs, Bytes int64 // that a run at that time deletes
	Later        int64 // that nothing needs either, while their leases are not over
	LaterBytes   int64
	Examined     int64 // of the queue
}

// CountGarbage counts what a run deletes that looks at leases which are over at due, when nothing else happens before. It is
// written as joins and not as one condition with OR, of which PostgreSQL would ask each part for each blob by itself.
func (r *Reads) CountGarbage(ctx context.Context, due time.Time) (GarbageCount, error) {
	return one(ctx, r.s, func(rows *sql.Rows, g *GarbageCount) error {
		return rows.Scan(&g.Blobs, &g.Bytes, &g.Later, &g.LaterBytes, &g.Examined)
	}, `SELECT COALESCE(SUM(CASE WHEN due THEN 1 ELSE 0 END), 0), CAST(COALESCE(SUM(CASE WHEN due THEN size ELSE 0 END), 0) AS BIGINT),
			COALESCE(SUM(CASE WHEN due THEN 0 ELSE 1 END), 0), CAST(COALESCE(SUM(CASE WHEN due THEN 0 ELSE size END), 0) AS BIGINT),
			(SELECT COUNT(*) FROM blob WHERE lease_until > 0)
		FROM (SELECT v.size, v.lease_until <= $1 AS due FROM blob v WHERE v.lease_until > 0 AND v.state <> 1 AND `+freeBy+`
			UNION ALL SELECT v.size, v.lease_until <= $1 FROM blob v WHERE v.lease_until > 0 AND v.state = 1) q`, toMicros(due))
}

// CapLeases ends what a clock that was ahead has written: leases beyond most become leases until then, and claims end.
// It returns how many there were, up to limit.
func (tx *Tx) CapLeases(most, then time.Time, limit int) (int64, error) {
	return tx.exec(`UPDATE blob SET lease_until = CASE WHEN state = 1 THEN CAST($3 AS BIGINT) ELSE CAST($2 AS BIGINT) END
		WHERE digest IN (SELECT digest FROM blob WHERE lease_until > 0 AND lease_until > $1 ORDER BY lease_until DESC, digest LIMIT $4`+tx.d.skipLocked+`)`,
		toMicros(most), toMicros(then), toMicros(tx.clock().Add(time.Minute)), limit)
}

// Garbage is up to limit blobs that a run deletes which looks at leases that are over at due, behind a place in the queue.
// next is the place of the last one that was looked at, zero at the end.
func (r *Reads) Garbage(ctx context.Context, due time.Time, after DueCursor, limit int) (garbage []Garbage, next DueCursor, err error) {
	type row struct {
		Garbage
		at   int64
		free bool
	}
	rows, err := many(ctx, r.s, func(rows *sql.Rows, g *row) error {
		return rows.Scan(digest{&g.Digest}, &g.Size, &g.Place, &g.at, &g.free)
	}, `SELECT v.digest, v.size, v.place, v.lease_until, v.state = 1 OR NOT (`+neededBy+`) FROM blob v
		WHERE v.lease_until > 0 AND v.lease_until <= $1 AND (v.lease_until, v.digest) > ($2, $3) ORDER BY v.lease_until, v.digest LIMIT $4`,
		toMicros(due), after.At, after.Digest, limit)
	for _, g := range rows {
		if g.free {
			garbage = append(garbage, g.Garbage)
		}
	}
	if len(rows) == limit {
		last := rows[len(rows)-1]
		next = DueCursor{last.at, last.Digest.String()}
	}
	return garbage, next, err
}
