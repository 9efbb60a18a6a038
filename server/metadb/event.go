package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/server/event"
)

func scanEvent(rows *sql.Rows, e *event.Event) error {
	return rows.Scan(&e.Cursor.Epoch, &e.Cursor.ID, micros{&e.At}, &e.Kind, &e.Repository, digest{&e.Digest}, &e.Tag, &e.Principal, &e.Payload)
}

// Events are up to limit events behind after, in their order. Whoever continues from the last one's Cursor misses
// none. On PostgreSQL an event appears when no older transaction of the server is running.
func (r *Reads) Events(ctx context.Context, after event.Cursor, limit int) ([]event.Event, error) {
	const columns = `SELECT epoch, id, at, kind, repository, digest, tag, principal, payload FROM event `
	if r.d.settled == "" {
		return many(ctx, r.s, scanEvent, columns+`WHERE id > $1 ORDER BY id LIMIT $2`, after.ID, limit)
	}
	return many(ctx, r.s, scanEvent, columns+`WHERE (epoch, id) > ($1, $2)`+r.d.settled+` ORDER BY epoch, id LIMIT $3`, after.Epoch, after.ID, limit)
}

// Emit writes an event. Without a time it happened now.
func (tx *Tx) Emit(e event.Event) error {
	if e.At.IsZero() {
		e.At = tx.now
	}
	_, err := tx.exec(`INSERT INTO event (at, kind, repository, digest, tag, principal, payload) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		toMicros(e.At), e.Kind, e.Repository, e.Digest.String(), e.Tag, e.Principal, e.Payload)
	return err
}

// TrimEvents removes events from before the time among the limit oldest, and returns how many: call it again while
// that is limit.
func (tx *Tx) TrimEvents(before time.Time, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM event WHERE id IN (SELECT id FROM (SELECT id, at FROM event ORDER BY id LIMIT $2) oldest WHERE at < $1)`,
		toMicros(before), limit)
	return int(n), err
}
