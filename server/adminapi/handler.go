// Package adminapi is the face of the management API, /api/v1: JSON for the commands of berthd, for people and for
// automation. A handler reads a request, calls one method of an engine and writes what it returns; rights are asked by
// the engines, and every route says in the table of route.go what they ask for. api/openapi.yaml is the contract; a test
// compares it with the table both ways.
//
// Callers come over the socket of the machine, where they are the local administrator, or over the listeners of the
// registry with the name and password of an account.
//
// Start reading at Handler.ServeHTTP, then route.go; errors.go is how failures look.
package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
)

// authenticator is what the face needs of the auth room.
type authenticator interface {
	Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error)
}

// gatekeeper is what it needs of the access room, for engines of the machinery, which ask nobody.
type gatekeeper interface {
	CheckAdmin(ctx context.Context) error
}

// Handler serves /api/v1. All fields are required.
type Handler struct {
	Auth      authenticator
	Access    gatekeeper
	Jobs      jobs
	History   history
	Trash     trash
	Collector collector
	Integrity integrity
	Backups   backups
	Backup    backup.Ask // as the configuration has it; its target is "" when there is none
	Now       func() time.Time
	// Prefix stands before the paths of Location and Link headers, for a registry below a path; "" or "/prefix".
	Prefix string
	// External is the address under which a request has reached us, for events; nil is unknown.
	External func(*http.Request) string
}

// call is one request on its way through the face.
type call struct {
	h      *Handler
	w      http.ResponseWriter
	r      *http.Request
	params []string // of the route's pattern, in order
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httpd.RecordOf(w)
	rec.SetHandler("api")
	if err := h.serve(w, r, rec); err != nil {
		httpd.WriteError(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, rec *httpd.Record) error {
	rt, params, err := find(w, r)
	if err != nil {
		return err
	}
	// A page of another site may send a browser here, and the browser knows passwords.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fault.New(fault.Denied, fault.DeniedReason, "the request comes from a page of another site, and is not served").Because(err)
	}
	who, err := h.principal(r, rec)
	if err != nil {
		return err
	}
	rec.Principal = who.String()
	ctx := identity.With(r.Context(), who)
	if rt.needs == administrator {
		if err := h.Access.CheckAdmin(ctx); err != nil {
			return err
		}
	}
	if err := knownQuery(r, rt); err != nil {
		return err
	}
	if !reading(r) {
		ctx = event.WithRequest(ctx, h.request(w, r, rec))
	}
	if name, ok := rt.repository(params); ok {
		rec.Repo = name
	}
	return rt.serve(&call{h: h, w: w, r: r.WithContext(ctx), params: params})
}

// principal is who is calling: over the socket the local administrator, whatever else the request says.
func (h *Handler) principal(r *http.Request, rec *httpd.Record) (identity.Principal, error) {
	if peer, local := httpd.OverSocket(r); local {
		if !peer.Admitted {
			return identity.Principal{}, fault.New(fault.Denied, fault.DeniedReason, "the socket of this berthd is for the user that it runs as and for root; you are user %d", peer.UID)
		}
		return identity.Principal{Kind: identity.Local, Admin: true}, nil
	}
	header := ""
	if v := r.Header["Authorization"]; len(v) > 0 {
		header = v[0]
	}
	return h.Auth.Authenticate(r.Context(), header, rec.Client.String())
}

// request is what events and records say of the request that made them.
func (h *Handler) request(w http.ResponseWriter, r *http.Request, rec *httpd.Record) event.Request {
	q := event.Request{ID: rec.ID, Host: r.Host, Method: r.Method, UserAgent: r.UserAgent()}
	if rec.Client.IsValid() {
		q.Addr = rec.Client.String()
	}
	if h.External != nil {
		q.Base = h.External(r)
	}
	return q
}

func reading(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// knownQuery refuses what a route does not read: a filter with a typing error would otherwise answer with everything.
func knownQuery(r *http.Request, rt *route) error {
	for name := range r.URL.Query() {
		if !slices.Contains(rt.query, name) {
			if len(rt.query) == 0 {
				return badField(name, "parameter %.100q is not known here; the route has none", name)
			}
			return badField(name, "parameter %.100q is not known here; known are %s", name, strings.Join(rt.query, ", "))
		}
	}
	return nil
}

// ctx carries the principal.
func (c *call) ctx() context.Context { return c.r.Context() }

// write answers with JSON.
func (c *call) write(status int, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // a peer that is gone needs no second failure
	return nil
}

// encode writes JSON with a line's end, and with < and > as they are: nothing here goes into a page of HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// ok answers 200 with JSON.
func (c *call) ok(v any) error { return c.write(http.StatusOK, v) }

// location is where a path of ours is for the caller.
func (c *call) location(path string) string { return c.h.Prefix + path }
