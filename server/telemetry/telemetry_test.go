package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/berth-registry/berth/server/telemetry"
)

func TestLogFormatsAndLevel(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, telemetry.LogOptions{Format: "json", Level: "warn", Fields: map[string]string{"service": "berthd", "environment": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	child := log.With("room", "gc")
	child.Info("unseen")
	if out.Len() > 0 {
		t.Errorf("info was written at level warn: %s", &out)
	}
	if err := log.SetLevel("debug"); err != nil || !log.Verbose() || log.Level() != "debug" {
		t.Fatalf("level %s, %v", log.Level(), err)
	}
	child.Debug("seen")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "seen" || line["service"] != "berthd" || line["room"] != "gc" {
		t.Errorf("line %v, %v", line, err)
	}
	if err := log.SetLevel("loud"); err == nil || log.Level() != "debug" {
		t.Errorf("an unknown level was taken: %v, %s", err, log.Level())
	}
	for _, o := range []telemetry.LogOptions{{Format: "xml"}, {Level: "loud"}} {
		if _, err := telemetry.NewLogger(io.Discard, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestHealthIsFreshAndSharesQuestions(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	health := telemetry.NewHealth(discard(), func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	var asked atomic.Int32
	var fail atomic.Bool
	health.Register("database", time.Second, func(context.Context) error {
		asked.Add(1)
		if fail.Load() {
			return errors.New("secret host is down")
		}
		return nil
	})
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if !health.Ready(t.Context()).OK {
				t.Error("not ready")
			}
		})
	}
	wait.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("50 probes in one moment asked %d times", n)
	}
	fail.Store(true)
	mu.Lock()
	now = now.Add(telemetry.Freshness)
	mu.Unlock()
	report := health.Ready(t.Context())
	if report.OK || len(report.Checks) != 1 || report.Checks[0].Name != "database" || report.Checks[0].OK || report.Checks[0].Err == nil || !report.Checks[0].AskedAt.Equal(now) {
		t.Errorf("a failing part gives %+v", report)
	}
}

func TestHealthOutlivesHangsAndPanics(t *testing.T) {
	health := telemetry.NewHealth(discard(), time.Now)
	release := make(chan struct{})
	defer close(release)
	health.Register("hangs", 50*time.Millisecond, func(context.Context) error { <-release; return nil })
	health.Register("panics", time.Minute, func(context.Context) error { panic("x") })
	health.Register("works", time.Minute, func(context.Context) error { return nil })
	began := time.Now()
	report := health.Ready(t.Context())
	if took := time.Since(began); took > 30*time.Second { // it hangs until the test ends
		t.Errorf("a hanging part held the answer for %s", took)
	}
	if report.OK || report.Checks[0].OK || report.Checks[1].OK || !report.Checks[2].OK {
		t.Errorf("got %+v", report)
	}
}

func TestAProbeThatGoesAwayDecidesNothing(t *testing.T) {
	health := telemetry.NewHealth(discard(), time.Now)
	health.Register("store", time.Second, func(ctx context.Context) error { return ctx.Err() })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if report := health.Ready(gone); !report.OK {
		t.Error("a probe that hung up made the server unready for a second")
	}
}

func TestDrainingIsNotReady(t *testing.T) {
	health := telemetry.NewHealth(discard(), time.Now)
	if !health.Ready(t.Context()).OK {
		t.Error("without checks it must be ready")
	}
	health.Drain()
	if r := health.Ready(t.Context()); r.OK || !r.Draining {
		t.Errorf("while draining: %+v", r)
	}
}

func TestStorageMetrics(t *testing.T) {
	m := telemetry.NewMetrics(telemetry.Build{Version: "1"})
	m.StorageAction("fs", "commit").Observe(3 * time.Millisecond)
	cache := m.StorageCache("manifest")
	cache.Hit()
	cache.Miss()
	cache.Failed()
	(telemetry.Action{}).Observe(time.Second) // zero values are switched off, not broken
	(telemetry.Cache{}).Hit()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "registry_storage_") {
			continue
		}
		metric := f.GetMetric()[0]
		got[f.GetName()] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
	}
	for name, want := range map[string]float64{"registry_storage_action_seconds": 1, "registry_storage_cache_requests_total": 3, "registry_storage_cache_hits_total": 1, "registry_storage_cache_errors_total": 1} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestTracingIsOffWithoutAnEndpoint(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing":  {},
		"disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		"none":     {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
	} {
		tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceOptions{Getenv: func(k string) string { return env[k] }, Log: discard()})
		if err != nil || tracing != nil {
			t.Errorf("%s: %v, %v", name, tracing, err)
		}
		_, span := tracing.Start(t.Context(), "x", trace.SpanKindInternal) // nil works
		span.End()
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestSpansReachTheCollectorAtShutdown(t *testing.T) {
	var posts, bytes atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" {
			n, _ := io.Copy(io.Discard, r.Body)
			posts.Add(1)
			bytes.Add(n)
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL) // the exporter reads its address itself
	tracing, err := telemetry.NewTracing(t.Context(), telemetry.TraceOptions{Getenv: func(k string) string {
		if k == "OTEL_EXPORTER_OTLP_ENDPOINT" {
			return collector.URL
		}
		return ""
	}, Version: "1", Log: discard()})
	if err != nil || tracing == nil {
		t.Fatalf("%v, %v", tracing, err)
	}
	_, span := tracing.Start(t.Context(), "push", trace.SpanKindServer)
	span.End()
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if posts.Load() != 1 || bytes.Load() == 0 {
		t.Errorf("%d posts with %d bytes reached the collector", posts.Load(), bytes.Load())
	}
}
