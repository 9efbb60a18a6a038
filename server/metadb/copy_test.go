package metadb_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// kinds make a database that is empty or not there.
func kinds(t *testing.T) map[string]func() metadb.Options {
	return map[string]func() metadb.Options{
		"SQLite":     func() metadb.Options { return metadb.Options{Path: filepath.Join(t.TempDir(), "berth.db")} },
		"PostgreSQL": func() metadb.Options { return metadb.Options{URL: testkit.Postgres(t)} },
	}
}

// fill gives a database something of everything, and leaves it closed.
func fill(t *testing.T, o metadb.Options) {
	t.Helper()
	db := open(t, o)
	ctx := t.Context()
	change := func(fn func(tx *metadb.Tx) error) {
		t.Helper()
		if err := db.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		change(func(tx *metadb.Tx) error {
			if err := tx.PutSetting(fmt.Sprint("s", i), "väl\nue"); err != nil {
				return err
			}
			_, err := tx.PutAccount(metadb.Account{Name: fmt.Sprint("alice", i), PasswordHash: "h", Admin: i == 1})
			return err
		})
	}
	change(func(tx *metadb.Tx) error {
		if err := tx.AddSigningKey(metadb.SigningKey{ID: "k", Algorithm: "a", Private: []byte{0, 255, '\\'}}); err != nil {
			return err
		}
		if err := tx.CreateUpload(metadb.Upload{ID: "u1", Algorithm: oci.SHA512, HashState: []byte{}}); err != nil {
			return err
		}
		return tx.CreateUpload(metadb.Upload{ID: "u2", Algorithm: oci.SHA256, DriverState: []byte("parts")})
	})
	repoID, layers := repositoryWithLayers(t, db, "team/app")
	for n := range 60 {
		if err := pushManifest(db, repoID, layers, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := db.ImageID(ctx, repoID, oci.FromBytes(oci.SHA256, fmt.Appendf(nil, "%01200d", 7)))
	if err != nil {
		t.Fatal(err)
	}
	change(func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: oci.FromBytes(oci.SHA256, nil)}, []byte{}); err != nil {
			return err
		}
		_, err := tx.PutSecurityScan(metadb.SecurityScan{ImageID: id, Scanner: "berth", Critical: 3})
		return err
	})
	change(func(tx *metadb.Tx) error {
		if _, err := tx.EnsureDelivery("ci"); err != nil {
			return err
		}
		return tx.Park(metadb.Parked{Endpoint: "ci", EventID: "e", Repository: "team/app", Body: "{}"})
	})
	at := events(t, db, event.Cursor{})[50].Cursor
	sql := raw(t, o)
	exec(t, sql, `INSERT INTO delivery (endpoint, epoch, event) VALUES ('reader', $1, $2)`, at.Epoch, at.ID)
	_ = sql.Close() // a copy wants its source alone
	// The newest are gone: their numbers must not be given again.
	var last metadb.Account
	change(func(tx *metadb.Tx) (err error) { last, err = tx.PutAccount(metadb.Account{Name: "zed"}); return err })
	change(func(tx *metadb.Tx) error { _, err := tx.DeleteAccount(last.Name); return err })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if filled, err := metadb.FillEmpty(ctx, o); err != nil {
		t.Fatalf("a table of a new migration needs a row that this test cannot make up; make one in fill: %v", err)
	} else if len(filled) > 0 {
		t.Logf("made-up rows in %v", filled)
	}
}

func repositoryWithLayers(t *testing.T, db *metadb.DB, name string) (repoID int64, layers []oci.Digest) {
	t.Helper()
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		layers = nil
		p, _, err := tx.EnsureProject("team", true)
		if err != nil {
			return err
		}
		r, err := tx.EnsureRepository(p.ID, name)
		if err != nil {
			return err
		}
		repoID = r.ID
		for i := range 3 {
			d := oci.FromBytes(oci.SHA256, fmt.Append(nil, "layer", i))
			layers = append(layers, d)
			if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 7}, nil); err != nil {
				return err
			}
			if _, err := tx.LinkBlob(r.ID, d); err != nil {
				return err
			}
		}
		return tx.SetListed(r.ID, true)
	})
	if err != nil {
		t.Fatal(err)
	}
	return repoID, layers
}

func events(t *testing.T, db *metadb.DB, after event.Cursor) []event.Event {
	t.Helper()
	all, err := db.Events(t.Context(), after, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCopy: whatever is in one database is in the other afterwards, and work goes on there.
func TestCopy(t *testing.T) {
	for fromName, from := range kinds(t) {
		for toName, to := range kinds(t) {
			t.Run(fromName+"To"+toName, func(t *testing.T) {
				source, target := from(), to()
				fill(t, source)
				seen := map[string]int64{}
				tables, err := metadb.CopyByPages(t.Context(), metadb.CopyOptions{From: source, To: target, Progress: func(p metadb.CopyProgress) {
					if p.Rows > p.Total {
						t.Errorf("progress %+v", p)
					}
					seen[p.Table] = p.Rows
				}}, 17)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range tables {
					if c.Rows == 0 || seen[c.Name] != c.Rows || len(c.Sum) != 64 {
						t.Errorf("table %+v, told %d; a table without rows proves nothing: make some in fill", c, seen[c.Name])
					}
				}
				checkCopy(t, source, target)
			})
		}
	}
}

func checkCopy(t *testing.T, source, target metadb.Options) {
	ctx := t.Context()
	a, b := open(t, source), open(t, target)
	defer a.Close()
	defer b.Close()
	r1, err := a.Repository(ctx, "team/app")
	r2, err2 := b.Repository(ctx, "team/app")
	if err := errors.Join(err, err2); err != nil || r1 != r2 {
		t.Fatalf("%+v, %+v, %v", r1, r2, err)
	}
	m1, c1, err := a.ManifestByTag(ctx, r1.ID, "v7")
	m2, c2, err2 := b.ManifestByTag(ctx, r1.ID, "v7")
	if err := errors.Join(err, err2); err != nil || m1 != m2 || len(c1) != 1200 || string(c1) != string(c2) {
		t.Fatalf("%+v, %+v, %v", m1, m2, err)
	}
	for _, id := range []string{"u1", "u2"} {
		u1, err := a.Upload(ctx, id)
		u2, err2 := b.Upload(ctx, id)
		if err := errors.Join(err, err2); err != nil || fmt.Sprint(u1) != fmt.Sprint(u2) || (u1.DriverState == nil) != (u2.DriverState == nil) {
			t.Fatalf("%+v, %+v, %v", u1, u2, err)
		}
	}
	// Events: the same in the same order, and behind each what was behind it before, with what is new at the end.
	e1, e2 := events(t, a, event.Cursor{}), events(t, b, event.Cursor{})
	if len(e1) != len(e2) || len(e1) < 60 {
		t.Fatalf("%d events became %d", len(e1), len(e2))
	}
	var at event.Cursor
	if err := raw(t, target).QueryRowContext(ctx, `SELECT epoch, event FROM delivery WHERE endpoint = 'reader'`).Scan(&at.Epoch, &at.ID); err != nil || len(events(t, b, at)) != len(e1)-51 {
		t.Fatalf("a reader that had 51 of %d events has %d before it, %v", len(e1), len(events(t, b, at)), err)
	}
	if source.URL != "" && e2[0].Cursor.ID <= e1[len(e1)-1].Cursor.ID {
		t.Errorf("an event has the number %d, which another had", e2[0].Cursor.ID)
	}
	err = b.Update(ctx, func(tx *metadb.Tx) error {
		account, err := tx.PutAccount(metadb.Account{Name: "new"})
		if err == nil && account.ID <= 4 {
			t.Errorf("the number %d was given again", account.ID)
		}
		return errors.Join(err, tx.Emit(event.Event{Kind: "new"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range e1 {
		cursor := e2[i].Cursor
		e1[i].Cursor, e2[i].Cursor = event.Cursor{}, event.Cursor{}
		if !reflect.DeepEqual(e1[i], e2[i]) {
			t.Fatalf("event %d: %+v became %+v", i, e1[i], e2[i])
		}
		behind := events(t, b, cursor)
		if len(behind) != len(e1)-i || behind[len(behind)-1].Kind != "new" {
			t.Fatalf("behind event %d there are %d", i, len(behind))
		}
	}
	if err := pushManifest(b, r2.ID, nil, 1000); err != nil {
		t.Fatal(err)
	}
}

// TestCopyInterrupted: half a copy is no database, and goes on where it ended.
func TestCopyInterrupted(t *testing.T) {
	for fromName, from := range kinds(t) {
		for toName, to := range kinds(t) {
			t.Run(fromName+"To"+toName, func(t *testing.T) {
				source, target := from(), to()
				fill(t, source)
				o := metadb.CopyOptions{From: source, To: target}
				for _, stop := range []metadb.CopyProgress{{Table: "manifest", Rows: 17}, {Table: "event", Rows: 34}, {Table: "tag", Rows: 51}, {Table: "tag", Verify: true, Rows: 17}} {
					ctx, cancel := context.WithCancel(t.Context())
					o.Progress = func(p metadb.CopyProgress) {
						if p.Table == stop.Table && p.Verify == stop.Verify && p.Rows >= stop.Rows {
							cancel()
						}
					}
					if _, err := metadb.CopyByPages(ctx, o, 17); !errors.Is(err, context.Canceled) {
						t.Fatalf("interrupted at %+v: %v", stop, err)
					}
					if _, err := metadb.Open(t.Context(), target); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "--resume") {
						t.Fatalf("half a copy was opened: %v", err)
					}
					if _, err := metadb.Copy(t.Context(), metadb.CopyOptions{From: source, To: target}); err == nil || !strings.Contains(err.Error(), "--resume") {
						t.Fatalf("copied over half a copy: %v", err)
					}
					o.Resume = true
				}
				o.Progress = nil
				if _, err := metadb.CopyByPages(t.Context(), o, 17); err != nil {
					t.Fatal(err)
				}
				checkCopy(t, source, target)
			})
		}
	}
}

// TestCopyRefused: what cannot be copied well is not begun.
func TestCopyRefused(t *testing.T) {
	for fromName, from := range kinds(t) {
		t.Run(fromName, func(t *testing.T) {
			ctx := t.Context()
			source := from()
			other := map[string]string{"SQLite": "PostgreSQL", "PostgreSQL": "SQLite"}[fromName]
			refused := func(word string, o metadb.CopyOptions) {
				t.Helper()
				if _, err := metadb.Copy(ctx, o); err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("want %q, got %v", word, err)
				}
			}
			if source.URL == "" {
				refused("is not there", metadb.CopyOptions{From: source, To: kinds(t)[other]()})
			} else {
				refused("berthd migrate up", metadb.CopyOptions{From: source, To: kinds(t)[other]()})
			}
			fill(t, source)
			used := kinds(t)[other]()
			fill(t, used)
			refused("is not empty", metadb.CopyOptions{From: source, To: used})

			// A source that changes while the copy is interrupted is found out.
			target := kinds(t)[other]()
			stopped, cancel := context.WithCancel(ctx)
			o := metadb.CopyOptions{From: source, To: target, Resume: true, Progress: func(p metadb.CopyProgress) {
				if p.Table == "tag" && p.Rows > 20 {
					cancel()
				}
			}}
			if _, err := metadb.CopyByPages(stopped, o, 17); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			change := raw(t, source)
			exec(t, change, `UPDATE tag SET updated_at = updated_at + 1 WHERE name = 'v0'`)
			if source.URL != "" {
				o.Progress = nil
				refused("--live", o)
			}
			_ = change.Close()
			o.Progress = nil
			refused("table tag differs", o)

			exec(t, raw(t, source), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
			refused("does not know", metadb.CopyOptions{From: source, To: kinds(t)[other](), Live: true})
		})
	}
}

// TestCopyKnowsCursors: a column that holds the epoch of an event's cursor is translated by Copy.
func TestCopyKnowsCursors(t *testing.T) {
	o := metadb.Options{URL: testkit.Postgres(t)}
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	tables, columns, cursors, err := metadb.TableColumns(t.Context(), o)
	if err != nil || len(tables) < 12 {
		t.Fatalf("%v, %v", tables, err)
	}
	for _, table := range tables {
		for _, c := range columns[table] {
			if strings.Contains(c, "epoch") && table != "event" && cursors[table][0] != c {
				t.Errorf("column %s of table %s: cursorColumns does not say what it is", c, table)
			}
		}
	}
}
