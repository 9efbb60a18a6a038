package httpd

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/server/telemetry"
)

// httpMetrics measures requests under the names and labels of CNCF distribution (docker/go-metrics). Children are
// resolved once per combination and found again without a lock; the request counters are plain atomics that a
// collector turns into the family and its alias, so the alias costs a request nothing.
type httpMetrics struct {
	duration *prometheus.HistogramVec
	in       *prometheus.HistogramVec
	out      *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec

	requests *prometheus.Desc
	alias    *prometheus.Desc

	mu       sync.Mutex // writers only
	handlers atomic.Pointer[map[string]*handlerMetrics]
}

// handlerMetrics is everything that is measured about one route.
type handlerMetrics struct {
	name     string
	inFlight prometheus.Gauge
	in, out  prometheus.Observer
	methods  [len(methodNames)]methodMetrics
}

type methodMetrics struct {
	duration atomic.Pointer[prometheus.Observer]
	codes    [600]atomic.Uint64 // by status; 4.8 kB per method and route, and routes are few
}

// methodNames are lower case as in distribution; a method that is none of them is "other": a stranger must not be able
// to make label values.
const methodOther = 7

var methodNames = [...]string{"get", "head", "put", "post", "patch", "delete", "options", "other"}

// maxHandlers bounds the label should a face ever compute a name from a request.
const maxHandlers = 64

func newHTTPMetrics(registry prometheus.Registerer) *httpMetrics {
	m := &httpMetrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "registry_http_request_duration_seconds",
			Help:    "Seconds from the end of the request header to the end of the answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60, 300},
		}, []string{"handler", "method"}),
		in: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "registry_http_request_size_bytes", Help: "Bytes of request bodies.", Buckets: sizeBuckets(),
		}, []string{"handler"}),
		out: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "registry_http_response_size_bytes", Help: "Bytes of answer bodies.", Buckets: sizeBuckets(),
		}, []string{"handler"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "registry_http_in_flight_requests", Help: "Requests being served.",
		}, []string{"handler"}),
		requests: prometheus.NewDesc("registry_http_requests_total", "Requests answered.", []string{"handler", "method", "code"}, nil),
		alias:    prometheus.NewDesc("registry_requests_total", "The same as registry_http_requests_total, for dashboards that use this name.", []string{"handler", "method", "code"}, nil),
	}
	m.handlers.Store(&map[string]*handlerMetrics{})
	registry.MustRegister(m.duration, m.in, m.out, m.inFlight, m)
	return m
}

func sizeBuckets() []float64 { return prometheus.ExponentialBuckets(1024, 4, 13) } // 1 KiB to 16 GiB

// handler finds the metrics of a route.
func (m *httpMetrics) handler(name string) *handlerMetrics {
	if h := (*m.handlers.Load())[name]; h != nil {
		return h
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.handlers.Load()
	if len(known) >= maxHandlers {
		name = "other"
	}
	if h := known[name]; h != nil {
		return h
	}
	h := &handlerMetrics{
		name:     name,
		inFlight: m.inFlight.WithLabelValues(name),
		in:       m.in.WithLabelValues(name),
		out:      m.out.WithLabelValues(name),
	}
	grown := maps.Clone(known)
	grown[name] = h
	m.handlers.Store(&grown)
	return h
}

// observe records an answered request.
func (m *httpMetrics) observe(h *handlerMetrics, method, status int, in, out int64, took time.Duration) {
	child := &h.methods[method]
	if status >= 100 && status < len(child.codes) {
		child.codes[status].Add(1)
	}
	observer := child.duration.Load()
	if observer == nil { // only combinations that happen become series
		o := m.duration.WithLabelValues(h.name, methodNames[method])
		observer = &o
		child.duration.Store(observer)
	}
	(*observer).Observe(took.Seconds())
	if in > 0 {
		h.in.Observe(float64(in))
	}
	if out > 0 {
		h.out.Observe(float64(out))
	}
}

// Describe implements prometheus.Collector for the request counters.
func (m *httpMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.requests
	to <- m.alias
}

// Collect implements prometheus.Collector for the request counters.
func (m *httpMetrics) Collect(to chan<- prometheus.Metric) {
	for _, h := range *m.handlers.Load() {
		for i := range h.methods {
			for status := range h.methods[i].codes {
				n := h.methods[i].codes[status].Load()
				if n == 0 {
					continue
				}
				code := strconv.Itoa(status)
				to <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), h.name, methodNames[i], code)
				to <- prometheus.MustNewConstMetric(m.alias, prometheus.CounterValue, float64(n), h.name, methodNames[i], code)
			}
		}
	}
}

func methodIndex(method string) int {
	switch method {
	case "GET":
		return 0
	case "HEAD":
		return 1
	case "PUT":
		return 2
	case "POST":
		return 3
	case "PATCH":
		return 4
	case "DELETE":
		return 5
	case "OPTIONS":
		return 6
	}
	return methodOther
}

// registerDropped shows how many access log lines were lost.
func registerDropped(m *telemetry.Metrics, a *AccessLog) {
	m.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "registry_access_log_dropped_total", Help: "Access log lines that were dropped because the output was too slow.",
	}, func() float64 { return float64(a.Dropped()) }))
}
