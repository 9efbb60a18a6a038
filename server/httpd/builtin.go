package httpd

import (
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berth-registry/berth/server/telemetry"
)

// builtin answers the routes that belong to the server itself and leaves the rest to the faces.
type builtin struct {
	next    http.Handler
	health  *telemetry.Health
	certs   *Certificates
	metrics http.Handler // nil: not on this port
	allowed func(*http.Request) bool
}

func (b *builtin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez", "/readyz", "/healthz":
		if b.health != nil && readOnly(r) {
			RecordOf(w).SetHandler("health")
			serveHealth(w, r, b.health)
			return
		}
	case "/ca.crt":
		if ca := b.ca(); ca != nil && readOnly(r) {
			RecordOf(w).SetHandler("ca")
			serveCA(w, r, ca)
			return
		}
	case "/metrics":
		// To others the route does not exist: the faces say so in their own words.
		if b.metrics != nil && readOnly(r) && b.allowed(r) {
			RecordOf(w).SetHandler("metrics")
			b.metrics.ServeHTTP(w, r)
			return
		}
	}
	b.next.ServeHTTP(w, r)
}

func (b *builtin) ca() []byte {
	if b.certs == nil {
		return nil
	}
	return b.certs.CA()
}

func readOnly(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

func serveCA(w http.ResponseWriter, r *http.Request, ca []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/x-x509-ca-cert")
	h.Set("Content-Disposition", `attachment; filename="berth-ca.crt"`)
	h.Set("Content-Length", strconv.Itoa(len(ca)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(ca)
	}
}

// serveHealth answers 200 or 503 with {"status":"ok","checks":[{"name":"database","status":"ok"}]}. It names the part
// that fails; why it fails is in the log only. /livez asks no part: a broken disk is not mended by a restart.
func serveHealth(w http.ResponseWriter, r *http.Request, health *telemetry.Health) {
	report := telemetry.Report{OK: true}
	if r.URL.Path != "/livez" {
		report = health.Ready(r.Context())
	}
	status, word := http.StatusOK, "ok"
	if !report.OK {
		status, word = http.StatusServiceUnavailable, "failing"
	}
	if report.Draining {
		word = "draining"
	}
	body := append([]byte(nil), `{"status":`...)
	body = appendJSON(body, word)
	if len(report.Checks) > 0 {
		body = append(body, `,"checks":[`...)
		for i, c := range report.Checks {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, `{"name":`...)
			body = appendJSON(body, c.Name)
			if c.OK {
				body = append(body, `,"status":"ok"}`...)
			} else {
				body = append(body, `,"status":"failing"}`...)
			}
		}
		body = append(body, ']')
	}
	body = append(body, "}\n"...)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

// MetricsHandler renders a registry for Prometheus.
func MetricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
}

// debugHandler is the debug listener: metrics and health for whoever reaches it, pprof for this machine only, because a
// heap profile shows what is in memory (kubectl port-forward and ssh -L arrive from loopback).
func debugHandler(origin *Origin, health *telemetry.Health, metrics http.Handler, metricsPath string) http.Handler {
	mux := http.NewServeMux()
	if metrics != nil {
		mux.Handle("GET "+metricsPath, metrics)
	}
	if health != nil {
		for _, path := range []string{"/livez", "/readyz", "/healthz", "/debug/health"} { // the last is distribution's
			mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { serveHealth(w, r, health) })
		}
	}
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/", func(w http.ResponseWriter, r *http.Request) {
		if !origin.Local(r) {
			http.Error(w, "profiles are served to this machine only: connect to the debug address by localhost", http.StatusForbidden)
			return
		}
		profiles.ServeHTTP(w, r)
	})
	return mux
}
