package job

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/server/metadb"
)

// countEvery is how long a count of the queue is good enough for another scrape.
const countEvery = 10 * time.Second

// measure registers what is measured.
func (s *Service) measure() error {
	s.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "registry_jobs_seconds", Help: "Seconds that an attempt at a job took on this replica, by how it ended.",
		Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 60, 300, 1800, 7200},
	}, []string{"kind", "outcome"})
	if s.o.Metrics == nil {
		return nil
	}
	if err := s.o.Metrics.Register(s.seconds); err != nil {
		return err
	}
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("registry_jobs_"+name, help, []string{"kind"}, nil)
	}
	return s.o.Metrics.Register(&gauges{s: s,
		scheduled: describe("scheduled", "Jobs that are not due yet, of all replicas."),
		queued:    describe("queued", "Jobs that are due, of all replicas."),
		running:   describe("running", "Jobs that run, on all replicas."),
		oldest:    describe("oldest_queued_age_seconds", "For how long the job that has waited longest has been due."),
	})
}

// gauges count the queue when they are scraped.
type gauges struct {
	s                                  *Service
	scheduled, queued, running, oldest *prometheus.Desc

	mu     sync.Mutex
	at     time.Time
	counts []metadb.JobCount
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.scheduled, g.queued, g.running, g.oldest} {
		to <- d
	}
}

// Collect implements prometheus.Collector. While the database does not answer there are no such figures.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	now := g.s.o.Now()
	for kind, n := range g.count(now) {
		for d, v := range map[*prometheus.Desc]float64{g.scheduled: n.scheduled, g.queued: n.queued, g.running: n.running, g.oldest: n.oldest} {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, kind)
		}
	}
}

type figures struct{ scheduled, queued, running, oldest float64 }

// count is the queue by kind: every kind that has a handler, so that a queue that is empty says zero.
func (g *gauges) count(now time.Time) map[string]figures {
	g.mu.Lock()
	defer g.mu.Unlock()
	if age := now.Sub(g.at); g.at.IsZero() || age >= countEvery || age < 0 {
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		defer stop()
		counts, err := g.s.o.DB.LiveJobs(ctx)
		if err != nil {
			return nil
		}
		g.at, g.counts = now, counts
	}
	all := map[string]figures{}
	g.s.mu.Lock()
	for _, name := range g.s.names {
		all[name] = figures{}
	}
	g.s.mu.Unlock()
	for _, c := range g.counts {
		f := all[c.Kind]
		switch c.State { //nolint:exhaustive // LiveJobs has no others
		case metadb.JobScheduled:
			f.scheduled = float64(c.N)
		case metadb.JobQueued:
			f.queued, f.oldest = float64(c.N), max(0, now.Sub(c.Since).Seconds())
		case metadb.JobRunning:
			f.running = float64(c.N)
		}
		all[c.Kind] = f
	}
	return all
}
