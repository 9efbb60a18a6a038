package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Record is a snapshot that is complete.
type Record struct {
	Format   int           `json:"format"` // recordFormat; a larger one is of a newer berth
	ID       string        `json:"id"`     // sorts by time
	At       time.Time     `json:"at"`     // whatever was acknowledged before is in it
	Source   string        `json:"source"` // which registry; see metadb.InstanceSetting
	Berth    string        `json:"berth"`  // version that took it
	Schema   int64         `json:"schema"` // of the metadata
	Database string        `json:"database"`
	Metadata Part          `json:"metadata"`
	Needs    Part          `json:"inventory"`
	Holds    metadb.Census `json:"holds"`
	Copied   Amount        `json:"copied"` // of blobs that the target did not have
	Seconds  float64       `json:"seconds"`
	Damage   []DamagedBlob `json:"damage,omitempty"` // the first maxNamed
	Damaged  int           `json:"damaged"`
	Complete bool          `json:"complete"` // always; for who reads it without berth
}

// Part is a compressed (gzip) file of the snapshot, kept as a blob.
type Part struct {
	Digest oci.Digest `json:"digest"` // of the blob
	Size   int64      `json:"size"`   // bytes of the blob
	Raw    oci.Digest `json:"raw"`    // of what is in it
	RawLen int64      `json:"rawSize"`
}

// Amount is a number of blobs and their bytes.
type Amount struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// DamagedBlob is a blob that could not be saved, because the registry has not got it whole.
type DamagedBlob struct {
	Digest oci.Digest `json:"digest"`
	Detail string     `json:"detail"`
}

const (
	recordFormat = 1
	recordFolder = "backup"
	maxNamed     = 1000 // damaged blobs in a record
)

// sealed is a record as it is written, with what proves it whole.
type sealed struct {
	Record json.RawMessage `json:"record"`
	Digest oci.Digest      `json:"digest"` // of the record without white space
}

func recordName(id string) string { return recordFolder + "/" + id + ".json" }

func (r *Record) write(ctx context.Context, to blob.NoteKeeper) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	text, err = json.MarshalIndent(sealed{text, oci.FromBytes(oci.SHA256, text)}, "", "  ")
	if err != nil {
		return err
	}
	return to.PutNote(ctx, recordName(r.ID), append(text, '\n'))
}

// readRecord reads a record and says what is wrong with one that cannot be used.
func readRecord(ctx context.Context, from blob.NoteKeeper, id string) (*Record, error) {
	text, err := from.Note(ctx, recordName(id))
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, fault.Unknown, "snapshot %q is not in the backup", id)
	} else if err != nil {
		return nil, err
	}
	var s sealed
	var whole bytes.Buffer
	r := &Record{}
	if json.Unmarshal(text, &s) != nil || json.Compact(&whole, s.Record) != nil || oci.FromBytes(oci.SHA256, whole.Bytes()) != s.Digest ||
		json.Unmarshal(whole.Bytes(), r) != nil || r.ID != id {
		return nil, fault.New(fault.Conflict, fault.Unknown, "record of snapshot %s is damaged; choose another snapshot with --snapshot", id)
	}
	schema, err := metadb.Schema()
	if err != nil {
		return nil, err
	}
	if r.Format > recordFormat || r.Schema > schema {
		return r, fault.New(fault.Conflict, fault.Unknown,
			"snapshot %s was taken by a newer berth, %s (schema %d; this one knows %d); use that version or a later one", id, r.Berth, r.Schema, schema)
	}
	return r, nil
}

// Entry is a snapshot in a list: a record, or why it cannot be used.
type Entry struct {
	ID      string  `json:"id"`
	Record  *Record `json:"record,omitempty"`
	Problem string  `json:"problem,omitempty"`
}

// Snapshots are all snapshots of a place, oldest first.
func Snapshots(ctx context.Context, store blob.Store) ([]Entry, error) {
	notes, err := blob.Notes(store)
	if err != nil {
		return nil, err
	}
	ids, err := snapshotNames(ctx, notes)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, id := range ids {
		e := Entry{ID: id}
		if e.Record, err = readRecord(ctx, notes, id); fault.Is(err, fault.NotFound) {
			continue // it was removed, or never made
		} else if err != nil {
			if fault.Of(err).Kind != fault.Conflict {
				return nil, err
			}
			e.Problem = err.Error()
		}
		all = append(all, e)
	}
	return all, nil
}

// List is Snapshots of a target.
func (s *Service) List(ctx context.Context, target string) (all []Entry, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.BackupRead); err != nil {
		return nil, err
	}
	store, stop, err := s.o.Open(ctx, target, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = closing(err, stop) }()
	return Snapshots(ctx, store)
}

// Find is the newest snapshot of a place, or the one that was asked for. NotFound: there is none; Conflict: it cannot be used.
func Find(ctx context.Context, store blob.Store, id string) (*Record, error) {
	notes, err := blob.Notes(store)
	if err != nil {
		return nil, err
	}
	if id != "" {
		return readRecord(ctx, notes, id)
	}
	all, err := Snapshots(ctx, store)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, fault.Unknown, "there is no snapshot in this place; a backup that was killed leaves none")
	}
	last := all[len(all)-1]
	if last.Problem != "" { // an older one would be a silent step back
		return nil, fault.New(fault.Conflict, fault.Unknown, "%s", last.Problem)
	}
	return last.Record, nil
}

func (a Amount) String() string { return fmt.Sprintf("%d blobs, %s", a.Blobs, size(a.Bytes)) }

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n), -1
	for value >= unit && i < 4 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[i])
}
