package scrub

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what this replica counts, and what the database says of all.
type metrics struct {
	blobs, bytes              prometheus.Counter
	damage, repairs, failures *prometheus.CounterVec
	last                      prometheus.Gauge
}

func newMetrics(o Options) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		blobs:    counter("registry_scrub_blobs_total", "Blobs whose bytes were verified by this replica, not counting pulls."),
		bytes:    counter("registry_scrub_bytes_total", "Bytes of them."),
		repairs:  vector("registry_scrub_repaired_total", "Damaged blobs that were repaired from another copy, by the host of the registry that had it, or directory.", "from"),
		failures: vector("registry_scrub_repair_failures_total", "Damaged blobs that a registry could not repair for another reason than not having them, by its host.", "from"),
		damage:   vector("registry_scrub_damaged_total", "Blobs that were found to be damaged, by what was found, wrong bytes or none (missing), and by whom: scrub, fsck or a pull.", "found", "by"),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "registry_scrub_last_completed_timestamp_seconds", Help: "When a check of all blobs ended on this replica last, in seconds since 1970; 0 for not since it started.",
		}),
	}
	for _, found := range []string{"wrong", "missing"} {
		for _, by := range []string{byScrub, byFsck, byPull} {
			m.damage.WithLabelValues(found, by)
		}
	}
	m.repairs.WithLabelValues(directory)
	for _, u := range o.Upstreams {
		m.repairs.WithLabelValues(u.Host)
		m.failures.WithLabelValues(u.Host)
	}
	if o.Metrics == nil {
		return m
	}
	o.Metrics.MustRegister(m.blobs, m.bytes, m.repairs, m.failures, m.damage, m.last, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "registry_damaged_blobs", Help: "Blobs that are damaged at this moment, as the database says; a push of them repairs them.",
	}, func() float64 {
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		n, _, err := o.DB.CountDamage(ctx)
		if err != nil {
			return -1
		}
		return float64(n)
	}))
	return m
}

func (m *metrics) looked(bytes int64) {
	m.blobs.Inc()
	m.bytes.Add(float64(bytes))
}

func (m *metrics) found(missing bool, by string) {
	what := "wrong"
	if missing {
		what = "missing"
	}
	m.damage.WithLabelValues(what, by).Inc()
}

func (m *metrics) repaired(from string) { m.repairs.WithLabelValues(from).Inc() }

func (m *metrics) unrepaired(from string) { m.failures.WithLabelValues(from).Inc() }

func (m *metrics) ended(r *Report) { m.last.Set(float64(r.EndedAt.Unix())) }
