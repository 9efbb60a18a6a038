package metadbtest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

// testMountsTogether: many repositories that mount one blob at the same moment, all of which renew its lease, get it, and
// others that promise it or give up beside them are not in their way.
func testMountsTogether(t *testing.T, db *metadb.DB) {
	ctx := background()
	d := digestOf("mounted by all")
	first := repository(t, db, "mount/first")
	update(t, db, func(tx *metadb.Tx) error {
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1, LeaseUntil: time.Now().Add(time.Hour)}, nil); err != nil {
			return err
		}
		_, err := tx.LinkBlob(first.ID, d)
		return err
	})
	const mounters, rounds = 8, 60
	errUndone := errors.New("undone")
	var all sync.WaitGroup
	for m := range mounters {
		r := repository(t, db, fmt.Sprint("mount/", m))
		all.Go(func() {
			for n := range rounds {
				until := time.Now().Add(time.Duration(n+1) * 10 * time.Hour) // always well beyond what it has
				var err error
				switch (n + m) % 4 {
				case 0:
					err = db.Update(ctx, func(tx *metadb.Tx) error { return tx.LeaseBlob(d, until) })
				case 1:
					err = db.Update(ctx, func(tx *metadb.Tx) error { return errors.Join(tx.LeaseBlob(d, until), errUndone) })
					if errors.Is(err, errUndone) {
						err = nil
					}
				default:
					err = db.KeepLink(ctx, r.ID, d, until, db.Mark())
				}
				if err != nil {
					t.Errorf("mounter %d, round %d: %v", m, n, err)
					return
				}
			}
		})
	}
	all.Wait()
	for m := range mounters {
		r := repository(t, db, fmt.Sprint("mount/", m))
		if _, err := db.Blob(ctx, r.ID, d); err != nil {
			t.Errorf("repository %s has not got the blob: %v", r.Name, err)
		}
	}
}
