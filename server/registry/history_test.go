package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
)

// second is the error of a call of which a test wants nothing else.
func second[T any](_ T, err error) error { return err }

// A tag that is pushed between the look of a restore, or of a rollback of a tag that is gone, and its write stays where the push
// put it: whoever restores is told. On PostgreSQL the two meet at the tag's row, on SQLite one comes after the other.
func TestRestoreGivesWayToAPush(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		name := repo("team/app")
		for what, back := range map[string]func(tag string) error{
			"restore":  func(tag string) error { return second(h.RestoreTag(admin(), name, tag)) },
			"rollback": func(tag string) error { return second(h.RollbackTag(admin(), name, tag, registry.Rollback{})) },
		} {
			put := func(tag, note string) oci.Digest {
				t.Helper()
				m := index(tag, note)
				if _, err := h.PutManifest(admin(), name, m); err != nil {
					t.Fatal(err)
				}
				return oci.FromBytes(oci.SHA256, m.Body)
			}
			old, fresh := put(what, "old "+what), put("other-"+what, "fresh "+what)
			if _, err := h.DeleteManifest(admin(), name, tagged(what)); err != nil {
				t.Fatal(err)
			}
			r, err := h.db.Repository(t.Context(), "team/app")
			if err != nil {
				t.Fatal(err)
			}
			inside, done := make(chan struct{}, 2), make(chan error, 1)
			go func() { // the push, which takes its time
				done <- h.db.Update(t.Context(), func(tx *metadb.Tx) error {
					_, err := tx.PutTag(r.ID, what, fresh, metadb.Origin{})
					inside <- struct{}{}
					time.Sleep(time.Second)
					return err
				})
			}()
			<-inside
			err = back(what)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			now, terr := h.db.Tag(t.Context(), r.ID, what)
			if what == "rollback" && err == nil && terr == nil && now.Digest == old { // it looked after the push, and went back from there
				continue
			}
			if !fault.Is(err, fault.Conflict) || terr != nil || now.Digest != fresh {
				t.Errorf("%s: %v; the tag points at %s, %v, want %s", what, err, now.Digest, terr, fresh)
			}
		}
	})
}

// Who restores what is there already is told that, and not that it was purged.
func TestRestoreOfWhatIsThere(t *testing.T) {
	h := newHouse(t, func(o *options) { o.registry.TrashHold = time.Hour })
	name, m := repo("team/app"), index("v1", "x")
	d := oci.FromBytes(oci.SHA256, m.Body)
	if _, err := h.PutManifest(admin(), name, m); err != nil {
		t.Fatal(err)
	}
	restore := func() error { return second(h.RestoreManifest(admin(), name, registry.RestoreManifest{Digest: d})) }
	if _, err := h.DeleteManifest(admin(), name, byDigest(d)); err != nil {
		t.Fatal(err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if err := restore(); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "it is there, and can be pulled") {
		t.Errorf("restored twice: %v", err)
	}
	err := second(h.RestoreManifest(admin(), name, registry.RestoreManifest{Digest: digestOf("never")}))
	if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "it was purged, or never deleted there") {
		t.Errorf("what never was: %v", err)
	}
}
