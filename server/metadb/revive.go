package metadb

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Revive makes the copy of a database that was taken at that time the beginning of a new life, in a store that has the
// bytes of its blobs under their digests and nothing else.
//
// What belonged to processes of the old life ends: uploads, whose bytes are not there, and claims for deletion, whose
// bytes are not there either; holds, leases, and who delivers to which endpoint; jobs that ran are queued again, and
// backups are not made a second time. What waits for a time waits on: the years in the backup do not count against
// promises and the trash.
func (tx *Tx) Revive(taken time.Time) error {
	rest := max(tx.clock().Sub(taken).Microseconds(), 0)
	for _, step := range []struct {
		text string
		args []any
	}{
		{text: `DELETE FROM upload`},
		{text: `DELETE FROM repo_blob WHERE digest IN (SELECT digest FROM blob WHERE state = 1)`},
		{text: `DELETE FROM blob_content WHERE digest IN (SELECT digest FROM blob WHERE state = 1)`},
		{text: `DELETE FROM blob WHERE state = 1`},
		{text: `UPDATE blob SET place = '' WHERE place <> ''`},
		{text: `UPDATE blob SET stored = FALSE WHERE inline AND stored`},
		{text: `UPDATE blob SET lease_until = lease_until + $1 WHERE lease_until > 0`, args: []any{rest}},
		{text: `UPDATE trash SET hold_until = hold_until + $1`, args: []any{rest}},
		{text: `DELETE FROM blob_moved`},
		{text: `DELETE FROM gc_hold`},
		{text: `UPDATE lease SET held_until = 0`},
		{text: `UPDATE delivery SET holder = '', lease_until = 0, fence = fence + 1`},
		{text: `DELETE FROM job WHERE kind = 'backup' AND state <= 2`},
		{text: `UPDATE job SET state = 1, worker = '', token = token + 1, lease_until = 0, cancel = FALSE WHERE state = 2`},
		{text: `DELETE FROM setting WHERE name IN ($1, $2, $3)`, args: []any{intakeSetting, JournalSetting, InstanceSetting}},
	} {
		if _, err := tx.exec(step.text, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// Settings that belong to one life of a database, and not to what is in it.
const (
	JournalSetting  = "journal"  // which journal in the store continues this database
	InstanceSetting = "instance" // which database this is, to who meets several
)

// Empty reports whether a database has nothing in it: no schema, or one without rows of a registry.
func Empty(ctx context.Context, o Options) (empty bool, err error) {
	o = o.withDefaults()
	steps, err := Migrations(ctx, o)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(steps, func(m Migration) bool { return !m.AppliedAt.IsZero() }) {
		return true, nil
	}
	o.copied = true // what an interrupted copy has left is no emptiness
	db, err := Open(ctx, o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Empty(ctx)
}

// Empty reports whether there are no rows of a registry.
func (r *Reads) Empty(ctx context.Context) (bool, error) {
	some, err := one(ctx, r.s, column[bool], `SELECT EXISTS (SELECT 1 FROM project) OR EXISTS (SELECT 1 FROM account) OR EXISTS (SELECT 1 FROM setting WHERE name <> $1)`, intakeSetting)
	return !some, err
}
