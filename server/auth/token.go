package auth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// Request asks for a token.
type Request struct {
	Principal identity.Principal // whom Login, Refresh or Authenticate proved
	Scopes    []string           // scope parameters as they came, see parseScopes
	Service   string             // what the client believes to talk to; noted when it is wrong
	Account   string             // what the client believes to be; noted when it is wrong
	ClientID  string             // for the log
	Offline   bool               // a refresh token is wanted, too

	Lifetime time.Duration // of the access token; 0 is Options.TokenLifetime, which it never exceeds by more than Exchange says
}

// Token is what the token endpoint answers.
type Token struct {
	Access    string
	Refresh   string // "" unless asked for and possible
	Scope     string // what the token reaches, as a scope parameter
	IssuedAt  time.Time
	ExpiresIn time.Duration
}

// Token makes an access token that reaches as far as the request asks and the principal may, which can be nowhere at
// all: what a client lacks it learns from the request it makes with the token. Anonymous callers get one, too, unless
// this registry has nothing for them; they and whoever came with a token of an issuer get no refresh token.
//
// Errors: Unauthenticated for a caller without rights to a token, Invalid for too many scopes, Unavailable.
func (s *Service) Token(ctx context.Context, r Request) (Token, error) {
	p := r.Principal
	switch {
	case p.Via == identity.ViaBearer, p.Grants != nil && p.Origin == "" && p.Via != identity.ViaRefresh:
		return Token{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "a bearer token cannot be exchanged for another; log in with a password")
	case p.Kind == identity.Anonymous && !s.o.Anonymous:
		return Token{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this registry is closed to callers without an account; run docker login or podman login for it first")
	case p.Kind != identity.Anonymous && p.Kind != identity.User && p.Kind != identity.Robot:
		return Token{}, fault.New(fault.Denied, fault.DeniedReason, "nobody is calling: a token is denied")
	}
	s.note(ctx, r)
	want, err := parseScopes(r.Scopes)
	if err != nil {
		return Token{}, err
	}
	k, err := s.keys.signing(ctx)
	if err != nil {
		return Token{}, unavailableError(err)
	}
	c, err := s.claimsOf(ctx, k, p)
	if err != nil {
		return Token{}, err
	}
	allowed, err := s.o.Access.Narrow(ctx, p, want)
	if err != nil {
		return Token{}, fmt.Errorf("auth: token for %s: %w", p, err)
	}
	grants := within(intersect(want, allowed), p.Grants)
	t := Token{IssuedAt: s.o.Now().UTC().Truncate(time.Second), ExpiresIn: cmp.Or(min(r.Lifetime, maxExchange), s.o.TokenLifetime), Scope: scopeText(grants)}
	access := c
	access.Access = toAccess(grants)
	if t.Access, err = s.sign(k, typAccess, access, t.IssuedAt, t.ExpiresIn); err != nil {
		return Token{}, err
	}
	if len("Bearer ")+len(t.Access) > MaxHeader {
		return Token{}, fault.New(fault.Invalid, fault.UnsupportedReason, "token request names too many repositories for one token; ask for fewer at a time")
	}
	if r.Offline && p.Kind != identity.Anonymous && !lent(c.Origin) && s.o.RefreshLifetime > 0 {
		if t.Refresh, err = s.sign(k, typRefresh, c, t.IssuedAt, s.o.RefreshLifetime); err != nil {
			return Token{}, err
		}
	}
	return t, nil
}

// lent reports whether the caller came with a proof of a moment, such as the token of an issuer.
func lent(origin string) bool {
	return origin != "" && strings.IndexByte(string([]byte{fromIssuer, fromIssuerRobot, fromRobot}), origin[0]) >= 0
}

// claimsOf is what a token says of the principal: its name, what it comes from, and the state of that.
func (s *Service) claimsOf(ctx context.Context, k *signer, p identity.Principal) (c claims, err error) {
	if p.Kind == identity.Anonymous {
		return c, nil
	}
	changed := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "account %s changed while it logged in; log in again", p.Name)
	o, err := parseOrigin(p.Origin)
	if err != nil {
		return c, changed.Because(err)
	}
	who, err := s.resolve(ctx, p.Name, o)
	switch {
	case errors.Is(err, errGone), errors.Is(err, errDisabled), errors.Is(err, errRevoked):
		return c, changed.Because(err)
	case err != nil:
		return c, unavailableError(fmt.Errorf("auth: token for %s: %w", p.Name, err))
	case who.Kind != p.Kind, who.Admin && !p.Admin, p.ID != 0 && who.ID != p.ID:
		return c, changed // another of this name than the one that was proved a moment ago
	}
	c.Subject, c.Origin, c.Stamp = p.Name, p.Origin, k.stamp(who.source, who.Name, who.stamp)
	return c, nil
}

// note tells the log what a client got wrong and what does no harm. Tokens are always for this registry, so a wrong
// service gains nothing; clients that were configured by hand would otherwise fail for a name.
func (s *Service) note(ctx context.Context, r Request) {
	if r.Service != "" && r.Service != s.o.Service {
		s.o.Log.DebugContext(ctx, "token asked for another service", "service", r.Service, "ours", s.o.Service, "client", r.ClientID)
	}
	if r.Account != "" && r.Account != r.Principal.Name {
		s.o.Log.DebugContext(ctx, "token asked for another account than the one that logged in", "principal", r.Principal.String(), "client", r.ClientID)
	}
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
