package metadbtest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

func testUploads(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	u := metadb.Upload{ID: "u1", Repository: "x/a", Principal: "alice", Algorithm: oci.SHA512}
	update(t, db, func(tx *metadb.Tx) error { return tx.CreateUpload(u) })
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.CreateUpload(u) }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("one id for two uploads: %v", err)
	}
	got := get[metadb.Upload](t)(db.Upload(ctx, "u1"))
	if got.StartedAt.IsZero() || !got.StartedAt.Equal(got.UpdatedAt) || got.Algorithm != oci.SHA512 || got.Principal != "alice" || !got.Committing.IsZero() {
		t.Fatalf("upload: %+v", got)
	}
	must(t, db.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.UpdateUpload("u1", 0, 7, []byte{0, 1, 255}, []byte("parts")) }))
	got = get[metadb.Upload](t)(db.Upload(ctx, "u1"))
	if got.Received != 7 || string(got.HashState) != "\x00\x01\xff" || string(got.DriverState) != "parts" {
		t.Fatalf("upload: %+v", got)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.SetCommitting("u1", digestOf("x")) })
	equal(t, "committing", get[metadb.Upload](t)(db.Upload(ctx, "u1")).Committing, digestOf("x"))
	for what, f := range map[string]func(tx *metadb.Tx) error{
		"progress":   func(tx *metadb.Tx) error { return tx.UpdateUpload("u2", 0, 1, nil, nil) },
		"committing": func(tx *metadb.Tx) error { return tx.SetCommitting("u2", digestOf("x")) },
	} {
		wantErr(t, what+" of no upload", db.Update(ctx, f), metadb.ErrNotFound)
	}
	wantErr(t, "progress from where another process has moved it", db.Update(ctx, func(tx *metadb.Tx) error {
		return tx.UpdateUpload("u1", 0, 9, nil, nil)
	}), metadb.ErrNotFound)
	later := time.Now().Add(time.Hour)
	equal(t, "not expired", len(get[[]metadb.Upload](t)(db.ExpiredUploads(ctx, got.StartedAt, metadb.Upload{}, 10))), 0)
	expired := get[[]metadb.Upload](t)(db.ExpiredUploads(ctx, later, metadb.Upload{}, 10))
	equal(t, "expired", len(expired), 1)
	equal(t, "behind the last", len(get[[]metadb.Upload](t)(db.ExpiredUploads(ctx, later, expired[0], 10))), 0)
	update(t, db, func(tx *metadb.Tx) error {
		if ended, err := tx.EndUpload(got); err != nil || ended { // got is from before the announcement
			t.Errorf("an upload that went on was ended: %v, %v", ended, err)
		}
		return nil
	})
	update(t, db, func(tx *metadb.Tx) error {
		for i, want := range []bool{true, false} {
			if existed, err := tx.DeleteUpload("u1"); err != nil || existed != want {
				t.Errorf("delete %d: existed=%v, %v", i, existed, err)
			}
		}
		return nil
	})
	_, err := db.Upload(ctx, "u1")
	wantErr(t, "deleted upload", err, metadb.ErrNotFound)
	update(t, db, func(tx *metadb.Tx) error { return tx.CreateUpload(metadb.Upload{ID: "u3", Algorithm: oci.SHA256}) })
	same := get[metadb.Upload](t)(db.Upload(ctx, "u3"))
	update(t, db, func(tx *metadb.Tx) error {
		if ended, err := tx.EndUpload(same); err != nil || !ended {
			t.Errorf("an upload that nobody touched was not ended: %v, %v", ended, err)
		}
		return nil
	})
}

// committing makes an upload that has announced the digest.
func committing(t testing.TB, db *metadb.DB, id string, d oci.Digest) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.CreateUpload(metadb.Upload{ID: id, Algorithm: oci.SHA256}); err != nil {
			return err
		}
		return tx.SetCommitting(id, d)
	})
}

func claim(t testing.TB, db *metadb.DB, d oci.Digest, id string, hold time.Duration) (claimed bool, err error) {
	t.Helper()
	err = db.Update(t.Context(), func(tx *metadb.Tx) error { claimed, err = tx.ClaimOrphan(d, id, hold); return err })
	return claimed, err
}

func testSweep(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "x/a")
	const soon = time.Minute
	d := digestOf("orphan")
	committing(t, db, "u1", d)
	committing(t, db, "u2", d)
	if claimed, err := claim(t, db, d, "u1", soon); claimed || err != nil {
		t.Fatalf("claimed under another upload's feet: %v, %v", claimed, err)
	}
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.DeleteUpload("u2"); return err })
	if claimed, err := claim(t, db, d, "u1", soon); !claimed || err != nil {
		t.Fatalf("an orphan is not claimed: %v, %v", claimed, err)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.CreateUpload(metadb.Upload{ID: "u3", Algorithm: oci.SHA256}) })
	for what, f := range map[string]func(tx *metadb.Tx) error{
		"put":        func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: 6}, nil) },
		"put inline": func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: 6}, []byte("orphan")) },
		"link":       func(tx *metadb.Tx) error { _, err := tx.LinkBlob(r.ID, d); return err },
		"announce":   func(tx *metadb.Tx) error { return tx.SetCommitting("u3", d) },
		"claim":      func(tx *metadb.Tx) error { _, err := tx.ClaimOrphan(d, "u1", soon); return err },
	} {
		wantErr(t, what+" of a claimed blob", db.Update(ctx, f), metadb.ErrClaimed)
	}
	update(t, db, func(tx *metadb.Tx) error {
		if _, err := tx.DeleteUpload("u1"); err != nil {
			return err
		}
		return tx.DeleteClaimed(d)
	})
	update(t, db, func(tx *metadb.Tx) error { return tx.PutBlob(metadb.Blob{Digest: d, Size: 6}, nil) })
	committing(t, db, "u4", d)
	if claimed, err := claim(t, db, d, "u4", soon); claimed || err != nil {
		t.Fatalf("a live blob was claimed: %v, %v", claimed, err)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.DeleteClaimed(d) })
	get[metadb.Blob](t)(db.BlobAnywhere(ctx, d)) // it was not claimed
}

func testSweepTakeover(t *testing.T, db *metadb.DB) {
	d := digestOf("orphan")
	committing(t, db, "u1", d)
	if claimed, err := claim(t, db, d, "u1", -time.Second); !claimed || err != nil {
		t.Fatalf("not claimed: %v, %v", claimed, err)
	}
	if claimed, err := claim(t, db, d, "u1", time.Hour); !claimed || err != nil {
		t.Fatalf("the claim of a dead sweep was not taken over: %v, %v", claimed, err)
	}
	_, err := claim(t, db, d, "u1", time.Hour)
	wantErr(t, "claim of a living sweep", err, metadb.ErrClaimed)
}

// testSweepAgainstPush runs sweeps and pushes of the same digests against each other. The store is a set with a lock; at no
// time may there be a live row without bytes.
func testSweepAgainstPush(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	var store sync.Map
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 30 {
				d, id := digestOf("contended %d", i/3), fmt.Sprintf("u%d-%d", n, i)
				sweepOrPush(t, db, &store, d, id, (n+i)%2 == 0)
				b, err := db.BlobAnywhere(ctx, d)
				if _, there := store.Load(d); err == nil && b.State == metadb.Live && !there {
					t.Errorf("live row without bytes after %s", id)
				}
			}
		})
	}
	all.Wait()
}

// sweepOrPush does what an engine does with an upload: finish it, or find it dead.
func sweepOrPush(t testing.TB, db *metadb.DB, store *sync.Map, d oci.Digest, id string, dies bool) {
	ctx := background()
	err := db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.CreateUpload(metadb.Upload{ID: id, Algorithm: oci.SHA256}); err != nil {
			return err
		}
		return tx.SetCommitting(id, d)
	})
	if err == metadb.ErrClaimed {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	store.Store(d, true)
	if !dies {
		err := db.Update(ctx, func(tx *metadb.Tx) error {
			if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1}, nil); err != nil {
				return err
			}
			_, err := tx.DeleteUpload(id)
			return err
		})
		if err != nil && err != metadb.ErrClaimed {
			t.Error(err)
		}
		return
	}
	var claimed bool
	err = db.Update(ctx, func(tx *metadb.Tx) (err error) {
		if claimed, err = tx.ClaimOrphan(d, id, time.Minute); err == nil && !claimed {
			_, err = tx.DeleteUpload(id)
		}
		return err
	})
	if err != nil && err != metadb.ErrClaimed {
		t.Error(err)
	}
	if err != nil || !claimed {
		return
	}
	store.Delete(d)
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		if _, err := tx.DeleteUpload(id); err != nil {
			return err
		}
		return tx.DeleteClaimed(d)
	}); err != nil {
		t.Error(err)
	}
}

func testAccounts(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	_, err := db.Account(ctx, "alice")
	wantErr(t, "no account", err, metadb.ErrNotFound)
	var first, second metadb.Account
	update(t, db, func(tx *metadb.Tx) (err error) {
		first, err = tx.PutAccount(metadb.Account{Name: "alice", PasswordHash: "h1", Admin: true})
		return err
	})
	update(t, db, func(tx *metadb.Tx) (err error) {
		second, err = tx.PutAccount(metadb.Account{Name: "alice", PasswordHash: "h2", Disabled: true})
		return err
	})
	if first.ID == 0 || second.ID != first.ID || second.Generation <= first.Generation || second.PasswordHash != "h2" || second.Admin || !second.Disabled ||
		!second.CreatedAt.Equal(first.CreatedAt) || second.UpdatedAt.Before(first.UpdatedAt) {
		t.Fatalf("account: first %+v, then %+v", first, second)
	}
	equal(t, "account", get[metadb.Account](t)(db.Account(ctx, "alice")), second)
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "Bob"}); return err })
	equal(t, "count", get[int64](t)(db.CountAccounts(ctx)), int64(2))
	page := get[[]metadb.Account](t)(db.Accounts(ctx, "Bob", 10))
	equal(t, "page", len(page), 1)
	equal(t, "page", page[0].Name, "alice")
	update(t, db, func(tx *metadb.Tx) error {
		existed, err := tx.DeleteAccount("alice")
		equal(t, "existed", existed, true)
		return err
	})
	_, err = db.Account(ctx, "alice")
	wantErr(t, "deleted account", err, metadb.ErrNotFound)
}

func testSettings(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	_, err := db.Setting(ctx, "a")
	wantErr(t, "no setting", err, metadb.ErrNotFound)
	update(t, db, func(tx *metadb.Tx) error {
		equal(t, "ensured", get[string](t)(tx.EnsureSetting("a", "1")), "1")
		equal(t, "ensured again", get[string](t)(tx.EnsureSetting("a", "2")), "1")
		return tx.PutSetting("a", "3")
	})
	equal(t, "setting", get[string](t)(db.Setting(ctx, "a")), "3")

	for _, id := range []string{"k1", "k2"} {
		update(t, db, func(tx *metadb.Tx) error {
			return tx.AddSigningKey(metadb.SigningKey{ID: id, Algorithm: "ed25519", Private: []byte{0, 255}})
		})
	}
	keys := get[[]metadb.SigningKey](t)(db.SigningKeys(ctx))
	if len(keys) != 2 || keys[0].ID != "k2" || string(keys[0].Private) != "\x00\xff" || !keys[0].RetiredAt.IsZero() || keys[0].CreatedAt.IsZero() {
		t.Fatalf("keys: %+v", keys)
	}
	update(t, db, func(tx *metadb.Tx) error {
		must(t, tx.RetireSigningKey("k1"))
		return tx.DeleteSigningKey("k2")
	})
	keys = get[[]metadb.SigningKey](t)(db.SigningKeys(ctx))
	if len(keys) != 1 || keys[0].ID != "k1" || keys[0].RetiredAt.IsZero() {
		t.Fatalf("keys: %+v", keys)
	}
	if err := db.Update(ctx, func(tx *metadb.Tx) error { return tx.AddSigningKey(metadb.SigningKey{ID: "k1", Private: []byte{1}}) }); !fault.Is(err, fault.Conflict) {
		t.Fatalf("one id for two keys: %v", err)
	}
}

func testEvents(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	for i := range 5 {
		update(t, db, func(tx *metadb.Tx) error {
			return tx.Emit(event.Event{Kind: fmt.Sprint("k", i), Repository: "x/a", Digest: digestOf("d"), Tag: "v1", Principal: "alice", Payload: "{}",
				At: time.UnixMicro(int64(1000 + i))})
		})
	}
	var all []event.Event
	for cursor := (event.Cursor{}); ; cursor = all[len(all)-1].Cursor {
		page := get[[]event.Event](t)(db.Events(ctx, cursor, 2))
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	equal(t, "events", len(all), 5)
	for i, e := range all {
		e.Cursor = event.Cursor{}
		equal(t, "event", e, event.Event{Kind: fmt.Sprint("k", i), Repository: "x/a", Digest: digestOf("d"), Tag: "v1", Principal: "alice", Payload: "{}",
			At: time.UnixMicro(int64(1000 + i)).UTC()})
	}
	equal(t, "nothing is removed", get[event.Cursor](t)(db.EventsTrimmed(ctx)), event.Cursor{})
	update(t, db, func(tx *metadb.Tx) error {
		n, err := tx.TrimEvents(time.UnixMicro(1003), metadb.OutboxEnd(), 2)
		equal(t, "trimmed", n, 2)
		must(t, err)
		n, err = tx.TrimEvents(time.UnixMicro(1003), metadb.OutboxEnd(), 2)
		equal(t, "trimmed then", n, 1)
		return err
	})
	equal(t, "left", len(get[[]event.Event](t)(db.Events(ctx, event.Cursor{}, 10))), 2)
	equal(t, "the last that was removed", get[event.Cursor](t)(db.EventsTrimmed(ctx)), all[2].Cursor)
	last := all[4].Cursor
	update(t, db, func(tx *metadb.Tx) error { _, err := tx.TrimEvents(time.Now(), metadb.OutboxEnd(), 10); return err })
	equal(t, "then", get[event.Cursor](t)(db.EventsTrimmed(ctx)), last)
	end := get[event.Cursor](t)(db.EventsEnd(ctx))
	if end.Before(last) {
		t.Errorf("the end of an empty outbox is %+v, before %+v", end, last)
	}
	update(t, db, func(tx *metadb.Tx) error {
		_, err := tx.TrimEvents(time.Now(), metadb.OutboxEnd(), 10) // nothing is there
		return err
	})
	equal(t, "it stays", get[event.Cursor](t)(db.EventsTrimmed(ctx)), last)
	update(t, db, func(tx *metadb.Tx) error { return tx.Emit(event.Event{Kind: "after"}) })
	equal(t, "behind the end", len(get[[]event.Event](t)(db.Events(ctx, end, 10))), 1)
	equal(t, "behind the old cursor", len(get[[]event.Event](t)(db.Events(ctx, last, 10))), 1)
}

// testEventsConcurrent: a reader that follows by cursor while transactions of very different length commit sees every
// event once.
func testEventsConcurrent(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	const writers, each = 8, 25
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				err := db.Update(ctx, func(tx *metadb.Tx) error {
					if err := tx.Emit(event.Event{Kind: fmt.Sprintf("%d/%d", w, i)}); err != nil {
						return err
					}
					time.Sleep(time.Duration((w*i)%3) * time.Millisecond)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	defer all.Wait()
	seen := map[string]bool{}
	var cursor event.Cursor
	var giveUp <-chan time.Time // runs once the writers have ended
	for len(seen) < writers*each {
		page := get[[]event.Event](t)(db.Events(ctx, cursor, 10))
		for _, e := range page {
			if seen[e.Kind] {
				t.Fatalf("event %s twice", e.Kind)
			}
			seen[e.Kind], cursor = true, e.Cursor
		}
		if len(page) > 0 {
			continue
		}
		select {
		case <-ended:
			ended, giveUp = nil, time.After(10*time.Second)
		case <-giveUp:
			t.Fatalf("%d of %d events were seen", len(seen), writers*each)
		case <-time.After(time.Millisecond):
		}
	}
}

// testEndedUpload: a cancelled upload stays known as ended, nothing goes on with it, and it expires.
func testEndedUpload(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	for _, recorded := range []bool{true, false} {
		u := metadb.Upload{ID: fmt.Sprint("ended-", recorded), Repository: "x/a", Principal: "alice", Algorithm: oci.SHA256, HashState: []byte{}, DriverState: []byte{}}
		if recorded {
			update(t, db, func(tx *metadb.Tx) error { return tx.CreateUpload(u) })
		}
		update(t, db, func(tx *metadb.Tx) error { return tx.EndedUpload(u) })
		row := get[metadb.Upload](t)(db.Upload(ctx, u.ID))
		equal(t, "algorithm of an ended upload", row.Algorithm, oci.Algorithm(""))
		update(t, db, func(tx *metadb.Tx) error {
			wantErr(t, "progress", tx.UpdateUpload(u.ID, 0, 5, nil, nil), metadb.ErrNotFound)
			wantErr(t, "commit", tx.SetCommitting(u.ID, digestOf("x")), metadb.ErrNotFound)
			existed, err := tx.DeleteUpload(u.ID)
			equal(t, "ended by a commit", existed, false)
			return err
		})
		expired := get[[]metadb.Upload](t)(db.ExpiredUploads(ctx, row.UpdatedAt.Add(time.Second), metadb.Upload{}, 10))
		if len(expired) != 1 || expired[0].ID != u.ID {
			t.Fatalf("expired: %+v", expired)
		}
		update(t, db, func(tx *metadb.Tx) error {
			ended, err := tx.EndUpload(expired[0])
			equal(t, "swept", ended, true)
			return err
		})
	}
}
