package gc

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// errRehearsed takes back what Rehearse has done.
var errRehearsed = errors.New("gc: rehearsed")

// Rehearse says what Collect with now would do, to the byte, and tells visit the blobs in the order in which they would go; visit may be nil. It
// does to the rows what Collect does, in one transaction that is taken back, so it is for who has the database alone.
func (s *Service) Rehearse(ctx context.Context, a Ask, visit func(oci.Digest)) (v Preview, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCRead); err != nil {
		return v, err
	}
	held, err := s.o.DB.CollectionHolds(ctx, s.o.Now())
	if err != nil || len(held) > 0 {
		return v, err
	}
	p := s.alone(ctx, a)
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		r := rehearsal{s: s, p: p, tx: tx, visit: visit, v: &v}
		v = Preview{}
		for again := true; again; {
			before := r.purged
			if err := r.pass(); err != nil {
				return err
			}
			again = r.purged > before
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return v, nil
	}
	return v, fmt.Errorf("gc: preview: %w", err)
}

type rehearsal struct {
	s      *Service
	p      plan
	tx     *metadb.Tx
	visit  func(oci.Digest)
	v      *Preview
	purged int
}

// pass is Service.pass without the store.
func (r *rehearsal) pass() error {
	for after := int64(0); r.p.untagged > 0; {
		trashed, next, err := r.tx.TrashUntagged(after, r.p.due, r.p.untagged, r.s.o.TrashHold, policyBatch)
		if err != nil {
			return err
		}
		r.v.Manifests += int64(len(trashed))
		if after = next; after == 0 {
			break
		}
	}
	for after := (metadb.DueCursor{}); ; {
		found, err := r.tx.Collect(metadb.Collecting{Due: r.p.due, After: after, Limit: r.s.o.Batch, Hold: claimTime, TrashHold: r.s.o.TrashHold})
		if err != nil {
			return err
		}
		r.add(&found)
		if after = found.Next; !found.More {
			break
		}
	}
	for after := (metadb.PurgeCursor{}); ; {
		n, next, err := r.tx.PurgeDue(after, purgeBatch)
		if err != nil {
			return err
		}
		r.purged += n
		r.v.Purged += int64(n) // and what that frees goes in the next pass
		if after = next; after == (metadb.PurgeCursor{}) {
			return nil
		}
	}
}

func (r *rehearsal) add(found *metadb.Collected) {
	r.v.Examined += int64(found.Examined)
	r.v.Manifests += int64(len(found.Trashed))
	r.v.Blobs += int64(len(found.Gone) + len(found.Garbage))
	r.v.Bytes += found.GoneBytes
	gone := found.Gone
	for _, g := range found.Garbage {
		r.v.Bytes += g.Size
		gone = append(gone, g.Digest)
	}
	if r.visit != nil {
		for _, d := range gone {
			r.visit(d)
		}
	}
}
