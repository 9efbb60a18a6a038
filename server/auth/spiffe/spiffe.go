// Package spiffe proves workloads by SPIFFE identities: X.509-SVIDs as client certificates, and JWT-SVIDs as tokens that
// are exchanged for ours. Rules say which SPIFFE ID is which account or robot.
//
// Trust bundles come from files, which are read again when they change, and from the Workload API of an agent such as
// SPIRE's, which says so when they change; berthd's own certificate can come from there, too. A bundle vouches for the
// names of its own trust domain only. What was learned of an agent stays in force while the agent is away.
//
// Start reading at [Provider.Identify]; workload.go speaks to the agent, jwt.go reads tokens.
package spiffe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/berth-registry/berth/internal/reread"
	"github.com/berth-registry/berth/server/auth"
)

// Options describe the provider.
type Options struct {
	Name string
	// WorkloadAPI is the agent's address: unix:///run/spire/sockets/agent.sock or tcp://127.0.0.1:port; "" is none.
	WorkloadAPI string
	Bundles     []Bundle // further trust domains, or all of them
	Rules       []Rule   // the first that fits decides
	Audience    string   // that JWT-SVIDs must be for; "" accepts none

	Now func() time.Time
	Log *slog.Logger
}

// Bundle is a trust domain whose authorities are in a file: certificates in PEM, or a SPIFFE bundle in JSON, which has
// keys of JWT-SVIDs, too.
type Bundle struct {
	TrustDomain string
	File        string
}

// Provider is an auth.Certificate and an auth.Issuer. Safe for concurrent use.
type Provider struct {
	o     Options
	rules []rule
	files map[spiffeid.TrustDomain]*reread.Value[*spiffebundle.Bundle]

	agent *workloadapi.Client // nil: none
	x509  atomic.Pointer[workloadapi.X509Context]
	jwt   atomic.Pointer[jwtbundle.Set]
}

// New reads the files and checks the rules. It connects to nobody: Run does, and First waits for it.
func New(o Options) (*Provider, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{o: o, files: map[spiffeid.TrustDomain]*reread.Value[*spiffebundle.Bundle]{}}
	if o.WorkloadAPI == "" && len(o.Bundles) == 0 {
		return nil, fmt.Errorf("spiffe provider %s: a Workload API or bundles are needed", o.Name)
	}
	for i, text := range o.Rules {
		r, err := text.compile()
		if err != nil {
			return nil, fmt.Errorf("spiffe provider %s: rule %d: %w", o.Name, i+1, err)
		}
		p.rules = append(p.rules, r)
	}
	for _, b := range o.Bundles {
		domain, err := spiffeid.TrustDomainFromString(b.TrustDomain)
		if err != nil {
			return nil, fmt.Errorf("spiffe provider %s: trust domain %q: %w", o.Name, b.TrustDomain, err)
		}
		if p.files[domain] != nil {
			return nil, fmt.Errorf("spiffe provider %s: trust domain %s has two bundles; put both into one file", o.Name, domain)
		}
		p.files[domain], err = reread.Open([]string{b.File}, func(contents [][]byte) (*spiffebundle.Bundle, error) {
			return parseBundle(domain, contents[0])
		}, o.Now, o.Log)
		if err != nil {
			return nil, fmt.Errorf("spiffe provider %s: bundle of %s: %w", o.Name, domain, err)
		}
	}
	return p, p.connect()
}

func parseBundle(domain spiffeid.TrustDomain, content []byte) (*spiffebundle.Bundle, error) {
	b, err := spiffebundle.Parse(domain, content)
	if err != nil {
		certs, other := x509bundle.Parse(domain, content)
		if other != nil {
			return nil, fmt.Errorf("neither a SPIFFE bundle (%w) nor certificates (%w)", err, other)
		}
		b = spiffebundle.FromX509Bundle(certs)
	}
	if len(b.X509Authorities()) == 0 && len(b.JWTAuthorities()) == 0 {
		return nil, errors.New("no authority in it")
	}
	return b, nil
}

// Name implements auth.Certificate.
func (p *Provider) Name() string { return p.o.Name }

// errNoDomain says that we have no bundle of a trust domain.
var errNoDomain = errors.New("spiffe: trust domain is not trusted here")

// GetX509BundleForTrustDomain implements x509bundle.Source: of a file, else of the agent.
func (p *Provider) GetX509BundleForTrustDomain(domain spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if f := p.files[domain]; f != nil {
		return f.Get().X509Bundle(), nil
	}
	if c := p.x509.Load(); c != nil {
		if b, ok := c.Bundles.Get(domain); ok {
			return b, nil
		}
	}
	return nil, errNoDomain
}

// Authorities are what a listener names to clients, so that they choose a fitting certificate.
func (p *Provider) Authorities() []*x509.Certificate {
	var all []*x509.Certificate
	for _, f := range p.files {
		all = append(all, f.Get().X509Authorities()...)
	}
	if c := p.x509.Load(); c != nil {
		for _, b := range c.Bundles.Bundles() {
			all = append(all, b.X509Authorities()...)
		}
	}
	return all
}

// Identify implements auth.Certificate.
//
// Spec: SPIFFE X.509-SVID sections 2, 4 and 5.
func (p *Provider) Identify(_ context.Context, chain []*x509.Certificate) (auth.External, error) {
	if len(chain) == 0 || !slices.ContainsFunc(chain[0].URIs, isSPIFFE) {
		return auth.External{}, auth.ErrNoAccount
	}
	leaf := chain[0]
	id, _, err := x509svid.Verify(chain, p, x509svid.WithTime(p.o.Now()))
	switch {
	case errors.Is(err, errNoDomain):
		return auth.External{}, fmt.Errorf("%w: %s: %w", auth.ErrNoAccount, id, err)
	case err != nil:
		return auth.External{}, fmt.Errorf("%w: X.509-SVID: %w", auth.ErrRefused, err)
	case !forClients(leaf):
		return auth.External{}, fmt.Errorf("%w: X.509-SVID of %s is not for clients", auth.ErrRefused, id)
	}
	return p.external(id, leaf.NotAfter)
}

// forClients reports whether a certificate may be used by a client: its extended key usage says so, or says nothing.
func forClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// external is what the rules say of an identity. The subject of an account is the account itself: rules are the
// operator's, and one that is changed holds from then on.
func (p *Provider) external(id spiffeid.ID, until time.Time) (auth.External, error) {
	for i := range p.rules {
		r := &p.rules[i]
		if !r.match(id) {
			continue
		}
		e := auth.External{Provider: p.o.Name, ExpiresAt: until}
		if r.Robot != "" {
			e.Robot, e.Subject = r.Robot, id.String()
			return e, nil
		}
		e.Name, e.Subject = r.Account, "account:"+r.Account
		if r.Groups != nil {
			e.Groups = append([]string{}, r.Groups...)
		}
		return e, nil
	}
	return auth.External{}, fmt.Errorf("%w: no rule of %s fits %s", auth.ErrNoAccount, p.o.Name, id)
}
