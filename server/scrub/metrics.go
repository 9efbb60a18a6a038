package scrub

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what this replica counts, and what the database says of all.
type metrics struct {
	blobs, bytes, repairs prometheus.Counter
	damage                *prometheus.CounterVec
	last                  prometheus.Gauge
}

func newMetrics(o Options) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		blobs:   counter("registry_scrub_blobs_total", "Blobs whose bytes were verified by this replica, not counting pulls."),
		bytes:   counter("registry_scrub_bytes_total", "Bytes of them."),
		repairs: counter("registry_scrub_repaired_total", "Damaged blobs that were repaired from another copy."),
		damage: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_scrub_damaged_total", Help: "Blobs that were found to be damaged by a check, by what was found: wrong bytes, or none (missing).",
		}, []string{"found"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "registry_scrub_last_completed_timestamp_seconds", Help: "When a check of all blobs ended on this replica last, in seconds since 1970; 0 for not since it started.",
		}),
	}
	for _, found := range []string{"wrong", "missing"} {
		m.damage.WithLabelValues(found)
	}
	if o.Metrics == nil {
		return m
	}
	o.Metrics.MustRegister(m.blobs, m.bytes, m.repairs, m.damage, m.last, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
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

func (m *metrics) found(v verdict) {
	what := "wrong"
	if v.missing {
		what = "missing"
	}
	m.damage.WithLabelValues(what).Inc()
}

func (m *metrics) repaired() { m.repairs.Inc() }

func (m *metrics) ended(r *Report) { m.last.Set(float64(r.EndedAt.Unix())) }
