package metadb

import (
	"context"
	"database/sql"
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

// TrimEvents removes events from before the time and not behind upto among the limit oldest, and returns how many: call
// it again while that is limit.
func (tx *Tx) TrimEvents(before time.Time, upto event.Cursor, limit int) (int, error) {
	n, err := tx.exec(`DELETE FROM event WHERE id IN (SELECT id FROM (SELECT id, epoch, at FROM event ORDER BY id LIMIT $2) oldest
		WHERE at < $1 AND (epoch, id) <= ($3, $4))`, toMicros(before), limit, upto.Epoch, upto.ID)
	return int(n), err
}
