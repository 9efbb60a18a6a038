package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
)

// Pruned is what was removed.
type Pruned struct {
	Snapshots []string `json:"snapshots"`
	Removed   Amount   `json:"removed"`
}

// Prune removes this registry's snapshots but the newest keep, and blobs that no snapshot of any registry needs. Killed at
// any point, it leaves snapshots that are whole; the next one goes on.
func (s *Service) Prune(ctx context.Context, target string, keep int, progress func(Progress)) (p Pruned, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.BackupWrite); err != nil {
		return p, err
	}
	if keep < 1 {
		return p, fault.New(fault.Invalid, fault.Unknown, "at least one snapshot must be kept, not %d", keep)
	}
	store, stop, err := s.o.Open(ctx, target, false)
	if err != nil {
		return p, err
	}
	defer func() { err = closing(err, stop) }()
	held, r, err := s.begin(ctx, store, "prune-"+word()[:6], false)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	return s.prune(held, store, r, keep, progress)
}

// prune is Prune by a run that has the target. Records go before what they need.
func (s *Service) prune(ctx context.Context, store blob.Store, r *run, keep int, say tell) (p Pruned, err error) {
	all, err := Snapshots(ctx, store)
	if err != nil {
		return p, err
	}
	own := 0
	var kept []string // of this registry
	for _, e := range all {
		if e.Record == nil || e.Problem != "" { // what it needs is not known
			return p, fault.New(fault.Conflict, fault.Unknown, "nothing was removed, because not every snapshot can be read: %s", e.Problem)
		}
		if e.Record.Source == r.source {
			own++
		}
	}
	needed := &digests{}
	for _, e := range all {
		if e.Record.Source == r.source && own > keep {
			own--
			p.Snapshots = append(p.Snapshots, e.ID)
			continue
		}
		if e.Record.Source == r.source {
			kept = append(kept, e.ID)
		}
		needed.add(e.Record.Metadata.Digest)
		needed.add(e.Record.Needs.Digest)
		err := e.Record.needs(ctx, store, func(n need) error { needed.add(n.digest); return nil })
		if err != nil {
			return p, err
		}
	}
	say.say(Progress{Doing: fmt.Sprintf("removing %d old snapshots", len(p.Snapshots))})
	for _, id := range p.Snapshots {
		if err := r.notes.DeleteNotes(ctx, recordName(id)); err != nil {
			return p, err
		}
	}
	if err := writeNames(ctx, r.notes, indexName(r.source), kept); err != nil {
		return p, err
	}
	return p, r.sweep(ctx, store, needed, &p.Removed)
}

// sweep removes the blobs that are not needed, a batch at a time.
func (r *run) sweep(ctx context.Context, store blob.Store, needed *digests, removed *Amount) error {
	const batch = 1000
	var idle []oci.Digest
	told := false
	remove := func() error {
		if err := context.Cause(ctx); err != nil { // the target is not ours any more
			return err
		}
		if !told {
			if err := r.willSweep(ctx); err != nil {
				return err
			}
			told = true
		}
		err := store.Delete(ctx, idle...)
		idle = idle[:0]
		return err
	}
	err := blob.List(ctx, store, oci.Digest{}, func(l blob.Listed) error {
		if needed.has(l.Digest) {
			return nil
		}
		removed.Blobs++
		removed.Bytes += l.Size
		if idle = append(idle, l.Digest); len(idle) < batch {
			return nil
		}
		return remove()
	})
	if err != nil || len(idle) == 0 {
		return err
	}
	return remove()
}

// digests is a set of many, in 32 bytes each where it can.
type digests struct {
	short map[[32]byte]struct{}
	long  map[oci.Digest]struct{}
}

func (s *digests) add(d oci.Digest) {
	if s.short == nil {
		s.short, s.long = map[[32]byte]struct{}{}, map[oci.Digest]struct{}{}
	}
	if key, ok := shortKey(d); ok {
		s.short[key] = struct{}{}
	} else {
		s.long[d] = struct{}{}
	}
}

func (s *digests) has(d oci.Digest) bool {
	if key, ok := shortKey(d); ok {
		_, has := s.short[key]
		return has
	}
	_, has := s.long[d]
	return has
}

func shortKey(d oci.Digest) (key [32]byte, ok bool) {
	if d.Algorithm() != oci.SHA256 {
		return key, false
	}
	n, err := hex.Decode(key[:], []byte(d.Hex()))
	return key, err == nil && n == len(key)
}
