package oidc

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/berth-registry/berth/server/auth"
)

// Begin implements auth.Browser.
func (p *Provider) Begin(ctx context.Context, redirect, state, nonce, verifier string) (string, error) {
	if state == "" || nonce == "" || verifier == "" {
		return "", fmt.Errorf("oidc provider %s: a login needs state, nonce and verifier", p.o.Name)
	}
	d, err := p.describe(ctx)
	if err != nil {
		return "", err
	}
	c := d.oauth
	c.RedirectURL = redirect
	return c.AuthCodeURL(state, gooidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)), nil
}

// Finish implements auth.Browser.
//
// Spec: OpenID Connect Core 1.0 section 3.1.3, RFC 7636.
func (p *Provider) Finish(ctx context.Context, redirect, code, nonce, verifier string) (auth.External, error) {
	if code == "" || nonce == "" || verifier == "" || len(code) > 8<<10 {
		return auth.External{}, p.refuse("the answer has no usable code")
	}
	d, err := p.describe(ctx)
	if err != nil {
		return auth.External{}, err
	}
	a, err := p.post(ctx, d.oauth.Endpoint.TokenURL, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirect}, "code_verifier": {verifier},
	})
	if err != nil {
		return auth.External{}, fmt.Errorf("oidc provider %s: token: %w", p.o.Name, err)
	}
	return p.identify(ctx, d, a, &nonce)
}

// BeginDevice implements auth.Device.
func (p *Provider) BeginDevice(ctx context.Context) (auth.DeviceLogin, error) {
	d, err := p.describe(ctx)
	if err != nil {
		return auth.DeviceLogin{}, err
	}
	if d.oauth.Endpoint.DeviceAuthURL == "" {
		return auth.DeviceLogin{}, p.refuse("the provider offers no device flow; switch it on there for this client")
	}
	scope := ""
	for _, s := range d.oauth.Scopes {
		scope += " " + s
	}
	a, err := p.post(ctx, d.oauth.Endpoint.DeviceAuthURL, url.Values{"scope": {scope[1:]}})
	if err != nil {
		return auth.DeviceLogin{}, fmt.Errorf("oidc provider %s: device login: %w", p.o.Name, err)
	}
	if a.DeviceCode == "" || a.UserCode == "" || !webAddress(a.URL) || a.Complete != "" && !webAddress(a.Complete) {
		return auth.DeviceLogin{}, fmt.Errorf("oidc provider %s: device login: the answer has no codes, or an address that is none", p.o.Name)
	}
	return auth.DeviceLogin{
		Code: a.DeviceCode, UserCode: a.UserCode, URL: a.URL, Complete: a.Complete,
		ExpiresAt: p.o.Now().Add(within(a.ExpiresIn, 10*time.Second, 30*time.Minute, 5*time.Minute)),
		Interval:  within(a.Interval, time.Second, time.Minute, 5*time.Second),
	}, nil
}

// within reads a number of seconds, with a value for none.
func within(seconds float64, least, most, none time.Duration) time.Duration {
	if seconds <= 0 || math.IsNaN(seconds) {
		return none
	}
	return time.Duration(min(max(seconds, least.Seconds()), most.Seconds()) * float64(time.Second))
}

// webAddress reports whether a person can be sent there: an address with another scheme could run as a script.
func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// PollDevice implements auth.Device.
func (p *Provider) PollDevice(ctx context.Context, code string) (auth.External, error) {
	if code == "" || len(code) > 8<<10 {
		return auth.External{}, p.refuse("the device code is empty or too long")
	}
	d, err := p.describe(ctx)
	if err != nil {
		return auth.External{}, err
	}
	a, err := p.post(ctx, d.oauth.Endpoint.TokenURL, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code},
	})
	if err != nil {
		return auth.External{}, fmt.Errorf("oidc provider %s: token: %w", p.o.Name, err)
	}
	return p.identify(ctx, d, a, nil)
}

// refuse is a no with its cause.
func (p *Provider) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: oidc provider %s: %w", auth.ErrRefused, p.o.Name, fmt.Errorf(format, args...))
}
