package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program this is, for the build info metric.
type Build struct {
	Version   string
	Revision  string
	GoVersion string
}

// Metrics is the registry of everything that is measured, with the families that more than one room feeds. Names are
// those of CNCF distribution where it has them, so that existing dashboards keep working.
type Metrics struct {
	Registry *prometheus.Registry

	action        *prometheus.HistogramVec
	cacheRequests *prometheus.CounterVec
	cacheHits     *prometheus.CounterVec
	cacheErrors   *prometheus.CounterVec
}

// NewMetrics makes a registry that already holds the Go runtime's and the process's own metrics. Every call makes an
// independent registry, so that tests and several servers in one process do not meet.
func NewMetrics(b Build) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		action: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "registry_storage_action_seconds",
			Help:    "Seconds that an action of the blob store took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"driver", "action"}),
		cacheRequests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_storage_cache_requests_total", Help: "Look-ups in a cache.",
		}, []string{"cache"}),
		cacheHits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_storage_cache_hits_total", Help: "Look-ups that a cache answered.",
		}, []string{"cache"}),
		cacheErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_storage_cache_errors_total", Help: "Look-ups that failed.",
		}, []string{"cache"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "berth_build_info", Help: "Constant 1, with the version as labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion},
	})
	info.Set(1)
	m.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info, m.action, m.cacheRequests, m.cacheHits, m.cacheErrors,
	)
	return m
}

// Action is one measured action of one storage driver. Resolve it once, observe it often.
type Action struct{ observer prometheus.Observer }

// StorageAction resolves the histogram of an action, such as "fs", "commit".
func (m *Metrics) StorageAction(driver, action string) Action {
	return Action{m.action.WithLabelValues(driver, action)}
}

// Observe records how long the action took. The zero Action records nothing.
func (a Action) Observe(d time.Duration) {
	if a.observer != nil {
		a.observer.Observe(d.Seconds())
	}
}

// Cache counts the look-ups of one cache. Resolve it once; the zero Cache counts nothing.
type Cache struct{ requests, hits, errors prometheus.Counter }

// StorageCache resolves the counters of a cache, such as "manifest" or "tag".
func (m *Metrics) StorageCache(name string) Cache {
	return Cache{m.cacheRequests.WithLabelValues(name), m.cacheHits.WithLabelValues(name), m.cacheErrors.WithLabelValues(name)}
}

// Hit counts a look-up that was answered.
func (c Cache) Hit() {
	if c.requests != nil {
		c.requests.Inc()
		c.hits.Inc()
	}
}

// Miss counts a look-up that was not answered.
func (c Cache) Miss() {
	if c.requests != nil {
		c.requests.Inc()
	}
}

// Failed counts a look-up that failed.
func (c Cache) Failed() {
	if c.requests != nil {
		c.requests.Inc()
		c.errors.Inc()
	}
}
