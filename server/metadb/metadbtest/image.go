package metadbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

func testSecurityScans(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	r := repository(t, db, "x/a")
	d, other := putTagged(t, db, r.ID, "v1", "one"), putTagged(t, db, r.ID, "v2", "two")
	image, second := get[int64](t)(db.ImageID(ctx, r.ID, d)), get[int64](t)(db.ImageID(ctx, r.ID, other))
	_, err := db.ImageID(ctx, r.ID, digestOf("nothing"))
	wantErr(t, "image that is not there", err, metadb.ErrNotFound)

	put := func(s metadb.SecurityScan) (id int64, err error) {
		err = db.Update(ctx, func(tx *metadb.Tx) error { id, err = tx.PutSecurityScan(s); return err })
		return id, err
	}
	var want []metadb.SecurityScan // newest first; several of one moment: last put first
	for i := range 6 {
		s := metadb.SecurityScan{ImageID: image, At: time.UnixMicro(int64(1000 + i/3)).UTC(), Scanner: "berth", ScannerVersion: fmt.Sprint("1.", i),
			Critical: int64(i), High: 2, Medium: 3, Low: 4, Unknown: 5, Report: digestOf("report")}
		s.ID = get[int64](t)(put(s))
		want = append([]metadb.SecurityScan{s}, want...)
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var all []metadb.SecurityScan
		for after := (metadb.SecurityScan{}); ; after = all[len(all)-1] {
			page := get[[]metadb.SecurityScan](t)(db.SecurityScans(ctx, image, after, limit))
			if len(page) > limit {
				t.Fatalf("%d scans with limit %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
		}
		equal(t, fmt.Sprint("scans by ", limit), all, want)
	}
	get[int64](t)(put(metadb.SecurityScan{ImageID: second, Scanner: "berth"}))
	now := get[[]metadb.SecurityScan](t)(db.SecurityScans(ctx, second, metadb.SecurityScan{}, 10))
	if len(now) != 1 || now[0].At.IsZero() || !now[0].Report.IsZero() {
		t.Fatalf("scan without a time: %+v", now)
	}
	if _, err := put(metadb.SecurityScan{ImageID: image + second + 1000, Scanner: "berth"}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("scan of no image: %v", err)
	}

	update(t, db, func(tx *metadb.Tx) error {
		if _, err := tx.DeleteTagsOf(r.ID, d, metadb.Origin{}); err != nil {
			return err
		}
		_, err := tx.DeleteManifest(r.ID, d)
		return err
	})
	equal(t, "scans of a deleted image", len(get[[]metadb.SecurityScan](t)(db.SecurityScans(ctx, image, metadb.SecurityScan{}, 10))), 0)
	equal(t, "scans of another", len(get[[]metadb.SecurityScan](t)(db.SecurityScans(ctx, second, metadb.SecurityScan{}, 10))), 1)
}
