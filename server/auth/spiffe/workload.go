package spiffe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/sync/errgroup"
)

// connect makes the client of the agent. Nothing goes over the wire yet.
func (p *Provider) connect() (err error) {
	if p.o.WorkloadAPI == "" {
		return nil
	}
	if err := workloadapi.ValidateAddress(p.o.WorkloadAPI); err != nil {
		return fmt.Errorf("spiffe provider %s: address of the Workload API: %w", p.o.Name, err)
	}
	p.agent, err = workloadapi.New(context.Background(), workloadapi.WithAddr(p.o.WorkloadAPI))
	if err != nil {
		return fmt.Errorf("spiffe provider %s: Workload API: %w", p.o.Name, err)
	}
	return nil
}

// First asks the agent once and returns when there is an answer. Whoever cannot go on without one, such as a listener with
// the agent's certificate, calls it before it starts.
func (p *Provider) First(ctx context.Context, within time.Duration) error {
	if p.agent == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	c, err := p.agent.FetchX509Context(ctx)
	if err != nil {
		return fmt.Errorf("spiffe provider %s: the agent at %s gives no identity: %w", p.o.Name, p.o.WorkloadAPI, err)
	}
	p.x509.Store(c)
	return nil
}

// Run keeps what the agent says until ctx ends. An agent that is away is tried again, for ever.
func (p *Provider) Run(ctx context.Context) error {
	if p.agent == nil {
		<-ctx.Done()
		return nil
	}
	var g errgroup.Group
	g.Go(func() error {
		return p.watch(ctx, "identities", func() error { return p.agent.WatchX509Context(ctx, watcher{p}) })
	})
	if p.o.Audience != "" {
		g.Go(func() error {
			return p.watch(ctx, "keys of tokens", func() error { return p.agent.WatchJWTBundles(ctx, watcher{p}) })
		})
	}
	return g.Wait()
}

// watch goes on when the library gives up: it does so when the agent says that it has nothing for us, which an operator can
// change.
func (p *Provider) watch(ctx context.Context, what string, run func() error) error {
	for {
		err := run()
		if ctx.Err() != nil {
			return nil
		}
		p.o.Log.Warn("the SPIFFE agent is not heard of; what it said before holds", "provider", p.o.Name, "what", what, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
		}
	}
}

// Close ends the connection to the agent.
func (p *Provider) Close() error {
	if p.agent == nil {
		return nil
	}
	return p.agent.Close()
}

// Certificate is berthd's own certificate by the agent, the newest that it gave.
func (p *Provider) Certificate() (*tls.Certificate, error) {
	c := p.x509.Load()
	if c == nil || len(c.SVIDs) == 0 {
		return nil, errors.New("the SPIFFE agent has given no certificate yet")
	}
	svid := c.DefaultSVID()
	t := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, one := range svid.Certificates {
		t.Certificate = append(t.Certificate, one.Raw)
	}
	return t, nil
}

// watcher is what the library calls.
type watcher struct{ p *Provider }

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (w watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	w.p.x509.Store(c)
	w.p.o.Log.Info("SPIFFE identity taken up", "provider", w.p.o.Name, "id", c.DefaultSVID().ID.String(),
		"until", c.DefaultSVID().Certificates[0].NotAfter, "trustDomains", c.Bundles.Len())
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher; the library tries again.
func (w watcher) OnX509ContextWatchError(err error) { w.away(err) }

// OnJWTBundlesUpdate implements workloadapi.JWTBundleWatcher.
func (w watcher) OnJWTBundlesUpdate(s *jwtbundle.Set) { w.p.jwt.Store(s) }

// OnJWTBundlesWatchError implements workloadapi.JWTBundleWatcher.
func (w watcher) OnJWTBundlesWatchError(err error) { w.away(err) }

func (w watcher) away(err error) {
	w.p.o.Log.Debug("the SPIFFE agent is asked again", "provider", w.p.o.Name, "error", err)
}
