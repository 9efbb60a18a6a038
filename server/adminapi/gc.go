package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// collector is what the face needs of the gc room.
type collector interface {
	Start(ctx context.Context, a gc.Ask) (jobID int64, err error)
	Status(ctx context.Context) (gc.Status, error)
	Preview(ctx context.Context, a gc.Ask) (gc.Preview, error)
	Why(ctx context.Context, d oci.Digest) (metadb.Reasons, error)
}

func (h *Handler) declareCollection(f *face) {
	declare(f, operation{
		id: "startCollection", method: http.MethodPost, path: "gc", tag: "collection", needs: on(onRegistry, identity.GCWrite), status: http.StatusAccepted,
		summary: "Collect now what nobody needs any more",
		text:    "The registry collects by itself, too, at every interval. Nothing is deleted within its grace.", answer: startedAnswer,
	}, h.startCollection)
	declare(f, operation{
		id: "getCollection", method: http.MethodGet, path: "gc", tag: "collection", needs: on(onRegistry, identity.GCRead),
		summary: "Show how collection stands", answer: "The queue, and what was done last.",
	}, h.collectionStatus)
	declare(f, operation{
		id: "previewCollection", method: http.MethodGet, path: "gc/preview", tag: "collection", needs: on(onRegistry, identity.GCRead),
		summary: "Count what a collection would delete now, to the byte", answer: "What it would do, if nothing else happened.",
	}, h.previewCollection)
	declare(f, operation{
		id: "explainContent", method: http.MethodGet, path: "gc/why/{digest}", tag: "collection", needs: on(onRegistry, identity.GCRead),
		summary: "Name everything that keeps a blob or manifest", answer: "What keeps it, in all repositories.",
	}, h.why)
}

const startedAnswer = "The job that does the work."

// collection is the body of startCollection.
type collection struct {
	DeleteUntagged bool `json:"deleteUntagged,omitempty" doc:"Also put manifests into the trash that no tag, index or subject points at, once they are older than the grace, whatever the configuration says of them."`
	Rate           int  `json:"rate,omitempty" minimum:"0" doc:"Most blobs a second that are deleted; 0 is as configured."`
}

type startCollectionInput struct{ Body *collection }

func (h *Handler) startCollection(ctx context.Context, in *startCollectionInput) (*accepted, error) {
	var ask gc.Ask
	if b := in.Body; b != nil {
		ask = gc.Ask{DeleteUntagged: b.DeleteUntagged, Rate: b.Rate}
	}
	id, err := h.Collector.Start(ctx, ask)
	return h.started(ctx, id, err)
}

type collectionStatusView struct {
	Waiting   int64          `json:"waiting" doc:"Blobs that will be looked at, due or not."`
	Due       int64          `json:"due" doc:"Of them, those that are due."`
	Claimed   int64          `json:"claimed" doc:"That are being deleted."`
	OldestDue *time.Time     `json:"oldestDue,omitempty" doc:"When the first of them was due."`
	HeldBy    []string       `json:"heldBy"`
	Last      *collectedView `json:"last,omitempty" doc:"The run that did something last."`
	Seconds   float64        `json:"intervalSeconds" doc:"Between runs of its own."`
	Untagged  float64        `json:"untaggedSeconds" doc:"Age at which untagged manifests go to the trash; 0 is never."`
	TrashHeld float64        `json:"trashHoldSeconds" doc:"How long they stay there."`
}

type collectedView struct {
	Job       int64      `json:"job,omitempty"`
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Examined  int64      `json:"examined"`
	Deleted   int64      `json:"deleted" doc:"Blobs that were deleted."`
	Bytes     int64      `json:"bytes"`
	Failed    int64      `json:"failed" doc:"That the store did not delete; they are tried again."`
	Trashed   int64      `json:"trashed" doc:"Manifests that went to the trash."`
	Purged    int64      `json:"purged" doc:"Manifests whose time in the trash was over."`
	Unlinked  int64      `json:"unlinked" doc:"Blobs that other repositories need, taken from one that does not."`
	HeldBy    []string   `json:"heldBy"`
	LastError string     `json:"lastError,omitempty"`
}

func (h *Handler) collectionStatus(ctx context.Context, _ *struct{}) (*shown[collectionStatusView], error) {
	st, err := h.Collector.Status(ctx)
	if err != nil {
		return nil, err
	}
	v := collectionStatusView{
		Waiting: st.Queue.Waiting, Due: st.Queue.Due, Claimed: st.Queue.Claimed, OldestDue: stamp(st.Queue.Oldest), HeldBy: append([]string{}, st.Held...),
		Seconds: st.Interval.Seconds(), Untagged: st.Untagged.Seconds(), TrashHeld: st.TrashHold.Seconds(),
	}
	if r := st.Last; r != nil {
		v.Last = &collectedView{
			Job: r.Job, StartedAt: r.StartedAt.UTC(), EndedAt: stamp(r.EndedAt), Examined: r.Examined, Deleted: r.Deleted, Bytes: r.Bytes, Failed: r.Failed,
			Trashed: r.Trashed, Purged: r.Purged, Unlinked: r.Unlinked, HeldBy: append([]string{}, r.Held...), LastError: r.LastError,
		}
	}
	return show(v)
}

type previewView struct {
	Blobs           int64 `json:"blobs" doc:"That would be deleted."`
	Bytes           int64 `json:"bytes"`
	Later           int64 `json:"later" doc:"Blobs that nothing needs either and that are still within their grace."`
	LaterBytes      int64 `json:"laterBytes"`
	Examined        int64 `json:"examined"`
	Manifests       int64 `json:"manifests" doc:"That would go to the trash."`
	Afterwards      int64 `json:"afterwards" doc:"Blobs that can go when those are purged."`
	AfterwardsBytes int64 `json:"afterwardsBytes"`
	Purged          int64 `json:"purged" doc:"Manifests whose time in the trash is over, which would be deleted for good."`
	Freed           int64 `json:"freed" doc:"Blobs that only those need, which can go a grace later."`
	FreedBytes      int64 `json:"freedBytes"`
}

type previewQuery struct {
	DeleteUntagged bool `query:"deleteUntagged" doc:"As in startCollection."`
}

func (h *Handler) previewCollection(ctx context.Context, q *previewQuery) (*shown[previewView], error) {
	p, err := h.Collector.Preview(ctx, gc.Ask{DeleteUntagged: q.DeleteUntagged})
	if err != nil {
		return nil, err
	}
	return show(previewView{
		Blobs: p.Blobs, Bytes: p.Bytes, Later: p.Later, LaterBytes: p.LaterBytes, Examined: p.Examined,
		Manifests: p.Manifests, Afterwards: p.Afterwards, AfterwardsBytes: p.AfterwardsBytes,
		Purged: p.Purged, Freed: p.Freed, FreedBytes: p.FreedBytes,
	})
}

type reasonsView struct {
	Digest     string        `json:"digest"`
	Size       int64         `json:"size"`
	Kept       bool          `json:"kept" doc:"Something needs it or its grace is not over."`
	State      string        `json:"state" enum:"live,claimed,damaged,other" doc:"claimed is being deleted."`
	LeaseUntil *time.Time    `json:"leaseUntil,omitempty" doc:"Until then it is kept whatever needs it; absent when something needs it and nobody need look."`
	In         []string      `json:"repositories" doc:"That have it. That alone does not keep it."`
	Holds      []holdingView `json:"holds" doc:"Manifests that keep it, and the indexes above them; at most 1000."`
	Uploads    []string      `json:"uploads" doc:"Uploads that are about to become it."`
	HeldBy     []string      `json:"heldBy"`
	More       bool          `json:"more" doc:"There are more than are named."`
}

type holdingView struct {
	Repository string     `json:"repository"`
	Manifest   string     `json:"manifest"`
	Keeps      string     `json:"keeps" doc:"What it keeps: the content itself, or a manifest that does."`
	As         string     `json:"as" enum:"itself,config,layer,manifest,subject,other"`
	Tags       []string   `json:"tags"`
	Subject    string     `json:"subject,omitempty" doc:"That it refers to."`
	TrashUntil *time.Time `json:"trashUntil,omitempty" doc:"It is in the trash, and is purged then."`
}

type whyInput struct {
	Digest string `path:"digest" format:"digest" doc:"sha256: or sha512: with the hexadecimal digest."`
}

func (h *Handler) why(ctx context.Context, in *whyInput) (*shown[reasonsView], error) {
	d, err := digestOfPath(in.Digest)
	if err != nil {
		return nil, err
	}
	w, err := h.Collector.Why(ctx, d)
	if err != nil {
		return nil, orUnknown(err, fault.BlobUnknown, "content %s is not in this registry", d)
	}
	lease := w.Blob.LeaseUntil
	return show(reasonsView{
		Digest: text(d), Size: w.Blob.Size, Kept: len(w.Holds)+len(w.Uploads) > 0 || w.Blob.State != metadb.Claimed && lease.After(h.Now()), State: stateWord(w.Blob.State), LeaseUntil: stamp(lease),
		In: append([]string{}, w.Links...), Uploads: append([]string{}, w.Uploads...), HeldBy: append([]string{}, w.Held...), More: w.More,
		Holds: viewAll(w.Holds, func(h metadb.Holding) holdingView {
			return holdingView{Repository: h.Repository, Manifest: text(h.Manifest), Keeps: text(h.Child), As: edgeWord(h.Kind), Tags: append([]string{}, h.Tags...),
				Subject: text(h.Subject), TrashUntil: stamp(h.TrashUntil)}
		}),
	})
}

// edgeWord says as what a manifest keeps something.
func edgeWord(k metadb.EdgeKind) string {
	switch k {
	case 0:
		return "itself"
	case metadb.ConfigEdge:
		return "config"
	case metadb.LayerEdge:
		return "layer"
	case metadb.ManifestEdge:
		return "manifest"
	case metadb.SubjectEdge:
		return "subject"
	}
	return "other"
}

func stateWord(s metadb.BlobState) string {
	switch s {
	case metadb.Live:
		return "live"
	case metadb.Claimed:
		return "claimed"
	case metadb.Damaged:
		return "damaged"
	}
	return "other"
}
