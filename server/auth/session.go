package auth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Session is a login of a browser, as its owner sees it. The cookie's secret is not in it.
type Session struct {
	ID        int64
	Account   string
	Via       string // "password", or the kind of the provider
	Provider  string // "" for a local login
	Addr      string
	UserAgent string
	CreatedAt time.Time
	SeenAt    time.Time // may be behind by a minute
	ExpiresAt time.Time // at the latest; unused for Options.SessionIdle, it ends before
	Current   bool      // the one that asks
}

// Opened is a session that was opened just now.
type Opened struct {
	Session
	// Cookie is the session's secret. It belongs into a cookie that scripts and other sites cannot read or send (Secure,
	// HttpOnly, SameSite), and nowhere else.
	Cookie string
	// CSRF is what every change must bring in a header, to show that the page which makes it can read this site.
	CSRF string
}

// Open begins a session of a principal that Login or SignIn has proved. via is the way, external what an identity provider
// said, nil for a local login. The session ends when unused for Options.SessionIdle, after Options.SessionLifetime, and when
// the provider does not vouch for the caller any more.
func (s *Service) Open(ctx context.Context, p identity.Principal, via string, external *External, userAgent string) (Opened, error) {
	if p.Kind != identity.User || p.Grants != nil || p.Origin != "" {
		return Opened{}, fault.New(fault.Denied, fault.DeniedReason, "%s cannot open a session: only a person who proved itself can", p)
	}
	_, acc, err := s.owner(ctx, p.Name)
	if err != nil || acc.ID != p.ID || acc.ID == 0 {
		return Opened{}, cmp.Or(unavailableOr(err), error(fault.New(fault.Denied, fault.DeniedReason, "%s has no account that berth keeps: a session is denied", p)))
	}
	secret, hash, _ := newSecret(cookieSecret)
	csrf, _, _ := newSecret("")
	row := metadb.LoginSession{
		Hash: hash, AccountID: acc.ID, Via: via, CSRF: csrf, Addr: p.Addr, UserAgent: clip(userAgent, 256),
		ExpiresAt: s.o.Now().Add(s.o.SessionLifetime),
	}
	if external != nil {
		row.Provider, row.Subject, row.SID = external.Provider, external.Subject, external.SID
		if !external.ExpiresAt.IsZero() && external.ExpiresAt.Before(row.ExpiresAt) {
			row.ExpiresAt = external.ExpiresAt
		}
	}
	var made metadb.LoginSession
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		made, err = tx.CreateLoginSession(row)
		return err
	})
	if err != nil {
		return Opened{}, fmt.Errorf("auth: session of %s: %w", p.Name, err)
	}
	return Opened{Session: sessionOf(made, p.Name), Cookie: secret, CSRF: csrf}, nil
}

// unavailableOr is the fault of a database that does not answer, nil for every other error and for none.
func unavailableOr(err error) error {
	if err == nil || errors.Is(err, ErrNoAccount) {
		return nil
	}
	return unavailableError(err)
}

func clip(text string, n int) string { return text[:min(len(text), n)] }

func sessionOf(row metadb.LoginSession, account string) Session {
	return Session{
		ID: row.ID, Account: account, Via: row.Via, Provider: row.Provider, Addr: row.Addr, UserAgent: row.UserAgent,
		CreatedAt: row.CreatedAt, SeenAt: row.SeenAt, ExpiresAt: row.ExpiresAt,
	}
}

// loginSession is a session with the name of its account.
type loginSession struct {
	metadb.LoginSession
	account string
}

// Resolve finds the session of a cookie and who it belongs to. The rights are those of now: a session remembers none.
// Errors are Unauthenticated when it has ended, and Unavailable.
func (s *Service) Resolve(ctx context.Context, cookie, addr string) (identity.Principal, Session, error) {
	p, row, err := s.session(ctx, cookie, addr)
	if err != nil {
		return identity.Principal{}, Session{}, err
	}
	found := sessionOf(row.LoginSession, row.account)
	found.Current = true
	return p, found, nil
}

// Acts is Resolve for a request that changes something: it has to bring the session's CSRF token, too. Without the right one
// it is Denied.
func (s *Service) Acts(ctx context.Context, cookie, csrf, addr string) (identity.Principal, Session, error) {
	p, row, err := s.session(ctx, cookie, addr)
	if err != nil {
		return identity.Principal{}, Session{}, err
	}
	if subtle.ConstantTimeCompare([]byte(csrf), []byte(row.CSRF)) != 1 {
		return identity.Principal{}, Session{}, fault.New(fault.Denied, fault.DeniedReason,
			"the request does not show that it comes from a page of this registry; reload the page")
	}
	found := sessionOf(row.LoginSession, row.account)
	found.Current = true
	return p, found, nil
}

// CSRF is the token of the cookie's session, for a page of this registry that was opened anew.
func (s *Service) CSRF(ctx context.Context, cookie string) (string, error) {
	_, row, err := s.session(ctx, cookie, "")
	if err != nil {
		return "", err
	}
	return row.CSRF, nil
}

func (s *Service) session(ctx context.Context, cookie, addr string) (identity.Principal, *loginSession, error) {
	over := func() error {
		return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the session has ended; log in again")
	}
	if !isSecret(cookieSecret, cookie) {
		return identity.Principal{}, nil, over()
	}
	s.endLeft(ctx)
	hash := hashSecret(cookie)
	row, err := s.sessions.get(ctx, hash, func(ctx context.Context) (*loginSession, error) {
		row, err := s.o.Store.LoginSessionByHash(ctx, hash)
		if err != nil {
			return nil, err
		}
		a, err := s.o.Store.AccountByID(ctx, row.AccountID)
		return &loginSession{row, a.Name}, err
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return identity.Principal{}, nil, over()
	}
	if err != nil {
		return identity.Principal{}, nil, unavailableError(err)
	}
	now := s.o.Now()
	seen := s.used.seen(row.ID, row.SeenAt)
	if past(row.ExpiresAt, now) || now.Sub(seen) >= s.o.SessionIdle {
		return identity.Principal{}, nil, over()
	}
	_, acc, err := s.owner(ctx, row.account)
	switch {
	case errors.Is(err, ErrNoAccount), err == nil && (acc.ID != row.AccountID || acc.Disabled || acc.MustChange || past(acc.ExpiresAt, now)):
		return identity.Principal{}, nil, over()
	case err != nil:
		return identity.Principal{}, nil, unavailableError(err)
	}
	s.used.session(row.ID, addr)
	return principal(acc, identity.ViaSession, addr), row, nil
}

// Leave ends the session of a cookie: log out. One that has ended already is no error.
func (s *Service) Leave(ctx context.Context, cookie string) error {
	if !isSecret(cookieSecret, cookie) {
		return nil
	}
	row, err := s.o.Store.LoginSessionByHash(ctx, hashSecret(cookie))
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return unavailableError(err)
	}
	_, err = s.endSessions(ctx, metadb.SessionFilter{ID: row.ID})
	return err
}

func (s *Service) endSessions(ctx context.Context, f metadb.SessionFilter) (n int, err error) {
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		n, err = tx.DeleteSessions(f)
		return err
	})
	return n, err
}

// MySessions lists the caller's own sessions behind the number after.
func (s *Service) MySessions(ctx context.Context, after int64, limit int) ([]Session, error) {
	a, err := s.self(ctx)
	if err != nil {
		return nil, err
	}
	return s.sessionsOf(ctx, a.ID, after, limit)
}

// Sessions lists sessions of an account, or with "" of all, behind the number after. It asks for session.read.
func (s *Service) Sessions(ctx context.Context, account string, after int64, limit int) ([]Session, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SessionRead); err != nil {
		return nil, err
	}
	id, err := s.accountOrAll(ctx, account)
	if err != nil {
		return nil, err
	}
	return s.sessionsOf(ctx, id, after, limit)
}

func (s *Service) sessionsOf(ctx context.Context, account, after int64, limit int) ([]Session, error) {
	found, err := s.o.Store.LoginSessions(ctx, account, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: sessions: %w", err)
	}
	names := map[int64]string{}
	list := make([]Session, 0, len(found))
	for _, row := range found {
		name, ok := names[row.AccountID]
		if !ok {
			a, err := s.o.Store.AccountByID(ctx, row.AccountID)
			if err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return nil, fmt.Errorf("auth: sessions: %w", err)
			}
			name = a.Name
			names[row.AccountID] = name
		}
		one := sessionOf(row, name)
		one.SeenAt = s.used.seen(row.ID, row.SeenAt)
		list = append(list, one)
	}
	return list, nil
}

// Revoke ends a session. One's own needs nothing more; of another it asks for session.write.
func (s *Service) Revoke(ctx context.Context, id int64) error {
	mine := false
	if a, err := s.self(ctx); err == nil {
		row, err := s.o.Store.LoginSession(ctx, id)
		mine = err == nil && row.AccountID == a.ID
	}
	if !mine {
		if err := s.o.Access.CheckSystem(ctx, identity.SessionWrite); err != nil {
			return untold(ctx, err, absent("session %d is not known to this registry", id))
		}
	}
	n, err := s.endSessions(ctx, metadb.SessionFilter{ID: id})
	if err == nil && n == 0 {
		err = absent("session %d is not known to this registry", id)
	}
	return err
}

// RevokeAll ends all sessions of an account, except one; 0 is none excepted. One's own needs nothing more; of another it asks
// for session.write.
func (s *Service) RevokeAll(ctx context.Context, account string, except int64) (int, error) {
	me, err := s.self(ctx)
	if err != nil || me.Name != account {
		if err := s.o.Access.CheckSystem(ctx, identity.SessionWrite); err != nil {
			return 0, err
		}
	}
	a, err := s.account(ctx, account)
	if err != nil {
		return 0, err
	}
	return s.endSessions(ctx, metadb.SessionFilter{Account: a.ID, Except: except})
}
