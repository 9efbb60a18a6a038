package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Status is how collection stands.
type Status struct {
	Queue     metadb.Queue  `json:"queue"`
	Held      []string      `json:"held,omitempty"`
	Last      *Report       `json:"last,omitempty"` // run that did something, on whatever replica
	Interval  time.Duration `json:"-"`
	Untagged  time.Duration `json:"-"`
	TrashHold time.Duration `json:"-"`
}

// Status tells how collection stands.
func (s *Service) Status(ctx context.Context) (st Status, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCRead); err != nil {
		return st, err
	}
	st.Interval, st.Untagged, st.TrashHold = s.o.Interval, s.o.Untagged, s.o.TrashHold
	now := s.o.Now()
	if st.Queue, err = s.o.DB.CollectionQueue(ctx, now); err != nil {
		return st, fmt.Errorf("gc: status: %w", err)
	}
	if st.Held, err = s.o.DB.CollectionHolds(ctx, now); err != nil {
		return st, fmt.Errorf("gc: status: %w", err)
	}
	text, err := s.o.DB.Setting(ctx, reportSetting)
	if errors.Is(err, metadb.ErrNotFound) {
		return st, nil
	}
	if err == nil {
		st.Last = &Report{}
		err = json.Unmarshal([]byte(text), st.Last)
	}
	return st, err
}

// Preview is what a run would do, if nothing else happened.
type Preview struct {
	metadb.GarbageCount

	Manifests int64 `json:"manifests"` // that would go to the trash
	// Blobs and bytes that can go when those manifests are purged: when their hold is over, and a grace after that.
	Afterwards      int64 `json:"afterwards"`
	AfterwardsBytes int64 `json:"afterwardsBytes"`

	Purged int64 `json:"purged"` // manifests of the trash whose hold is over; they are deleted for good
	// Blobs and bytes that nothing needs but those: they can go a grace later.
	Freed      int64 `json:"freed"`
	FreedBytes int64 `json:"freedBytes"`
}

// Preview says what a run would delete now, to the byte.
func (s *Service) Preview(ctx context.Context, a Ask) (Preview, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCRead); err != nil {
		return Preview{}, err
	}
	return s.preview(ctx, s.plan(ctx, a))
}

func (s *Service) preview(ctx context.Context, p plan) (v Preview, err error) {
	if v.GarbageCount, err = s.o.DB.CountGarbage(ctx, p.due); err != nil {
		return v, fmt.Errorf("gc: preview: %w", err)
	}
	out, err := s.o.DB.CountPurge(ctx, s.o.Now(), p.due)
	if err != nil {
		return v, fmt.Errorf("gc: preview: %w", err)
	}
	v.Purged, v.Freed, v.FreedBytes = out.Manifests, out.Blobs, out.Bytes
	if p.untagged <= 0 {
		return v, nil
	}
	u, err := s.o.DB.CountUntagged(ctx, p.due, p.untagged)
	if err != nil {
		return v, fmt.Errorf("gc: preview: %w", err)
	}
	v.Manifests, v.Afterwards, v.AfterwardsBytes = u.Manifests, u.Blobs, u.Bytes
	return v, nil
}

// Why tells everything that keeps a blob or manifest.
func (s *Service) Why(ctx context.Context, d oci.Digest) (metadb.Reasons, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.GCRead); err != nil {
		return metadb.Reasons{}, err
	}
	w, err := s.o.DB.Why(ctx, d, s.o.Now())
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		err = fmt.Errorf("gc: why %s: %w", d, err)
	}
	return w, err
}

// Each visits what a run would delete, in the order in which it would.
func (s *Service) Each(ctx context.Context, visit func(oci.Digest)) error {
	if err := s.o.Access.CheckSystem(ctx, identity.GCRead); err != nil {
		return err
	}
	due := s.due(ctx)
	for after := (metadb.DueCursor{}); ; {
		page, next, err := s.o.DB.Garbage(ctx, due, after, s.o.Batch)
		if err != nil {
			return fmt.Errorf("gc: list: %w", err)
		}
		for _, g := range page {
			visit(g.Digest)
		}
		if after = next; after == (metadb.DueCursor{}) {
			return nil
		}
	}
}
