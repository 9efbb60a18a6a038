package gc

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	deleted, bytes, failures prometheus.Counter
	waiting, due, claimed    prometheus.Gauge
	oldest, last             prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_gc_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "registry_gc_" + name, Help: help})
	}
	m := &metrics{
		deleted:  counter("deleted_blobs_total", "Blobs that collection has deleted."),
		bytes:    counter("deleted_bytes_total", "Bytes of the blobs that collection has deleted."),
		failures: counter("failed_deletions_total", "Blobs that the store did not delete; they are tried again."),
		waiting:  gauge("queue_blobs", "Blobs that collection will look at, due or not."),
		due:      gauge("queue_due_blobs", "Blobs that collection has to look at now."),
		claimed:  gauge("claimed_blobs", "Blobs that are being deleted."),
		oldest:   gauge("queue_oldest_due_seconds", "For how long the oldest blob of the queue has been due."),
		last:     gauge("last_run_timestamp_seconds", "When collection last ran on this replica, in seconds since 1970."),
	}
	if r != nil {
		r.MustRegister(m.deleted, m.bytes, m.failures, m.waiting, m.due, m.claimed, m.oldest, m.last)
	}
	return m
}

func (m *metrics) gone(blobs int, bytes int64) {
	m.deleted.Add(float64(blobs))
	m.bytes.Add(float64(bytes))
}

func (m *metrics) failed(blobs int) { m.failures.Add(float64(blobs)) }

// measure looks at the queue after a run, so that nobody who reads the metrics pays for it.
func (s *Service) measure(ctx context.Context) {
	now := s.o.Now()
	s.metrics.last.Set(float64(now.Unix()))
	q, err := s.o.DB.CollectionQueue(ctx, now)
	if err != nil {
		return // the next run measures
	}
	s.metrics.waiting.Set(float64(q.Waiting))
	s.metrics.due.Set(float64(q.Due))
	s.metrics.claimed.Set(float64(q.Claimed))
	age := 0.0
	if !q.Oldest.IsZero() {
		age = max(0, now.Sub(q.Oldest).Seconds())
	}
	s.metrics.oldest.Set(age)
}
