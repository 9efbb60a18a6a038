package metadb

import (
	"context"
	"database/sql"
	"errors"
	"strings"
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

// Emit writes events, in their order. One without a time happened now.
func (tx *Tx) Emit(es ...event.Event) error {
	for rest := es; len(rest) > 0; {
		part := rest[:min(len(rest), maxEvents)]
		rest = rest[len(part):]
		var b strings.Builder
		b.WriteString(`INSERT INTO event (at, kind, repository, digest, tag, principal, payload) VALUES `)
		placeholders(&b, 0, len(part), 7, "")
		args := make([]any, 0, 7*len(part))
		for _, e := range part {
			if e.At.IsZero() {
				e.At = tx.now
			}
			args = append(args, toMicros(e.At), e.Kind, e.Repository, e.Digest.String(), e.Tag, e.Principal, e.Payload)
		}
		if _, err := tx.exec(b.String(), args...); err != nil {
			return err
		}
	}
	return nil
}

// maxEvents bounds the rows, and with them the number of texts, of a statement of Emit.
const maxEvents = 8

// trimmed is the row of delivery whose cursor is the last event that was removed. It is there as long as a cursor of an endpoint
// is, and moves with those when events are numbered anew.
const trimmed = ""

// EventsTrimmed is a cursor behind every event that was removed: whoever goes on at an earlier one may have missed some.
func (r *Reads) EventsTrimmed(ctx context.Context) (event.Cursor, error) {
	d, err := r.Delivery(ctx, trimmed)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return d.Cursor, err
}

// EventsEnd is a cursor behind which is what happens from now on.
func (r *Reads) EventsEnd(ctx context.Context) (event.Cursor, error) {
	end, err := one(ctx, r.s, scanCursor, `SELECT `+r.d.outboxEnd)
	if err != nil {
		return end, err
	}
	last, err := r.EventsTrimmed(ctx) // of an outbox that is empty by now
	if end.Before(last) {
		end = last
	}
	return end, err
}

func scanCursor(rows *sql.Rows, c *event.Cursor) error { return rows.Scan(&c.Epoch, &c.ID) }

// noteTrimmed says that events up to the cursor are removed.
func (tx *Tx) noteTrimmed(c event.Cursor) error {
	_, err := tx.exec(`INSERT INTO delivery (endpoint, epoch, event) VALUES ($1, $2, $3) ON CONFLICT (endpoint) DO UPDATE
		SET epoch = excluded.epoch, event = excluded.event WHERE (delivery.epoch, delivery.event) < (excluded.epoch, excluded.event)`, trimmed, c.Epoch, c.ID)
	return err
}

// TrimEvents removes events from before the time and not behind upto among the limit oldest, and returns how many: call
// it again while that is limit.
func (tx *Tx) TrimEvents(before time.Time, upto event.Cursor, limit int) (int, error) {
	gone, err := many(tx.ctx, tx.s, scanCursor, `DELETE FROM event WHERE id IN (SELECT id FROM (SELECT id, epoch, at FROM event ORDER BY id LIMIT $2) oldest
		WHERE at < $1 AND (epoch, id) <= ($3, $4)) RETURNING epoch, id`, toMicros(before), limit, upto.Epoch, upto.ID)
	if err != nil || len(gone) == 0 {
		return 0, err
	}
	last := gone[0]
	for _, c := range gone {
		if last.Before(c) {
			last = c
		}
	}
	return len(gone), tx.noteTrimmed(last)
}
