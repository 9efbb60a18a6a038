package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

// maxTokens bounds the verified tokens that are remembered, some 500 bytes each.
const maxTokens = 20_000

// reverify is how long a verified token's signature is taken for granted; so a deleted key is noticed within MaxStale.
const reverify = 30 * time.Second

// tokenCache remembers verified tokens by the digest of their text. It holds no token. An entry carries no right of
// its own: the account is asked for on every use.
type tokenCache struct {
	entries *otter.Cache[[sha256.Size]byte, *provenToken]
}

// provenToken is what a verified token says. It is never changed.
type provenToken struct {
	typ     string
	subject string // "" for anonymous callers
	of      origin
	foreign bool // of the configured token server, which decides what its subject may do
	grants  *identity.Grants
	// source and stamp are the state of what the token was made for, when it was found valid.
	source, stamp string
	at            time.Time // when it was verified
	until         time.Time // expiry and leeway
}

func newTokenCache() (*tokenCache, error) {
	c, err := otter.New(&otter.Options[[sha256.Size]byte, *provenToken]{MaximumSize: maxTokens})
	if err != nil {
		return nil, fmt.Errorf("auth: remembered tokens: %w", err)
	}
	return &tokenCache{c}, nil
}

// tokenKey is the digest of a token. The buffer keeps those of usual length off the heap.
func tokenKey(text string) [sha256.Size]byte {
	var buf [1024]byte
	return sha256.Sum256(append(buf[:0], text...))
}

// get returns a token that may still be taken for verified.
func (c *tokenCache) get(key [sha256.Size]byte, now time.Time) (*provenToken, bool) {
	t, ok := c.entries.GetIfPresent(key)
	if !ok {
		return nil, false
	}
	if age := now.Sub(t.at); age < 0 || age > reverify || now.After(t.until) {
		c.entries.Invalidate(key)
		return nil, false
	}
	return t, true
}

// bearer proves an access token.
func (s *Service) bearer(ctx context.Context, text, addr string) (identity.Principal, error) {
	if s.foreign(text) {
		return s.foreignBearer(ctx, text, addr)
	}
	t, p, err := s.token(ctx, text, typAccess)
	if err != nil {
		return identity.Principal{}, err
	}
	if p.Kind == identity.Anonymous {
		return identity.Principal{Kind: identity.Anonymous, Grants: t.grants, Via: identity.ViaBearer, Addr: addr}, nil
	}
	p.Grants, p.Via, p.Addr = t.grants, identity.ViaBearer, addr
	switch t.of.kind {
	case fromToken:
		s.used.token(t.of.n[0], addr)
	case fromSecret, fromRobot:
		s.used.robot(t.of.n[0], addr)
	}
	if p.Kind == identity.User {
		s.used.account(p.ID)
	}
	return p, nil
}

// Refresh proves a refresh token. The principal is not narrowed by it: the token stands for what it was made from, and Token
// narrows.
func (s *Service) Refresh(ctx context.Context, text, addr string) (identity.Principal, error) {
	_, p, err := s.token(ctx, text, typRefresh)
	if err != nil {
		return identity.Principal{}, err
	}
	p.Addr = addr
	return p, nil
}

// token verifies a token of the type and finds its caller, who must be as when the token was made.
func (s *Service) token(ctx context.Context, text, typ string) (*provenToken, identity.Principal, error) {
	if len(text) > MaxHeader {
		return nil, identity.Principal{}, invalidToken(errors.New("auth: token is too long"))
	}
	key := tokenKey(text)
	now := s.o.Now()
	if t, ok := s.tokens.get(key, now); ok && t.typ == typ && !t.foreign {
		if t.subject == "" {
			return t, identity.Principal{Kind: identity.Anonymous}, nil
		}
		if c, err := s.resolve(ctx, t.subject, t.of); err == nil && c.source == t.source && c.stamp == t.stamp {
			return t, c.Principal, nil
		}
		s.tokens.entries.Invalidate(key) // the long way says why
	}
	c, k, err := s.verify(ctx, text, typ)
	if err != nil {
		return nil, identity.Principal{}, err
	}
	t := &provenToken{typ: typ, subject: c.Subject, at: now, until: c.ExpiresAt.Add(leeway)}
	if t.grants, err = fromAccess(c.Access); err != nil {
		return nil, identity.Principal{}, invalidToken(err)
	}
	if t.of, err = parseOrigin(c.Origin); err != nil {
		return nil, identity.Principal{}, invalidToken(err)
	}
	p := identity.Principal{Kind: identity.Anonymous}
	if t.subject != "" {
		who, err := s.tokenCaller(ctx, c, t.of, k)
		if err != nil {
			return nil, identity.Principal{}, err
		}
		p, t.source, t.stamp = who.Principal, who.source, who.stamp
	} else if typ == typRefresh || t.of.kind != 0 {
		return nil, identity.Principal{}, invalidToken(errors.New("auth: token of nobody stands for somebody"))
	}
	s.tokens.entries.Set(key, t)
	return t, p, nil
}

// tokenCaller finds the caller of a token whose signature is right.
func (s *Service) tokenCaller(ctx context.Context, c *claims, o origin, k *signer) (caller, error) {
	who, err := s.resolve(ctx, c.Subject, o)
	switch {
	case errors.Is(err, errGone):
		return caller{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s is gone; log in as another", c.Subject)
	case errors.Is(err, errDisabled):
		return caller{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s is disabled; ask an administrator of this registry", c.Subject)
	case errors.Is(err, errRevoked):
		return caller{}, fault.New(fault.Unauthenticated, InvalidToken, "what the token of %s was made for has ended; log in again", c.Subject)
	case err != nil:
		return caller{}, unavailableError(err)
	case !equal(k.stamp(who.source, who.Name, who.stamp), c.Stamp):
		return caller{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s has changed since its token was made; log in again", c.Subject)
	}
	return who, nil
}

// looksLikeToken reports whether the password's place holds a JWT: three parts, the first one a JSON object.
func looksLikeToken(password string) bool {
	return len(password) > 100 && strings.HasPrefix(password, "eyJ") && strings.Count(password, ".") == 2
}

// distribution is the caller with a refresh token in the place of the password: clients keep such tokens for a month in their
// files, and they are for the distribution API and the token endpoint, not to administer the registry or the account. What
// narrowed the login that the token was had by narrows it as well.
func distribution(p identity.Principal) identity.Principal {
	whole, _ := ref.ParsePattern("**")
	reach := []identity.Grant{{Pattern: whole, Verbs: identity.RepositoryVerbs()}, {Catalog: true, Verbs: []identity.Verb{identity.Catalog}}}
	if p.Grants != nil {
		reach = nil
		for _, g := range p.Grants.List {
			g.Verbs = slices.DeleteFunc(slices.Clone(g.Verbs), func(v identity.Verb) bool {
				return v != identity.Catalog && identity.LevelOf(v) != identity.OfRepository
			})
			reach = append(reach, g)
		}
	}
	p.Grants, p.Via = &identity.Grants{List: reach}, identity.ViaRefresh
	return p
}

// basicToken proves a refresh token, or the token of a trusted issuer, in the place of a password. Docker's tools write
// "<token>" where the name belongs. Something that merely looks like a token is an ordinary password.
func (s *Service) basicToken(ctx context.Context, name, text, addr string) (identity.Principal, error) {
	p, err := s.Refresh(ctx, text, addr)
	switch {
	case err == nil && (name == p.Name || name == "<token>"):
		return distribution(p), nil
	case err == nil:
		return identity.Principal{}, wrong()
	case errors.Is(err, errNotOurs):
		p, _, err := s.exchange(ctx, text, addr)
		if errors.Is(err, errNoIssuer) {
			return s.Login(ctx, name, text, addr)
		}
		return p, err
	}
	return identity.Principal{}, err
}
