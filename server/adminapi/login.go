package adminapi

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
)

// LoginPath is where logins with identity providers are.
const LoginPath = root + "login"

// SessionCookie is the cookie of a browser's session. Its prefix makes browsers keep it to this host and to TLS.
const SessionCookie = "__Host-berth"

const (
	// pendingCookie holds a login that has begun, sealed.
	pendingCookie = "__Host-berth-login"
	// pendingFor is how long a person may take at the provider.
	pendingFor = 10 * time.Minute
	// maxLogins bounds the requests to providers at once, which strangers can cause.
	maxLogins = 32
	maxForm   = 128 << 10
)

// logins is what Login needs of the auth room.
type logins interface {
	LoginWays() []auth.IdentityProvider
	BeginLogin(ctx context.Context, provider, redirect string) (string, auth.Pending, error)
	FinishLogin(ctx context.Context, p auth.Pending, redirect string, a auth.Answer, addr, userAgent string) (auth.Opened, error)
	BeginDevice(ctx context.Context, provider string) (auth.DeviceLogin, error)
	FinishDevice(ctx context.Context, provider, code, addr string) (identity.Principal, error)
	Token(ctx context.Context, r auth.Request) (auth.Token, error)
	Logout(ctx context.Context, provider, token string) (int, error)
}

// Login serves logins with identity providers, below LoginPath:
//
//	GET  login                          the providers to choose from
//	GET  login/{provider}/start         sends a browser to the provider; return= is the path to come back to
//	GET  login/{provider}/callback      where the provider sends it back; answers with the session's cookie
//	POST login/{provider}/device        begins the device flow (RFC 8628)
//	POST login/{provider}/device/poll   asks how it went: 202 while nobody has answered, then a token for docker login
//	POST login/{provider}/logout        back-channel logout: the provider ends sessions
//
// These are not part of the OpenAPI contract: browsers and providers call them, by specifications of their own.
type Login struct {
	auth     logins
	external func(*http.Request) string
	seal     cipher.AEAD
	slots    chan struct{}
	now      func() time.Time
}

// NewLogin takes a key of 32 bytes, which all replicas share: a browser that began at one may come back to another.
// external is the address under which a request has reached us.
func NewLogin(a logins, key []byte, external func(*http.Request) string, now func() time.Time) (*Login, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("adminapi: key of logins: %w", err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("adminapi: key of logins: %w", err)
	}
	return &Login{auth: a, external: external, seal: seal, slots: make(chan struct{}, maxLogins), now: now}, nil
}

// ServeHTTP implements http.Handler.
func (l *Login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	httpd.RecordOf(w).SetHandler("login")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer") // a code is in the address
	if err := l.serve(w, r); err != nil {
		httpd.WriteError(w, r, err)
	}
}

func (l *Login) serve(w http.ResponseWriter, r *http.Request) error {
	rest := strings.TrimPrefix(r.URL.Path, LoginPath)
	if rest == "" || rest == "/" {
		return l.only(w, r, http.MethodGet, l.ways)
	}
	provider, step, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	steps := map[string]struct {
		method string
		serve  func(http.ResponseWriter, *http.Request, string) error
	}{
		"start": {http.MethodGet, l.start}, "callback": {http.MethodGet, l.callback}, "device": {http.MethodPost, l.device},
		"device/poll": {http.MethodPost, l.poll}, "logout": {http.MethodPost, l.logout},
	}
	s, ok := steps[step]
	if !ok {
		return fault.New(fault.NotFound, RouteUnknown, "path %.200q is not part of the logins", r.URL.Path)
	}
	return l.only(w, r, s.method, func(w http.ResponseWriter, r *http.Request) error {
		select {
		case l.slots <- struct{}{}:
			defer func() { <-l.slots }()
		default:
			f := fault.New(fault.RateLimited, fault.TooManyRequests, "too many logins are under way; try again in 2 seconds")
			f.After = 2
			return f
		}
		return s.serve(w, r, provider)
	})
}

func (l *Login) only(w http.ResponseWriter, r *http.Request, method string, serve func(http.ResponseWriter, *http.Request) error) error {
	if r.Method != method {
		w.Header().Set("Allow", method)
		return fault.New(fault.Unsupported, MethodUnknown, "method %.20s is not offered here; use %s", r.Method, method)
	}
	return serve(w, r)
}

func (l *Login) ways(w http.ResponseWriter, r *http.Request) error {
	type way struct {
		Name    string `json:"name"`
		Label   string `json:"label"`
		Kind    string `json:"kind"`
		Browser bool   `json:"browser"`
		Device  bool   `json:"device"`
	}
	ways := []way{}
	for _, p := range l.auth.LoginWays() {
		label := p.Label
		if label == "" {
			label = p.Name
		}
		ways = append(ways, way{p.Name, label, p.Kind, p.Browser != nil, p.Device != nil})
	}
	return answerJSON(w, http.StatusOK, map[string]any{"providers": ways})
}

func answerJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = encode(w, v) // a peer that is gone needs no second failure
	return nil
}

// pending is what a browser keeps between start and callback.
type pending struct {
	auth.Pending
	Return string
	Until  int64 // Unix seconds
}

func (l *Login) start(w http.ResponseWriter, r *http.Request, provider string) error {
	back := r.URL.Query().Get("return")
	if back == "" {
		back = "/"
	}
	if !localPath(back) {
		return badField("return", "parameter return is %.100q; a path of this registry is expected, such as /ui/", back)
	}
	address, p, err := l.auth.BeginLogin(r.Context(), provider, l.redirect(r, provider))
	if err != nil {
		return err
	}
	sealed, err := l.close(pending{p, back, l.now().Add(pendingFor).Unix()})
	if err != nil {
		return err
	}
	http.SetCookie(w, cookie(pendingCookie, sealed, int(pendingFor.Seconds())))
	http.Redirect(w, r, address, http.StatusSeeOther)
	return nil
}

// localPath reports whether a browser that is sent there stays at this registry. Browsers take \ for /, leave tabs and
// line ends out, and read // as another host.
func localPath(text string) bool {
	if len(text) > 2048 || !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.Contains(text, `\`) {
		return false
	}
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return false
	}
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil
}

// redirect is where the provider sends the browser back to: it must be registered there, so it names this registry as
// clients do.
func (l *Login) redirect(r *http.Request, provider string) string {
	return l.external(r) + LoginPath + "/" + provider + "/callback"
}

// cookie is one that scripts and other sites cannot read, and that plain HTTP does not carry. Lax: a provider sends the
// browser back here from its own site.
func cookie(name, value string, age int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func (l *Login) callback(w http.ResponseWriter, r *http.Request, provider string) error {
	http.SetCookie(w, cookie(pendingCookie, "", -1)) // for one answer, good or not
	var p pending
	if c, err := r.Cookie(pendingCookie); err == nil {
		p = l.open(c.Value)
	}
	if p.Provider != provider {
		p = pending{} // begun with another provider: as not begun
	}
	q := r.URL.Query()
	p.Provider = provider
	opened, err := l.auth.FinishLogin(r.Context(), p.Pending, l.redirect(r, provider), auth.Answer{
		State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error"),
	}, clientOf(w), legible.Clean(r.UserAgent()))
	if err != nil {
		return err
	}
	httpd.RecordOf(w).Principal = opened.Account
	http.SetCookie(w, cookie(SessionCookie, opened.Cookie, int(opened.ExpiresAt.Sub(l.now()).Seconds())))
	http.Redirect(w, r, p.Return, http.StatusSeeOther)
	return nil
}

func clientOf(w http.ResponseWriter) string {
	if a := httpd.RecordOf(w).Client; a.IsValid() {
		return a.String()
	}
	return ""
}

// close seals a login for the browser's cookie.
func (l *Login) close(p pending) (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, l.seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(l.seal.Seal(nonce, nonce, text, []byte(pendingCookie))), nil
}

// open gives a zero login for whatever is not one of ours, or too old.
func (l *Login) open(text string) (p pending) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(sealed) < l.seal.NonceSize() {
		return pending{}
	}
	n := l.seal.NonceSize()
	plain, err := l.seal.Open(nil, sealed[:n], sealed[n:], []byte(pendingCookie))
	if err != nil || json.Unmarshal(plain, &p) != nil || l.now().Unix() > p.Until || !localPath(p.Return) {
		return pending{}
	}
	return p
}

func (l *Login) device(w http.ResponseWriter, r *http.Request, provider string) error {
	if err := sameSite(r); err != nil {
		return err
	}
	d, err := l.auth.BeginDevice(r.Context(), provider)
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, map[string]any{ // names of RFC 8628 section 3.2
		"device_code": d.Code, "user_code": d.UserCode, "verification_uri": d.URL, "verification_uri_complete": d.Complete,
		"expires_in": int(d.ExpiresAt.Sub(l.now()).Seconds()), "interval": int(d.Interval.Seconds()),
	})
}

// poll answers with a refresh token, which is a password for docker login and podman login, or with 202 while nobody has
// answered. slow_down asks for five seconds more between polls.
func (l *Login) poll(w http.ResponseWriter, r *http.Request, provider string) error {
	if err := sameSite(r); err != nil {
		return err
	}
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	who, err := l.auth.FinishDevice(r.Context(), provider, form.Get("device_code"), clientOf(w))
	switch {
	case errors.Is(err, auth.ErrSlowDown):
		return answerJSON(w, http.StatusAccepted, map[string]any{"pending": true, "slow_down": true})
	case errors.Is(err, auth.ErrPending):
		return answerJSON(w, http.StatusAccepted, map[string]any{"pending": true})
	case errors.Is(err, auth.ErrExpired):
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the device login was not answered in time; begin another")
	case err != nil:
		return err
	}
	httpd.RecordOf(w).Principal = who.String()
	t, err := l.auth.Token(r.Context(), auth.Request{Principal: who, ClientID: "device", Offline: true})
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, map[string]any{"account": who.Name, "token": t.Refresh})
}

// sameSite refuses a page of another site, which must not begin logins in somebody's browser.
func sameSite(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fault.New(fault.Denied, fault.DeniedReason, "the request comes from a page of another site, and is not served").Because(err)
	}
	return nil
}

func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return nil, err // the error writer knows it
		}
		return nil, fault.New(fault.Invalid, FieldInvalid, "the request body is no form").Because(err)
	}
	return r.PostForm, nil
}

// logout answers as the provider expects: 200, or 400 for a token that is not right.
//
// Spec: OpenID Connect Back-Channel Logout 1.0 section 2.8.
func (l *Login) logout(w http.ResponseWriter, r *http.Request, provider string) error {
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	_, err = l.auth.Logout(r.Context(), provider, form.Get("logout_token"))
	if fault.Is(err, fault.Unauthenticated) {
		return fault.New(fault.Invalid, FieldInvalid, "the logout token is not valid").Because(err)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
