package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/scrub"
)

// integrity is what the face needs of the scrub room.
type integrity interface {
	Start(ctx context.Context, a scrub.Ask) (jobID int64, err error)
	Report(ctx context.Context, jobID int64) (scrub.Report, error)
	Damaged(ctx context.Context, after oci.Digest, limit int) ([]scrub.Finding, error)
}

func fsckRoutes() []route {
	return []route{
		{id: "startCheck", method: http.MethodPost, pattern: "fsck", needs: administrator, serve: (*call).startCheck},
		{id: "getLastCheck", method: http.MethodGet, pattern: "fsck", needs: administrator, serve: (*call).lastCheck},
		{id: "getCheck", method: http.MethodGet, pattern: "fsck/{id}", needs: administrator, serve: (*call).oneCheck},
		{id: "listDamage", method: http.MethodGet, pattern: "damage", needs: administrator, query: []string{"limit", "after"}, serve: (*call).listDamage},
	}
}

// check is the body of startCheck.
type check struct {
	Rate       int64  `json:"rate"`
	References bool   `json:"references"`
	Orphans    bool   `json:"orphans"`
	Remove     bool   `json:"remove"`
	RepairFrom string `json:"repairFrom"`
}

func (c *call) startCheck() error {
	var b check
	if err := c.body(&b); err != nil {
		return err
	}
	if b.RepairFrom != "" {
		if err := c.onThisMachine("repairFrom", "a directory of the server's machine"); err != nil {
			return err
		}
	}
	return c.started(c.h.Integrity.Start(c.ctx(), scrub.Ask{Rate: b.Rate, References: b.References, Orphans: b.Orphans, Remove: b.Remove, RepairFrom: b.RepairFrom}))
}

// onThisMachine refuses what only who administers the machine may name: places that the server can reach and an account
// of the registry cannot.
func (c *call) onThisMachine(field, what string) error {
	if identity.From(c.ctx()).Kind == identity.Local {
		return nil
	}
	return fault.New(fault.Denied, fault.DeniedReason, "member %q names %s, which is for administrators of that machine; ask over its socket, as the commands of berthd do", field, what).Because(fieldError(field))
}

// started answers with the job that an engine has begun.
func (c *call) started(id int64, err error) error {
	if err != nil {
		return err
	}
	j, err := c.h.Jobs.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.accepted(viewJob(j))
}

type checkView struct {
	Job           int64           `json:"job,omitempty"`
	By            string          `json:"by"`
	StartedAt     time.Time       `json:"startedAt"`
	EndedAt       *time.Time      `json:"endedAt,omitempty"`
	Clean         bool            `json:"clean"`
	Blobs         int64           `json:"blobs"`
	Bytes         int64           `json:"bytes"`
	Total         int64           `json:"total"`
	Damaged       int64           `json:"damaged"`
	Missing       int64           `json:"missing"`
	Repaired      int64           `json:"repaired"`
	Released      int64           `json:"released"`
	Unchecked     int64           `json:"unchecked"`
	LastUnchecked string          `json:"lastUnchecked,omitempty"`
	Broken        int64           `json:"broken"`
	References    []referenceView `json:"references"`
	Orphans       int64           `json:"orphans"`
	OrphanBytes   int64           `json:"orphanBytes"`
	OrphansNamed  []string        `json:"orphansNamed"`
	OrphansGone   int64           `json:"orphansGone"`
	NotListed     bool            `json:"notListed"`
}

type referenceView struct {
	Kind       string `json:"kind"`
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`
	Digest     string `json:"digest,omitempty"`
}

func viewCheck(r scrub.Report) checkView {
	return checkView{
		Job: r.Job, By: r.By, StartedAt: r.StartedAt.UTC(), EndedAt: stamp(r.EndedAt), Clean: r.Clean(), Blobs: r.Blobs, Bytes: r.Bytes, Total: r.Total,
		Damaged: r.Damaged, Missing: r.Missing, Repaired: r.Repaired, Released: r.Released, Unchecked: r.Unchecked, LastUnchecked: r.LastUnchecked,
		Broken: r.Broken, References: viewAll(r.References, func(x scrub.Reference) referenceView { return referenceView(x) }),
		Orphans: r.Orphans, OrphanBytes: r.OrphanBytes, OrphansNamed: append([]string{}, r.OrphansNamed...), OrphansGone: r.OrphansGone, NotListed: r.NotListed,
	}
}

func (c *call) lastCheck() error { return c.check(0) }

func (c *call) oneCheck() error {
	id, err := c.number(0, JobUnknown, "check")
	if err != nil {
		return err
	}
	return c.check(id)
}

func (c *call) check(job int64) error {
	r, err := c.h.Integrity.Report(c.ctx(), job)
	if err != nil {
		return err
	}
	return c.ok(viewCheck(r))
}

type damageView struct {
	Digest  string     `json:"digest"`
	Size    int64      `json:"size"`
	FoundAt time.Time  `json:"foundAt"`
	FoundBy string     `json:"foundBy"`
	Missing bool       `json:"missing"`
	Detail  string     `json:"detail"`
	Needs   []needView `json:"needs"`
}

type needView struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`
}

func (c *call) listDamage() error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	var after oci.Digest
	if cursor := c.r.URL.Query().Get("after"); cursor != "" {
		if after, err = oci.ParseDigest(cursor); err != nil {
			return badCursor(cursor)
		}
	}
	found, err := c.h.Integrity.Damaged(c.ctx(), after, limit)
	if err != nil {
		return err
	}
	next := ""
	if len(found) == limit {
		next = text(found[limit-1].Digest)
	}
	return page(c, viewAll(found, func(f scrub.Finding) damageView {
		return damageView{
			Digest: text(f.Digest), Size: f.Size, FoundAt: f.FoundAt.UTC(), FoundBy: f.FoundBy, Missing: f.Missing, Detail: f.Detail,
			Needs: viewAll(f.Needs, func(n metadb.Need) needView {
				return needView{Repository: n.Repository, Tag: n.Tag, Manifest: text(n.Manifest)}
			}),
		}
	}), next)
}
