// Package auth proves who is calling: it turns an Authorization header into an identity.Principal, keeps the local
// accounts' passwords, and issues and verifies the bearer tokens of the Docker token flow.
//
// It decides identity only. What a principal may do is the access room's business; the one question asked of it here
// is how far a token may reach (see Options.Access). The room may assume that somebody else bounded the size of bodies
// and found the caller's address; it bounds credentials itself.
//
// Three things cost time and are therefore remembered or rationed: a password hash (10 to 100 ms) is computed once a
// minute per credential and on few cores at once, a token's signature (about 0.1 ms) is verified once per token, and
// failed logins slow down the one who fails. Nothing remembered outlives the account it belongs to by more than
// metadb.TrustFor, unless the database cannot be reached.
//
// A further source of accounts (a file, LDAP, OIDC) is a Provider in a room below this one. Start reading at
// [Service.Authenticate], then [Service.Login] and [Service.Token].
package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Limits that hold whatever the configuration says.
const (
	// MaxHeader is the longest Authorization header in bytes; a longer one is refused before it is parsed.
	MaxHeader = 8 << 10
	// MaxPassword and MaxName bound what is hashed and remembered, in bytes.
	MaxPassword = 4 << 10
	MaxName     = 255
	// MaxStale is the longest time that a credential works after its account was disabled, deleted or changed while the
	// database cannot be read. Otherwise it ends at once in the process that made the change, and within metadb.TrustFor
	// in others.
	MaxStale = 60 * time.Second

	minTokenLifetime = time.Minute
	leeway           = 60 * time.Second // between clocks of replicas and of whoever reads the token
)

// rights is what this room needs of the access room. Narrow is the part of the grants that the principal has a right to; it
// must not add any, and if it does, the addition is dropped here. The others refuse what the context's principal may not do.
type rights interface {
	Narrow(ctx context.Context, p identity.Principal, asked []identity.Grant) ([]identity.Grant, error)
	CheckSystem(ctx context.Context, v identity.Verb) error
	CheckProject(ctx context.Context, v identity.Verb, project string) error
	CheckGiveAll(ctx context.Context, s metadb.Subject) error
	CheckTakeAll(ctx context.Context, s metadb.Subject) error
	CheckActAs(ctx context.Context, as identity.Principal) error
}

// Options configure a Service.
type Options struct {
	Store     store      // accounts and signing keys; *metadb.DB
	Access    rights     // how far a principal's token may reach, and who may change accounts; *access.Point
	Providers []Provider // further sources of accounts; the first one that knows a name owns it, the local accounts come last

	Service   string // name of this registry in challenges and as the tokens' audience; default "berth"
	Issuer    string // default "berth"
	Anonymous bool   // callers without credentials get a token; false with auth.anonymous: none

	TokenLifetime   time.Duration // of access tokens; default 5 min, at least 60 s (clients assume no less)
	RefreshLifetime time.Duration // of refresh tokens; default 30 d, negative: none are issued
	SessionIdle     time.Duration // after which an unused session of a browser ends; default 12 h
	SessionLifetime time.Duration // after which every session ends; default 7 d
	MinPassword     int           // least length of a new password, in characters; default and least 8

	Foreign    Issuer // whose access tokens are accepted besides our own, as distribution's auth.token; nil for none
	ForeignKey string // its claim "iss"
	// OpenIssuer makes the verifier of an issuer whose tokens are exchanged; nil when none may be.
	OpenIssuer func(IssuerConfig) (Issuer, error)

	Throttle Throttle // how failed logins slow down; the zero value is a sensible default
	Hashes   int      // password hashes computed at once; default: half the cores, 1 to 4. Each takes up to 19 MiB

	Now func() time.Time
	Log *slog.Logger
}

// Service proves identities. Safe for concurrent use.
type Service struct {
	o         Options
	local     *local
	providers []Provider // o.Providers and local
	keys      *keyring
	verified  *verified
	tokens    *tokenCache
	throttle  *throttle
	gate      *gate
	flights   *flights

	idps        atomic.Pointer[[]IdentityProvider]
	directories directories
	issuers     issuers
	heard       heard
	used        *uses

	robots       *rows[int64, *robotState]
	secrets      *rows[string, metadb.RobotSecret] // by hash
	accessTokens *rows[int64, *accessToken]
	tokenIDs     *rows[string, int64] // by hash
	sessions     *rows[string, *loginSession]
	certs        *certificates
}

// New returns a Service. It reads nothing: keys and accounts are looked up when they are first needed, so starting
// costs the same however many accounts there are.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Access == nil {
		return nil, errors.New("auth: a store and an access point are needed")
	}
	o.Service = cmp.Or(o.Service, "berth")
	o.Issuer = cmp.Or(o.Issuer, "berth")
	o.TokenLifetime = cmp.Or(o.TokenLifetime, 5*time.Minute)
	o.RefreshLifetime = cmp.Or(o.RefreshLifetime, 30*24*time.Hour)
	o.SessionIdle = cmp.Or(o.SessionIdle, 12*time.Hour)
	o.SessionLifetime = cmp.Or(o.SessionLifetime, 7*24*time.Hour)
	o.MinPassword = max(o.MinPassword, minPassword)
	if o.TokenLifetime < minTokenLifetime {
		return nil, fmt.Errorf("token lifetime is %s; at least %s is needed, since clients assume it", o.TokenLifetime, minTokenLifetime)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := newLocal(o.Store, o.Now)
	if err != nil {
		return nil, err
	}
	s := &Service{o: o, local: l, gate: newGate(o.Hashes), flights: newFlights()}
	s.providers = append(append(s.providers, o.Providers...), l)
	s.keys = newKeyring(o.Store, o.Now, o.Log)
	if s.verified, err = newVerified(rand.Reader); err != nil {
		return nil, err
	}
	if s.tokens, err = newTokenCache(); err != nil {
		return nil, err
	}
	if s.throttle, err = newThrottle(o.Throttle, o.Now); err != nil {
		return nil, err
	}
	s.idps.Store(&[]IdentityProvider{})
	s.directories.sleep = sleep
	s.used = newUses(o.Now)
	s.robots, s.secrets = newRows[int64, *robotState](o.Store, o.Now), newRows[string, metadb.RobotSecret](o.Store, o.Now)
	s.accessTokens, s.tokenIDs = newRows[int64, *accessToken](o.Store, o.Now), newRows[string, int64](o.Store, o.Now)
	s.sessions = newRows[string, *loginSession](o.Store, o.Now)
	if s.certs, err = newCertificates(); err != nil {
		return nil, err
	}
	o.Store.WatchAll(s.forget)
	return s, nil
}

// forget drops what has changed, here or at another replica.
func (s *Service) forget(c metadb.Change) {
	switch c.Kind {
	case metadb.AccountChanged:
		s.local.forget(c.Key)
	case metadb.RobotChanged:
		s.robots.kept.Drop(c.ID)
		s.secrets.kept.Clear() // by a hash that is not said; robots change seldom
	case metadb.TokenChanged:
		s.accessTokens.kept.Drop(c.ID)
	case metadb.SessionChanged:
		s.sessions.kept.Drop(c.Key)
	case metadb.ProviderChanged:
		s.issuers.changed.Store(true)
	case metadb.KeysChanged:
		s.keys.changed.Store(true)
		s.tokens.entries.InvalidateAll()
	case metadb.Everything:
		s.local.forgetAll()
		s.robots.kept.Clear()
		s.secrets.kept.Clear()
		s.accessTokens.kept.Clear()
		s.tokenIDs.kept.Clear()
		s.sessions.kept.Clear()
		s.issuers.changed.Store(true)
		s.keys.changed.Store(true)
		s.tokens.entries.InvalidateAll()
	}
}

// Service is the name of this registry in Bearer challenges (the parameter "service").
func (s *Service) Service() string { return s.o.Service }

// Forget drops what is remembered of a local account. Whoever changes an account calls it after the commit; other
// processes notice within metadb.TrustFor.
func (s *Service) Forget(name string) { s.local.forget(name) }
