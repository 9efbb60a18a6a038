package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// One run is at work in a target at a time, because pruning removes blobs that no record names yet. Of one registry a lease
// in its database sees to that. Registries that share a target tell each other by notes there, one of each: each writes its own
// first and looks for others second, by their names, so of two that come together at least one sees the other, and gives way.

const (
	runFolder = "backup-run"
	leaseName = "backup"
	leaseHold = 30 * time.Second
)

// marker is a run as other registries see it.
type marker struct {
	Source string    `json:"source"`
	Until  time.Time `json:"until"` // after that it is dead
}

// errHeldAway says that a run could not keep what it holds.
var errHeldAway = errors.New("backup: collection could not be held any longer; the metadata database or the target was away for too long")

// run holds collection, the registry's turn and the target while a backup is at work.
type run struct {
	s      *Service
	notes  blob.NoteKeeper
	id     string
	source string
	lease  metadb.Lease
	stop   context.CancelCauseFunc
	ended  chan struct{}
}

// begin takes everything, or says who has it. The context that it returns ends when it is lost. hold says whether
// collection is held, too.
func (s *Service) begin(ctx context.Context, store blob.Store, id string, hold bool) (_ context.Context, r *run, err error) {
	r = &run{s: s, id: id, ended: make(chan struct{})}
	if r.notes, err = blob.Notes(store); err != nil {
		return ctx, nil, err
	}
	held := false
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		if r.source, err = tx.EnsureSetting(metadb.InstanceSetting, word()); err != nil {
			return err
		}
		if r.lease, held, err = tx.TakeLease(leaseName, id, leaseHold); err != nil || !held || !hold {
			return err
		}
		return tx.HoldCollection(r.holdName(), s.o.Hold)
	})
	if err != nil {
		return ctx, nil, err
	}
	if !held {
		return ctx, nil, fault.New(fault.Conflict, fault.Unknown, "another backup of this registry is running; wait for it, or half a minute if it was killed")
	}
	ctx, r.stop = context.WithCancelCause(ctx)
	go r.keep(ctx, hold)
	if err := r.enter(ctx); err != nil {
		return ctx, nil, errors.Join(err, r.end(ctx))
	}
	return ctx, r, nil
}

func (r *run) holdName() string { return "backup/" + r.id }

func (r *run) noteName() string { return runFolder + "/" + r.source }

// enter makes the target this run's.
func (r *run) enter(ctx context.Context) error {
	if err := errors.Join(r.mark(ctx), r.join(ctx)); err != nil {
		return err
	}
	names, err := r.notes.NoteNames(ctx, runFolder)
	if err != nil {
		return err
	}
	sources, err := sourcesOf(ctx, r.notes)
	if err != nil {
		return err
	}
	for _, source := range sources {
		names = append(names, runFolder+"/"+source)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == r.noteName() {
			continue
		}
		text, err := r.notes.Note(ctx, name)
		if fault.Is(err, fault.NotFound) {
			continue
		} else if err != nil {
			return err
		}
		var other marker
		readable := json.Unmarshal(text, &other) == nil
		if readable && other.Source != r.source && other.Until.After(r.s.o.Now()) {
			return fault.New(fault.Conflict, fault.Unknown, "another registry (%.8s) is making a backup here; wait for it, or until %s if it was killed",
				other.Source, other.Until.UTC().Format(time.RFC3339))
		}
		if err := r.notes.DeleteNotes(ctx, name); err != nil { // one of ours that was killed, since we have the lease, or a dead one
			return err
		}
	}
	return nil
}

func (r *run) mark(ctx context.Context) error {
	text, err := json.Marshal(marker{r.source, r.s.o.Now().Add(r.s.o.Hold).UTC()})
	if err != nil {
		return err
	}
	return r.notes.PutNote(ctx, r.noteName(), text)
}

// keep renews what the run holds until ctx ends, and ends ctx when it cannot.
func (r *run) keep(ctx context.Context, hold bool) {
	defer close(r.ended)
	leased, marked := r.s.o.Now(), r.s.o.Now()
	for sleep(ctx, min(leaseHold, r.s.o.Hold)/5) == nil {
		now := r.s.o.Now()
		err := r.s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			if err := tx.RenewLease(r.lease, leaseHold); err != nil || !hold {
				return err
			}
			return tx.HoldCollection(r.holdName(), r.s.o.Hold)
		})
		if errors.Is(err, metadb.ErrLost) {
			r.stop(fmt.Errorf("%w: %w", errHeldAway, err))
			return
		}
		if err == nil {
			leased = now
			if now.Sub(marked) > r.s.o.Hold/5 {
				if err = r.mark(ctx); err == nil {
					marked = now
				}
			}
		}
		if now.Sub(leased) > r.s.o.Hold*4/5 || now.Sub(marked) > r.s.o.Hold*4/5 {
			r.stop(fmt.Errorf("%w: %w", errHeldAway, err))
			return
		}
	}
}

// end gives everything back.
func (r *run) end(ctx context.Context) error {
	r.stop(nil)
	<-r.ended
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	return errors.Join(
		r.notes.DeleteNotes(ctx, r.noteName()),
		r.s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
			if err := tx.ReleaseCollection(r.holdName()); err != nil {
				return err
			}
			return tx.EndLease(r.lease)
		}))
}
