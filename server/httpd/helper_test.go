package httpd_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/berth-registry/berth/server/httpd"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newChain(o *httpd.Origin, next http.Handler, change func(*httpd.ChainOptions)) *httpd.Chain {
	options := httpd.ChainOptions{Next: next, Log: discard(), Origin: o, Now: time.Now, Stall: time.Minute}
	if change != nil {
		change(&options)
	}
	return httpd.NewChain(options)
}

type ociError struct {
	Code, Message string
	Detail        map[string]string
}

// oneError decodes an OCI error document that has exactly one error.
func oneError(t *testing.T, body []byte) ociError {
	t.Helper()
	var document struct{ Errors []ociError }
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatalf("%q is no error document: %v", body, err)
	}
	if len(document.Errors) != 1 {
		t.Fatalf("%d errors in %q, want exactly one", len(document.Errors), body)
	}
	return document.Errors[0]
}

// spanRecorder keeps finished spans.
type spanRecorder struct{ ended []sdktrace.ReadOnlySpan }

func (*spanRecorder) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (r *spanRecorder) OnEnd(s sdktrace.ReadOnlySpan)                 { r.ended = append(r.ended, s) }
func (*spanRecorder) Shutdown(context.Context) error                  { return nil }
func (*spanRecorder) ForceFlush(context.Context) error                { return nil }
