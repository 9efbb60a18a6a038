package scrub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	// orphanAge is how old content without a row must be: a push that is on its way may write its row yet, and the clock of
	// the storage may be another one.
	orphanAge    = 24 * time.Hour
	pageOfListed = 512
	namedOrphans = 100
	// claimTime is how long a claim on an orphan holds; the deletion gets half of it.
	claimTime = 2 * time.Minute
)

// orphans looks for content that the store has and no row names. Collection finds what a crash has left by its upload; this
// is for what came otherwise: a database that was restored from before, or files that were copied in by hand.
func (w *walk) orphans(ctx context.Context) error {
	var page []blob.Listed
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		err := w.judge(ctx, page)
		w.p.After = page[len(page)-1].Digest
		page = page[:0]
		w.show(w.p)
		return err
	}
	err := blob.List(ctx, w.s.o.Blobs, w.p.After, func(l blob.Listed) error {
		if page = append(page, l); len(page) < pageOfListed {
			return nil
		}
		return flush()
	})
	if errors.Is(err, blob.ErrNoLister) {
		w.p.Report.NotListed = true
		return nil
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("scrub: list the store: %w", err)
	}
	return nil
}

func (w *walk) judge(ctx context.Context, page []blob.Listed) error {
	ds := make([]oci.Digest, len(page))
	for i, l := range page {
		ds[i] = l.Digest
	}
	named, err := w.s.o.DB.NamedInStore(ctx, ds)
	if err != nil {
		return err
	}
	before := w.s.o.Now().Add(-orphanAge)
	r := &w.p.Report
	for _, l := range page {
		if named[l.Digest] || l.Modified.After(before) {
			continue
		}
		r.Orphans++
		r.OrphanBytes += l.Size
		if len(r.OrphansNamed) < namedOrphans {
			r.OrphansNamed = append(r.OrphansNamed, l.Digest.String())
		}
		if !w.a.Remove {
			continue
		}
		gone, err := w.s.removeOrphan(ctx, l.Digest)
		if err != nil {
			return fmt.Errorf("delete %s: %w", l.Digest, err)
		}
		if gone {
			r.OrphansGone++
		}
	}
	return nil
}

// removeOrphan deletes content that no row names, unless one does by now: claim, delete, end the claim, as metadb's package
// comment says. A deletion that takes too long leaves the claim to whoever takes it over.
func (s *Service) removeOrphan(ctx context.Context, d oci.Digest) (gone bool, err error) {
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		gone, err = tx.ClaimOrphan(d, "", claimTime)
		return err
	})
	if errors.Is(err, metadb.ErrClaimed) {
		return false, nil // somebody else deletes it
	}
	if err != nil || !gone {
		return false, err
	}
	limited, stop := context.WithTimeout(ctx, claimTime/2)
	defer stop()
	if err := s.o.Blobs.Delete(limited, d); err != nil {
		return false, err
	}
	return true, s.o.DB.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error { return tx.DeleteClaimed(d) })
}
