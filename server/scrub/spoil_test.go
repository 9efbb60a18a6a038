package scrub_test

import (
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// spoil changes the content that the database has of a digest behind berthd's back, or removes it.
func (h *house) spoil(t testing.TB, d oci.Digest, wrong bool) {
	t.Helper()
	must(t, h.db.Update(t.Context(), func(*metadb.Tx) error { return nil })) // so that small blobs have rows
	statement := `DELETE FROM blob_content WHERE digest = $1`
	args := []any{d.String()}
	if wrong {
		statement = `UPDATE blob_content SET bytes = $2 WHERE digest = $1`
		args = append(args, []byte(`{"schemaVersion":2}`))
	}
	if n := testkit.Behind(t, h.database, h.dbFile, statement, args...); n != 1 {
		t.Fatalf("%d rows of %s spoiled", n, d)
	}
}

// wantEvents counts the events of kinds.
func (h *house) wantEvents(t testing.TB, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for after := (event.Cursor{}); ; {
		es, err := h.db.Events(t.Context(), after, 100)
		must(t, err)
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			got[e.Kind]++
			if d := e.Detail(); e.Kind == event.KindBlobDamaged && (d.Damage == nil || d.Damage.What == "" || len(d.Damage.Tags) != 1) {
				t.Errorf("the event of %s in %s tells %+v", e.Digest, e.Repository, d.Damage)
			}
			after = e.Cursor
		}
	}
	for kind, n := range want {
		if got[kind] != n {
			t.Errorf("%d events %s, want %d", got[kind], kind, n)
		}
	}
}
