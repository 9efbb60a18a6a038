package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
)

// sessions is what the face needs of the auth room for browsers.
type sessions interface {
	Login(ctx context.Context, name, password, addr string) (identity.Principal, error)
	Open(ctx context.Context, p identity.Principal, via string, external *auth.External, userAgent string) (auth.Opened, error)
	Resolve(ctx context.Context, cookie, addr string) (identity.Principal, auth.Session, error)
	Acts(ctx context.Context, cookie, csrf, addr string) (identity.Principal, auth.Session, error)
	CSRF(ctx context.Context, cookie string) (string, error)
	Leave(ctx context.Context, cookie string) error
	MySessions(ctx context.Context, after int64, limit int) ([]auth.Session, error)
	Sessions(ctx context.Context, account string, after int64, limit int) ([]auth.Session, error)
	Revoke(ctx context.Context, id int64) error
	RevokeAll(ctx context.Context, account string, except int64) (int, error)
}

// csrfHeader has to bring the session's token with every change: a page of another site cannot read it.
const csrfHeader = "X-Berth-CSRF"

// setCookie is the header that sets the session's cookie; without a secret it deletes it.
func setCookie(secret string, until time.Time) string {
	c := cookie(SessionCookie, secret, 0)
	c.Expires = until
	if secret == "" {
		c.MaxAge = -1
	}
	return c.String()
}

// cookieOf is the session's cookie of a request, "" for none. Two are as good as none: one of them is somebody else's.
func cookieOf(r *http.Request) string {
	found := r.CookiesNamed(SessionCookie)
	if len(found) != 1 {
		return ""
	}
	return found[0].Value
}

// session is who a cookie is for. A request that changes something has to show that it comes from a page of ours.
func (h *Handler) session(r *http.Request, cookie string, rec *httpd.Record) (identity.Principal, error) {
	addr := rec.Client.String()
	if reading(r) {
		p, _, err := h.Sessions.Resolve(r.Context(), cookie, addr)
		return p, err
	}
	p, _, err := h.Sessions.Acts(r.Context(), cookie, r.Header.Get(csrfHeader), addr)
	return p, err
}

func (h *Handler) declareSessions(f *face) {
	declare(f, operation{
		id: "login", method: http.MethodPost, path: "sessions", tag: "sessions", needs: permission{Scope: everybody},
		summary: "Open a session of a browser with a name and a password",
		text: "The answer sets the cookie `" + SessionCookie + "`. Every request that changes something then sends `csrf` in the header `" + csrfHeader + "`. " +
			"A session ends when it is not used, and at its end at the latest (`berth.sessions`).",
		answer: "The session.", status: http.StatusCreated,
	}, h.login)
	declare(f, operation{
		id: "getSession", method: http.MethodGet, path: "sessions/current", tag: "sessions", needs: permission{Scope: signedIn},
		summary: "Show the session of the cookie, with its CSRF token", answer: "The session.",
	}, h.current)
	declare(f, operation{
		id: "logout", method: http.MethodDelete, path: "sessions/current", tag: "sessions", needs: permission{Scope: signedIn},
		summary: "End the session of the cookie", answer: "It is ended.", status: http.StatusNoContent,
	}, h.logout)
	declare(f, operation{
		id: "listMySessions", method: http.MethodGet, path: "me/sessions", tag: "sessions", needs: permission{Scope: signedIn},
		summary: "List the caller's sessions", answer: "A page of sessions.",
	}, func(ctx context.Context, q *struct{ PageQuery }) (*listed[sessionView], error) {
		return h.listSessions(ctx, q.PageQuery, h.Sessions.MySessions)
	})
	declare(f, operation{
		id: "listSessions", method: http.MethodGet, path: "sessions", tag: "sessions", needs: on(onRegistry, identity.SessionRead),
		summary: "List sessions of all accounts, or of one", answer: "A page of sessions.",
	}, func(ctx context.Context, q *sessionsQuery) (*listed[sessionView], error) {
		return h.listSessions(ctx, q.PageQuery, func(ctx context.Context, after int64, n int) ([]auth.Session, error) {
			return h.Sessions.Sessions(ctx, q.User, after, n)
		})
	})
	declare(f, operation{
		id: "revokeSession", method: http.MethodDelete, path: "sessions/{id}", tag: "sessions", needs: permission{Scope: signedIn}, object: "session", unknown: SessionUnknown,
		summary: "End a session: one's own, or, with session.write, any", answer: "It is ended.", status: http.StatusNoContent,
	}, func(ctx context.Context, in *struct {
		ID int64 `path:"id" minimum:"1" doc:"Number of the session."`
	}) (*done, error) {
		return finish(h.Sessions.Revoke(ctx, in.ID))
	})
	declare(f, operation{
		id: "revokeSessionsOfUser", method: http.MethodDelete, path: "users/{user}/sessions", tag: "sessions", needs: permission{Scope: signedIn},
		summary: "End all sessions of an account: one's own, or, with session.write, any", answer: "How many were ended.",
	}, func(ctx context.Context, in *struct{ InUser }) (*shown[endedView], error) {
		n, err := h.Sessions.RevokeAll(ctx, in.User, 0)
		if err != nil {
			return nil, err
		}
		return show(endedView{n})
	})
}

type endedView struct {
	Ended int `json:"ended"`
}

// credentials is the body of login.
type credentials struct {
	Name     string `json:"name" minLength:"1" maxLength:"255"`
	Password string `json:"password" maxLength:"1024"`
}

type loginInput struct {
	Body credentials
}

type openedView struct {
	ID        int64     `json:"id"`
	User      string    `json:"user"`
	CSRF      string    `json:"csrf" doc:"For the header of every request that changes something."`
	ExpiresAt time.Time `json:"expiresAt" doc:"At the latest."`
}

// cookied is an answer that sets the session's cookie.
type cookied[T any] struct {
	SetCookie string `header:"Set-Cookie" doc:"The session's cookie."`
	Body      T
}

func (h *Handler) login(ctx context.Context, in *loginInput) (*cookied[openedView], error) {
	c := callOf(ctx)
	p, err := h.Sessions.Login(ctx, in.Body.Name, in.Body.Password, c.addr)
	if err != nil {
		return nil, err
	}
	o, err := h.Sessions.Open(identity.With(ctx, p), p, "password", nil, legible.Clean(c.r.UserAgent()))
	if err != nil {
		return nil, err
	}
	return &cookied[openedView]{setCookie(o.Cookie, o.ExpiresAt), openedView{o.ID, o.Account, o.CSRF, o.ExpiresAt.UTC()}}, nil
}

func (h *Handler) current(ctx context.Context, _ *struct{}) (*shown[openedView], error) {
	c := callOf(ctx)
	secret := cookieOf(c.r)
	_, s, err := h.Sessions.Resolve(ctx, secret, c.addr)
	if err != nil {
		return nil, err
	}
	csrf, err := h.Sessions.CSRF(ctx, secret)
	if err != nil {
		return nil, err
	}
	return show(openedView{s.ID, s.Account, csrf, s.ExpiresAt.UTC()})
}

// left is the answer of logout: the cookie goes, too.
type left struct {
	SetCookie string `header:"Set-Cookie"`
}

func (h *Handler) logout(ctx context.Context, _ *struct{}) (*left, error) {
	if err := h.Sessions.Leave(ctx, cookieOf(callOf(ctx).r)); err != nil {
		return nil, err
	}
	return &left{setCookie("", time.Time{})}, nil
}

type sessionView struct {
	ID        int64     `json:"id"`
	User      string    `json:"user"`
	Via       string    `json:"via" doc:"password, or the kind of the identity provider."`
	Provider  string    `json:"provider,omitempty"`
	Addr      string    `json:"addr"`
	UserAgent string    `json:"userAgent"`
	CreatedAt time.Time `json:"createdAt"`
	SeenAt    time.Time `json:"seenAt" doc:"May be behind by a minute."`
	ExpiresAt time.Time `json:"expiresAt" doc:"At the latest."`
}

func viewSession(s auth.Session) sessionView {
	return sessionView{s.ID, s.Account, s.Via, s.Provider, s.Addr, s.UserAgent, s.CreatedAt.UTC(), s.SeenAt.UTC(), s.ExpiresAt.UTC()}
}

type sessionsQuery struct {
	User string `query:"user" doc:"Only sessions of this account."`
	PageQuery
}

func (h *Handler) listSessions(ctx context.Context, q PageQuery, read func(ctx context.Context, after int64, n int) ([]auth.Session, error)) (*listed[sessionView], error) {
	after, err := q.number(ctx)
	if err != nil {
		return nil, err
	}
	found, err := read(ctx, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewSession, func(s auth.Session) string { return strconv.FormatInt(s.ID, 10) })
}
