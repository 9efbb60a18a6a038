// Package oidc is an OpenID Connect provider, such as Keycloak, Entra ID or Dex, as an identity provider: for browsers
// by authorization code with PKCE, for programs by the device flow, and with the sign-out that the provider begins.
//
// What is trusted is one issuer, compared letter by letter. Requests go to the issuer's host and to hosts that the
// configuration names, whatever the provider's documents say; no redirect is followed; answers are bounded in size and
// time. Only signatures with keys of two parts are accepted, so a public key can never be taken for a secret. Nothing is
// asked before the first login: a provider that is away does not keep berthd from starting.
//
// Start reading at [Provider.Finish], then verify.go and claims.go.
package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Options describe a provider.
type Options struct {
	Name   string
	Issuer string // exactly as the provider writes it, https://…; http:// on loopback only
	// Hosts may be named by the provider for keys, tokens and user information besides the issuer's own host.
	Hosts  []string
	CAFile string // authorities of the provider's certificate, PEM; "" is those of the system

	ClientID, ClientSecret string // without a secret the client is a public one
	// SecretInForm sends the secret in the form (client_secret_post) instead of a header (client_secret_basic).
	SecretInForm bool
	Scopes       []string // besides openid; default profile, email
	Algorithms   []string // of ID tokens; default what the provider announces

	Username string // claim of the account's name; default preferred_username
	// UserInfo asks the user-information endpoint for claims that the ID token does not have.
	UserInfo bool
	Groups   Groups
	Required []Requirement // claims that a caller must have
	Admins   []string      // groups, as the provider names them, whose members are administrators
	// Lifetime is how long a statement of the provider holds; a session ends after it. Default 12 h.
	Lifetime time.Duration

	Now func() time.Time
	Log *slog.Logger
}

// Groups says where groups are. Without a Claim, the provider knows nothing of groups.
type Groups struct {
	// Claim is the name of a claim, or a path into nested ones: groups, resource_access.berth.roles.
	Claim string
	// Parents makes whoever is in a/b one of a, too.
	Parents bool
	Prefix  string // before every name, so that groups of two providers are told apart
}

// Requirement is a claim that must have one of the values. Without values it must be there and be true.
type Requirement struct {
	Claim  string
	Values []string
}

const (
	// rediscover is how often the provider's description and keys are read anew, so that a key which it took back is not
	// trusted for ever.
	rediscover = time.Hour
	// retry is how long a failed discovery stands for the next callers.
	retry = 2 * time.Second
)

// Provider is an auth.Browser, auth.Device and auth.LogoutVerifier. Safe for concurrent use.
type Provider struct {
	o      Options
	client *http.Client

	mu     sync.Mutex
	known  *description
	failed error
	next   time.Time // when to read the description again

	logouts logouts
}

// description is what discovery said.
type description struct {
	provider *gooidc.Provider
	verifier *gooidc.IDTokenVerifier
	oauth    oauth2.Config
}

// New checks the options. It asks nobody.
func New(o Options) (*Provider, error) {
	if o.Name == "" || o.ClientID == "" {
		return nil, fmt.Errorf("oidc provider %q: a name and a client id are needed", o.Name)
	}
	issuer, err := url.Parse(o.Issuer)
	switch {
	case err != nil || issuer.Host == "" || issuer.RawQuery != "" || issuer.Fragment != "" || issuer.User != nil:
		return nil, fmt.Errorf("oidc provider %s: issuer %q is not an address such as https://id.example.com/realms/main", o.Name, o.Issuer)
	case issuer.Scheme != "https" && !(issuer.Scheme == "http" && loopback(issuer.Hostname())):
		return nil, fmt.Errorf("oidc provider %s: issuer %q must begin with https://; plain HTTP is for this machine alone", o.Name, o.Issuer)
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(algorithms(), a) {
			return nil, fmt.Errorf("oidc provider %s: algorithm %q is not offered; use some of %v", o.Name, a, algorithms())
		}
	}
	if len(o.Admins) > 0 && o.Groups.Claim == "" {
		return nil, fmt.Errorf("oidc provider %s: admins name groups, and no claim of groups is configured", o.Name)
	}
	o.Username = cmp.Or(o.Username, "preferred_username")
	o.Lifetime = cmp.Or(o.Lifetime, 12*time.Hour)
	if o.Scopes == nil {
		o.Scopes = []string{"profile", "email"}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{o: o, logouts: logouts{seen: map[string]time.Time{}}}
	p.client, err = newClient(issuer, o)
	if err != nil {
		return nil, fmt.Errorf("oidc provider %s: %w", o.Name, err)
	}
	return p, nil
}

// Name is the provider's name as it is configured.
func (p *Provider) Name() string { return p.o.Name }

// Issuer is what the "iss" parameter of an authorization response must be when it is there (RFC 9207).
func (p *Provider) Issuer() string { return p.o.Issuer }

// algorithms are the signatures that can be chosen: all that have a public key.
func algorithms() []string {
	return []string{
		gooidc.RS256, gooidc.RS384, gooidc.RS512, gooidc.PS256, gooidc.PS384, gooidc.PS512,
		gooidc.ES256, gooidc.ES384, gooidc.ES512, gooidc.EdDSA,
	}
}

// describe gives the provider's description, which it reads when it is due. A description that was read before stands in
// while the provider does not answer.
func (p *Provider) describe(ctx context.Context) (*description, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Now()
	if now.Before(p.next) {
		return p.known, p.failed
	}
	found, err := p.discover(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err() // says nothing of the provider
	}
	p.next = now.Add(rediscover)
	if err != nil {
		p.next = now.Add(retry)
		err = fmt.Errorf("oidc provider %s: discovery: %w", p.o.Name, err)
		if p.known != nil {
			p.o.Log.WarnContext(ctx, "identity provider does not describe itself; what it said before holds", "provider", p.o.Name, "error", err)
			return p.known, nil
		}
		p.failed = err
		return nil, err
	}
	p.known, p.failed = found, nil
	return found, nil
}

func (p *Provider) discover(ctx context.Context) (*description, error) {
	// Keys are fetched later and by other requests: the client must not end with this one.
	provider, err := gooidc.NewProvider(gooidc.ClientContext(ctx, p.client), p.o.Issuer)
	if err != nil {
		return nil, err
	}
	var says struct {
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Keys       string   `json:"jwks_uri"`
	}
	if err := provider.Claims(&says); err != nil {
		return nil, err
	}
	if says.Keys == "" || provider.Endpoint().TokenURL == "" || provider.Endpoint().AuthURL == "" {
		return nil, errors.New("the description names no jwks_uri, token_endpoint or authorization_endpoint")
	}
	accepted := p.o.Algorithms
	if accepted == nil {
		accepted = slices.DeleteFunc(says.Algorithms, func(a string) bool { return !slices.Contains(algorithms(), a) })
	}
	if len(accepted) == 0 {
		return nil, fmt.Errorf("ID tokens are signed by %v, of which none is accepted here", says.Algorithms)
	}
	return &description{
		provider: provider,
		verifier: provider.Verifier(&gooidc.Config{ClientID: p.o.ClientID, SupportedSigningAlgs: accepted, Now: p.o.Now}),
		oauth: oauth2.Config{
			ClientID: p.o.ClientID, Endpoint: provider.Endpoint(), Scopes: append([]string{gooidc.ScopeOpenID}, p.o.Scopes...),
		},
	}, nil
}
