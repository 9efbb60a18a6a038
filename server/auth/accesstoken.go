package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// maxTokenGrants bounds what one personal access token lists.
const maxTokenGrants = 100

// TokenGrant is one thing that a personal access token, or a rule of an issuer, is good for: verbs on repositories, or verbs
// of the registry.
type TokenGrant struct {
	Repositories string          `json:"repositories,omitempty"` // ref.Pattern; "" for verbs of projects and of the registry
	Verbs        []identity.Verb `json:"verbs"`
}

// tokenGrants is what a token narrows its account to; nil is no narrowing.
type tokenGrants []TokenGrant

// principal is the narrowing in the terms of package identity.
func (g tokenGrants) principal() (*identity.Grants, error) {
	if g == nil {
		return nil, nil
	}
	grants := &identity.Grants{List: make([]identity.Grant, 0, len(g))}
	for _, t := range g {
		one := identity.Grant{Verbs: t.Verbs}
		if t.Repositories == "" {
			one.Registry = true
		} else {
			p, err := ref.ParsePattern(t.Repositories)
			if err != nil {
				return nil, err
			}
			one.Pattern = p
		}
		grants.List = append(grants.List, one)
	}
	return grants, nil
}

func parseTokenGrants(text string) (g tokenGrants, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		return nil, fmt.Errorf("grants are not the JSON that this version writes: %w", err)
	}
	if g == nil {
		return nil, errors.New("grants are null")
	}
	_, err = g.principal()
	return g, err
}

// checkTokenGrants says what is wrong with grants that somebody wrote.
func checkTokenGrants(grants []TokenGrant) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, fault.UnsupportedReason, format, args...).At("grants")
	}
	if len(grants) > maxTokenGrants {
		return bad("%d grants are more than the %d that one token may have", len(grants), maxTokenGrants)
	}
	for _, g := range grants {
		if len(g.Verbs) == 0 {
			return bad("a grant on %q has no verbs", g.Repositories)
		}
		if g.Repositories != "" {
			if _, err := ref.ParsePattern(g.Repositories); err != nil {
				return fault.Of(err).At("grants")
			}
		}
		for _, v := range g.Verbs {
			if v == identity.Apply {
				return bad("verb %s cannot be given to a token; it is for administrators whom no token narrows", v)
			}
			if level := identity.LevelOf(v); level == identity.NoLevel || (level == identity.OfRegistry) != (g.Repositories == "") {
				return bad("verb %.40q is not one for %s", v, map[bool]string{false: "repositories and projects", true: "the registry"}[g.Repositories == ""])
			}
		}
	}
	return nil
}

// AccessToken is a personal access token, as its owner sees it. No secret is in it.
type AccessToken struct {
	ID                    int64
	Account               string
	Name                  string
	Prefix                string       // the secret's first characters
	Grants                []TokenGrant // nil: everything that the account may
	CreatedAt             time.Time
	ExpiresAt             time.Time // zero for never
	RevokedAt, LastUsedAt time.Time
	LastUsedFrom          string
}

func tokenOf(t *accessToken) AccessToken {
	return AccessToken{
		ID: t.ID, Account: t.account, Name: t.Name, Prefix: t.Prefix, Grants: t.grants, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		RevokedAt: t.RevokedAt, LastUsedAt: t.LastUsedAt, LastUsedFrom: t.LastUsedFrom,
	}
}

// self is the account of a caller who acts for itself: a person who proved itself, not what a token of hers is for.
func (s *Service) self(ctx context.Context) (metadb.Account, error) {
	p := identity.From(ctx)
	switch {
	case p.Kind == identity.Anonymous:
		return metadb.Account{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "this needs a login; log in with an account first")
	case p.Kind != identity.User:
		return metadb.Account{}, fault.New(fault.Denied, fault.DeniedReason, "%s has no account of its own: this is denied", p)
	case p.Grants != nil || p.Origin != "":
		return metadb.Account{}, fault.New(fault.Denied, fault.DeniedReason, "a token of %s may not do this; log in with the password or a browser", p)
	}
	a, err := s.account(ctx, p.Name)
	if err == nil && a.ID != p.ID {
		err = fault.New(fault.Denied, fault.DeniedReason, "%s has no account that berth keeps: this is denied", p)
	}
	return a, err
}

// MyTokens lists the caller's own tokens behind the number after.
func (s *Service) MyTokens(ctx context.Context, after int64, limit int) ([]AccessToken, error) {
	a, err := s.self(ctx)
	if err != nil {
		return nil, err
	}
	return s.tokensOf(ctx, a.ID, after, limit)
}

// AccessTokens lists tokens of an account, or with "" of all, behind the number after. It asks for user.read.
func (s *Service) AccessTokens(ctx context.Context, account string, after int64, limit int) ([]AccessToken, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.UserRead); err != nil {
		return nil, err
	}
	id, err := s.accountOrAll(ctx, account)
	if err != nil {
		return nil, err
	}
	return s.tokensOf(ctx, id, after, limit)
}

func (s *Service) tokensOf(ctx context.Context, account, after int64, limit int) ([]AccessToken, error) {
	found, err := s.o.Store.AccessTokens(ctx, account, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: tokens: %w", err)
	}
	var list []AccessToken
	for _, row := range found {
		t, err := s.loadToken(ctx, row)
		if errors.Is(err, metadb.ErrNotFound) {
			continue // of an account that an older version removed
		}
		if err != nil {
			return nil, err
		}
		list = append(list, tokenOf(t))
	}
	return list, nil
}

// CreateAccessToken makes a token of the caller and returns its secret this once. grants nil means all that the account may
// do; what the account may not do, its token may not either, whatever it lists. A token cannot make another one.
func (s *Service) CreateAccessToken(ctx context.Context, name string, grants []TokenGrant, expires time.Time) (t AccessToken, secret string, err error) {
	a, err := s.self(ctx)
	if err != nil {
		return t, "", err
	}
	if err := checkTokenGrants(grants); err != nil {
		return t, "", err
	}
	if err := checkText("name", &name, false); err != nil {
		return t, "", err
	}
	if strings.TrimSpace(name) == "" || len(name) > 128 {
		return t, "", fault.New(fault.Invalid, fault.NameInvalid, "a token needs a name of 1 to 128 bytes that says what it is for").At("name")
	}
	if err := s.checkEnd(expires); err != nil {
		return t, "", err
	}
	text := ""
	if grants != nil {
		b, err := json.Marshal(grants)
		if err != nil {
			return t, "", err
		}
		text = string(b)
	}
	secret, hash, shown := newSecret(TokenSecret)
	var row metadb.AccessToken
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		row, err = tx.CreateAccessToken(metadb.AccessToken{AccountID: a.ID, Name: name, Hash: hash, Prefix: shown, Grants: text, ExpiresAt: expires})
		return err
	})
	if err != nil {
		return t, "", fmt.Errorf("auth: make token of %s: %w", a.Name, err)
	}
	return tokenOf(&accessToken{row, a.Name, grants}), secret, nil
}

// RevokeAccessToken ends a token at once, with every bearer token that was made by it. One's own needs nothing more; of another
// it asks for user.write.
func (s *Service) RevokeAccessToken(ctx context.Context, id int64) error {
	if a, err := s.self(ctx); err == nil {
		if t, err := s.o.Store.AccessToken(ctx, id); err == nil && t.AccountID == a.ID {
			return s.revokeToken(ctx, id)
		}
	} else if fault.Is(err, fault.Unavailable) {
		return err
	}
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return untold(ctx, err, absent("token %d is not known to this registry", id))
	}
	return s.revokeToken(ctx, id)
}

// untold is the refusal of a person, who is not told whose something is, nor whether it is; other refusals stay.
func untold(ctx context.Context, refused, absent error) error {
	if p := identity.From(ctx); fault.Is(refused, fault.Denied) && p.Kind == identity.User && p.Grants == nil {
		return absent
	}
	return refused
}

// accountOrAll is the number of an account; "" is 0, for those of all.
func (s *Service) accountOrAll(ctx context.Context, name string) (int64, error) {
	if name == "" {
		return 0, nil
	}
	a, err := s.account(ctx, name)
	return a.ID, err
}

func (s *Service) revokeToken(ctx context.Context, id int64) error {
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error { return tx.RevokeAccessToken(id) })
	if errors.Is(err, metadb.ErrNotFound) {
		return absent("token %d is not known to this registry", id)
	}
	return err
}

// holds reports whether the token may be used now.
func (t *accessToken) holds(now time.Time) bool {
	return t.RevokedAt.IsZero() && !past(t.ExpiresAt, now)
}

// tokenPrincipal is the caller that a personal access token stands for now.
func (s *Service) tokenPrincipal(ctx context.Context, t *accessToken, via, addr string) (identity.Principal, error) {
	if !t.holds(s.o.Now()) {
		return identity.Principal{}, wrongSecret()
	}
	_, acc, err := s.owner(ctx, t.account)
	switch {
	case errors.Is(err, ErrNoAccount), err == nil && acc.ID != t.AccountID:
		return identity.Principal{}, wrongSecret()
	case err != nil:
		return identity.Principal{}, unavailableError(err)
	case acc.Disabled || past(acc.ExpiresAt, s.o.Now()):
		return identity.Principal{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason,
			"account %s is disabled; ask an administrator of this registry", acc.Name)
	}
	p := principal(acc, via, addr)
	p.Origin = originOf(fromToken, t.ID).String()
	if p.Grants, err = t.grants.principal(); err != nil {
		return identity.Principal{}, fmt.Errorf("auth: token %d: %w", t.ID, err)
	}
	return p, nil
}

// tokenLogin proves the secret of a personal access token. name is what the client gave as the user: the account's, or one of
// the words that clients write where they have none.
func (s *Service) tokenLogin(ctx context.Context, name, secret, addr string) (identity.Principal, error) {
	if !isSecret(TokenSecret, secret) {
		return identity.Principal{}, wrongSecret()
	}
	s.endLeft(ctx)
	t, err := s.accessTokenBySecret(ctx, secret)
	if err != nil {
		return identity.Principal{}, secretError(err)
	}
	if name != "" && name != t.account && name != "token" && name != "<token>" {
		return identity.Principal{}, wrongSecret()
	}
	p, err := s.tokenPrincipal(ctx, t, identity.ViaToken, addr)
	if err == nil {
		s.used.token(t.ID, addr)
		s.used.account(t.AccountID)
	}
	return p, err
}
