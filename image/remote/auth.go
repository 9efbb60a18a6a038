package remote

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/berth-registry/berth/fault"
)

// token is an authorization that a token server gave.
type token struct {
	text  string
	until time.Time
}

// authorized sends a request with what is known, and once more with what the registry's challenge asks for. login is what was
// found to log in with; the zero value where nobody asked for a login.
func (c *Client) authorized(ctx context.Context, h *host, cl *call) (resp *http.Response, login Credentials, err error) {
	h.mu.Lock()
	known := h.auth
	h.mu.Unlock()
	var auth string
	if known != nil {
		if auth, login, err = c.authorization(ctx, h, cl, known, false); err != nil {
			return nil, login, err
		}
	}
	resp, err = c.once(ctx, h, cl, auth)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !sameOrigin(resp.Request.URL, h.origin()) {
		return resp, login, err
	}
	asked := pick(parseChallenges(resp.Header.Values("WWW-Authenticate")))
	if asked == nil {
		return resp, login, nil
	}
	fresh, login, err := c.authorization(ctx, h, cl, asked, auth != "")
	if errors.Is(err, errNoLogin) {
		return resp, login, nil // the registry's own words are better than ours
	}
	if err != nil {
		discard(resp)
		return nil, login, err
	}
	if fresh == auth {
		return resp, login, nil
	}
	discard(resp)
	h.mu.Lock()
	h.auth = asked
	h.mu.Unlock()
	resp, err = c.once(ctx, h, cl, fresh)
	return resp, login, err
}

// introduce has a host say how it wants to be logged in to, where a login is known: what it answers strangers too, it may
// answer with less. A login that it does not accept is an error.
func (c *Client) introduce(ctx context.Context, h *host) error {
	h.mu.Lock()
	known := h.auth != nil
	h.mu.Unlock()
	if known {
		return nil
	}
	cl := &call{method: http.MethodGet, path: "/v2/", what: "sign in", ok: []int{http.StatusOK, http.StatusNotFound, http.StatusMethodNotAllowed}}
	cred, err := c.o.Credentials(ctx, h.name, "")
	if err != nil {
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s: %s: the credentials cannot be read", h.name, cl.describe()).Because(err)
	}
	if cred.None() {
		return nil
	}
	resp, err := c.do(ctx, h, cl)
	if err != nil {
		return err
	}
	discard(resp)
	return nil
}

// pick prefers a token to a password.
func pick(all []challenge) *challenge {
	for _, scheme := range []string{"bearer", "basic"} {
		for i := range all {
			if all[i].scheme == scheme && (scheme == "basic" || all[i].params["realm"] != "") {
				return &all[i]
			}
		}
	}
	return nil
}

// authorization is the value of the header that answers a challenge. renew asks for a token although one is there.
func (c *Client) authorization(ctx context.Context, h *host, cl *call, ch *challenge, renew bool) (auth string, cred Credentials, err error) {
	cred, err = c.o.Credentials(ctx, h.name, cl.repo)
	if err != nil {
		return "", cred, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s: %s: the credentials cannot be read", h.name, cl.describe()).Because(err)
	}
	switch {
	case cred.Registry != "":
		return "Bearer " + cred.Registry, cred, nil
	case ch.scheme == "basic" && (cred.User != "" || cred.Password != ""):
		return basic(cred), cred, nil
	case ch.scheme == "basic":
		return "", cred, errNoLogin
	}
	scope := cl.scopes(ch)
	key := strings.Join(scope, " ") + "\x00" + cred.User
	ask := h.lock(key)
	ask.Lock() // many transfers need the same token at the same time; one asks
	defer ask.Unlock()
	h.mu.Lock()
	t, ok := h.tokens[key]
	h.mu.Unlock()
	if ok && !renew && c.o.Now().Before(t.until) {
		return "Bearer " + t.text, cred, nil
	}
	t, err = c.token(ctx, h, cl, ch, cred, scope)
	if err != nil {
		return "", cred, err
	}
	h.mu.Lock()
	h.tokens[key] = t
	h.mu.Unlock()
	return "Bearer " + t.text, cred, nil
}

func (h *host) lock(key string) *sync.Mutex {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.asking[key]
	if m == nil {
		m = &sync.Mutex{}
		h.asking[key] = m
	}
	return m
}

func basic(cred Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.User+":"+cred.Password))
}

// scopes are what the call needs, and what the challenge asks for beyond.
func (cl *call) scopes(ch *challenge) []string {
	scope := slices.Clone(cl.scope)
	if len(scope) == 0 {
		scope = strings.Fields(ch.params["scope"])
	}
	slices.Sort(scope)
	return slices.Compact(scope)
}

// maxToken bounds a token server's answer.
const maxToken = 1 << 20

// token asks a token server. Credentials go along only when the server is one that may have them; without credentials any
// server may be asked.
//
// Spec: distribution, "Token Authentication Specification" and "OAuth2 token authentication".
func (c *Client) token(ctx context.Context, h *host, cl *call, ch *challenge, cred Credentials, scope []string) (token, error) {
	realm, err := c.realm(h, ch, cred)
	if err != nil {
		return token{}, err
	}
	conn, cancel := context.WithCancelCause(ctx)
	req, err := tokenRequest(conn, realm, ch, cred, scope)
	if err != nil {
		cancel(nil)
		return token{}, fault.New(fault.Unavailable, ReasonRealm, "%s: the token server's address %q is malformed", h.name, plain(ch.params["realm"], 100)).Because(err)
	}
	req.Header.Set("User-Agent", c.o.Agent)
	name := realm.Host
	if sameOrigin(realm, h.origin()) {
		name = h.name
	}
	get := &call{method: req.Method, what: "get a token from " + realm.Host, repo: cl.repo, now: c.o.Now()}
	resp, err := c.transport(name).RoundTrip(req) // redirects are not followed: they would take the credentials along
	if err != nil {
		cancel(nil)
		return token{}, get.broken(ctx, h, err)
	}
	resp.Body = c.timely(resp.Body, cancel)
	if resp.StatusCode != http.StatusOK {
		return token{}, get.refusal(h, resp, cred)
	}
	defer discard(resp)
	var doc struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   float64   `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return token{}, get.broken(ctx, h, err)
	}
	if doc.Token = ""; json.Unmarshal(body, &doc) != nil || doc.Token == "" && doc.AccessToken == "" {
		return token{}, fault.New(fault.Unavailable, ReasonNoRegistry, "%s: the token server %s did not answer with a token", h.name, realm.Host)
	}
	if doc.Token == "" {
		doc.Token = doc.AccessToken
	}
	// A minute is what the specification says of a token without a time; half of it is a margin for clocks that differ.
	life := time.Duration(min(max(doc.ExpiresIn, 60), 24*3600)) * time.Second
	return token{text: plain(doc.Token, maxToken), until: c.o.Now().Add(life - life/10 - 5*time.Second)}, nil
}

// realm is the token server that a challenge names, when it may be asked with these credentials.
func (c *Client) realm(h *host, ch *challenge, cred Credentials) (*url.URL, error) {
	realm, err := h.origin().Parse(ch.params["realm"])
	if err != nil || realm.Scheme != "https" && realm.Scheme != "http" || realm.Host == "" || realm.User != nil {
		return nil, fault.New(fault.Unavailable, ReasonRealm, "%s: the token server's address %q is malformed", h.name, plain(ch.params["realm"], 100))
	}
	if !sameOrigin(realm, h.origin()) && !cred.None() && !c.o.TrustRealm(h.origin(), realm) {
		return nil, fault.New(fault.Denied, ReasonRealm,
			"%s sends logins to the token server %s, which is on another site; the credentials are not sent there", h.name, realm.Scheme+"://"+realm.Host)
	}
	return realm, nil
}

// MayAsk is for those who have another client sign in: an error when the host sends logins to a token server that must not have
// the one that is known for the repository. A host that cannot be asked is no error here: it will be one for the other client.
func (c *Client) MayAsk(ctx context.Context, hostname, repository string) error {
	h := c.host(hostname)
	cred, err := c.o.Credentials(ctx, h.name, repository)
	if err != nil || cred.None() {
		return err
	}
	cl := &call{method: http.MethodGet, path: "/v2/", what: "ask how to sign in"}
	if c.settle(ctx, h, cl) != nil {
		return nil
	}
	resp, err := c.once(ctx, h, cl, "")
	if err != nil {
		return nil
	}
	defer discard(resp)
	asked := pick(parseChallenges(resp.Header.Values("WWW-Authenticate")))
	if resp.StatusCode != http.StatusUnauthorized || asked == nil || asked.scheme != "bearer" {
		return nil
	}
	_, err = c.realm(h, asked, cred)
	return err
}

func tokenRequest(ctx context.Context, realm *url.URL, ch *challenge, cred Credentials, scope []string) (*http.Request, error) {
	service := ch.params["service"]
	if cred.Refresh != "" {
		form := url.Values{"grant_type": {"refresh_token"}, "service": {service}, "client_id": {"berth"}, "refresh_token": {cred.Refresh}}
		if len(scope) > 0 {
			form.Set("scope", strings.Join(scope, " "))
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	u := *realm
	q := u.Query()
	if service != "" {
		q.Set("service", service)
	}
	for _, s := range scope {
		q.Add("scope", s)
	}
	if cred.User != "" {
		q.Set("account", cred.User)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && (cred.User != "" || cred.Password != "") {
		req.Header.Set("Authorization", basic(cred))
	}
	return req, err
}

// SameSite reports whether a token server belongs to the same site as a registry: over https, the same host on another port
// or another host of the same registrable domain, as auth.docker.io is to registry-1.docker.io; on this machine, the same
// loopback host. An address of numbers has no domain: it must be the same.
func SameSite(registry, realm *url.URL) bool {
	same := strings.EqualFold(registry.Hostname(), realm.Hostname())
	if realm.Scheme != "https" {
		return same && registry.Scheme == "http" && loopback(registry.Host)
	}
	if same {
		return true
	}
	a, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(registry.Hostname()))
	if err != nil {
		return false
	}
	b, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(realm.Hostname()))
	return err == nil && a == b
}
