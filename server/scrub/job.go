package scrub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// Who found a damage; scrub and fsck are kinds of jobs, too.
const (
	byScrub = "scrub"
	byFsck  = "fsck"
	byPull  = "pull"
	kLook   = "scrub.look"
)

// reportSetting keeps the report of the pass that ended last.
const reportSetting = "scrub.report"

// Jobs makes the passes jobs of j: one at a time on all replicas, that goes on where it was when its replica stops.
func (s *Service) Jobs(j *job.Service) (err error) {
	kind := func(name string) job.Kind {
		return job.Kind{Name: name, Everywhere: 1, MaxAttempts: 5, FirstPause: time.Minute}
	}
	if s.scrubs, err = job.Handle(j, kind(byScrub), func(ctx context.Context, w *job.Work, a Ask) error {
		a.By, a.Rate, a.References = byScrub, s.o.Rate, true // as the configuration is now
		return s.work(ctx, w, a)
	}); err != nil {
		return err
	}
	if s.checks, err = job.Handle(j, kind(byFsck), s.work); err != nil {
		return err
	}
	if s.looks, err = job.Handle(j, job.Kind{Name: kLook, MaxAttempts: 5}, s.lookAgain); err != nil {
		return err
	}
	if s.o.Interval <= 0 {
		return nil
	}
	return job.Every(s.scrubs, byScrub, "@every "+max(s.o.Interval.Round(time.Second), time.Second).String(), Ask{})
}

// position is where a pass continues, with what it has found before.
type position struct {
	Phase  phase      `json:"phase"`
	After  oci.Digest `json:"-"`
	Behind string     `json:"after,omitempty"` // After as text
	Number int64      `json:"number,omitempty"`
	Report Report     `json:"report"`
}

func (p *position) text() string {
	p.Behind = p.After.String()
	b, err := json.Marshal(p)
	if err != nil { // numbers, times and texts
		panic(err)
	}
	return string(b)
}

func parsePosition(text string) (p position, err error) {
	if text == "" {
		return p, nil
	}
	if err = json.Unmarshal([]byte(text), &p); err == nil && p.Behind != "" {
		p.After, err = oci.ParseDigest(p.Behind)
	}
	if err != nil {
		return p, fmt.Errorf("scrub: position %.100q of a job cannot be read: %w", text, err)
	}
	return p, nil
}

// work is a pass as a job.
func (s *Service) work(ctx context.Context, w *job.Work, a Ask) error {
	p, err := parsePosition(w.Position())
	if err != nil {
		return job.Permanent(err)
	}
	if p.Report.StartedAt.IsZero() {
		p.Report = Report{By: a.By, StartedAt: s.o.Now()}
	}
	show := func(p *position) {
		w.Save(p.text())
		w.Progress(p.Report.Blobs, p.Report.Total, p.Report.String())
	}
	if err := s.pass(ctx, a, &p, show); err != nil {
		return err
	}
	p.Report.Job = w.ID()
	return w.Update(ctx, func(tx *metadb.Tx) error { return tx.PutSetting(reportSetting, p.text()) })
}

// String is a line for people.
func (r *Report) String() string {
	line := fmt.Sprintf("%d blobs (%d bytes) looked at, %d damaged, %d missing", r.Blobs, r.Bytes, r.Damaged, r.Missing)
	for _, more := range []struct {
		n    int64
		what string
	}{
		{r.Repaired, "repaired" + r.sources()}, {r.Released, "right again"}, {r.Unchecked, "could not be looked at"},
		{r.Broken, "broken references"}, {r.Orphans, "without a row"}, {r.OrphansGone, "of these deleted"},
	} {
		if more.n > 0 {
			line += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return line
}

// sources says where repairs came from.
func (r *Report) sources() string {
	var all []string
	for _, from := range slices.Sorted(maps.Keys(r.RepairedFrom)) {
		all = append(all, fmt.Sprintf("%d from %s", r.RepairedFrom[from], from))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

type lookArgs struct {
	Digest string `json:"digest"`
}

// Suspect counts a blob that a pull found to be wrong and has somebody look again: it may have been pushed again meanwhile, or
// what was wrong was the reading. If not, it is repaired from an upstream.
func (s *Service) Suspect(tx *metadb.Tx, m metadb.Damage) error {
	tx.AfterCommit(func() { s.metrics.found(m.Missing, byPull) })
	_, err := s.looks.Enqueue(tx, lookArgs{m.Digest.String()}, job.Ask{Key: m.Digest.String()})
	return err
}

func (s *Service) lookAgain(ctx context.Context, _ *job.Work, a lookArgs) error {
	d, err := oci.ParseDigest(a.Digest)
	if err != nil {
		return job.Permanent(err)
	}
	released, err := s.release(ctx, d)
	if released || err != nil || len(s.upstreams) == 0 {
		return err
	}
	b, err := s.o.DB.BlobAnywhere(ctx, d)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && b.State != metadb.Damaged {
		return nil
	}
	if err != nil {
		return err
	}
	host, err := s.fetch(ctx, b, s.calm)
	if errors.Is(err, errNowhere) {
		return nil // a push repairs it; the next pass asks again
	}
	if err == nil {
		s.metrics.repaired(host)
	}
	return err
}
