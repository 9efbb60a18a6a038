package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/backup"
)

// backups is what the face needs of the backup room.
type backups interface {
	Start(ctx context.Context, ask backup.Ask) (id int64, err error)
	List(ctx context.Context, target string) ([]backup.Entry, error)
}

func backupRoutes() []route {
	return []route{
		{id: "startBackup", method: http.MethodPost, pattern: "backups", needs: administrator, serve: (*call).startBackup},
		{id: "listBackups", method: http.MethodGet, pattern: "backups", needs: administrator, query: []string{"target", "limit", "after"}, serve: (*call).listBackups},
	}
}

// newBackup is the body of startBackup. What is not said is as the configuration has it for its target.
type newBackup struct {
	Target string `json:"target"`
	Keep   *int   `json:"keep"`
	Rate   *int64 `json:"rate"`
	Verify bool   `json:"verify"`
}

func (c *call) startBackup() error {
	var b newBackup
	if err := c.body(&b); err != nil {
		return err
	}
	target, err := c.target(b.Target)
	if err != nil {
		return err
	}
	ask := backup.Ask{Target: target}
	if target == c.h.Backup.Target {
		ask = c.h.Backup
	}
	if b.Keep != nil {
		if ask.Keep = *b.Keep; ask.Keep < 0 {
			return badField("keep", "member \"keep\" expects a number of snapshots, or 0 for all, got %d", ask.Keep)
		}
	}
	if b.Rate != nil {
		if ask.Rate = *b.Rate; ask.Rate < 0 {
			return badField("rate", "member \"rate\" expects bytes a second, or 0 for no bound, got %d", ask.Rate)
		}
	}
	ask.Verify = b.Verify
	return c.started(c.h.Backups.Start(c.ctx(), ask))
}

// target is where backups go. Others than the configured one are for who administers the machine: a backup has every
// secret of the registry in it, and the server can write where an account of the registry cannot.
func (c *call) target(asked string) (string, error) {
	if asked == "" || asked == c.h.Backup.Target {
		if c.h.Backup.Target == "" {
			return "", badField("target", "member \"target\" is missing, and the configuration has none (berth.backup.target)")
		}
		return c.h.Backup.Target, nil
	}
	return asked, c.onThisMachine("target", "a place that is not the one of the configuration")
}

type snapshotView struct {
	ID           string     `json:"id"`
	At           *time.Time `json:"at,omitempty"`
	Source       string     `json:"source,omitempty"`
	Version      string     `json:"version,omitempty"`
	Database     string     `json:"database,omitempty"`
	Repositories int64      `json:"repositories"`
	Manifests    int64      `json:"manifests"`
	Tags         int64      `json:"tags"`
	Blobs        int64      `json:"blobs"`
	Bytes        int64      `json:"bytes"`
	CopiedBlobs  int64      `json:"copiedBlobs"`
	CopiedBytes  int64      `json:"copiedBytes"`
	Seconds      float64    `json:"seconds"`
	Damaged      int        `json:"damaged"`
	Problem      string     `json:"problem,omitempty"`
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

// listBackups reads the records in the target: a few hundred at most, so pages are cut from the whole.
func (c *call) listBackups() error {
	target, err := c.target(c.r.URL.Query().Get("target"))
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	all, err := c.h.Backups.List(c.ctx(), target)
	if err != nil {
		return unusable(err)
	}
	slices.Reverse(all) // the newest is what people look for
	if cursor := c.r.URL.Query().Get("after"); cursor != "" {
		i := slices.IndexFunc(all, func(e backup.Entry) bool { return e.ID < cursor })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	next := ""
	if len(all) > limit {
		all, next = all[:limit], all[limit-1].ID
	}
	return page(c, viewAll(all, viewSnapshot), next)
}

// unusable is a target that cannot be opened: the caller named it, or the configuration did, and needs to know why.
func unusable(err error) error {
	if isFault(err) {
		return err
	}
	return fault.New(fault.Conflict, TargetUnusable, "%v", err)
}
