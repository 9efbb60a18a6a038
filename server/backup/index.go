package backup

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// A listing of a bucket may be behind what was written and removed. A snapshot that is overlooked would lose the content that
// only it needs, and a registry that is overlooked would lose what it is saving. So both are found by name, too, which is never
// behind: one note says which registries use a target, and each of them has a note that says which snapshots it has. The name
// of a snapshot is written there before its record is, and removed after it.
const (
	sourcesNote = "backup-sources"
	indexFolder = "backup-index" // backup-index/SOURCE
	// sweptNote says when blobs were removed from a target last. A listing of up to listedWithin later may show them yet.
	sweptNote    = "backup-swept"
	listedWithin = time.Hour
)

func indexName(source string) string { return indexFolder + "/" + source }

// named is a note with names in it.
type named struct {
	Names []string `json:"names"`
}

// readNames reads a note with names; one that is not there has none.
func readNames(ctx context.Context, notes blob.NoteKeeper, note string) ([]string, error) {
	text, err := notes.Note(ctx, note)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var n named
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fault.New(fault.Conflict, fault.Unknown, "backup is damaged: its note %s cannot be read", note).Because(err)
	}
	for _, name := range n.Names {
		if blob.CheckNote(name) != nil || strings.Contains(name, "/") {
			return nil, fault.New(fault.Conflict, fault.Unknown, "backup is damaged: its note %s has the name %.100q in it", note, name)
		}
	}
	return n.Names, nil
}

func writeNames(ctx context.Context, notes blob.NoteKeeper, note string, names []string) error {
	names = slices.Clone(names)
	slices.Sort(names)
	text, err := json.Marshal(named{slices.Compact(names)})
	if err != nil {
		return err
	}
	return notes.PutNote(ctx, note, text)
}

// sourcesOf are the registries that use a target, by name and as they are listed.
func sourcesOf(ctx context.Context, notes blob.NoteKeeper) ([]string, error) {
	all, err := readNames(ctx, notes, sourcesNote)
	if err != nil {
		return nil, err
	}
	listed, err := listedIn(ctx, notes, indexFolder)
	if err != nil {
		return nil, err
	}
	all = append(all, listed...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// listedIn are the names that a target lists in a folder, without it.
func listedIn(ctx context.Context, notes blob.NoteKeeper, folder string) ([]string, error) {
	names, err := notes.NoteNames(ctx, folder)
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, folder+"/")
	}
	return names, err
}

// listedRecords are the names of the snapshots whose records a target lists.
func listedRecords(ctx context.Context, notes blob.NoteKeeper) (all []string, err error) {
	names, err := listedIn(ctx, notes, recordFolder)
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, ".json"); ok {
			all = append(all, id)
		}
	}
	return all, err
}

// snapshotNames are the names that snapshots of a target have, of some that were removed or never made, too.
func snapshotNames(ctx context.Context, notes blob.NoteKeeper) ([]string, error) {
	all, err := listedRecords(ctx, notes)
	if err != nil {
		return nil, err
	}
	sources, err := sourcesOf(ctx, notes)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		ids, err := readNames(ctx, notes, indexName(source))
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// join makes this registry one of those that use the target. Nobody can write a note on condition that it is as it was read; so
// of two that join at the same moment one may be lost, and is found missing when it looks again, at the latest before its record
// is written.
func (r *run) join(ctx context.Context) error {
	for range 5 {
		all, err := readNames(ctx, r.notes, sourcesNote)
		if fault.Is(err, fault.Conflict) {
			r.s.o.Log.Error("a note of the backup target was damaged and is made again as the target lists it", "note", sourcesNote)
			if all, err = listedIn(ctx, r.notes, indexFolder); err == nil {
				err = writeNames(ctx, r.notes, sourcesNote, append(all, r.source))
			}
		}
		if err != nil {
			return err
		}
		if slices.Contains(all, r.source) {
			return nil
		}
		if err := writeNames(ctx, r.notes, sourcesNote, append(all, r.source)); err != nil {
			return err
		}
	}
	return errors.New("backup: other registries keep removing this one from the list of those that use the target")
}

// announce writes down the name of a snapshot whose record is about to be written.
func (r *run) announce(ctx context.Context, id string) error {
	if err := r.join(ctx); err != nil {
		return err
	}
	own, err := readNames(ctx, r.notes, indexName(r.source))
	if fault.Is(err, fault.Conflict) {
		r.s.o.Log.Error("a note of the backup target was damaged and is made again as the target lists it", "note", indexName(r.source))
		own, err = listedRecords(ctx, r.notes) // those of others do no harm in it
	}
	if err != nil {
		return err
	}
	return writeNames(ctx, r.notes, indexName(r.source), append(own, id))
}

// swept is when blobs of a target may have been removed last; zero for never.
type swept struct {
	At time.Time `json:"at"`
}

// justSwept reports whether a listing may show blobs that were removed.
func justSwept(ctx context.Context, notes blob.NoteKeeper, now time.Time) (bool, error) {
	text, err := notes.Note(ctx, sweptNote)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var s swept
	if json.Unmarshal(text, &s) != nil {
		return true, nil
	}
	return now.Sub(s.At) < listedWithin, nil // so is one whose clock is ahead of ours
}

func (r *run) willSweep(ctx context.Context) error {
	text, err := json.Marshal(swept{r.s.o.Now().UTC()})
	if err != nil {
		return err
	}
	return r.notes.PutNote(ctx, sweptNote, text)
}
