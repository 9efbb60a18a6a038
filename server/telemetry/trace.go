package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing makes spans and carries the callers' trace context over. A nil *Tracing is tracing that is switched off: the
// hot path then pays one comparison.
type Tracing struct {
	tracer     trace.Tracer
	provider   *sdktrace.TracerProvider
	propagator propagation.TextMapPropagator
}

// TraceOptions describes tracing. Everything else (endpoint, headers, protocol details, sampler, resource attributes)
// is read by the OpenTelemetry SDK from its own OTEL_* variables.
type TraceOptions struct {
	Getenv  func(string) string // the process's environment, handed in by cmd
	Version string
	Log     *slog.Logger
}

// NewTracing returns nil without an error when no OTLP endpoint is set, when OTEL_SDK_DISABLED is true or when
// OTEL_TRACES_EXPORTER is none. It does not connect: an unreachable collector costs dropped spans, not a start.
func NewTracing(ctx context.Context, o TraceOptions) (*Tracing, error) {
	endpoint := o.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		endpoint = o.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	if endpoint == "" || o.Getenv("OTEL_SDK_DISABLED") == "true" || o.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	protocol := o.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = o.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol == "grpc" {
		o.Log.Warn("traces are sent by OTLP over HTTP; OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not offered, use the collector's HTTP port (4318)")
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("telemetry: traces to %q: %w", endpoint, err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "berthd"), attribute.String("service.version", o.Version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv()) // last wins: OTEL_SERVICE_NAME beats ours
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// The provider's default sampler is the one that OTEL_TRACES_SAMPLER names.
	return newTracing(sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))), nil
}

// NewTracingTo makes tracing that hands every finished span to processor, for tests and for other exporters.
func NewTracingTo(processor sdktrace.SpanProcessor) *Tracing {
	return newTracing(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor)))
}

func newTracing(p *sdktrace.TracerProvider) *Tracing {
	return &Tracing{
		tracer:     p.Tracer("github.com/berth-registry/berth"),
		provider:   p,
		propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}
}

// Extract returns a context that continues the trace which the carrier (W3C traceparent) names.
func (t *Tracing) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	return t.propagator.Extract(ctx, carrier)
}

// Start begins a span of the given kind. On a nil Tracing it returns ctx and a span that does nothing.
func (t *Tracing) Start(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
}

// Shutdown sends what is left and ends tracing; it returns early when ctx ends. A nil Tracing has nothing to do.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}
