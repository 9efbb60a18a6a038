// Package scrub looks whether the bytes that the registry keeps are still what their digests say: of every blob, wherever
// it lies, a piece at a time. What it finds to be wrong or gone it puts aside, so that nobody is told that it is there, names
// it with the tags that need it, and repairs it where other bytes are at hand; an ordinary push repairs the rest. `berthd
// fsck` is the same pass at once, with questions to the rows of each other and to the store about what has no row.
//
// It may assume that rows are true (metadb) and that bytes lie where a row says (blob). A store that does not answer is not
// damage: what could not be looked at is counted as that. And a store that has nothing at all of what it should have is
// most likely another one, or not mounted: then nothing is put aside.
//
// Start reading at [Service.pass].
package scrub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/fault"
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
	// Rate is how many bytes a second the scheduled pass reads; 0 is without a bound.
	Rate int64
	// Interval is the time between the beginnings of scheduled passes; 0 is no schedule.
	Interval time.Duration
	// Upstreams are other registries, asked in this order for the right bytes of what is damaged.
	Upstreams []Upstream
	// Forget drops what memory has of a blob in repositories; nil when nothing is remembered.
	Forget  func(d oci.Digest, repos ...int64)
	Metrics prometheus.Registerer // nil: nothing is measured

	Now func() time.Time
	Log *slog.Logger
}

// Service is the engine. Safe for concurrent use.
type Service struct {
	o       Options
	metrics *metrics

	upstreams []*upstream
	calm      *pace // of repairs outside of passes

	scrubs, checks *job.Queue[Ask]
	looks          *job.Queue[lookArgs]
}

// New returns a Service.
func New(o Options) *Service {
	if o.Forget == nil {
		o.Forget = func(oci.Digest, ...int64) {}
	}
	s := &Service{o: o, metrics: newMetrics(o), calm: newPace(o.Rate, o.Now)}
	for _, u := range o.Upstreams {
		s.upstreams = append(s.upstreams, newUpstream(u, o.Now))
	}
	return s
}

// Ask says what a pass does besides looking at every blob.
type Ask struct {
	By         string `json:"by,omitempty"`         // "scrub" or "fsck"
	Rate       int64  `json:"rate,omitempty"`       // bytes a second; 0 is without a bound
	References bool   `json:"references,omitempty"` // ask the rows of each other
	Orphans    bool   `json:"orphans,omitempty"`    // look for content in the store that has no row
	Remove     bool   `json:"remove,omitempty"`     // and delete what is older than a day
	RepairFrom string `json:"repairFrom,omitempty"` // directory, on the machine of the server, with other copies of blobs
}

// Report is what a pass has found so far.
type Report struct {
	Job       int64     `json:"job,omitempty"`
	By        string    `json:"by"`
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"` // zero while it runs

	Blobs     int64 `json:"blobs"`     // looked at
	Bytes     int64 `json:"bytes"`     // of them
	Total     int64 `json:"total"`     // blobs that there were in the beginning
	Damaged   int64 `json:"damaged"`   // whose bytes are wrong, whenever that was found
	Missing   int64 `json:"missing"`   // whose bytes are gone
	Repaired  int64 `json:"repaired"`  // from another copy
	Released  int64 `json:"released"`  // were found to be right again
	Unchecked int64 `json:"unchecked"` // could not be looked at, because the store did not answer

	RepairedFrom   map[string]int64 `json:"repairedFrom,omitempty"`   // of Repaired, by host; "directory" for --repair-from
	LastUnrepaired string           `json:"lastUnrepaired,omitempty"` // why the last could not be repaired that was tried

	References []Reference `json:"references,omitempty"` // at most 1000
	Broken     int64       `json:"broken,omitempty"`     // rows that refer to what is not there

	Orphans       int64    `json:"orphans,omitempty"` // content without a row, older than a day
	OrphanBytes   int64    `json:"orphanBytes,omitempty"`
	OrphansNamed  []string `json:"orphansNamed,omitempty"` // at most 100 of them
	OrphansGone   int64    `json:"orphansGone,omitempty"`  // deleted
	NotListed     bool     `json:"notListed,omitempty"`    // the store cannot say what it has
	LastUnchecked string   `json:"lastUnchecked,omitempty"`
}

// Clean says that everything that was looked at is right.
func (r *Report) Clean() bool { return r.Damaged == 0 && r.Missing == 0 && r.Broken == 0 }

func (r *Report) repaired(from string) {
	r.Repaired++
	if r.RepairedFrom == nil {
		r.RepairedFrom = map[string]int64{}
	}
	r.RepairedFrom[from]++
}

func (r *Report) notRepaired(d oci.Digest, err error) {
	r.LastUnrepaired = fmt.Sprintf("%s: %s", d, why(err))
}

// why is what people are told of a failure: what a fault says in public, and of what has no words for them only that.
func why(err error) string {
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return f.Message
	}
	if wrong := (*blob.WrongError)(nil); errors.As(err, &wrong) {
		return "the copy is not right, either"
	}
	return err.Error()
}

// Reference is a row that refers to what is not there.
type Reference struct {
	Kind       string `json:"kind"` // "manifest", "blob" or "tag": what is not there
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`        // that refers, or that is referred to
	Digest     string `json:"digest,omitzero"` // of the blob
}

// Finding is a damaged blob, and who needs it.
type Finding struct {
	metadb.Damage
	Needs []metadb.Need // at most maxNeeds
}

const maxNeeds = 1000

// Damaged are up to limit damaged blobs behind a digest, with what needs them; the zero digest begins.
func (s *Service) Damaged(ctx context.Context, after oci.Digest, limit int) ([]Finding, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.IntegrityRead); err != nil {
		return nil, err
	}
	all, err := s.o.DB.Damages(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("scrub: damaged blobs: %w", err)
	}
	out := make([]Finding, len(all))
	for i, m := range all {
		out[i].Damage = m
		if out[i].Needs, err = s.o.DB.Needs(ctx, m.Digest, maxNeeds); err != nil {
			return nil, fmt.Errorf("scrub: who needs blob %s: %w", m.Digest, err)
		}
	}
	return out, nil
}

// Start has a berthd begin a pass now, and returns the number of its job; while one is on its way that is its number.
func (s *Service) Start(ctx context.Context, a Ask) (jobID int64, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.IntegrityWrite); err != nil {
		return 0, err
	}
	if err := a.valid(); err != nil {
		return 0, err
	}
	a.By = byFsck
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		jobID, err = s.checks.Enqueue(tx, a, job.Ask{Key: "now", NotAgain: true})
		return err
	})
	return jobID, err
}

func (a *Ask) valid() error {
	switch {
	case a.Rate < 0:
		return fault.New(fault.Invalid, fault.Unknown, "rate is %d bytes a second; give a positive number, or 0 for no bound", a.Rate)
	case a.Remove && !a.Orphans:
		return fault.New(fault.Invalid, fault.Unknown, "removing content without a row needs the search for it")
	}
	if a.RepairFrom != "" {
		c, err := openCopies(a.RepairFrom)
		if err != nil {
			return fault.New(fault.Invalid, fault.Unknown, "directory %s cannot be used for repairs: %v", a.RepairFrom, err)
		}
		return c.close()
	}
	return nil
}

// Report is what the pass of a job has found, so far when it runs; of job 0 it is that of the pass that ended last. NotFound
// when there is none.
func (s *Service) Report(ctx context.Context, jobID int64) (Report, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.IntegrityRead); err != nil {
		return Report{}, err
	}
	var text string
	var err error
	if jobID == 0 {
		text, err = s.o.DB.Setting(ctx, reportSetting)
	} else {
		var j metadb.Job
		if j, err = s.o.DB.Job(ctx, jobID); err == nil && j.Kind != byScrub && j.Kind != byFsck {
			err = metadb.ErrNotFound
		}
		text = j.Progress.Position
	}
	if errors.Is(err, metadb.ErrNotFound) {
		return Report{}, fault.New(fault.NotFound, fault.Unknown, "no check of the stored content has ended yet, or its report was removed with its job; begin one with berthd fsck")
	}
	if err != nil {
		return Report{}, fmt.Errorf("scrub: report: %w", err)
	}
	p, err := parsePosition(text)
	if err != nil {
		return Report{}, err
	}
	if jobID != 0 {
		p.Report.Job = jobID
	}
	return p.Report, nil
}

// Check runs a pass in the caller's process, where no berthd runs. progress is called now and then; it may be nil.
func (s *Service) Check(ctx context.Context, a Ask, progress func(Report)) (Report, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.IntegrityWrite); err != nil {
		return Report{}, err
	}
	if err := a.valid(); err != nil {
		return Report{}, err
	}
	a.By = byFsck
	if progress == nil {
		progress = func(Report) {}
	}
	p := position{Report: Report{By: a.By, StartedAt: s.o.Now()}}
	err := s.pass(ctx, a, &p, func(p *position) { progress(p.Report) })
	return p.Report, err
}
