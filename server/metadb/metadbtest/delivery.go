package metadbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

func emit(t testing.TB, db *metadb.DB, n int) {
	t.Helper()
	for i := range n {
		update(t, db, func(tx *metadb.Tx) error {
			return tx.Emit(event.Event{Kind: fmt.Sprint("k", i), Repository: "x/a", At: time.UnixMicro(int64(1000 + i))})
		})
	}
}

func ensureDelivery(t testing.TB, db *metadb.DB, name string) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.EnsureDelivery(name); return err })
}

// testDelivery: an endpoint begins at the end of the outbox, and only its holder moves it.
func testDelivery(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	emit(t, db, 3)
	for i, want := range []bool{true, false} {
		update(t, db, func(tx *metadb.Tx) error {
			created, err := tx.EnsureDelivery("ci")
			equal(t, fmt.Sprint("created ", i), created, want)
			return err
		})
	}
	start := get[metadb.Delivery](t)(db.Delivery(ctx, "ci")).Cursor
	equal(t, "behind a new endpoint", len(get[[]event.Event](t)(db.Events(ctx, start, 10))), 0)
	emit(t, db, 2)
	page := get[[]event.Event](t)(db.Events(ctx, start, 10))
	equal(t, "behind it then", len(page), 2)
	n, oldest, err := db.Behind(ctx, start, 1)
	must(t, err)
	if n != 1 || !oldest.Equal(time.UnixMicro(1000)) {
		t.Fatalf("behind: %d, oldest %v", n, oldest)
	}

	lease := func(holder string, hold time.Duration) (d metadb.Delivery, held bool) {
		update(t, db, func(tx *metadb.Tx) (err error) { d, held, err = tx.LeaseDelivery("ci", holder, hold); return err })
		return d, held
	}
	a, held := lease("a", time.Hour)
	equal(t, "held", held, true)
	if _, held := lease("b", time.Hour); held {
		t.Fatal("two hold one endpoint")
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.SaveDelivery("ci", a.Fence, page[0].Cursor) })
	update(t, db, func(tx *metadb.Tx) error { return tx.RenewDelivery("ci", a.Fence, -time.Hour) })
	b, held := lease("b", time.Hour)
	if !held || b.Fence <= a.Fence || b.Cursor != page[0].Cursor {
		t.Fatalf("a lease that ran out is not taken over: %v %+v", held, b)
	}
	for what, f := range map[string]func(tx *metadb.Tx) error{
		"save":    func(tx *metadb.Tx) error { return tx.SaveDelivery("ci", a.Fence, page[1].Cursor) },
		"renew":   func(tx *metadb.Tx) error { return tx.RenewDelivery("ci", a.Fence, time.Hour) },
		"release": func(tx *metadb.Tx) error { return tx.ReleaseDelivery("ci", a.Fence) },
		"hold":    func(tx *metadb.Tx) error { return tx.HoldDelivery("ci", a.Fence) },
		"note":    func(tx *metadb.Tx) error { return tx.NoteDelivery("ci", a.Fence, time.Now(), time.Time{}, "") },
	} {
		wantErr(t, what+" by who has lost it", db.Update(ctx, f), metadb.ErrFenced)
	}
	now := time.UnixMicro(5_000_000_000_000_000).UTC() // more than 32 bits
	update(t, db, func(tx *metadb.Tx) error { return tx.NoteDelivery("ci", b.Fence, now, time.Time{}, "") })
	update(t, db, func(tx *metadb.Tx) error { return tx.NoteDelivery("ci", b.Fence, time.Time{}, now, "no") })
	update(t, db, func(tx *metadb.Tx) error { return tx.NoteDelivery("ci", b.Fence, time.Time{}, time.Time{}, "") })
	d := get[metadb.Delivery](t)(db.Delivery(ctx, "ci"))
	if !d.DeliveredAt.Equal(now) || !d.FailedAt.Equal(now) || d.Failure != "no" || d.Holder != "b" {
		t.Fatalf("noted: %+v", d)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.ReleaseDelivery("ci", b.Fence) })
	if _, held := lease("a", time.Hour); !held {
		t.Fatal("a lease that was given back is not free")
	}

	// Rewound to before an event, it is the next one.
	c := get[event.Cursor](t)(db.Before(ctx, time.Time{}, page[1].Cursor.ID))
	update(t, db, func(tx *metadb.Tx) error { return tx.RewindDelivery("ci", c) })
	next := get[[]event.Event](t)(db.Events(ctx, c, 10))
	if len(next) != 1 || next[0].Cursor != page[1].Cursor {
		t.Fatalf("behind the rewound cursor: %+v", next)
	}
	wantErr(t, "save after a rewind", db.Update(ctx, func(tx *metadb.Tx) error { return tx.SaveDelivery("ci", b.Fence, page[1].Cursor) }), metadb.ErrFenced)
	c = get[event.Cursor](t)(db.Before(ctx, time.UnixMicro(1001), 0))
	first := get[[]event.Event](t)(db.Events(ctx, c, 1))
	equal(t, "the first since", first[0].Kind, "k1")
	_, err = db.Before(ctx, time.Now(), 0)
	wantErr(t, "since now", err, metadb.ErrNotFound)
	wantErr(t, "rewind of nobody", db.Update(ctx, func(tx *metadb.Tx) error { return tx.RewindDelivery("nobody", c) }), metadb.ErrNotFound)
	equal(t, "deliveries", len(get[[]metadb.Delivery](t)(db.Deliveries(ctx))), 1)
}

// testParked: of each repository the first one that waits is tried, dead ones are out of the way, and nothing is parked twice.
func testParked(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	ensureDelivery(t, db, "ci")
	ensureDelivery(t, db, "other")
	at := time.UnixMicro(1000).UTC()
	park := func(endpoint, id, repo string) {
		update(t, db, func(tx *metadb.Tx) error {
			return tx.Park(metadb.Parked{Endpoint: endpoint, EventID: id, Repository: repo, Body: id, Since: at})
		})
	}
	for _, p := range [][3]string{{"ci", "1", "a"}, {"ci", "2", "a"}, {"ci", "3", "b"}, {"other", "1", "a"}, {"ci", "1", "a"}} {
		park(p[0], p[1], p[2])
	}
	heads := func() (ids []string) {
		for _, p := range get[[]metadb.Parked](t)(db.ParkedHeads(ctx, "ci", at, 10)) {
			ids = append(ids, p.EventID)
		}
		return ids
	}
	equal(t, "heads", heads(), []string{"1", "3"})
	counts := func(what string, waiting, dead int64) {
		t.Helper()
		w, d, err := db.CountParked(ctx, "ci")
		must(t, err)
		equal(t, what, []int64{w, d}, []int64{waiting, dead})
	}
	counts("parked", 3, 0)
	head := get[[]metadb.Parked](t)(db.ParkedHeads(ctx, "ci", at, 1))[0]
	head.Attempts, head.NextAt, head.Failure = 7, at.Add(time.Second), "no"
	update(t, db, func(tx *metadb.Tx) error { return tx.UpdateParked(head) })
	equal(t, "heads while the first waits", heads(), []string{"3"})
	update(t, db, func(tx *metadb.Tx) error { return tx.HurryParked("ci") })
	equal(t, "heads in a hurry", heads(), []string{"1", "3"})
	head.Dead = true
	update(t, db, func(tx *metadb.Tx) error { return tx.UpdateParked(head) })
	update(t, db, func(tx *metadb.Tx) error { return tx.HurryParked("ci") })
	if got := heads(); len(got) != 2 || got[0] != "2" && got[1] != "2" {
		t.Fatalf("behind a dead letter: %v", got)
	}
	counts("with a dead one", 2, 1)
	equal(t, "repositories", len(get[[]string](t)(db.ParkedRepositories(ctx, "ci"))), 2)
	letters := get[[]metadb.Parked](t)(db.DeadLetters(ctx, "ci", 0, 10))
	if len(letters) != 1 || letters[0].EventID != "1" || letters[0].Attempts != 7 || letters[0].Failure != "no" || letters[0].Body != "1" {
		t.Fatalf("dead letters: %+v", letters)
	}
	park("ci", "1", "a") // told again: it stays dead
	counts("parked again", 2, 1)
	update(t, db, func(tx *metadb.Tx) error {
		n, err := tx.ReviveDead("ci")
		equal(t, "revived", n, int64(1))
		return err
	})
	counts("revived", 3, 0)
	for _, p := range get[[]metadb.Parked](t)(db.ParkedHeads(ctx, "ci", time.Now(), 10)) {
		update(t, db, func(tx *metadb.Tx) error { return tx.Unpark(p.Seq) })
	}
	counts("unparked", 1, 0)
	for _, p := range get[[]metadb.Parked](t)(db.ParkedHeads(ctx, "ci", time.Now(), 10)) {
		p.Dead = true
		update(t, db, func(tx *metadb.Tx) error { return tx.UpdateParked(p) })
	}
	for i, want := range []int64{0, 1} {
		update(t, db, func(tx *metadb.Tx) error {
			n, err := tx.DropDead("ci", 1-i)
			equal(t, fmt.Sprint("dropped beyond ", 1-i), n, want)
			return err
		})
	}
}

// testOutboxLimits: events are trimmed only as far as the slowest endpoint, except beyond the cap, which says whom it hurts.
func testOutboxLimits(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	ensureDelivery(t, db, "ci")
	emit(t, db, 6)
	all := get[[]event.Event](t)(db.Events(ctx, event.Cursor{}, 10))
	update(t, db, func(tx *metadb.Tx) error {
		n, err := tx.TrimEvents(time.Now(), all[1].Cursor, 10)
		equal(t, "trimmed up to a cursor", n, 2)
		return err
	})
	oldest, newest, err := db.EventSpan(ctx)
	must(t, err)
	equal(t, "span", newest-oldest, int64(3))
	update(t, db, func(tx *metadb.Tx) error {
		d, held, err := tx.LeaseDelivery("ci", "a", time.Hour)
		equal(t, "held", held, true)
		must(t, err)
		return tx.SaveDelivery("ci", d.Fence, all[2].Cursor)
	})
	update(t, db, func(tx *metadb.Tx) error {
		dropped, lost, err := tx.DropEvents(newest, 2, []string{"ci"})
		equal(t, "dropped, lost", []int64{dropped, lost}, []int64{2, 1})
		equal(t, "the last that was dropped", get[event.Cursor](t)(tx.EventsTrimmed(t.Context())), all[3].Cursor)
		return err
	})
	equal(t, "lost", get[metadb.Delivery](t)(db.Delivery(ctx, "ci")).Lost, int64(1))
	update(t, db, func(tx *metadb.Tx) error {
		dropped, _, err := tx.DropEvents(newest, 2, nil)
		equal(t, "dropped then", dropped, int64(1))
		return err
	})
	equal(t, "left", len(get[[]event.Event](t)(db.Events(ctx, event.Cursor{}, 10))), 1)
}
