package blob

import (
	"context"
	"errors"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// NoteKeeper is an optional power of a Store: small named objects beside the blobs, such as the journal of a registry and
// the records of backups. Ask through Notes. All methods are safe for concurrent use.
//
// A name is up to 200 bytes of segments of [a-z0-9._-] with '/' between them, none of which begins with a dot; see
// CheckNote. No name is a folder of another.
type NoteKeeper interface {
	// PutNote makes content, at most MaxNote bytes, what the name stands for, at once and durably: a reader gets all of the
	// old or all of the new.
	PutNote(ctx context.Context, name string, content []byte) error

	// Note is the content of a name, or NotFound.
	Note(ctx context.Context, name string) ([]byte, error)

	// NoteNames are the names below a folder ("backup" for backup/…; "" for all), in the order of their bytes.
	NoteNames(ctx context.Context, folder string) ([]string, error)

	// DeleteNotes removes notes, durably; one that is not there is no error. When it fails, any part may have been removed.
	DeleteNotes(ctx context.Context, names ...string) error
}

// MaxNote is the size of the largest note, in bytes: they are held in memory.
const MaxNote = 32 << 20

// ErrNoNotes says that a store keeps nothing but blobs.
var ErrNoNotes = errors.New("blob: the store keeps no named objects")

// Notes is the store's power to keep notes, or ErrNoNotes.
func Notes(store Store) (NoteKeeper, error) {
	if k, ok := underlying(store).(NoteKeeper); ok {
		return k, nil
	}
	return nil, ErrNoNotes
}

// underlying is the store that an observed one observes.
func underlying(store Store) Store {
	for {
		w, ok := store.(interface{ observes() Store })
		if !ok {
			return store
		}
		store = w.observes()
	}
}

// CheckNote refuses what is not a name of a note, so that a name is never a path that leads elsewhere. Drivers call it
// first.
func CheckNote(name string) error {
	ok := name != "" && len(name) <= 200
	for part := range strings.SplitSeq(name, "/") {
		ok = ok && part != "" && part[0] != '.' && strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
	}
	if !ok {
		return errors.New("blob: " + name + " is not a name of a note")
	}
	return nil
}

// UnknownNote is the fault of a note that is not there.
func UnknownNote(name string) error {
	return fault.New(fault.NotFound, fault.Unknown, "%s is not in the store", name)
}
