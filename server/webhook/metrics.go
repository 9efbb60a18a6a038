package webhook

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what is measured, under the names of CNCF distribution (notifications/metrics.go).
type Metrics struct {
	events  *prometheus.CounterVec
	pending *prometheus.GaugeVec
	status  *prometheus.CounterVec
	parked  *prometheus.GaugeVec
}

// NewMetrics makes them. Register what Collectors returns.
func NewMetrics() *Metrics {
	return &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_notifications_events_total",
			Help: "Events by what became of them: Events taken up, attempts that were Successes, Failures (another answer) and Errors (no answer), Dropped pulls, DeadLetters, and Lost ones that were trimmed before they could be sent.",
		}, []string{"type", "endpoint"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_notifications_pending_total", Help: "Events in the outbox that the endpoint does not have, as the replica that delivers sees it.",
		}, []string{"endpoint"}),
		status: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registry_notifications_status_total", Help: "Answers of the endpoint by status.",
		}, []string{"code", "endpoint"}),
		parked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_notifications_parked", Help: "Events that the endpoint would not take: waiting ones, and dead ones that were given up.",
		}, []string{"endpoint", "state"}),
	}
}

// Collectors are what to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.events, m.pending, m.status, m.parked}
}

// meter is the metrics of one endpoint.
type meter struct {
	m    *Metrics
	name string
}

func (m *Metrics) endpoint(name string) meter { return meter{m, name} }

func (m meter) count(kind string, n int) {
	m.m.events.WithLabelValues(kind, m.name).Add(float64(n))
}

func (m meter) erred() { m.count("Errors", 1) }

func (m meter) answered(status int, ok bool) {
	m.m.status.WithLabelValues(fmt.Sprintf("%d %s", status, http.StatusText(status)), m.name).Inc()
	if ok {
		m.count("Successes", 1)
	} else {
		m.count("Failures", 1)
	}
}

func (m meter) setPending(n int) { m.m.pending.WithLabelValues(m.name).Set(float64(n)) }

func (m meter) setParked(waiting, dead int64) {
	m.m.parked.WithLabelValues(m.name, "waiting").Set(float64(waiting))
	m.m.parked.WithLabelValues(m.name, "dead").Set(float64(dead))
}
