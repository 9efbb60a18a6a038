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

func (h *Handler) declareChecks(f *face) {
	declare(f, operation{
		id: "startCheck", method: http.MethodPost, path: "fsck", tag: "integrity", needs: on(onRegistry, identity.IntegrityWrite), status: http.StatusAccepted,
		summary: "Check all stored content now",
		text: "Every blob is read and verified; damaged ones are put aside and named by `/api/v1/damage`. While a check is on its way, " +
			"the answer is that one's job.",
		answer: startedAnswer,
	}, h.startCheck)
	declare(f, operation{
		id: "getLastCheck", method: http.MethodGet, path: "fsck", tag: "integrity", needs: on(onRegistry, identity.IntegrityRead),
		summary: "Show the report of the check that ended last", answer: "What the check has found.",
	}, func(ctx context.Context, _ *struct{}) (*shown[checkReportView], error) { return h.check(ctx, 0) })
	declare(f, operation{
		id: "getCheck", method: http.MethodGet, path: "fsck/{id}", tag: "integrity", needs: on(onRegistry, identity.IntegrityRead), object: "check", unknown: JobUnknown,
		summary: "Show the report of the check of a job, so far while it runs", answer: "What the check has found.",
	}, func(ctx context.Context, in *InJob) (*shown[checkReportView], error) { return h.check(ctx, in.ID) })
	declare(f, operation{
		id: "listDamage", method: http.MethodGet, path: "damage", tag: "integrity", needs: on(onRegistry, identity.IntegrityRead),
		summary: "List damaged blobs with the tags that need them, by digest", text: "An ordinary push of the content repairs a blob.",
		answer: "A page of damaged blobs.",
	}, h.listDamage)
}

// check is the body of startCheck.
type check struct {
	Rate       int64  `json:"rate,omitempty" minimum:"0" doc:"Bytes a second that are read; 0 is without a bound."`
	References bool   `json:"references,omitempty" doc:"Also ask whether manifests, blobs and tags refer to what is there."`
	Orphans    bool   `json:"orphans,omitempty" doc:"Also look for content in the store that nothing knows."`
	Remove     bool   `json:"remove,omitempty" doc:"And delete of that what is older than a day."`
	RepairFrom string `json:"repairFrom,omitempty" doc:"Directory of the server's machine with other copies of blobs; for administrators of that machine, over its socket."`
}

type startCheckInput struct{ Body *check }

func (h *Handler) startCheck(ctx context.Context, in *startCheckInput) (*accepted, error) {
	var b check
	if in.Body != nil {
		b = *in.Body
	}
	if b.RepairFrom != "" {
		if err := onThisMachine(ctx, "repairFrom", "a directory of the server's machine"); err != nil {
			return nil, err
		}
	}
	id, err := h.Integrity.Start(ctx, scrub.Ask{Rate: b.Rate, References: b.References, Orphans: b.Orphans, Remove: b.Remove, RepairFrom: b.RepairFrom})
	return h.started(ctx, id, err)
}

// onThisMachine refuses what only who administers the machine may name: places that the server can reach and an account
// of the registry cannot.
func onThisMachine(ctx context.Context, field, what string) error {
	if identity.From(ctx).Kind == identity.Local {
		return nil
	}
	var bad wrong
	bad.add(field, "member %q names %s, which is for administrators of that machine; ask over its socket, as the commands of berthd do", field, what)
	return fault.New(fault.Denied, fault.DeniedReason, "%s", bad[0].Detail).Because(bad)
}

type checkReportView struct {
	Job            int64                 `json:"job,omitempty"`
	By             string                `json:"by" doc:"fsck, or scrub for the scheduled check."`
	StartedAt      time.Time             `json:"startedAt"`
	EndedAt        *time.Time            `json:"endedAt,omitempty" doc:"Absent while it runs."`
	Clean          bool                  `json:"clean" doc:"Everything that was looked at is right."`
	Blobs          int64                 `json:"blobs" doc:"Looked at."`
	Bytes          int64                 `json:"bytes" doc:"Of them."`
	Total          int64                 `json:"total" doc:"Blobs that there were in the beginning."`
	Damaged        int64                 `json:"damaged" doc:"Whose bytes are wrong, whenever that was found."`
	Missing        int64                 `json:"missing"`
	Repaired       int64                 `json:"repaired" doc:"From another copy."`
	RepairedFrom   map[string]int64      `json:"repairedFrom" doc:"Of these, how many by the host of the registry that had them; directory is repairFrom."`
	LastUnrepaired string                `json:"lastUnrepaired,omitempty" doc:"Why the last blob could not be repaired for which other copies were asked."`
	Released       int64                 `json:"released" doc:"Were found to be right again."`
	Unchecked      int64                 `json:"unchecked" doc:"Could not be looked at, because the store did not answer."`
	LastUnchecked  string                `json:"lastUnchecked,omitempty" doc:"Why the last of these could not."`
	Broken         int64                 `json:"broken" doc:"References to what is not there."`
	References     []brokenReferenceView `json:"references" doc:"At most 1000 of them."`
	Orphans        int64                 `json:"orphans" doc:"Content that nothing knows, older than a day."`
	OrphanBytes    int64                 `json:"orphanBytes"`
	OrphansNamed   []string              `json:"orphansNamed" doc:"At most 100 of them."`
	OrphansGone    int64                 `json:"orphansGone" doc:"Deleted."`
	NotListed      bool                  `json:"notListed" doc:"The store cannot say what it has."`
}

type brokenReferenceView struct {
	Kind       string `json:"kind" doc:"What is not there: manifest, blob or tag."`
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`
	Digest     string `json:"digest,omitempty"`
}

func viewCheck(r scrub.Report) checkReportView {
	return checkReportView{
		Job: r.Job, By: r.By, StartedAt: r.StartedAt.UTC(), EndedAt: stamp(r.EndedAt), Clean: r.Clean(), Blobs: r.Blobs, Bytes: r.Bytes, Total: r.Total,
		Damaged: r.Damaged, Missing: r.Missing, Repaired: r.Repaired, RepairedFrom: repairedFrom(r), LastUnrepaired: r.LastUnrepaired, Released: r.Released, Unchecked: r.Unchecked, LastUnchecked: r.LastUnchecked,
		Broken: r.Broken, References: viewAll(r.References, func(x scrub.Reference) brokenReferenceView { return brokenReferenceView(x) }),
		Orphans: r.Orphans, OrphanBytes: r.OrphanBytes, OrphansNamed: append([]string{}, r.OrphansNamed...), OrphansGone: r.OrphansGone, NotListed: r.NotListed,
	}
}

// repairedFrom is an object also when nothing was repaired.
func repairedFrom(r scrub.Report) map[string]int64 {
	if r.RepairedFrom == nil {
		return map[string]int64{}
	}
	return r.RepairedFrom
}

func (h *Handler) check(ctx context.Context, job int64) (*shown[checkReportView], error) {
	r, err := h.Integrity.Report(ctx, job)
	if err != nil {
		return nil, err
	}
	return show(viewCheck(r))
}

type damageView struct {
	Digest  string     `json:"digest"`
	Size    int64      `json:"size" doc:"Bytes that the blob should have."`
	FoundAt time.Time  `json:"foundAt"`
	FoundBy string     `json:"foundBy" doc:"pull, scrub, fsck or backup."`
	Missing bool       `json:"missing"`
	Detail  string     `json:"detail" doc:"What was found instead."`
	Needs   []needView `json:"needs" doc:"Tags, and manifests without one, that need it; at most 1000."`
}

type needView struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`
}

func (h *Handler) listDamage(ctx context.Context, q *struct{ PageQuery }) (*listed[damageView], error) {
	key, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	var after oci.Digest
	if key != "" {
		if after, err = oci.ParseDigest(key); err != nil {
			return nil, badCursor(q.After)
		}
	}
	found, err := h.Integrity.Damaged(ctx, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, func(f scrub.Finding) damageView {
		return damageView{
			Digest: text(f.Digest), Size: f.Size, FoundAt: f.FoundAt.UTC(), FoundBy: f.FoundBy, Missing: f.Missing, Detail: f.Detail,
			Needs: viewAll(f.Needs, func(n metadb.Need) needView {
				return needView{Repository: n.Repository, Tag: n.Tag, Manifest: text(n.Manifest)}
			}),
		}
	}, func(f scrub.Finding) string { return text(f.Digest) })
}
