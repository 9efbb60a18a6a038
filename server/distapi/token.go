package distapi

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
)

// maxTokenForm bounds the body of a token request: a password, a refresh token and some scopes.
const maxTokenForm = 64 << 10

// tokenIssuer is what the token endpoint needs of the auth room.
type tokenIssuer interface {
	Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error)
	Password(ctx context.Context, name, password, addr string) (identity.Principal, error)
	Refresh(ctx context.Context, token, addr string) (identity.Principal, error)
	Exchange(ctx context.Context, token, addr string) (identity.Principal, time.Duration, error)
	JWKS(ctx context.Context) ([]byte, error)
	Token(ctx context.Context, r auth.Request) (auth.Token, error)
}

// TokenEndpoint is the token service of the Docker token protocol: GET with Basic authorization or none, and POST with
// an OAuth 2 form, also to exchange the token of a trusted issuer for one of ours. It serves every path that it is mounted on
// (/token, and /service/token for scripts written for Harbor); below a path that ends in /jwks are the keys that verify what
// it makes.
//
// A wrong password is always 401, the only refusal that podman understands, and never leads to an anonymous token.
//
// Spec: distribution, "Token Authentication Specification" and "Oauth2 Token Authentication"; RFC 8693.
type TokenEndpoint struct {
	Auth tokenIssuer
	// Errors renders a failure; nil is httpd.WriteError.
	Errors func(w http.ResponseWriter, r *http.Request, err error)
}

// tokenAnswer has the fields of both specifications: token for old clients, access_token for OAuth ones.
type tokenAnswer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type,omitempty"` // OAuth only
	Scope        string `json:"scope,omitempty"`      // OAuth only
	ExpiresIn    int    `json:"expires_in"`           // seconds
	IssuedAt     string `json:"issued_at"`            // RFC 3339
	RefreshToken string `json:"refresh_token,omitempty"`
	IssuedType   string `json:"issued_token_type,omitempty"` // token exchange only
}

// What token exchange calls things (RFC 8693 section 3).
const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeAccess    = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	typeID        = "urn:ietf:params:oauth:token-type:id_token"
)

// ServeHTTP implements http.Handler.
func (e *TokenEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	httpd.RecordOf(w).SetHandler("token")
	if strings.HasSuffix(r.URL.Path, "/jwks") {
		e.keys(w, r)
		return
	}
	var answer tokenAnswer
	var err error
	switch r.Method {
	case http.MethodGet:
		answer, err = e.get(w, r)
	case http.MethodPost:
		answer, err = e.post(w, r)
	default:
		w.Header().Set("Allow", tokenMethods)
		err = fault.New(fault.Unsupported, fault.UnsupportedReason, "method %.20s is not offered by the token service; use GET or POST", r.Method)
	}
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store") // RFC 6749 section 5.1
	_ = json.NewEncoder(w).Encode(answer)
}

func (e *TokenEndpoint) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if e.Errors != nil {
		e.Errors(w, r, err)
		return
	}
	httpd.WriteError(w, r, err)
}

// keys answers with the key set, for services that verify our tokens themselves. It may be kept for less than the time that
// a retired key goes on verifying.
func (e *TokenEndpoint) keys(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", reads)
		e.refuse(w, r, fault.New(fault.Unsupported, fault.UnsupportedReason, "method %.20s is not offered for the key set; use GET", r.Method))
		return
	}
	set, err := e.Auth.JWKS(r.Context())
	if err != nil {
		e.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json") // RFC 7517 section 8.5.1
	h.Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(set)
}

// get is the flow of docker login, docker pull and nearly everybody else.
func (e *TokenEndpoint) get(w http.ResponseWriter, r *http.Request) (tokenAnswer, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return tokenAnswer{}, malformed("query", err)
	}
	header, err := authorization(r)
	if err != nil {
		return tokenAnswer{}, err
	}
	p, err := e.Auth.Authenticate(r.Context(), header, clientAddr(w, r))
	if err != nil {
		return tokenAnswer{}, err
	}
	// docker login would keep the refresh token in the place of the password, in a file that podman, skopeo and buildah
	// read too, and they cannot use it. So docker keeps what it gets from other registries, the password.
	offline := q.Get("offline_token") == "true" || q.Get("offline_token") == "1"
	return e.issue(w, r, auth.Request{
		Principal: p, Scopes: q["scope"], Service: q.Get("service"), Account: q.Get("account"), ClientID: q.Get("client_id"),
		Offline: offline && q.Get("client_id") != "docker",
	})
}

// post is the OAuth flow. Secrets are read from the body only: a query is in every log on the way.
func (e *TokenEndpoint) post(w http.ResponseWriter, r *http.Request) (tokenAnswer, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return tokenAnswer{}, fault.New(fault.Invalid, fault.UnsupportedReason,
			"token request has content type %.60q; use application/x-www-form-urlencoded", r.Header.Get("Content-Type"))
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenForm)
	if err := r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return tokenAnswer{}, err // the error writer knows it
		}
		return tokenAnswer{}, malformed("form", err)
	}
	form, addr := r.PostForm, clientAddr(w, r)
	var p identity.Principal
	var life time.Duration
	var err error
	grant := form.Get("grant_type")
	switch grant {
	case "password":
		p, err = e.Auth.Password(r.Context(), form.Get("username"), form.Get("password"), addr)
	case "refresh_token":
		p, err = e.Auth.Refresh(r.Context(), form.Get("refresh_token"), addr)
	case exchangeGrant:
		if err = exchangeable(form); err == nil {
			p, life, err = e.Auth.Exchange(r.Context(), form.Get("subject_token"), addr)
		}
	default:
		err = fault.New(fault.Invalid, fault.UnsupportedReason, "grant type %.80q is not supported; use password, refresh_token or %s", grant, exchangeGrant)
	}
	if err != nil {
		return tokenAnswer{}, err
	}
	answer, err := e.issue(w, r, auth.Request{
		Principal: p, Scopes: form["scope"], Service: form.Get("service"), Account: form.Get("username"), ClientID: form.Get("client_id"),
		Offline: form.Get("access_type") == "offline" && grant == "password", Lifetime: life,
	})
	answer.TokenType = "Bearer"
	if grant == exchangeGrant {
		answer.IssuedType = typeAccess
	}
	return answer, err
}

// exchangeable says what is asked for that this service does not do.
func exchangeable(form url.Values) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "token exchange: "+format, args...)
	}
	switch t := form.Get("subject_token_type"); {
	case form.Get("subject_token") == "":
		return bad("subject_token is missing")
	case t != typeJWT && t != typeID && t != typeAccess:
		return bad("subject_token_type %.80q is not supported; use %s", t, typeJWT)
	case form.Has("actor_token"):
		return bad("acting for another (actor_token) is not supported")
	case form.Has("requested_token_type") && form.Get("requested_token_type") != typeAccess && form.Get("requested_token_type") != typeJWT:
		return bad("requested_token_type %.80q is not supported; use %s", form.Get("requested_token_type"), typeAccess)
	}
	return nil
}

func (e *TokenEndpoint) issue(w http.ResponseWriter, r *http.Request, q auth.Request) (tokenAnswer, error) {
	httpd.RecordOf(w).Principal = q.Principal.String()
	t, err := e.Auth.Token(r.Context(), q)
	if err != nil {
		return tokenAnswer{}, err
	}
	a := tokenAnswer{
		Token: t.Access, AccessToken: t.Access, ExpiresIn: int(t.ExpiresIn / time.Second),
		IssuedAt: t.IssuedAt.Format(time.RFC3339), RefreshToken: t.Refresh,
	}
	if r.Method == http.MethodPost {
		a.Scope = t.Scope
	}
	return a, nil
}

// authorization is the one Authorization header. Of two, a proxy and we might believe different ones.
func authorization(r *http.Request) (string, error) {
	switch values := r.Header.Values("Authorization"); len(values) {
	case 0:
		return "", nil
	case 1:
		if strings.TrimSpace(values[0]) == "" {
			return "", nil
		}
		return values[0], nil
	}
	return "", fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "request has more than one authorization header; send one")
}

// clientAddr is the caller's address as httpd found it behind trusted proxies, or the peer's outside of its chain.
func clientAddr(w http.ResponseWriter, r *http.Request) string {
	if a := httpd.RecordOf(w).Client; a.IsValid() {
		return a.String()
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

func malformed(what string, err error) error {
	return fault.New(fault.Invalid, fault.UnsupportedReason, "token request has a malformed %s; encode it as application/x-www-form-urlencoded", what).Because(err)
}
