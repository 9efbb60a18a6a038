package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// InvalidToken is the reason of an Unauthenticated fault about a token that is expired, revoked, forged or not ours;
// RFC 6750 section 3.1 wants it told apart in the challenge. All other refusals have the reason UNAUTHORIZED.
const InvalidToken fault.Reason = "INVALID_TOKEN"

// Authenticate turns an Authorization header into a principal. addr is the caller's address without port.
//
// No header is who the connection's client certificate stands for (see WithCertificates), or the anonymous principal. Basic carries a password, or in its place the secret of a robot, a personal access
// token, a refresh token, or a token of a trusted issuer. Bearer carries an access token made by Token or by the configured
// token server, and the principal is narrowed to its grants; or one of the secrets. Errors are Unauthenticated, or
// RateLimited after too many failures (the call may first wait up to Throttle.Patience), or Unavailable when the
// accounts cannot be read. A credential that is given and wrong is never treated as no credential.
//
// A remembered bearer token or password costs about a microsecond.
func (s *Service) Authenticate(ctx context.Context, authorization, addr string) (identity.Principal, error) {
	if authorization == "" {
		if p, ok, err := s.byCertificate(ctx, addr); ok || err != nil {
			return p, err
		}
		return identity.Principal{Kind: identity.Anonymous, Addr: addr}, nil
	}
	if len(authorization) > MaxHeader {
		return refuse("authorization header has %d bytes; at most %d are read", len(authorization), MaxHeader)
	}
	scheme, credentials, _ := strings.Cut(authorization, " ")
	credentials = strings.TrimSpace(credentials)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		switch {
		case strings.HasPrefix(credentials, RobotSecret):
			return s.robotLogin(ctx, "", credentials, identity.ViaToken, addr)
		case strings.HasPrefix(credentials, TokenSecret):
			return s.tokenLogin(ctx, "", credentials, addr)
		}
		return s.bearer(ctx, credentials, addr)
	case strings.EqualFold(scheme, "Basic"):
		name, password, err := parseBasic(credentials)
		if err != nil {
			return identity.Principal{}, err
		}
		return s.Password(ctx, name, password, addr)
	}
	return refuse("authorization scheme %.20q is not supported; use Basic or Bearer", scheme)
}

// Password proves what stands in the place of a name and password: those of an account, or a secret or token that was given
// for one. Errors are those of Authenticate.
func (s *Service) Password(ctx context.Context, name, password, addr string) (identity.Principal, error) {
	switch {
	case isSecret(RobotSecret, password):
		return s.robotLogin(ctx, name, password, identity.ViaToken, addr)
	case isSecret(TokenSecret, password):
		return s.tokenLogin(ctx, name, password, addr)
	case looksLikeToken(password):
		return s.basicToken(ctx, name, password, addr)
	}
	return s.Login(ctx, name, password, addr)
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
// answered alike, in text and in time. A right password that has to be changed first is refused with the reason
// PasswordExpired.
func (s *Service) Login(ctx context.Context, name, password, addr string) (identity.Principal, error) {
	acc, err := s.prove(ctx, name, password, addr)
	if err != nil {
		return identity.Principal{}, err
	}
	if acc.MustChange {
		return identity.Principal{}, fault.New(fault.Unauthenticated, PasswordExpired,
			"password of %s has to be changed before it can be used; change it with POST /api/v1/password {\"name\":…,\"oldPassword\":…,\"newPassword\":…}, which needs no other login", acc.Name)
	}
	return principal(acc, identity.ViaBasic, addr), nil
}

// prove finds the account of a name and password.
func (s *Service) prove(ctx context.Context, name, password, addr string) (Account, error) {
	key := s.verified.key(name, password)
	before, recent := s.verified.get(key, s.o.Now())
	if recent {
		if acc, ok := s.still(ctx, before); ok {
			s.used.account(acc.ID)
			return acc, nil
		}
	}
	acc, err := s.flights.do(ctx, route{key, addr}, func() (Account, error) { return s.check(ctx, key, name, password, addr) })
	if err == nil {
		s.used.login(acc.ID)
		return acc, nil
	}
	err = unavailableError(err)
	if fault.Is(err, fault.Unavailable) && !before.at.IsZero() && s.local.outage() {
		if acc, ok := s.still(ctx, before); ok {
			return acc, nil
		}
	}
	return Account{}, err
}

// still finds the account of a login that succeeded before, when it is as it was then.
func (s *Service) still(ctx context.Context, p proof) (Account, bool) {
	owner, acc, err := s.owner(ctx, p.account)
	return acc, err == nil && owner.Source() == p.source && acc.Stamp == p.stamp && !acc.over(s.o.Now())
}

// plausible reports whether a provider should see the credential at all.
func plausible(name, password string) bool {
	return name != "" && len(name) <= MaxName && password != "" && len(password) <= MaxPassword &&
		utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == ':' || r == 0x7f })
}

func principal(a Account, via, addr string) identity.Principal {
	return identity.Principal{
		Kind: identity.User, ID: a.ID, Name: a.Name, Admin: a.Admin, Auditor: a.Auditor, Groups: a.Groups, Via: via, Addr: addr,
	}
}

// check asks the providers, slowly for who failed before.
func (s *Service) check(ctx context.Context, key credential, name, password, addr string) (Account, error) {
	s.unlocked(ctx, name, addr)
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
	owner, acc, err := s.ask(ctx, name, password)
	switch {
	case errors.Is(err, ErrPassword):
		o = outcomeWrong
		s.used.failure(name)
		s.o.Log.InfoContext(ctx, "login failed", "principal", name, "source", sourceOf(owner), "addr", addr)
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
	if acc.over(s.o.Now()) {
		return Account{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason,
			"account %s is disabled; ask an administrator of this registry", acc.Name)
	}
	if acc, err = s.keep(ctx, owner, acc); err != nil {
		return Account{}, err
	}
	s.verified.put(key, proof{account: acc.Name, source: owner.Source(), stamp: acc.Stamp, at: s.o.Now()})
	return acc, nil
}

// sourceOf is the name of who refused a password: a provider, or a directory that knows the name.
func sourceOf(p Provider) string {
	if p == nil {
		return "directory"
	}
	return p.Source()
}

// unlocked forgets the failed logins of a name that an administrator has unlocked at another replica, or beside berthd.
func (s *Service) unlocked(ctx context.Context, name, addr string) {
	if !s.throttle.held(name, addr) || !s.throttle.isWritten(name) {
		return
	}
	if _, err := s.o.Store.LoginFailure(ctx, name); errors.Is(err, metadb.ErrNotFound) {
		s.throttle.forget(name)
	}
}

// keep makes the row of an account that a file has proved, so that it can be a member of projects and groups. A name that an
// account or robot has is left to that: the file's account then has no more rights than the file gives it.
func (s *Service) keep(ctx context.Context, owner Provider, acc Account) (Account, error) {
	if acc.ID != 0 || owner.Source() != fileSource || checkName(acc.Name) != nil {
		return acc, nil
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.CreateAccount(metadb.Account{Name: acc.Name, Source: fileSource})
		return err
	})
	if fault.Is(err, fault.Conflict) {
		return acc, nil
	}
	if err != nil {
		return acc, fmt.Errorf("auth: account %s of the %s file: %w", acc.Name, fileSource, err)
	}
	s.local.forget(acc.Name)
	_, acc, err = s.owner(ctx, acc.Name)
	return acc, err
}

// ask lets the owner of the name decide, and the directories when nobody here has it, or when the account is linked to one. The
// error is ErrPassword only when somebody knows the name; without a provider, that is a directory.
func (s *Service) ask(ctx context.Context, name, password string) (Provider, Account, error) {
	owner, acc, err := s.askHere(ctx, name, password)
	switch {
	case owner == nil && errors.Is(err, ErrNoAccount):
		return s.askDirectories(ctx, name, password)
	case errors.Is(err, ErrPassword) && acc.ID != 0:
		acc, err = s.linkedLogin(ctx, acc, password)
	}
	if errors.Is(err, ErrPassword) {
		s.directories.wait(ctx)
	}
	return owner, acc, err
}

// askHere asks who owns the name without a directory. When the answer is no, every other provider takes its time too, so that
// the clock does not tell who owns the name or whether anybody does. With ErrPassword it returns the account whose password it
// is not.
func (s *Service) askHere(ctx context.Context, name, password string) (Provider, Account, error) {
	if err := s.gate.enter(ctx); err != nil {
		return nil, Account{}, err
	}
	defer s.gate.leave()
	owner, known, err := s.owner(ctx, name)
	if err != nil && !errors.Is(err, ErrNoAccount) {
		return nil, Account{}, err
	}
	if owner != nil {
		var acc Account
		acc, err = owner.Login(ctx, name, password)
		switch {
		case err == nil && owner != Provider(s.local):
			acc, err = s.local.join(ctx, owner.Source(), acc)
			return owner, acc, err
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
	return owner, known, err
}

// abandoned reports whether the caller went away before there was an answer.
func abandoned(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
