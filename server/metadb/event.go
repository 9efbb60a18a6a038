package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Event is a fact, written in the transaction that made it true and read afterwards by cursor.
type Event struct {
	Cursor     Cursor // where it stands; set by the database
	At         time.Time
	Kind       string
	Repository string
	Digest     oci.Digest
	Tag        string
	Principal  string
	Payload    string // JSON, or ""
}

// Cursor is a place in the sequence of events; the zero value is before the first. Keep it as it is: concurrent
// transactions of PostgreSQL take their ids in one order and commit in another, so an id alone could skip what commits
// late. Epoch is the transaction's number; a reader only sees epochs before which none is still running. On SQLite it
// is 0.
type Cursor struct {
	Epoch int64
	ID    int64
}

func scanEvent(rows *sql.Rows, e *Event) error {
	return rows.Scan(&e.Cursor.Epoch, &e.Cursor.ID, micros{&e.At}, &e.Kind, &e.Repository, digest{&e.Digest}, &e.Tag, &e.Principal, &e.Payload)
}

// Events are up to limit events behind after, in their order. Whoever continues from the last one's Cursor misses
// none. On PostgreSQL an event appears when no older transaction of the server is running.
func (r *Reads) Events(ctx context.Context, after Cursor, limit int) ([]Event, error) {
	const columns = `SELECT epoch, id, at, kind, repository, digest, tag, principal, payload FROM event `
	if r.d.settled == "" {
		return many(ctx, r.s, scanEvent, columns+`WHERE id > $1 ORDER BY id LIMIT $2`, after.ID, limit)
	}
	return many(ctx, r.s, scanEvent, columns+`WHERE (epoch, id) > ($1, $2)`+r.d.settled+` ORDER BY epoch, id LIMIT $3`, after.Epoch, after.ID, limit)
}

// Emit writes an event. Without a time it happened now.
func (tx *Tx) Emit(e Event) error {
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
