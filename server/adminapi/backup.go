package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/identity"
)

// backups is what the face needs of the backup room.
type backups interface {
	Start(ctx context.Context, ask backup.Ask) (id int64, err error)
	List(ctx context.Context, target string) ([]backup.Entry, error)
}

func (h *Handler) declareBackups(f *face) {
	declare(f, operation{
		id: "startBackup", method: http.MethodPost, path: "backups", tag: "backups", needs: on(onRegistry, identity.BackupWrite), status: http.StatusAccepted,
		summary: "Make a snapshot while the registry serves", text: "While one is made into the same target, the answer is that one's job.",
		answer: startedAnswer,
	}, h.startBackup)
	declare(f, operation{
		id: "listBackups", method: http.MethodGet, path: "backups", tag: "backups", needs: on(onRegistry, identity.BackupRead),
		summary: "List the snapshots of a target, newest first", answer: "A page of snapshots.",
	}, h.listBackups)
}

// newBackup is the body of startBackup. What is not said is as the configuration has it for its target.
type newBackup struct {
	Target string `json:"target,omitempty" doc:"A directory of the server's machine, or s3://BUCKET/PREFIX; the one of berth.backup.target when not said. Others are for administrators of that machine, over its socket."`
	Keep   *int   `json:"keep,omitempty" minimum:"0" doc:"Snapshots of this registry to keep in the target; 0 keeps all."`
	Rate   *int64 `json:"rate,omitempty" minimum:"0" doc:"Bytes a second that are copied; 0 is as fast as it goes."`
	Verify bool   `json:"verify,omitempty" doc:"Also read what the target has already, and copy again what is not right."`
}

type startBackupInput struct{ Body *newBackup }

func (h *Handler) startBackup(ctx context.Context, in *startBackupInput) (*accepted, error) {
	var b newBackup
	if in.Body != nil {
		b = *in.Body
	}
	target, err := h.target(ctx, b.Target)
	if err != nil {
		return nil, err
	}
	ask := backup.Ask{Target: target}
	if target == h.Backup.Target {
		ask = h.Backup
	}
	if b.Keep != nil {
		ask.Keep = *b.Keep
	}
	if b.Rate != nil {
		ask.Rate = *b.Rate
	}
	ask.Verify = b.Verify
	id, err := h.Backups.Start(ctx, ask)
	return h.started(ctx, id, err)
}

// target is where backups go. Others than the configured one are for who administers the machine: a backup has every
// secret of the registry in it, and the server can write where an account of the registry cannot.
func (h *Handler) target(ctx context.Context, asked string) (string, error) {
	if asked == "" || asked == h.Backup.Target {
		if h.Backup.Target == "" {
			return "", badField("target", "member \"target\" is missing, and the configuration has none (berth.backup.target)")
		}
		return h.Backup.Target, nil
	}
	return asked, onThisMachine(ctx, "target", "a place that is not the one of the configuration")
}

type snapshotView struct {
	ID           string     `json:"id" doc:"Sorts by time."`
	At           *time.Time `json:"at,omitempty" doc:"Whatever was acknowledged before is in it."`
	Source       string     `json:"source,omitempty" doc:"Which registry."`
	Version      string     `json:"version,omitempty" doc:"Of berth."`
	Database     string     `json:"database,omitempty"`
	Repositories int64      `json:"repositories"`
	Manifests    int64      `json:"manifests"`
	Tags         int64      `json:"tags"`
	Blobs        int64      `json:"blobs"`
	Bytes        int64      `json:"bytes"`
	CopiedBlobs  int64      `json:"copiedBlobs" doc:"That the target did not have."`
	CopiedBytes  int64      `json:"copiedBytes"`
	Seconds      float64    `json:"seconds"`
	Damaged      int        `json:"damaged" doc:"Blobs that are not in it because the registry has not got them whole."`
	Problem      string     `json:"problem,omitempty" doc:"Why it cannot be used."`
}

func viewSnapshot(e backup.Entry) snapshotView {
	v := snapshotView{ID: e.ID, Problem: e.Problem}
	if r := e.Record; r != nil {
		v.At, v.Source, v.Version, v.Database, v.Seconds, v.Damaged = stamp(r.At), r.Source, r.Berth, r.Database, r.Seconds, r.Damaged
		v.Repositories, v.Manifests, v.Tags = r.Holds.Repositories, r.Holds.Manifests, r.Holds.Tags
		v.Blobs, v.Bytes, v.CopiedBlobs, v.CopiedBytes = r.Holds.Blobs, r.Holds.Bytes, r.Copied.Blobs, r.Copied.Bytes
	}
	return v
}

type backupsQuery struct {
	Target string `query:"target" doc:"A directory of the server's machine, or s3://BUCKET/PREFIX; the one of berth.backup.target when not said. Others are for administrators of that machine, over its socket."`
	PageQuery
}

// listBackups reads the records in the target: a few hundred at most, so pages are cut from the whole.
func (h *Handler) listBackups(ctx context.Context, q *backupsQuery) (*listed[snapshotView], error) {
	target, err := h.target(ctx, q.Target)
	if err != nil {
		return nil, err
	}
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.Backups.List(ctx, target)
	if err != nil {
		return nil, unusable(err)
	}
	slices.Reverse(all) // the newest is what people look for
	if after != "" {
		i := slices.IndexFunc(all, func(e backup.Entry) bool { return e.ID < after })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	next := ""
	if len(all) > q.Limit {
		all, next = all[:q.Limit], all[q.Limit-1].ID
	}
	return pageUntil(ctx, viewAll(all, viewSnapshot), next)
}

// unusable is a target that cannot be opened: the caller named it, or the configuration did, and needs to know why.
func unusable(err error) error {
	if isFault(err) {
		return err
	}
	return fault.New(fault.Conflict, TargetUnusable, "%v", err)
}
