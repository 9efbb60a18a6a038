package metadb_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// TestRestoredElsewhere: a database from a server that had counted much further is followed like any other, from
// whatever event a reader had come to.
func TestRestoredElsewhere(t *testing.T) {
	o := metadb.Options{URL: testkit.Postgres(t)}
	ctx := t.Context()
	emit := func(db *metadb.DB, kind string) {
		t.Helper()
		if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.Emit(event.Event{Kind: kind}) }); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, o)
	for i := range 10 {
		emit(db, fmt.Sprint(i))
	}
	before := events(t, db, event.Cursor{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sql := raw(t, o)
	_, _, cursors, err := metadb.TableColumns(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cursors["delivery"]; ok {
		exec(t, sql, `INSERT INTO delivery (endpoint, epoch, event) VALUES ('e', $1 + 1000000000000, $2)`, before[6].Cursor.Epoch, before[6].Cursor.ID)
	}
	// The other server ran some of them at the same time: their order is not that of their numbers.
	exec(t, sql, `UPDATE event SET epoch = epoch + 1000000000000`)
	exec(t, sql, `UPDATE event SET epoch = epoch + 100 WHERE kind = '2'`)

	dbs := make([]*metadb.DB, 3)
	errs := make([]error, len(dbs))
	var wg sync.WaitGroup
	for i := range dbs { // replicas start together
		wg.Go(func() { dbs[i], errs[i] = metadb.Open(ctx, o) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, d := range dbs[1:] {
		defer d.Close()
	}
	db = dbs[0]
	defer db.Close()
	emit(db, "new")
	kinds := func(after event.Cursor) (s string) {
		for _, e := range events(t, db, after) {
			s += e.Kind + " "
		}
		return s
	}
	if got := kinds(event.Cursor{}); got != "0 1 3 4 5 6 7 8 9 2 new " {
		t.Fatalf("events are %s", got)
	}
	if _, ok := cursors["delivery"]; ok {
		var c event.Cursor
		if err := sql.QueryRowContext(ctx, `SELECT epoch, event FROM delivery WHERE endpoint = 'e'`).Scan(&c.Epoch, &c.ID); err != nil {
			t.Fatal(err)
		}
		if got := kinds(c); got != "7 8 9 2 new " {
			t.Fatalf("behind the cursor are %s", got)
		}
	}
}
