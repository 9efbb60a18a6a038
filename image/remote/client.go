package remote

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/oci/ref"
)

// Credentials are what a registry's host is logged in to with. The zero value is nobody.
type Credentials struct {
	User, Password string
	Refresh        string // an identity token, used in place of user and password
	Registry       string // a token that is sent to the registry as it is
	Source         string // for messages, also of nobody: who it is and where that stands: "alice, from /run/user/0/containers/auth.json"
}

// None reports whether there is nothing to log in with.
func (c Credentials) None() bool {
	return c.User == "" && c.Password == "" && c.Refresh == "" && c.Registry == ""
}

// Endpoint is how to reach a host.
type Endpoint struct {
	Scheme    string            // "https" or "http"; "" is https
	Fallback  bool              // try http where https finds no TLS server; only when the user asked for it
	Transport http.RoundTripper // nil is Options.Transport
}

// Options say how a Client reaches registries. The zero value reaches public ones over https without a login.
type Options struct {
	// Transport is for hosts whose endpoint has none of its own; nil is NewTransport(nil).
	Transport http.RoundTripper
	// Endpoint says how to reach a host ("host" or "host:port"), also one that a redirect leads to; nil is https for all.
	Endpoint func(host string) Endpoint
	// Credentials finds what is known for a repository of a host; nil is nothing. It is asked when a registry wants a login.
	Credentials func(ctx context.Context, host, repository string) (Credentials, error)
	// TrustRealm reports whether the token server realm may be given the credentials of registry; nil is SameSite.
	TrustRealm func(registry, realm *url.URL) bool
	// Uploads remembers interrupted uploads between processes; nil forgets them.
	Uploads Uploads
	// Agent is the User-Agent.
	Agent string
	// Tries is how often a request is made in all before it fails; 0 is 5, and 1 while nobody listens where the registry should be and it
	// never answered: that is a wrong name, and no outage. Progress starts the count anew.
	Tries int
	// Backoff is the pause before the second try, doubled for each further one; 0 is half a second.
	Backoff time.Duration
	// Delay is the pause before every try but the first, exactly, in place of Backoff; 0 is Backoff.
	Delay time.Duration
	// MaxWait is the longest pause that a registry may ask for with Retry-After or RateLimit; 0 is two minutes. A longer
	// one is a failure at once.
	MaxWait time.Duration
	// Stall is how long a transfer may stand still before it counts as interrupted; 0 is a minute.
	Stall time.Duration
	// Notice is told of pauses, retries and resumed transfers, from many goroutines; nil is nobody.
	Notice func(Notice)
	// Now and Sleep are the clock; nil is the real one.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Notice is something worth knowing that is no failure.
type Notice struct {
	Host string
	Kind string // "retry", "pause", "resume", "limit"
	Text string
	Wait time.Duration // of retry and pause
}

// Client speaks to registries. Make it with New.
type Client struct {
	o        Options
	stubborn bool // Tries was given: it holds in all cases

	mu    sync.Mutex
	hosts map[string]*host
}

// New makes a client. It does no I/O.
func New(o Options) *Client {
	if o.Transport == nil {
		o.Transport = NewTransport(nil)
	}
	if o.Endpoint == nil {
		o.Endpoint = func(string) Endpoint { return Endpoint{} }
	}
	if o.Credentials == nil {
		o.Credentials = func(context.Context, string, string) (Credentials, error) { return Credentials{}, nil }
	}
	if o.TrustRealm == nil {
		o.TrustRealm = SameSite
	}
	if o.Agent == "" {
		o.Agent = "berth"
	}
	given := o.Tries > 0
	if !given {
		o.Tries = 5
	}
	if o.Backoff <= 0 {
		o.Backoff = 500 * time.Millisecond
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 2 * time.Minute
	}
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	if o.Notice == nil {
		o.Notice = func(Notice) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &Client{o: o, stubborn: given, hosts: map[string]*host{}}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// NewTransport is a transport for moving blobs: large buffers, many connections to one host, bodies as they are. conf may be
// nil. It takes proxies from the environment as net/http does.
//
// It speaks HTTP/1.1 only. Blobs that share one connection of HTTP/2 share its window and its order, and are copied once more on their
// way: measured with six layers at a time that is a quarter of the time and of the processor's work.
func NewTransport(conf *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ClientSessionCache == nil { // of many connections to one host the first one proves who it is
		conf = conf.Clone()
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 5 * time.Minute, // a registry may copy a large blob before it answers the end of an upload
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   64,
		ReadBufferSize:        16 << 10, // a record of TLS: larger reads of blobs go past it, without another copy
		WriteBufferSize:       128 << 10,
		DisableCompression:    true, // digests are of what is stored
		Protocols:             &protocols,
	}
}

// host is what is known of one registry while the client lives.
type host struct {
	name string // as in references: "docker.io", "localhost:5000"
	addr string // where it is reached: "registry-1.docker.io"

	mu          sync.Mutex
	answered    bool   // it has answered a request
	scheme      string // "" until it is known
	auth        *challenge
	tokens      map[string]token // by scope
	asking      map[string]*sync.Mutex
	until       time.Time // no request before
	noReferrers bool      // it does not offer the referrers API
	signatures  *bool     // it keeps GPG signatures; nil is not asked yet; under the lock "version check"
	limit       Limit
}

// origin is scheme://host:port, to which everything secret is bound.
func (h *host) origin() *url.URL { return &url.URL{Scheme: h.scheme, Host: h.addr} }

func (c *Client) host(name string) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	if h == nil {
		h = &host{name: name, addr: address(name), tokens: map[string]token{}, asking: map[string]*sync.Mutex{}}
		c.hosts[name] = h
	}
	return h
}

// address is where a registry's name is served. Docker Hub is the one whose API is on another host than its name.
func address(name string) string {
	switch name {
	case "docker.io", "index.docker.io":
		return "registry-1.docker.io"
	}
	return name
}

// Limit is the last that a host said of its limit on requests; Known is false when it said nothing.
type Limit struct {
	Known     bool
	Limit     int // requests in a window; 0 when not said
	Remaining int
	Reset     time.Time // zero when not said
}

// Limit is the last that a host said of its limit on requests.
func (c *Client) Limit(hostname string) Limit {
	h := c.host(hostname)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.limit
}

// Repository is one repository of a registry. Its methods do I/O, take a context first and are safe for concurrent use.
type Repository struct {
	c    *Client
	h    *host
	name ref.Name
}

// Repository names a repository; no I/O is done.
func (c *Client) Repository(hostname string, name ref.Name) *Repository {
	return &Repository{c: c, h: c.host(hostname), name: name}
}

// Host is the registry's name.
func (r *Repository) Host() string { return r.h.name }

// Name is the repository's name in its registry.
func (r *Repository) Name() ref.Name { return r.name }

// Beside is another repository of the same registry.
func (r *Repository) Beside(name ref.Name) *Repository {
	return &Repository{c: r.c, h: r.h, name: name}
}

// String is "host/name".
func (r *Repository) String() string { return r.h.name + "/" + r.name.String() }

// Ping asks whether the host speaks the API, and whether the login that is known for it is accepted.
func (c *Client) Ping(ctx context.Context, hostname string) error {
	h := c.host(hostname)
	resp, err := c.do(ctx, h, &call{method: http.MethodGet, path: "/v2/"})
	if err != nil {
		return fmt.Errorf("remote: ping %s: %w", hostname, err)
	}
	defer discard(resp)
	return nil
}

// jitter spreads retries of many transfers: between d/2 and d.
func jitter(d time.Duration) time.Duration {
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}

// loopback reports whether a URL's host can only be this machine.
func loopback(hostport string) bool {
	name := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}
