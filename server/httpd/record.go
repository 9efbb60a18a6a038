package httpd

import (
	"net/http"
	"net/netip"
)

// Record is what is known about one request beyond its lines: faces fill it in, the access log, the metrics and the
// span are made from it. It belongs to the goroutine that serves the request and must not be kept after the handler
// has returned.
type Record struct {
	ID        string     // request id, the value of X-Request-Id
	Client    netip.Addr // who is calling, with trusted proxies looked through
	Repo      string     // repository name; "" when the route has none
	Principal string     // who the caller turned out to be; "" before authentication
	Reason    string     // why the request was refused; "" when it was not

	handler *handlerMetrics
	name    string
	chain   *Chain
	logged  bool // a cause has been logged: one failure is one line
	abort   bool // the answer is broken half-way: the connection must not look as if it had ended well
}

// SetHandler names the route for metrics, log and span: manifest, blob, blob_upload, tags, catalog, referrers, base,
// token, search … The names must come from a closed list: each one is a label value. Call it first thing in a route.
func (r *Record) SetHandler(name string) {
	if r.name == name {
		return
	}
	r.name = name
	if r.chain == nil || r.chain.metrics == nil {
		return
	}
	if r.handler != nil {
		r.handler.inFlight.Dec()
	}
	r.handler = r.chain.metrics.handler(name)
	r.handler.inFlight.Inc()
}

// Handler is the name that SetHandler gave, or "".
func (r *Record) Handler() string { return r.name }

// RecordOf finds the record of the request that w answers. A writer that did not come through the chain (a test's
// recorder) has none; what is written into the returned record is then lost.
func RecordOf(w http.ResponseWriter) *Record {
	if own := writerOf(w); own != nil {
		return &own.rec
	}
	return &Record{}
}

// RequestID is the id under which the log knows the request that w answers.
func RequestID(w http.ResponseWriter) string { return RecordOf(w).ID }

// writerOf looks through wrappers that other middleware put around the chain's writer.
func writerOf(w http.ResponseWriter) *writer {
	for {
		switch v := w.(type) {
		case *writer:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}
