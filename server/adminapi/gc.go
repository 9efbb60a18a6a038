package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/gc"
	"github.com/berth-registry/berth/server/metadb"
)

// collector is what the face needs of the gc room.
type collector interface {
	Start(ctx context.Context, a gc.Ask) (jobID int64, err error)
	Status(ctx context.Context) (gc.Status, error)
	Preview(ctx context.Context, a gc.Ask) (gc.Preview, error)
	Why(ctx context.Context, d oci.Digest) (metadb.Reasons, error)
}

func gcRoutes() []route {
	return []route{
		{id: "startCollection", method: http.MethodPost, pattern: "gc", needs: administrator, serve: (*call).startCollection},
		{id: "getCollection", method: http.MethodGet, pattern: "gc", needs: administrator, serve: (*call).collectionStatus},
		{id: "previewCollection", method: http.MethodGet, pattern: "gc/preview", needs: administrator, query: []string{"deleteUntagged"}, serve: (*call).previewCollection},
		{id: "explainContent", method: http.MethodGet, pattern: "gc/why/{digest}", needs: administrator, serve: (*call).why},
	}
}

// collection is the body of startCollection.
type collection struct {
	DeleteUntagged bool `json:"deleteUntagged"`
	Rate           int  `json:"rate"`
}

func (c *call) startCollection() error {
	var b collection
	if err := c.body(&b); err != nil {
		return err
	}
	if b.Rate < 0 {
		return badField("rate", "member \"rate\" expects blobs a second, or 0 for the rate of the configuration, got %d", b.Rate)
	}
	return c.started(c.h.Collector.Start(c.ctx(), gc.Ask{DeleteUntagged: b.DeleteUntagged, Rate: b.Rate}))
}

type collectionView struct {
	Waiting   int64          `json:"waiting"`
	Due       int64          `json:"due"`
	Claimed   int64          `json:"claimed"`
	OldestDue *time.Time     `json:"oldestDue,omitempty"`
	HeldBy    []string       `json:"heldBy"`
	Last      *collectedView `json:"last,omitempty"`
	Seconds   float64        `json:"intervalSeconds"`
	Untagged  float64        `json:"untaggedSeconds"`
	TrashHeld float64        `json:"trashHoldSeconds"`
}

type collectedView struct {
	Job       int64      `json:"job,omitempty"`
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Examined  int64      `json:"examined"`
	Deleted   int64      `json:"deleted"`
	Bytes     int64      `json:"bytes"`
	Failed    int64      `json:"failed"`
	Trashed   int64      `json:"trashed"`
	Purged    int64      `json:"purged"`
	Unlinked  int64      `json:"unlinked"`
	HeldBy    []string   `json:"heldBy"`
	LastError string     `json:"lastError,omitempty"`
}

func (c *call) collectionStatus() error {
	st, err := c.h.Collector.Status(c.ctx())
	if err != nil {
		return err
	}
	v := collectionView{
		Waiting: st.Queue.Waiting, Due: st.Queue.Due, Claimed: st.Queue.Claimed, OldestDue: stamp(st.Queue.Oldest), HeldBy: append([]string{}, st.Held...),
		Seconds: st.Interval.Seconds(), Untagged: st.Untagged.Seconds(), TrashHeld: st.TrashHold.Seconds(),
	}
	if r := st.Last; r != nil {
		v.Last = &collectedView{
			Job: r.Job, StartedAt: r.StartedAt.UTC(), EndedAt: stamp(r.EndedAt), Examined: r.Examined, Deleted: r.Deleted, Bytes: r.Bytes, Failed: r.Failed,
			Trashed: r.Trashed, Purged: r.Purged, Unlinked: r.Unlinked, HeldBy: append([]string{}, r.Held...), LastError: r.LastError,
		}
	}
	return c.ok(v)
}

type previewView struct {
	Blobs           int64 `json:"blobs"`
	Bytes           int64 `json:"bytes"`
	Later           int64 `json:"later"`
	LaterBytes      int64 `json:"laterBytes"`
	Examined        int64 `json:"examined"`
	Manifests       int64 `json:"manifests"`
	Afterwards      int64 `json:"afterwards"`
	AfterwardsBytes int64 `json:"afterwardsBytes"`
}

func (c *call) previewCollection() error {
	all, err := c.flag("deleteUntagged")
	if err != nil {
		return err
	}
	p, err := c.h.Collector.Preview(c.ctx(), gc.Ask{DeleteUntagged: all})
	if err != nil {
		return err
	}
	return c.ok(previewView{
		Blobs: p.Blobs, Bytes: p.Bytes, Later: p.Later, LaterBytes: p.LaterBytes, Examined: p.Examined,
		Manifests: p.Manifests, Afterwards: p.Afterwards, AfterwardsBytes: p.AfterwardsBytes,
	})
}

// flag is a parameter of the query that is true or false, false when it is not there.
func (c *call) flag(name string) (bool, error) {
	text := c.r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, badField(name, "%s expects true or false, got %.100q", name, text)
	}
	return b, nil
}

type reasonsView struct {
	Digest     string        `json:"digest"`
	Size       int64         `json:"size"`
	Kept       bool          `json:"kept"`
	State      string        `json:"state"`
	LeaseUntil *time.Time    `json:"leaseUntil,omitempty"`
	In         []string      `json:"repositories"`
	Holds      []holdingView `json:"holds"`
	Uploads    []string      `json:"uploads"`
	HeldBy     []string      `json:"heldBy"`
	More       bool          `json:"more"`
}

type holdingView struct {
	Repository string     `json:"repository"`
	Manifest   string     `json:"manifest"`
	Keeps      string     `json:"keeps"`
	As         string     `json:"as"`
	Tags       []string   `json:"tags"`
	Subject    string     `json:"subject,omitempty"`
	TrashUntil *time.Time `json:"trashUntil,omitempty"`
}

func (c *call) why() error {
	d, err := c.digest(0)
	if err != nil {
		return err
	}
	w, err := c.h.Collector.Why(c.ctx(), d)
	if err != nil {
		return orUnknown(err, fault.BlobUnknown, "content %s is not in this registry", d)
	}
	lease := w.Blob.LeaseUntil
	return c.ok(reasonsView{
		Digest: text(d), Size: w.Blob.Size, Kept: len(w.Holds)+len(w.Uploads) > 0 || w.Blob.State != metadb.Claimed && lease.After(c.h.Now()), State: stateWord(w.Blob.State), LeaseUntil: stamp(lease),
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
