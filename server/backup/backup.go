// Package backup saves a registry and brings it back.
//
// A backup is a blob store, of the same layout as the registry's own: the bytes of every blob lie under their digest, once
// for all snapshots, so that the next backup copies what is new. A snapshot is two more blobs, the metadata (a SQLite
// database, whatever the registry has) and the inventory (which blobs it needs), and a [Record] that is written last: what
// has no record is not a snapshot, whenever its making was killed.
//
//	blobs/…                content, metadata and inventories
//	berth/backup/ID.json   the record of a snapshot
//	berth/backup-run/…     who is at work in this place; see lock.go
//	berth/backup-index/…   which snapshots a registry has here; see index.go, also for backup-sources and backup-swept
//
// A backup is taken of a registry that runs: collection is held, then the metadata is read as of one moment, then the bytes
// that it names are copied. So whatever was acknowledged before that moment is in it, and restoring needs nothing else. It
// has all secrets of the registry: password hashes and signing keys.
//
// The second half of the room is for who has lost the metadata and has no backup: a journal of names beside the bytes
// (journal.go), off the path of requests, from which [Rebuild] makes the metadata again.
//
// It may assume stores that keep notes and can list (blob.Notes, blob.List). Start reading at [Service.Run] in take.go, then
// restore.go.
package backup

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// gate is the authorization point.
type gate interface {
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// Options configure a Service. DB, Blobs, Access, Open, Temp, Now and Log are required.
type Options struct {
	DB     *metadb.DB
	Blobs  blob.Store
	Access gate
	// Open opens the place that a target names, which must not be the registry's own store. It is made when it is not there
	// and create is set.
	Open func(ctx context.Context, target string, create bool) (blob.Store, func() error, error)
	Temp string // a directory with room for a copy of the metadata

	Version  string // of berth, for the record
	Database string // kind of the database, for the record
	Parallel int    // blobs that are copied at once; default 8
	// Hold is for how long collection and the target are held without a renewal: for so long they are after a crash.
	// Default 5 min.
	Hold time.Duration

	Now func() time.Time
	Log *slog.Logger
}

// Service takes backups. Safe for concurrent use.
type Service struct {
	o     Options
	queue *job.Queue[Ask]
}

// New returns a Service.
func New(o Options) *Service {
	o.Parallel = cmp.Or(o.Parallel, 8)
	o.Hold = cmp.Or(o.Hold, 5*time.Minute)
	return &Service{o: o}
}

// Ask is what a backup is asked to do. It is the arguments of its job.
type Ask struct {
	Target string `json:"target"`         // a directory, or s3://BUCKET/PREFIX
	Keep   int    `json:"keep,omitempty"` // snapshots of this registry to keep; 0 is all
	Rate   int64  `json:"rate,omitempty"` // bytes per second that are copied; 0 is as fast as it goes
	// Verify reads what the target has already, too, and copies again what is not right.
	Verify bool `json:"verify,omitempty"`
}

// Progress is how far a backup or restore is, in bytes.
type Progress struct {
	Done, Total int64
	Doing       string // for people
}

// tell is called with progress; nil for nobody.
type tell func(Progress)

func (t tell) say(p Progress) {
	if t != nil {
		t(p)
	}
}
