// Package gc gives back the space of what nobody needs any more, while the registry is in full use. It decides nothing
// about a blob that metadb does not decide in one transaction ([metadb.Tx.Collect], whose package comment says why no push,
// mount or restore loses anything to it); here is when, how fast and how often, what is deleted from the store, and what
// people are told about it.
//
// Every replica collects at every interval. They share the queue without waiting for each other, and one that dies leaves
// claims that another takes over. A run on demand is a job, which goes on elsewhere when its replica stops.
//
// Start reading at [Service.pass].
package gc

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// gate is the authorization point.
type gate interface {
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// Options configure a Service. DB, Blobs, Access, Now and Log are required.
type Options struct {
	DB     *metadb.DB
	Blobs  blob.Store
	Access gate
	// Interval is the time between two runs of Run; default 1 minute.
	Interval time.Duration
	// Grace is metadb's: for how long after a clock was set forward leases are judged by the time that has really passed.
	Grace time.Duration
	// TrashHold is how long manifests stay in the trash that collection puts there.
	TrashHold time.Duration
	// Untagged is the age at which manifests that nothing points at go to the trash; 0 is never.
	Untagged time.Duration
	// Rate is how many blobs a second are deleted at most, on this replica; 0 is without a bound.
	Rate int
	// Window bounds the time of day of Run; the zero Window is any time.
	Window Window
	// ReadOnly stops Run from doing anything: nothing is to be changed now.
	ReadOnly bool
	// Forget drops what memory has of content in repositories; nil when nothing is remembered.
	Forget func(d oci.Digest, repos ...int64)
	// Sweep ends abandoned uploads, and is part of a run on demand; nil for nothing.
	Sweep func(ctx context.Context) error

	Metrics prometheus.Registerer // nil: nothing is measured
	Now     func() time.Time      // by the database's clock
	// Steady is how much time has really passed since some moment, whatever the clock was set to; nil trusts the clock.
	Steady func() time.Duration
	// Busy says whether others are at work, out of whose way collection is to keep; nil: nobody ever is.
	Busy func() bool
	Log  *slog.Logger

	Batch   int // blobs that are decided in one transaction and deleted with one call; default 1000
	Workers int // batches that are deleted at a time; default 4
}

// Service is the engine. Safe for concurrent use.
type Service struct {
	o       Options
	metrics *metrics
	clock   *clock
	budget  *budget
	manners *manners
	runs    *job.Queue[Ask]

	mu       sync.Mutex
	last     Report    // of this replica, that did something
	policyAt time.Time // when the manifests were last looked through
}

// New returns a Service.
func New(o Options) *Service {
	o.Interval = cmp.Or(o.Interval, time.Minute)
	o.Grace = cmp.Or(o.Grace, 24*time.Hour)
	o.Batch = cmp.Or(o.Batch, 1000)
	o.Workers = cmp.Or(o.Workers, 4)
	if o.Forget == nil {
		o.Forget = func(oci.Digest, ...int64) {}
	}
	return &Service{o: o, metrics: newMetrics(o.Metrics), clock: &clock{now: o.Now, steady: o.Steady, grace: o.Grace}, budget: newBudget(o.Rate, pace(o)), manners: newManners(o)}
}

// pace is the clock by which rates are kept.
func pace(o Options) func() time.Duration {
	if o.Steady != nil {
		return o.Steady
	}
	began := o.Now()
	return func() time.Duration { return o.Now().Sub(began) }
}

// Ask says what a run does.
type Ask struct {
	// DeleteUntagged puts every manifest that nothing points at into the trash that is older than the grace, whatever the
	// configuration says about them.
	DeleteUntagged bool `json:"deleteUntagged,omitempty"`
	// Rate is how many blobs a second the run deletes at most; 0 is as configured.
	Rate int `json:"rate,omitempty"`
}

// Report is what a run has done so far.
type Report struct {
	Job       int64     `json:"job,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"` // zero while it runs

	Examined  int64    `json:"examined"`       // blobs that were looked at
	Deleted   int64    `json:"deleted"`        // of them
	Bytes     int64    `json:"bytes"`          // of what was deleted
	Failed    int64    `json:"failed"`         // that the store did not delete; they are tried again
	Trashed   int64    `json:"trashed"`        // manifests that went to the trash
	Purged    int64    `json:"purged"`         // manifests whose time in the trash was over
	Unlinked  int64    `json:"unlinked"`       // blobs that other repositories need, taken from one that does not
	Held      []string `json:"held,omitempty"` // who holds collection, so that nothing was deleted
	LastError string   `json:"lastError,omitempty"`
}

func (r *Report) idle() bool {
	return r.Deleted+r.Failed+r.Trashed+r.Purged+r.Unlinked == 0
}
