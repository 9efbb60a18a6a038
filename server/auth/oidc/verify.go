package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/berth-registry/berth/server/auth"
)

const (
	maxToken   = 64 << 10 // bytes of an ID token
	maxSubject = 255      // OpenID Connect Core section 2
	skew       = time.Minute
)

// identify verifies the ID token of an answer and makes a statement of it. nonce is nil for the device flow, whose request
// has none.
//
// Spec: OpenID Connect Core 1.0 section 3.1.3.7.
func (p *Provider) identify(ctx context.Context, d *description, a *answer, nonce *string) (auth.External, error) {
	token, err := p.verify(ctx, d, a, nonce)
	if err != nil {
		return auth.External{}, err
	}
	claims := map[string]any{}
	if err := token.Claims(&claims); err != nil {
		return auth.External{}, p.refuse("claims of the ID token: %w", err)
	}
	if p.o.UserInfo {
		if err := p.userInfo(ctx, d, a.AccessToken, token.Subject, claims); err != nil {
			return auth.External{}, err
		}
	}
	return p.external(token.Subject, claims)
}

// compact reports whether a text may be a JWT: bounded, and in three parts. The JSON forms of RFC 7515 section 7.2, which
// allow headers without a signature over them, are none.
func compact(text string) bool {
	return text != "" && len(text) <= maxToken && strings.Count(text, ".") == 2 && !strings.ContainsAny(text, "{\" ")
}

func (p *Provider) verify(ctx context.Context, d *description, a *answer, nonce *string) (*gooidc.IDToken, error) {
	if !compact(a.IDToken) {
		return nil, p.refuse("the answer has no ID token, or one of %d bytes that is no compact JWT", len(a.IDToken))
	}
	token, err := d.verifier.Verify(ctx, a.IDToken)
	if err != nil {
		return nil, p.refuse("%w", err)
	}
	var also struct {
		AuthorizedParty *string `json:"azp"`
	}
	if err := token.Claims(&also); err != nil {
		return nil, p.refuse("claims of the ID token: %w", err)
	}
	now := p.o.Now()
	switch {
	case token.Issuer != p.o.Issuer:
		return nil, p.refuse("the ID token is of issuer %q", token.Issuer)
	case nonce != nil && (token.Nonce == "" || subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(*nonce)) != 1):
		return nil, p.refuse("the ID token is of another login: its nonce differs")
	case also.AuthorizedParty != nil && *also.AuthorizedParty != p.o.ClientID:
		return nil, p.refuse("the ID token was made for client %q", *also.AuthorizedParty)
	case also.AuthorizedParty == nil && len(token.Audience) > 1:
		return nil, p.refuse("the ID token has %d audiences and does not say for which it was made", len(token.Audience))
	case token.IssuedAt.IsZero() || token.IssuedAt.After(now.Add(skew)):
		return nil, p.refuse("the ID token was issued at %s, and it is %s; look at the clocks", token.IssuedAt.UTC(), now.UTC())
	case token.Subject == "" || len(token.Subject) > maxSubject || strings.ContainsFunc(token.Subject, unicode.IsControl):
		return nil, p.refuse("the ID token has no usable subject")
	}
	if token.AccessTokenHash != "" && a.AccessToken != "" {
		if err := token.VerifyAccessToken(a.AccessToken); err != nil {
			return nil, p.refuse("%w", err)
		}
	}
	return token, nil
}

// userInfo adds claims that the ID token does not have. What the ID token says stands: it is signed.
func (p *Provider) userInfo(ctx context.Context, d *description, accessToken, subject string, claims map[string]any) error {
	ctx = gooidc.ClientContext(ctx, p.client)
	info, err := d.provider.UserInfo(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: accessToken}))
	if err != nil {
		return fmt.Errorf("oidc provider %s: user information: %w", p.o.Name, err)
	}
	if info.Subject != subject { // Core section 5.3.2: it may be another's
		return p.refuse("user information is of subject %q, the ID token of %q", info.Subject, subject)
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return p.refuse("user information: %w", err)
	}
	for name, value := range more {
		if _, ok := claims[name]; !ok {
			claims[name] = value
		}
	}
	return nil
}

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// maxLogoutAge is how long after it was made a logout token is taken.
	maxLogoutAge = 5 * time.Minute
	maxLogouts   = 10_000
)

// Logout implements auth.LogoutVerifier. A token is taken once by each berthd, and within five minutes of its making.
//
// Spec: OpenID Connect Back-Channel Logout 1.0 section 2.6.
func (p *Provider) Logout(ctx context.Context, text string) (subject, sid string, err error) {
	if !compact(text) {
		return "", "", p.refuse("no logout token, or one of %d bytes that is no compact JWT", len(text))
	}
	d, err := p.describe(ctx)
	if err != nil {
		return "", "", err
	}
	token, err := d.verifier.VerifyLogout(ctx, text)
	if err != nil {
		return "", "", p.refuse("%w", err)
	}
	var also struct {
		Events map[string]json.RawMessage `json:"events"`
	}
	if err := token.Claims(&also); err != nil {
		return "", "", p.refuse("claims of the logout token: %w", err)
	}
	now := p.o.Now()
	age := now.Sub(token.IssuedAt)
	switch event := also.Events[logoutEvent]; {
	case len(event) == 0 || event[0] != '{':
		return "", "", p.refuse("the token is about no logout")
	case token.Issuer != p.o.Issuer:
		return "", "", p.refuse("the logout token is of issuer %q", token.Issuer)
	case token.IssuedAt.IsZero() || age < -skew || age > maxLogoutAge:
		return "", "", p.refuse("the logout token was issued at %s, and it is %s", token.IssuedAt.UTC(), now.UTC())
	case !p.logouts.first(token.TokenID, now):
		return "", "", p.refuse("the logout token was used before")
	}
	return token.Subject, token.SessionID, nil
}
