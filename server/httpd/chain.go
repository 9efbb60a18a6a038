package httpd

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/telemetry"
)

// ChainOptions describes what stands in front of the faces. Only Next, Log, Origin and Now are required.
type ChainOptions struct {
	Next    http.Handler
	Log     *slog.Logger
	Origin  *Origin
	Errors  *ErrorWriter       // nil: the zero ErrorWriter with Log
	Metrics *telemetry.Metrics // nil: not measured
	Tracing *telemetry.Tracing // nil: not traced
	Access  *AccessLog         // nil: no access log
	Stall   time.Duration      // a body or HTTP/2 answer without progress for this long is cut; 0 is never
	MaxBody int64              // bytes of a request body, except uploads; 0 is 8 MiB
	Now     func() time.Time
}

// Chain is everything that happens to a request before and after a face has it, in one handler: request id, recovery
// from panics, span, access log, metrics, header and body limits, plain HTTP rules, stall protection.
type Chain struct {
	next    http.Handler
	log     *slog.Logger
	origin  *Origin
	errors  *ErrorWriter
	metrics *httpMetrics
	tracing *telemetry.Tracing
	access  *AccessLog
	stall   time.Duration
	maxBody int64
	now     func() time.Time
	buffers sync.Pool // *[copyBufferSize]byte
	lines   sync.Pool // *[]byte, for access log lines
}

// NewChain makes the handler. Metrics are registered here, so one Metrics takes one chain.
func NewChain(o ChainOptions) *Chain {
	c := &Chain{next: o.Next, log: o.Log, origin: o.Origin, errors: o.Errors, tracing: o.Tracing, access: o.Access,
		stall: o.Stall, maxBody: o.MaxBody, now: o.Now}
	if c.errors == nil {
		c.errors = &ErrorWriter{Log: o.Log}
	}
	if c.maxBody == 0 {
		c.maxBody = 8 << 20
	}
	if o.Metrics != nil {
		c.metrics = newHTTPMetrics(o.Metrics.Registry)
	}
	return c
}

// Header values that every answer carries. Shared slices save two allocations a request; nothing may append to them
// (their capacity is their length) or write into them.
var (
	headerNosniff    = []string{"nosniff"}
	headerAPIVersion = []string{"registry/2.0"}
)

// ServeHTTP implements http.Handler.
func (c *Chain) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := c.now()
	w := &writer{ResponseWriter: rw, rec: Record{chain: c}, isHTTP2: r.ProtoMajor == 2}
	if w.isHTTP2 {
		w.rolling = roller{stall: c.stall, now: c.now}
	}
	w.rec.Client = c.origin.ClientIP(r)
	w.rec.ID = c.requestID(r)
	w.idValue[0] = w.rec.ID
	h := rw.Header()
	h["X-Request-Id"] = w.idValue[:]
	h["X-Content-Type-Options"] = headerNosniff
	if p := r.URL.Path; len(p) >= 3 && p[:3] == "/v2" && (len(p) == 3 || p[3] == '/') {
		h["Docker-Distribution-Api-Version"] = headerAPIVersion
	}
	var body *stallBody
	if r.Body != nil && r.Body != http.NoBody {
		body = c.guardBody(w, rw, r)
	}
	if c.tracing == nil {
		c.serve(w, r, body, start)
		return
	}
	c.trace(w, r, body, start)
}

// serve runs the face and accounts for it, however it ends.
func (c *Chain) serve(w *writer, r *http.Request, body *stallBody, start time.Time) {
	defer func() {
		if p := recover(); p != nil {
			c.recovered(w, r, p)
		}
		c.finish(w, r, body, start)
		if w.rec.abort {
			panic(http.ErrAbortHandler) // net/http's way to cut the connection, or the stream, without a stack in the log
		}
		if c, ok := r.Context().Value(connKey{}).(*conn); ok && body != nil && !body.done && r.ProtoMajor == 1 {
			c.unread.Store(true) // the answer is out before the end of the body
		}
	}()
	if c.refuseHeader(w, r) || (r.TLS == nil && c.refusePlain(w, r)) {
		return
	}
	c.next.ServeHTTP(w, r)
}

func (c *Chain) requestID(r *http.Request) string {
	if len(c.origin.trusted) > 0 {
		if given := r.Header.Get("X-Request-Id"); validID(given) && c.origin.Trusts(c.origin.Peer(r)) {
			return given
		}
	}
	// Unique, not secret: 96 bits of the runtime's generator.
	var id [24]byte
	hi, lo := rand.Uint64(), rand.Uint32()
	for i := range 16 {
		id[i] = hexDigits[hi>>(60-4*i)&15]
	}
	for i := range 8 {
		id[16+i] = hexDigits[lo>>(28-4*i)&15]
	}
	return string(id[:])
}

// guardBody limits the body in size, unless it is an upload, and in how long it may stand still.
func (c *Chain) guardBody(w *writer, rw http.ResponseWriter, r *http.Request) *stallBody {
	body := &stallBody{ReadCloser: r.Body, rolling: roller{stall: c.stall, now: c.now}}
	if d, ok := rw.(interface{ SetReadDeadline(time.Time) error }); ok {
		body.set = d.SetReadDeadline
	} else {
		body.rolling.stall = 0
		body.set = func(time.Time) error { return nil }
	}
	if isUpload(r.URL.Path) {
		r.Body = body
	} else {
		r.Body = http.MaxBytesReader(rw, body, c.maxBody) // rw: the server closes the connection then
	}
	return body
}

// recovered turns a panic into an answer. The stack goes to the log and nowhere else.
func (c *Chain) recovered(w *writer, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is panicked with as it is
		w.rec.abort = true
		return
	}
	w.rec.logged = true
	c.log.LogAttrs(r.Context(), slog.LevelError, "request panicked", slog.String("req", w.rec.ID), slog.String("method", r.Method),
		slog.String("path", clip(r.URL.Path)), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	WriteError(w, r, fault.New(fault.Internal, fault.Unknown, "the registry failed; the log has the cause under this request id"))
}

func (c *Chain) finish(w *writer, r *http.Request, body *stallBody, start time.Time) {
	took := c.now().Sub(start)
	status := w.status
	if status == 0 {
		status = http.StatusOK // what net/http sends for a handler that said nothing
	}
	var in int64
	if body != nil {
		in = body.read
	}
	if m := c.metrics; m != nil {
		h := w.rec.handler
		if h != nil {
			h.inFlight.Dec()
		} else {
			h = m.handler("other")
		}
		m.observe(h, methodIndex(r.Method), status, in, w.bytes, took)
	}
	if c.access != nil {
		c.logAccess(w, r, start, took, status, in)
	}
}

func (c *Chain) logAccess(w *writer, r *http.Request, start time.Time, took time.Duration, status int, in int64) {
	line, ok := c.lines.Get().(*[]byte)
	if !ok {
		line = new([]byte)
	}
	var agent string
	if v := r.Header["User-Agent"]; len(v) > 0 {
		agent = v[0]
	}
	e := entry{
		time: start, method: r.Method, path: r.URL.Path, repo: w.rec.Repo, status: status, in: in, out: w.bytes, took: took,
		client: w.rec.Client, agent: agent, principal: w.rec.Principal, id: w.rec.ID, handler: w.rec.name,
		reason: w.rec.Reason, proto: r.Proto,
	}
	*line = c.access.append((*line)[:0], &e)
	c.access.add(*line)
	c.lines.Put(line)
}

// trace puts a server span around serve. It is apart from it because the span's context costs a copy of the request.
func (c *Chain) trace(w *writer, r *http.Request, body *stallBody, start time.Time) {
	ctx := c.tracing.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := c.tracing.Start(ctx, r.Method, trace.SpanKindServer,
		attribute.String("http.request.method", r.Method), attribute.String("url.path", clip(r.URL.Path)), attribute.String("berth.req", w.rec.ID))
	defer func() {
		if w.rec.name != "" {
			span.SetName(r.Method + " " + w.rec.name)
		}
		span.SetAttributes(attribute.Int("http.response.status_code", w.status), attribute.String("http.route", w.rec.name),
			attribute.String("berth.repo", w.rec.Repo), attribute.Int64("http.response.body.size", w.bytes))
		if w.status >= 500 {
			span.SetStatus(codes.Error, w.rec.Reason)
		}
		span.End()
	}()
	c.serve(w, r.WithContext(ctx), body, start)
}
