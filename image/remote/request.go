package remote

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/berth-registry/berth/fault"
)

// call is one request as this package thinks of it, before it is known where it goes and with which authorization.
type call struct {
	method string
	path   string      // "/v2/…", with its query
	url    *url.URL    // in place of path: where a Location led
	header http.Header // nil is none
	scope  []string    // of the token that it needs
	repo   string      // whose credentials
	body   func() (io.ReadCloser, error)
	length int64 // of body; -1 is not known
	tries  int   // 0 is the client's; 1 for bodies that cannot simply be sent again
	ok     []int // statuses that are no failure; nil is 200

	what    string       // "get manifest v1 of team/app", for messages
	missing fault.Reason // what a 404 without a code means
	now     time.Time    // when the last answer came
}

func (cl *call) describe() string {
	if cl.what != "" {
		return cl.what
	}
	return cl.method + " " + cl.path
}

// transient are the statuses after which the same request may succeed.
func transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// do makes a request until it is answered with one of the hoped-for statuses, or fails for good. The body of what it
// returns is open.
func (c *Client) do(ctx context.Context, h *host, cl *call) (*http.Response, error) {
	tries := cl.tries
	if tries == 0 {
		tries = c.o.Tries
	}
	if err := c.settle(ctx, h, cl); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		if err := c.wait(ctx, h, cl); err != nil {
			return nil, err
		}
		resp, login, err := c.authorized(ctx, h, cl)
		cl.now = c.o.Now()
		var status int
		if err == nil {
			h.heard()
			c.heed(h, resp)
			if cl.hopedFor(resp.StatusCode) {
				return resp, nil
			}
			status = resp.StatusCode
			asked, _ := parseRetryAfter(resp.Header.Get("Retry-After"), cl.now)
			err = cl.refusal(h, resp, login)
			if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
				if asked > c.o.MaxWait {
					return nil, err
				}
				h.pause(cl.now.Add(asked))
			}
		} else if err = cl.broken(ctx, h, err); ctx.Err() != nil || lasting(err) || !c.stubborn && h.absent(err) {
			return nil, err
		}
		if status != 0 && !transient(status) || n >= tries {
			return nil, err
		}
		if err := c.again(ctx, h, n, err); err != nil {
			return nil, err
		}
	}
}

func (h *host) heard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answered = true
}

// absent reports whether nobody listens at a host that never answered.
func (h *host) absent(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.answered && errors.Is(err, syscall.ECONNREFUSED)
}

// again pauses before the next try, n having been made.
func (c *Client) again(ctx context.Context, h *host, n int, because error) error {
	d := c.o.Delay
	if d <= 0 {
		d = jitter(c.o.Backoff << min(n-1, 6))
	}
	c.o.Notice(Notice{Host: h.name, Kind: "retry", Text: because.Error(), Wait: d})
	return c.o.Sleep(ctx, d)
}

func (cl *call) hopedFor(status int) bool {
	if cl.ok == nil {
		return status == http.StatusOK
	}
	return slices.Contains(cl.ok, status)
}

// pause keeps all requests to a host back until a moment.
func (h *host) pause(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until.After(h.until) {
		h.until = until
	}
}

// wait honours a pause that the host asked for.
func (c *Client) wait(ctx context.Context, h *host, cl *call) error {
	for {
		h.mu.Lock()
		d := h.until.Sub(c.o.Now())
		h.mu.Unlock()
		if d <= 0 {
			return nil
		}
		c.o.Notice(Notice{Host: h.name, Kind: "pause", Text: "the registry asked for a pause", Wait: d})
		if err := c.o.Sleep(ctx, d); err != nil {
			return err
		}
	}
}

// heed remembers what an answer said about the host's limit, and pauses before the limit is hit when the registry says that
// nothing remains and when that ends.
func (c *Client) heed(h *host, resp *http.Response) {
	now := c.o.Now()
	l := parseLimit(resp.Header, now)
	if !l.Known {
		return
	}
	h.mu.Lock()
	low := l.Limit > 0 && l.Remaining*10 < l.Limit && h.limit.Remaining*10 >= h.limit.Limit
	h.limit = l
	h.mu.Unlock()
	if l.Remaining == 0 && !l.Reset.IsZero() && l.Reset.Sub(now) <= c.o.MaxWait {
		h.pause(l.Reset)
	}
	if low {
		c.o.Notice(Notice{Host: h.name, Kind: "limit", Text: "less than a tenth of the registry's limit on requests is left"})
	}
}

// settle finds out the scheme of a host that may speak either. It is done once; a host that does not answer is asked again.
func (c *Client) settle(ctx context.Context, h *host, cl *call) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.scheme != "" {
		return nil
	}
	ep := c.o.Endpoint(h.name)
	if ep.Scheme == "" {
		ep.Scheme = "https"
	}
	if ep.Fallback && ep.Scheme == "https" {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.addr+"/v2/", nil)
		if err != nil {
			return cl.broken(ctx, h, err)
		}
		req.Header.Set("User-Agent", c.o.Agent)
		resp, err := c.transport(h.name).RoundTrip(req)
		switch {
		case err == nil:
			discard(resp)
		case ctx.Err() != nil:
			return cl.broken(ctx, h, err)
		default:
			ep.Scheme = "http"
		}
	}
	h.scheme = ep.Scheme
	return nil
}

func (c *Client) transport(hostname string) http.RoundTripper {
	if t := c.o.Endpoint(hostname).Transport; t != nil {
		return t
	}
	return c.o.Transport
}

// target is where a call goes first.
func (cl *call) target(h *host) (*url.URL, error) {
	if cl.url != nil {
		return cl.url, nil
	}
	u, err := url.Parse(h.scheme + "://" + h.addr + cl.path)
	if err != nil {
		return nil, fault.New(fault.Invalid, fault.NameInvalid, "%s: %s: the address is malformed", h.name, cl.describe()).Because(err)
	}
	return u, nil
}

// maxHops is how many redirects are followed.
const maxHops = 5

// once sends a request and follows redirects. authorization goes with it as long as the origin is the registry's own.
func (c *Client) once(ctx context.Context, h *host, cl *call, authorization string) (*http.Response, error) {
	u, err := cl.target(h)
	if err != nil {
		return nil, err
	}
	for hop := 0; ; hop++ {
		conn, cancel := context.WithCancelCause(ctx)
		req, err := cl.request(conn, u)
		if err != nil {
			cancel(nil)
			return nil, err
		}
		req.Header.Set("User-Agent", c.o.Agent)
		name := h.name
		if sameOrigin(u, h.origin()) {
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
		} else {
			name = u.Host
		}
		resp, err := c.transport(name).RoundTrip(req)
		if err != nil {
			cancel(nil)
			return nil, err
		}
		resp.Body = c.timely(resp.Body, cancel)
		if !redirects(resp.StatusCode) || resp.Header.Get("Location") == "" {
			return resp, nil
		}
		next, err := cl.redirect(h, u, resp)
		discard(resp)
		if err != nil {
			return nil, err
		}
		if hop == maxHops {
			return nil, fault.New(fault.Unavailable, ReasonRedirect, "%s: %s: more than %d redirects", h.name, cl.describe(), maxHops)
		}
		u = next
	}
}

// timely is the body of an answer that has to come: one that brings less than a kibibyte while it is waited for as long as a transfer
// may stand still is given up. cancel ends the request.
type timely struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	now    func() time.Time
	limit  time.Duration
	waited time.Duration // since the last kibibyte
	came   int           // likewise
}

func (c *Client) timely(body io.ReadCloser, cancel context.CancelCauseFunc) io.ReadCloser {
	return &timely{ReadCloser: body, cancel: cancel, now: c.o.Now, limit: c.o.Stall}
}

func (t *timely) Read(p []byte) (int, error) {
	begun := t.now()
	timer := time.AfterFunc(t.limit-t.waited, func() { t.cancel(errStalled) })
	n, err := t.ReadCloser.Read(p)
	late := !timer.Stop()
	t.waited += t.now().Sub(begun)
	if t.came += n; t.came >= 1<<10 {
		t.came, t.waited = 0, 0
	}
	if late && err != nil && err != io.EOF {
		err = errStalled
	}
	return n, err
}

func (t *timely) Close() error {
	err := t.ReadCloser.Close()
	t.cancel(nil)
	return err
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirect is where an answer leads, or why it is not followed: from https to http never, and a request that changes
// something only where its method and body stay what they are.
func (cl *call) redirect(h *host, from *url.URL, resp *http.Response) (*url.URL, error) {
	refuse := func(why string) error {
		return fault.New(fault.Unavailable, ReasonRedirect, "%s: %s: the redirect to %s is not followed: %s", h.name, cl.describe(), plain(resp.Header.Get("Location"), 100), why)
	}
	next, err := from.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil:
		return nil, refuse("it is no address")
	case next.Scheme != "https" && next.Scheme != "http", next.Host == "":
		return nil, refuse("it is not http or https")
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, refuse("it leads from https to http")
	case next.User != nil:
		return nil, refuse("it has a user's name in it")
	}
	if cl.method != http.MethodGet && cl.method != http.MethodHead &&
		resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect {
		return nil, refuse("a request that writes must arrive as it is")
	}
	return next, nil
}

func (cl *call) request(ctx context.Context, u *url.URL) (*http.Request, error) {
	var body io.ReadCloser
	if cl.body != nil {
		var err error
		if body, err = cl.body(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, u.String(), nil)
	if err != nil {
		if body != nil {
			_ = body.Close() // nothing was read
		}
		return nil, err
	}
	if body != nil {
		req.Body, req.ContentLength = body, cl.length
		if cl.length == 0 {
			_ = body.Close() // net/http would take a body of length 0 for one of unknown length
			req.Body = http.NoBody
		}
	}
	for k, v := range cl.header {
		req.Header[k] = v
	}
	return req, nil
}

// sameOrigin compares scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// errNoLogin is the private cause of a challenge that nothing is known for.
var errNoLogin = errors.New("no credentials are known for this host")
