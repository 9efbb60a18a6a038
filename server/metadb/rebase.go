package metadb

import (
	"context"
	"database/sql"
	"fmt"
)

// A PostgreSQL server orders events by its own transaction numbers (see event.go). A database that was restored from a
// dump into another server brings numbers that this server has not reached: its events would not be settled, and new ones
// would lie before the cursors of those who follow, for years. A start finds that out and numbers the events anew, as Copy
// does.

// ahead asks whether an epoch is from another server: no transaction of this one can have had it.
const ahead = `SELECT EXISTS (SELECT 1 FROM (%s) e WHERE epoch >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint)`

// rebase gives the events, and the cursors that are stored, an epoch before all of this server's. The usual start asks a
// question of two indexes and does nothing.
func (m *migrator) rebase(ctx context.Context) error {
	epochs := `SELECT MAX(epoch) AS epoch FROM event`
	for table, columns := range cursorColumns() {
		epochs += fmt.Sprintf(` UNION ALL SELECT MAX(%s) FROM %s`, columns[0], table)
	}
	var foreign bool
	if err := m.db.QueryRowContext(ctx, fmt.Sprintf(ahead, epochs)).Scan(&foreign); err != nil || !foreign {
		return err
	}
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	// Two replicas may have seen it: the second finds nothing any more.
	if _, err := tx.ExecContext(ctx, `LOCK TABLE event IN ACCESS EXCLUSIVE MODE`); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, fmt.Sprintf(ahead, epochs)).Scan(&foreign); err != nil || !foreign {
		return err
	}
	if err := renumber(ctx, tx); err != nil {
		return err
	}
	m.o.Log.WarnContext(ctx, "metadata database was restored from another PostgreSQL server; its events were numbered anew")
	return tx.Commit()
}

// renumber puts every event behind all numbers that were given, in their order, and moves the cursors with them.
func renumber(ctx context.Context, tx *sql.Tx) error {
	var last int64
	if err := tx.QueryRowContext(ctx, `SELECT GREATEST(COALESCE(pg_sequence_last_value(pg_get_serial_sequence('event', 'id')::regclass), 0),
		COALESCE((SELECT MAX(id) FROM event), 0))`).Scan(&last); err != nil {
		return err
	}
	for table, c := range cursorColumns() {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE %[1]s c SET %[2]s = 0,
			%[3]s = $1 + (SELECT COUNT(*) FROM event e WHERE (e.epoch, e.id) <= (c.%[2]s, c.%[3]s))`, table, c[0], c[1]), last); err != nil {
			return err
		}
	}
	r, err := tx.ExecContext(ctx, `UPDATE event e SET epoch = 0, id = $1 + n.rank
		FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY epoch, id) AS rank FROM event) n WHERE n.id = e.id`, last)
	if err != nil {
		return err
	}
	count, err := r.RowsAffected()
	if err != nil || last+count == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('event', 'id')::regclass, $1)`, last+count)
	return err
}
