package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// InvalidToken is the reason of an Unauthenticated fault about a token that is expired, revoked, forged or not ours;
// RFC 6750 section 3.1 wants it told apart in the challenge. All other refusals have the reason UNAUTHORIZED.
const InvalidToken fault.Reason = "INVALID_TOKEN"

// Authenticate turns an Authorization header into a principal. addr is the caller's address without port.
//
// No header is the anonymous principal. Basic carries a password, or a refresh token in the password's place. Bearer
// carries an access token made by Token, and the principal is narrowed to its grants. Errors are Unauthenticated, or
// RateLimited after too many failures (the call may first wait up to Throttle.Patience), or Unavailable when the
// accounts cannot be read. A credential that is given and wrong is never treated as no credential.
//
// A remembered bearer token or password costs about a microsecond.
func (s *Service) Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error) {
	if authorization == "" {
		return identity.Principal{Kind: identity.Anonymous, Addr: addr}, nil
	}
	if len(authorization) > MaxHeader {
		return refuse("authorization header has %d bytes; at most %d are read", len(authorization), MaxHeader)
	}
	scheme, credentials, _ := strings.Cut(authorization, " ")
	credentials = strings.TrimSpace(credentials)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return s.bearer(ctx, credentials, addr)
	case strings.EqualFold(scheme, "Basic"):
		name, password, err := parseBasic(credentials)
		if err != nil {
			return identity.Principal{}, err
		}
		if looksLikeToken(password) {
			return s.basicToken(ctx, name, password, addr)
		}
		return s.Login(ctx, name, password, addr)
	}
	return refuse("authorization scheme %.20q is not supported; use Basic or Bearer", scheme)
}

func refuse(format string, args ...any) (identity.Principal, error) {
	return identity.Principal{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, format, args...)
}

// parseBasic follows RFC 7617: the name ends at the first colon, so a password may contain more.
func parseBasic(credentials string) (name, password string, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(credentials)
	if err != nil {
		return "", "", fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "basic authorization is not valid base64; log in again")
	}
	name, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "basic authorization has no colon between user name and password; log in again")
	}
	return name, password, nil
}

// wrong is the one answer to a failed login, whatever was wrong with it.
func wrong() *fault.Error {
	return fault.New(fault.Unauthenticated, fault.UnauthorizedReason,
		"user name or password is wrong; check both and log in again, or ask an administrator of this registry")
}

// Login proves a name and password. Errors are those of Authenticate; a wrong password and an unknown name are
// answered alike, in text and in time.
func (s *Service) Login(ctx context.Context, name, password, addr string) (identity.Principal, error) {
	key := s.verified.key(name, password)
	before, recent := s.verified.get(key, s.o.Now())
	if recent {
		if acc, ok := s.still(ctx, name, before); ok {
			return principal(acc, addr), nil
		}
	}
	acc, err := s.flights.do(ctx, route{key, addr}, func() (Account, error) { return s.check(ctx, key, name, password, addr) })
	if err == nil {
		return principal(acc, addr), nil
	}
	err = unavailableError(err)
	if fault.Is(err, fault.Unavailable) && !before.at.IsZero() && s.local.outage() {
		if acc, ok := s.still(ctx, name, before); ok {
			return principal(acc, addr), nil
		}
	}
	return identity.Principal{}, err
}

// still finds the account of a login that succeeded before, when it is as it was then.
func (s *Service) still(ctx context.Context, name string, p proof) (Account, bool) {
	owner, acc, err := s.owner(ctx, name)
	return acc, err == nil && owner.Source() == p.source && acc.Stamp == p.stamp && !acc.Disabled
}

// plausible reports whether a provider should see the credential at all.
func plausible(name, password string) bool {
	return name != "" && len(name) <= MaxName && password != "" && len(password) <= MaxPassword &&
		utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == ':' || r == 0x7f })
}

func principal(a Account, addr string) identity.Principal {
	return identity.Principal{Kind: identity.User, Name: a.Name, Admin: a.Admin, Addr: addr}
}

// check asks the providers, slowly for who failed before.
func (s *Service) check(ctx context.Context, key credential, name, password, addr string) (Account, error) {
	attempt, err := s.throttle.begin(ctx, name, addr)
	if err != nil {
		return Account{}, err
	}
	o := outcomeUnknown
	defer func() { attempt.end(o) }()
	if !plausible(name, password) { // decided without looking at accounts, so its speed tells nothing of them
		o = outcomeWrong
		return Account{}, wrong()
	}
	if err := s.gate.enter(ctx); err != nil {
		return Account{}, err
	}
	defer s.gate.leave()

	owner, acc, err := s.ask(ctx, name, password)
	switch {
	case errors.Is(err, ErrPassword):
		o = outcomeWrong
		s.o.Log.InfoContext(ctx, "login failed", "principal", name, "source", owner.Source(), "addr", addr)
		return Account{}, wrong()
	case errors.Is(err, ErrNoAccount):
		o = outcomeWrong
		// Without the name: what is typed where a name belongs is, often enough, the password.
		s.o.Log.InfoContext(ctx, "login failed: no such account", "addr", addr)
		return Account{}, wrong()
	case err != nil:
		return Account{}, err
	}
	o = outcomeRight
	if acc.Disabled {
		return Account{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason,
			"account %s is disabled; ask an administrator of this registry", acc.Name)
	}
	s.verified.put(key, proof{source: owner.Source(), stamp: acc.Stamp, at: s.o.Now()})
	return acc, nil
}

// ask lets the owner of the name decide. When the answer is no, every other provider takes its time too, so that the
// clock does not tell who owns the name or whether anybody does. The error is ErrPassword only with an owner.
func (s *Service) ask(ctx context.Context, name, password string) (Provider, Account, error) {
	owner, _, err := s.owner(ctx, name)
	if err != nil && !errors.Is(err, ErrNoAccount) {
		return nil, Account{}, err
	}
	var acc Account
	if owner != nil {
		acc, err = owner.Login(ctx, name, password)
		switch {
		case errors.Is(err, ErrNoAccount): // it went away between the two calls
			owner = nil
		case !errors.Is(err, ErrPassword):
			return owner, acc, err
		}
	}
	for _, p := range s.providers {
		if p != owner {
			p.Decoy(ctx, password)
		}
	}
	return owner, Account{}, err
}

// abandoned reports whether the caller went away before there was an answer.
func abandoned(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
