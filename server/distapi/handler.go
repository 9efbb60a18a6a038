// Package distapi is the face of the distribution API: everything below /v2/, the token endpoint and the search that
// docker and podman use. A handler parses a request, calls one method of the registry engine and writes what it
// returns; it decides nothing. Rights are asked by the engine.
//
// Start reading at Handler.ServeHTTP, then route.go; errors.go is the table of answers to failures.
package distapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/registry"
)

// authenticator is what the face needs of the auth room.
type authenticator interface {
	Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error)
}

// Handler serves /v2/ and /v1/search.
type Handler struct {
	Registry *registry.Service
	Auth     authenticator
	// Prefix stands before the paths of Location and Link headers, for a registry below a path; "" or "/prefix". The
	// headers are relative: whatever a proxy in front is called, they lead back through it.
	Prefix string
	// Base is the absolute address to put before Location instead, when a configuration insists; "" is relative.
	Base string
	// Redirect sends GETs of large blobs to the store, where it has an address for them.
	Redirect bool
	// External is the address under which a request has reached us, for events; nil is unknown.
	External func(*http.Request) string
	// Pulled is told of every GET of a manifest or blob that is answered; it must not wait. nil: nobody wants to know.
	Pulled func(Pull)
}

// Pull is a GET of a manifest or blob.
type Pull struct {
	Repository, Tag string
	Digest          oci.Digest
	MediaType       string // "" is a blob
	Size            int64  // bytes
	Body            []byte // of a manifest
	Principal       string
	Request         event.Request
}

// request is what events say of the request that made them.
func (h *Handler) request(w http.ResponseWriter, r *http.Request) event.Request {
	rec := httpd.RecordOf(w)
	q := event.Request{ID: rec.ID, Host: r.Host, Method: r.Method, UserAgent: legible.Clean(r.UserAgent())}
	if rec.Client.IsValid() {
		q.Addr = rec.Client.String()
	}
	if h.External != nil {
		q.Base = h.External(r)
	}
	return q
}

// pulled tells who wants to know. Parts of a blob are not a pull, except the first.
func (h *Handler) pulled(w http.ResponseWriter, r *http.Request, p Pull) {
	if h.Pulled == nil || r.Method != http.MethodGet {
		return
	}
	p.Principal, p.Request = identity.From(r.Context()).String(), h.request(w, r)
	h.Pulled(p)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httpd.RecordOf(w)
	rt, err := parseRoute(r.URL.Path, r.URL.RawPath)
	if err != nil {
		rec.SetHandler("unknown")
		httpd.WriteError(w, r, refusedName(err, rt, r.Method))
		return
	}
	rec.SetHandler(resources[rt.kind].label)
	rec.Repo = rt.name.String()
	if rt.kind == kindBase { // also when it asks for a login: clients look at one answer only
		w.Header()["X-Registry-Supports-Signatures"] = supportsSignatures
	}
	ctx, err := h.authenticate(r, rec)
	if err != nil {
		httpd.WriteError(w, r, withScope(err, rt, r.Method))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead { // what a reader asked changes nothing
		ctx = event.WithRequest(ctx, h.request(w, r))
	}
	if err := h.serve(w, r.WithContext(ctx), rt); err != nil {
		httpd.WriteError(w, r, err)
	}
}

func (h *Handler) authenticate(r *http.Request, rec *httpd.Record) (context.Context, error) {
	header := ""
	if v := r.Header["Authorization"]; len(v) > 0 {
		header = v[0]
	}
	who, err := h.Auth.Authenticate(r.Context(), header, rec.Client.String())
	if err != nil {
		return nil, err
	}
	rec.Principal = who.String()
	return identity.With(r.Context(), who), nil
}

// refusedName makes the refusal of a name at the first request of a push one that docker gives up at: 400 it repeats for
// most of a minute.
func refusedName(err error, rt route, method string) error {
	if f := fault.Of(err); f.Reason == fault.NameInvalid && rt.kind == kindUploads && method == http.MethodPost {
		c := *f
		c.Kind = fault.Denied
		return &c
	}
	return err
}

// withScope adds to the refusal of a credential what a new token should reach: docker asks for just that.
func withScope(err error, rt route, method string) error {
	f := fault.Of(err)
	if f.Kind != fault.Unauthenticated || f.Scope != "" {
		return err
	}
	c := *f
	switch {
	case rt.kind == kindCatalog:
		c.Scope = "registry:catalog:*"
	case rt.name.IsZero():
	case method == http.MethodDelete && rt.kind != kindUpload:
		c.Scope = "repository:" + rt.name.String() + ":delete"
	case method == http.MethodGet || method == http.MethodHead:
		c.Scope = "repository:" + rt.name.String() + ":pull"
	default:
		c.Scope = "repository:" + rt.name.String() + ":pull,push"
	}
	return &c
}

// serve dispatches by resource and method. HEAD is GET wherever GET is: net/http drops the body.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, rt route) error {
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case rt.kind == kindManifest && get:
		return h.getManifest(w, r, rt)
	case rt.kind == kindBlob && get:
		return h.getBlob(w, r, rt)
	case rt.kind == kindBase && get:
		return h.base(w, r)
	case rt.kind == kindCatalog && get:
		return h.catalog(w, r)
	case rt.kind == kindExtensions && get:
		return h.extensions(w, r, rt)
	case rt.kind == kindTags && get:
		return h.tags(w, r, rt)
	case rt.kind == kindReferrers && get:
		return h.referrers(w, r, rt)
	case rt.kind == kindManifest && r.Method == http.MethodPut:
		return h.putManifest(w, r, rt)
	case rt.kind == kindManifest && r.Method == http.MethodDelete:
		return h.deleteManifest(w, r, rt)
	case rt.kind == kindBlob && r.Method == http.MethodDelete:
		return h.deleteBlob(w, r, rt)
	case rt.kind == kindUploads && r.Method == http.MethodPost:
		return h.startUpload(w, r, rt)
	case rt.kind == kindUpload:
		return h.upload(w, r, rt)
	}
	return notAllowed(w, r, rt)
}

func notAllowed(w http.ResponseWriter, r *http.Request, rt route) error {
	allow := resources[rt.kind].methods
	w.Header().Set("Allow", allow)
	return fault.New(fault.Unsupported, fault.UnsupportedReason, "method %.20s is not offered here; use one of %s", r.Method, allow)
}

// base is the version check (OCI distribution v1.1.1, end-1).
func (h *Handler) base(w http.ResponseWriter, r *http.Request) error {
	if err := h.Registry.Base(r.Context(), r.Method == http.MethodHead); err != nil {
		return err
	}
	return writeJSON(w, []byte("{}\n"))
}

// location is where a client goes next.
func (h *Handler) location(path string) string {
	if h.Base != "" {
		return h.Base + path
	}
	return h.Prefix + path
}

func writeJSON(w http.ResponseWriter, body []byte) error {
	hdr := w.Header()
	hdr["Content-Type"] = jsonType
	hdr["Content-Length"] = []string{itoa(int64(len(body)))}
	_, _ = w.Write(body) // a peer that is gone needs no second failure
	return nil
}

var jsonType = []string{"application/json"}

// notModified reports whether If-None-Match names the entity, and then answers 304 (RFC 9110, section 13.1.2).
func notModified(w http.ResponseWriter, r *http.Request, etag string) bool {
	match := r.Header["If-None-Match"]
	if len(match) == 0 {
		return false
	}
	for _, line := range match {
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
			if part == "*" || part == etag || strings.Trim(part, `"`) == strings.Trim(etag, `"`) {
				w.WriteHeader(http.StatusNotModified)
				return true
			}
		}
	}
	return false
}
