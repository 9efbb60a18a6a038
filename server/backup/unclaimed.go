package backup

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// Unclaimed is for who is about to begin a registry with a new database: Conflict when the store has the names of another one,
// or part of a restore. Beginning there would serve an empty registry in the place of one that can be brought back, and its new
// journal would take the place of the one that it can be brought back from.
func Unclaimed(ctx context.Context, store blob.Store) error {
	notes, err := blob.Notes(store)
	if errors.Is(err, blob.ErrNoNotes) {
		return nil
	}
	if err != nil {
		return err
	}
	mark, err := notes.Note(ctx, restoreMark)
	switch {
	case err == nil:
		return fault.New(fault.Conflict, fault.Unknown, "database is new, and the storage holds part of a restore of snapshot %s that was interrupted; give the same berthd restore again, which goes on, or choose an empty storage", mark)
	case !fault.Is(err, fault.NotFound):
		return err
	}
	head, err := readHead(ctx, notes)
	switch {
	case err == nil:
		return fault.New(fault.Conflict, fault.Unknown, "database is new, and the storage holds the names of a registry whose journal was begun at %s; if its database is lost, bring it back with berthd restore or berthd rebuild; "+
			"if another one was meant, name the right database or data directory; to begin an empty registry, choose an empty storage, or move the folder berth/journal of this one away", head.At.Format("2006-01-02 15:04:05Z"))
	case fault.Is(err, fault.NotFound):
		return nil
	}
	return err
}
