package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"time"
)

// External is what an identity provider says of a caller whom it has proved. It is a statement, not a right: SignIn
// decides which account it stands for.
type External struct {
	Provider string // name of the provider as it is configured; the driver fills it in
	// Subject is what the provider calls the caller for ever: OIDC's sub, a directory's entryUUID or objectGUID, the URI
	// of a SPIFFE ID. Names are given to other people, subjects never; the link to an account is by this.
	Subject string
	// Name is what the account shall be called when it is made. The driver has brought it into the form of account names
	// (no control character, no colon, at most MaxName bytes); it is not used for callers who have an account already.
	Name        string
	Email       string // "" when the provider does not say, or does not say that it is verified
	DisplayName string
	// Groups are the names of the groups that the caller is in now, all of them: who is not named in a group any more has
	// lost what it gave. nil says that this provider knows nothing of groups, and leaves them alone.
	Groups []string
	// Admin makes the account an administrator. It is only ever set by a mapping in the provider's configuration that
	// names a group or subject, never by a claim or attribute of that meaning.
	Admin bool
	// Robot is the name of a robot, instead of an account, that the provider's configuration maps the caller to: then
	// Subject is for records, and Groups and Admin are not used.
	Robot string
	// ExpiresAt is until when the provider vouches for the caller; a session ends there at the latest. Zero: it does not say.
	ExpiresAt time.Time
	// SID is the provider's session (OIDC's sid), by which a back-channel logout names it; "" without.
	SID string
}

// What a driver answers besides ErrNoAccount and ErrPassword. Any other error means that the provider could not be asked,
// and is answered to the caller as Unavailable without its text, which is logged.
var (
	// ErrRefused: the provider was asked, or its signature was checked, and the answer is no: a code that is not valid, an
	// ID token with another audience, a certificate that no trust bundle signs, a person who clicked "deny". Wrap it with
	// the cause; the cause is logged, never sent.
	ErrRefused = errors.New("auth: identity provider refuses")
	// ErrPending: nobody has answered the device login yet; ask again after the interval.
	ErrPending = errors.New("auth: device login is pending")
	// ErrSlowDown: as ErrPending, and the interval grows by five seconds (RFC 8628 section 3.5).
	ErrSlowDown = errors.New("auth: device login is asked for too often")
	// ErrExpired: the device login was not answered in time; begin another.
	ErrExpired = errors.New("auth: device login has expired")
)

// Directory proves a name and password where berth keeps none, such as LDAP. authtest.Directory is its suite. Safe for
// concurrent use; every call honours its context.
type Directory interface {
	// Name is the provider's name as it is configured.
	Name() string
	// Login asks with a name and password. The answer is ErrNoAccount for a name that the directory does not know (or
	// that several entries have) and ErrPassword for a password that is wrong, empty, expired or locked there. It never
	// sends an empty password: that would be an anonymous bind, which succeeds (RFC 4513 section 5.1.2).
	Login(ctx context.Context, name, password string) (External, error)
	// Lookup is what the directory says of a subject now, without a password: groups above all. ErrNoAccount when it is
	// gone, disabled, or not allowed in by the configured filter any more.
	Lookup(ctx context.Context, subject string) (External, error)
}

// Browser proves a person who comes with a browser, by authorization code and PKCE (OpenID Connect).
type Browser interface {
	Name() string
	// Begin is the address to send the browser to. redirect is where it comes back, state and nonce are unguessable and
	// for one login only; verifier is PKCE's, of which only the S256 challenge is sent.
	Begin(ctx context.Context, redirect, state, nonce, verifier string) (url string, err error)
	// Finish turns the code into an identity. It checks issuer, audience, azp, nonce, signature and times of the ID token.
	// What is not right is ErrRefused.
	Finish(ctx context.Context, redirect, code, nonce, verifier string) (External, error)
}

// Device proves a person who has a browser elsewhere (RFC 8628).
type Device interface {
	Name() string
	BeginDevice(ctx context.Context) (DeviceLogin, error)
	// PollDevice asks how the login with this device code went: ErrPending, ErrSlowDown, ErrExpired, ErrRefused, or who it is.
	PollDevice(ctx context.Context, code string) (External, error)
}

// DeviceLogin is what a person is told (RFC 8628 section 3.2).
type DeviceLogin struct {
	Code      string // for PollDevice; secret
	UserCode  string // to type in
	URL       string // where to
	Complete  string // the address with the code in it; "" when the provider gives none
	ExpiresAt time.Time
	Interval  time.Duration // between polls; at least a second
}

// LogoutVerifier reads the tokens of OpenID Connect Back-Channel Logout 1.0.
type LogoutVerifier interface {
	Name() string
	// Logout says whose sessions end: all of the subject, or the one with the sid. Either may be "", not both. A token
	// that is not valid, or is an ID token, is ErrRefused.
	Logout(ctx context.Context, token string) (subject, sid string, err error)
}

// Certificate proves a caller by the client certificate of its connection.
type Certificate interface {
	Name() string
	// Identify reads a chain as the connection gave it, leaf first; that the peer has the leaf's key is proved already,
	// nothing else is. It verifies the chain against this provider's authorities. ErrNoAccount when the certificate is
	// none of its business (another authority, no name of the kind that is mapped): the next provider is asked then.
	// ErrRefused when it is its business and is not valid.
	Identify(ctx context.Context, chain []*x509.Certificate) (External, error)
}

// Issuer verifies tokens (JWS) that somebody else signs: a token server in front of this registry, or a system whose tokens
// are exchanged for ours. Safe for concurrent use.
type Issuer interface {
	// Verify checks form, signature, issuer, audience and times. It says nothing of what the token is good for. A token
	// that is not right is ErrRefused; another error says that its keys could not be had.
	Verify(ctx context.Context, token string) (Statement, error)
}

// Statement is what a token says whose signature, issuer, audience and times are right.
type Statement struct {
	Issuer, Subject string
	ExpiresAt       time.Time
	Claims          map[string]any // all of them, as encoding/json reads them
}

// IdentityProvider is one configured provider: what its driver can do, and how far it is trusted with accounts.
type IdentityProvider struct {
	Name  string // as in External.Provider; unique, and never "local" or "htpasswd"
	Label string // what people read on a button; default Name
	Kind  string // "ldap", "oidc", "mtls", "spiffe"

	// Create: a caller without an account gets one. Otherwise an administrator makes the account and its link first.
	Create bool
	// Adopt: a caller without a link gets the existing account of the same name, unless that account has a link to this
	// provider already or is an administrator. For a provider whose names the operator governs; otherwise whoever may
	// choose a name there chooses an account here.
	Adopt bool
	// Groups: groups that the provider names and that do not exist here are made. Otherwise only existing ones are joined.
	Groups bool

	// The powers of the driver; nil where it has none.
	Directory   Directory
	Browser     Browser
	Device      Device
	Logout      LogoutVerifier
	Certificate Certificate
}
