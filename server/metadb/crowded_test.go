package metadb_test

import (
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
)

// TestCrowdedRow: what PostgreSQL answers, very rarely, when many lock and update one row at the same moment is no failure of
// the request: the transaction is run again. Other internal errors are told.
func TestCrowdedRow(t *testing.T) {
	db := open(t, metadb.Options{URL: testkit.Postgres(t)})
	for message, want := range map[string]int{
		"new multixact has more than one updating member: 0 3[20290 (nokeyupd), 20291 (keysh), 20291 (nokeyupd)]": 2,
		"could not open relation with OID 1": 1,
	} {
		tries := 0
		err := db.Update(t.Context(), func(tx *metadb.Tx) error {
			if tries++; tries > 1 {
				return nil
			}
			return metadb.Exec(tx, `DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = '`+message+`'; END $$`)
		})
		if tries != want || (err == nil) != (want == 2) {
			t.Errorf("%q: %d tries, %v; want %d", message, tries, err, want)
		}
	}
}
