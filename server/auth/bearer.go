package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/fault"
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
	grants  *identity.Grants
	// source and stamp are the account's state for which the token was found valid.
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
	t, acc, err := s.token(ctx, text, typAccess)
	if err != nil {
		return identity.Principal{}, err
	}
	if t.subject == "" {
		return identity.Principal{Kind: identity.Anonymous, Grants: t.grants, Addr: addr}, nil
	}
	p := principal(acc, addr)
	p.Grants = t.grants
	return p, nil
}

// Refresh proves a refresh token. The principal is not narrowed: the token stands for the account, and Token narrows.
func (s *Service) Refresh(ctx context.Context, text, addr string) (identity.Principal, error) {
	_, acc, err := s.token(ctx, text, typRefresh)
	if err != nil {
		return identity.Principal{}, err
	}
	return principal(acc, addr), nil
}

// token verifies a token of the type and finds its account, which must be as it was when the token was made.
func (s *Service) token(ctx context.Context, text, typ string) (*provenToken, Account, error) {
	if len(text) > MaxHeader {
		return nil, Account{}, invalidToken(errors.New("auth: token is too long"))
	}
	key := tokenKey(text)
	now := s.o.Now()
	if t, ok := s.tokens.get(key, now); ok && t.typ == typ {
		if t.subject == "" {
			return t, Account{}, nil
		}
		owner, acc, err := s.owner(ctx, t.subject)
		if err == nil && owner.Source() == t.source && acc.Stamp == t.stamp && !acc.Disabled {
			return t, acc, nil
		}
		s.tokens.entries.Invalidate(key) // the long way says why
	}
	c, k, err := s.verify(ctx, text, typ)
	if err != nil {
		return nil, Account{}, err
	}
	t := &provenToken{typ: typ, subject: c.Subject, at: now, until: c.ExpiresAt.Add(leeway)}
	if t.grants, err = fromAccess(c.Access); err != nil {
		return nil, Account{}, invalidToken(err)
	}
	var acc Account
	if t.subject != "" {
		var owner Provider
		if owner, acc, err = s.tokenAccount(ctx, c, k); err != nil {
			return nil, Account{}, err
		}
		t.source, t.stamp = owner.Source(), acc.Stamp
	} else if typ == typRefresh {
		return nil, Account{}, invalidToken(errors.New("auth: refresh token without account"))
	}
	s.tokens.entries.Set(key, t)
	return t, acc, nil
}

// tokenAccount finds the account of a token whose signature is right.
func (s *Service) tokenAccount(ctx context.Context, c *claims, k *signer) (Provider, Account, error) {
	owner, acc, err := s.owner(ctx, c.Subject)
	switch {
	case errors.Is(err, ErrNoAccount):
		return nil, Account{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s is gone; log in as another", c.Subject)
	case err != nil:
		return nil, Account{}, unavailableError(err)
	case acc.Disabled:
		return nil, Account{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s is disabled; ask an administrator of this registry", c.Subject)
	case !equal(k.stamp(owner.Source(), acc), c.Stamp):
		return nil, Account{}, fault.New(fault.Unauthenticated, InvalidToken, "account %s has changed since its token was made; log in again", c.Subject)
	}
	return owner, acc, nil
}

// looksLikeToken reports whether the password's place holds a JWT: three parts, the first one a JSON object.
func looksLikeToken(password string) bool {
	return len(password) > 100 && strings.HasPrefix(password, "eyJ") && strings.Count(password, ".") == 2
}

// basicToken proves a refresh token in the place of a password. Docker's tools write "<token>" where the name belongs.
// Something that merely looks like a token is an ordinary password.
func (s *Service) basicToken(ctx context.Context, name, text, addr string) (identity.Principal, error) {
	p, err := s.Refresh(ctx, text, addr)
	switch {
	case err == nil && (name == p.Name || name == "<token>"):
		return p, nil
	case err == nil:
		return identity.Principal{}, wrong()
	case errors.Is(err, errNotOurs):
		return s.Login(ctx, name, text, addr)
	}
	return identity.Principal{}, err
}
