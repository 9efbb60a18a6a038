package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

const (
	// keepIdle is how long a connection may rest and be used again; firewalls forget them after minutes.
	keepIdle = time.Minute
	// avoid is how long a server that did not answer is tried last.
	avoid = 30 * time.Second
)

// dialer opens connections to the first server that answers.
type dialer struct {
	o       *Options
	servers []*url.URL

	mu   sync.Mutex
	down []time.Time // until when the server is tried last
}

func newDialer(o *Options) (*dialer, error) {
	d := &dialer{o: o, down: make([]time.Time, len(o.Servers))}
	for _, text := range o.Servers {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" {
			return nil, fmt.Errorf("server %q is not an address such as ldaps://ldap.example.com", text)
		}
		if u.Port() == "" {
			port := "389"
			if u.Scheme == "ldaps" {
				port = "636"
			}
			u.Host = net.JoinHostPort(u.Hostname(), port)
		}
		d.servers = append(d.servers, u)
	}
	_, err := d.tls(d.servers[0])
	return d, err
}

// order is in which order the servers are tried now.
func (d *dialer) order() []int {
	now := d.o.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	var up, down []int
	for i := range d.servers {
		if now.Before(d.down[i]) {
			down = append(down, i)
		} else {
			up = append(up, i)
		}
	}
	return append(up, down...)
}

func (d *dialer) mark(server int, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down[server] = until
}

// open connects and encrypts.
func (d *dialer) open(ctx context.Context) (*goldap.Conn, int, error) {
	var failures []error
	for _, i := range d.order() {
		c, err := d.connect(ctx, d.servers[i])
		if err == nil {
			d.mark(i, time.Time{})
			return c, i, nil
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		d.fail(ctx, i, err)
		failures = append(failures, fmt.Errorf("%s: %w", d.servers[i].Host, err))
	}
	return nil, 0, fmt.Errorf("no server answers: %w", errors.Join(failures...))
}

// fail makes a server one of those that are tried last.
func (d *dialer) fail(ctx context.Context, server int, err error) {
	d.o.Log.WarnContext(ctx, "directory server does not answer", "provider", d.o.Name, "server", d.servers[server].Host, "error", err)
	d.mark(server, d.o.Now().Add(avoid))
}

func (d *dialer) connect(ctx context.Context, u *url.URL) (*goldap.Conn, error) {
	config, err := d.tls(u)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, d.o.Timeout)
	defer stop()
	var nc net.Conn
	if u.Scheme == "ldaps" {
		nc, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	} else {
		nc, err = (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	c := goldap.NewConn(nc, u.Scheme == "ldaps")
	c.Start()
	if u.Scheme == "ldaps" || d.o.Plain {
		return c, nil
	}
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // StartTLS knows no deadline
	if err := c.StartTLS(config); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("StartTLS, without which passwords could be read on the way: %w", err)
	}
	return c, nil
}

func (d *dialer) tls(u *url.URL) (*tls.Config, error) {
	c := &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if d.o.ServerName != "" {
		c.ServerName = d.o.ServerName
	}
	if d.o.CAFile == "" {
		return c, nil
	}
	text, err := os.ReadFile(d.o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("authorities of the servers: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("authorities of the servers: %s holds no PEM certificate", d.o.CAFile)
	}
	return c, nil
}

// pool keeps connections of one kind. Pools that share slots share their bound.
type pool struct {
	o       *Options
	dial    *dialer
	slots   chan struct{}
	prepare func(*goldap.Conn) error // of a new connection; nil: none is needed

	mu     sync.Mutex
	idle   []rested
	closed bool
}

type rested struct {
	conn   *goldap.Conn
	server int
	since  time.Time
}

func newPool(o *Options, d *dialer, slots chan struct{}, prepare func(*goldap.Conn) error) *pool {
	return &pool{o: o, dial: d, slots: slots, prepare: prepare}
}

// with runs fn, which must be harmless when it is run twice, on a connection. A connection that rested and turns out to be
// dead is replaced once, by one to whichever server answers.
func (p *pool) with(ctx context.Context, fn func(*goldap.Conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r, ok := p.take(); ok {
		if err, dead := p.run(ctx, r, fn); !dead || ctx.Err() != nil {
			return err
		}
	}
	var err error
	for range max(1, len(p.dial.servers)) {
		var r rested
		if r.conn, r.server, err = p.dial.open(ctx); err != nil {
			return err
		}
		var dead bool
		if err, dead = p.start(ctx, r, fn); !dead || ctx.Err() != nil {
			return err
		}
		p.dial.fail(ctx, r.server, err)
	}
	return err
}

// start prepares a new connection and runs fn on it.
func (p *pool) start(ctx context.Context, r rested, fn func(*goldap.Conn) error) (err error, dead bool) {
	return p.run(ctx, r, func(c *goldap.Conn) error {
		if p.prepare != nil {
			if err := p.prepare(c); err != nil {
				_ = c.Close() // it is of the right kind or it is not used
				return err
			}
		}
		return fn(c)
	})
}

// run runs fn within the time limit and keeps the connection when it is alive. dead says that the server did not answer.
func (p *pool) run(ctx context.Context, r rested, fn func(*goldap.Conn) error) (err error, dead bool) {
	limited, stop := context.WithTimeout(ctx, p.o.Timeout)
	defer stop()
	unhook := context.AfterFunc(limited, func() { _ = r.conn.Close() })
	err = fn(r.conn)
	if !unhook() && err != nil { // the time was over, or the caller is gone
		if ctx.Err() != nil {
			return ctx.Err(), false
		}
		return fmt.Errorf("no answer within %s: %w", p.o.Timeout, err), true
	}
	if isAway(err) {
		_ = r.conn.Close()
		return err, true
	}
	p.put(r)
	return err, false
}

// isAway tells a server that cannot be asked from one that says no.
func isAway(err error) bool {
	return goldap.IsErrorAnyOf(err, goldap.ErrorNetwork, goldap.LDAPResultBusy, goldap.LDAPResultUnavailable)
}

// take gives the connection that was used last.
func (p *pool) take() (rested, bool) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		r := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !r.conn.IsClosing() && now.Sub(r.since) < keepIdle {
			return r, true
		}
		_ = r.conn.Close()
	}
	return rested{}, false
}

func (p *pool) put(r rested) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || r.conn.IsClosing() {
		_ = r.conn.Close()
		return
	}
	r.since = p.o.Now()
	p.idle = append(p.idle, r)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, r := range p.idle {
		_ = r.conn.Close()
	}
	p.idle = nil
}
