// Package adminapi is the face of the management API, /api/v1: JSON for the commands of berthd, for people and for
// automation. A handler takes typed input, calls one method of an engine and returns what the API shows of its answer;
// rights are asked by the engines, and every operation declares what they ask for. One without a permission is an error of
// New. The contract, an OpenAPI 3.1 document, is made of the same declarations: Document is its text, and a test holds
// api/openapi.yaml to it.
//
// Callers come over the socket of the machine, where they are the local administrator, or over the listeners of the
// registry with the name and password of an account, or a token.
//
// Start reading at Handler.serve, the way of a request, then operation.go; errors.go is how failures look, and every other
// file is the operations of one noun.
package adminapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
)

// authenticator is what the face needs of the auth room.
type authenticator interface {
	Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error)
}

// gatekeeper is what it needs of the access room.
type gatekeeper interface {
	Check(ctx context.Context, v identity.Verb, name ref.Name) error
	CheckProject(ctx context.Context, v identity.Verb, project string) error
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// Options are what the face speaks for. All are required, unless it is said.
type Options struct {
	Auth       authenticator
	Access     gatekeeper
	Blueprints blueprints
	Projects   projects
	Users      users
	Groups     groups
	Robots     robots
	Tokens     tokens
	Providers  providers
	Issuers    issuers
	Sessions   sessions
	System     systems
	Jobs       jobs
	History    history
	// Repositories is what the registry holds now.
	Repositories repositories
	Trash        trash
	Collector    collector
	Integrity    integrity
	Backups      backups
	Backup       backup.Ask // as the configuration has it; its target is "" when there is none
	Database     database
	Now          func() time.Time
	// Draining says that the server is about to end, and who waits for events shall not; nil is never.
	Draining func() bool
	// Prefix stands before the paths of Location and Link headers, for a registry below a path; "" or "/prefix".
	Prefix string
	// External is the address under which a request has reached us, for events; nil is unknown.
	External func(*http.Request) string
}

// Handler serves /api. Make it with New.
type Handler struct {
	Options

	face *face
}

// New declares every operation. It fails when one of them is wrong: two of one path, a type that cannot be described, no
// permission.
func New(o Options) (*Handler, error) {
	h := &Handler{Options: o}
	f, err := newFace(h)
	if err != nil {
		return nil, err
	}
	h.face = f
	return h, nil
}

// call is one request on its way through the face.
type call struct {
	h     *Handler
	r     *http.Request
	asked *url.URL // as it came
	addr  string   // of the caller
	rt    *route
	// fields are the members that the answer shall have, nil for all.
	fields []string
	err    error // of the handler, or of what it was to be given
	body   error // what is wrong with the body
	// stream takes the place of the answer, for what has no end.
	stream func(http.ResponseWriter)
}

type callKey struct{}

// callOf is the call of a handler's context.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httpd.RecordOf(w)
	rec.SetHandler("api")
	if err := h.serve(w, r, rec); err != nil {
		httpd.WriteError(w, r, err)
	}
}

// serve is the way of a request: route, origin, caller, permission, parameters, body, handler. What is wrong with a request
// is told to who may make it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, rec *httpd.Record) error {
	asked := r.URL
	rt, r, err := h.face.find(w, r)
	if err != nil {
		return err
	}
	// A page of another site may send a browser here, and the browser knows passwords.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fault.New(fault.Denied, fault.DeniedReason, "the request comes from a page of another site, and is not served").Because(err)
	}
	if err := storable(r, rt); err != nil {
		return err
	}
	who, err := h.principal(rt, r, rec)
	if err != nil {
		return err
	}
	rec.Principal = who.String()
	ctx := identity.With(r.Context(), who)
	if err := h.permitted(ctx, rt, r); err != nil {
		return err
	}
	if err := knownQuery(r, rt); err != nil {
		return err
	}
	body, err := readBody(r, rt)
	if err != nil {
		return err
	}
	if !reading(r) {
		ctx = event.WithRequest(ctx, h.request(w, r, rec))
	}
	rec.Repo = r.PathValue("repository")
	c := &call{h: h, rt: rt, asked: asked, addr: rec.Client.String()}
	if c.fields, err = readFields(r, rt); err != nil {
		return err
	}
	if body != nil {
		c.body = rt.checkBody(body)
	}
	c.r = r.WithContext(context.WithValue(ctx, callKey{}, c))
	do := func() (*answer, error) {
		return eachTag(c.r.Header, func() (*answer, error) {
			a := &answer{header: http.Header{}}
			if body != nil {
				c.r.Body = io.NopCloser(bytes.NewReader(body))
			}
			c.err = nil
			rt.handler(humago.NewContext(rt.huma, c.r, a))
			return a, c.err
		})
	}
	var a *answer
	if key := r.Header.Get(keyHeader); key != "" && rt.once {
		a, err = h.once(c, body, key, do)
	} else {
		a, err = do()
	}
	if err != nil {
		return err
	}
	if c.stream != nil {
		c.stream(w)
		return nil
	}
	if reading(r) && a.status == http.StatusOK && sameTag(r.Header.Values("If-None-Match"), a.header.Get("ETag")) {
		a.notModified()
	}
	a.send(w, rt.needs.Scope == everybody && reading(r))
	return nil
}

// permitted asks for what the route needs, before anything else of the request is looked at: engines ask again, and for more.
func (h *Handler) permitted(ctx context.Context, rt *route, r *http.Request) error {
	switch rt.needs.Scope {
	case signedIn:
		switch who := identity.From(ctx); who.Kind {
		case identity.User, identity.Robot, identity.Local, identity.System:
			return nil
		}
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this needs a login")
	case onRegistry:
		return h.Access.CheckSystem(ctx, rt.needs.Verb)
	case onProject:
		return h.Access.CheckProject(ctx, rt.needs.Verb, r.PathValue("project"))
	case onRepository:
		if name, err := ref.ParseName(r.PathValue("repository")); err == nil { // else it is nobody's, and the handler says what is wrong
			return h.Access.Check(ctx, rt.needs.Verb, name)
		}
	}
	return nil
}

// principal is who is calling: over the socket the local administrator, whatever else the request says.
func (h *Handler) principal(rt *route, r *http.Request, rec *httpd.Record) (identity.Principal, error) {
	if peer, local := httpd.OverSocket(r); local {
		if !peer.Admitted {
			return identity.Principal{}, fault.New(fault.Denied, fault.DeniedReason, "the socket of this berthd is for the user that it runs as and for root; you are user %d", peer.UID)
		}
		return identity.Principal{Kind: identity.Local, Admin: true}, nil
	}
	header := ""
	if v := r.Header["Authorization"]; len(v) > 0 {
		header = v[0]
	} else if cookie := cookieOf(r); cookie != "" && rt.needs.Scope != everybody {
		return h.session(r, cookie, rec)
	}
	return h.Auth.Authenticate(r.Context(), header, rec.Client.String())
}

// request is what events and records say of the request that made them.
func (h *Handler) request(w http.ResponseWriter, r *http.Request, rec *httpd.Record) event.Request {
	q := event.Request{ID: rec.ID, Host: r.Host, Method: r.Method, UserAgent: legible.Clean(r.UserAgent())}
	if rec.Client.IsValid() {
		q.Addr = rec.Client.String()
	}
	if h.External != nil {
		q.Base = h.External(r)
	}
	return q
}

// location is where a path of ours is for the caller.
func (h *Handler) location(path string) string { return h.Prefix + path }

func reading(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// separator ends a repository's name in a path. No component of a name can be a dash alone, so there is one way to read a
// path, and it stays the same when a proxy decodes or encodes the slashes in the name.
const separator = "-"

// find gives the route of a request, and the request with the parameters of its path.
func (f *face) find(w http.ResponseWriter, r *http.Request) (*route, *http.Request, error) {
	q, ok := oneSegment(r)
	if !ok {
		return nil, nil, noRoute(r.URL.Path)
	}
	if rt, ok := f.match(q, q.Method); ok {
		return rt, q, nil
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if _, ok := f.match(q, method); ok {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return nil, nil, noRoute(r.URL.Path)
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	return nil, nil, fault.New(fault.Unsupported, MethodUnknown, "method %.20s is not offered here; use one of %s", r.Method, list)
}

// match asks the mux. It fills in the parameters of the path only when it serves, so a route gets them here.
func (f *face) match(r *http.Request, method string) (*route, bool) {
	m := *r
	m.Method = method
	found, _ := f.mux.Handler(&m)
	rt, ok := found.(*route)
	if !ok {
		return nil, false
	}
	pattern, path := strings.Split(rt.huma.Path, "/"), strings.Split(r.URL.EscapedPath(), "/")
	if len(pattern) != len(path) {
		return nil, false
	}
	for i, part := range pattern {
		if name := strings.Trim(part, "{}"); name != part {
			value, err := url.PathUnescape(path[i])
			if err != nil || value == "" {
				return nil, false
			}
			r.SetPathValue(name, value)
		}
	}
	return rt, true
}

func noRoute(path string) error {
	return fault.New(fault.NotFound, RouteUnknown, "path %.200q is not part of the management API; see "+root+"openapi.yaml", path)
}
