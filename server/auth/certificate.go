package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// rememberCertificate is how long what a provider said of a client certificate holds: so long a revocation may take. The
// account or robot behind it is asked for on every request.
const rememberCertificate = 30 * time.Second

// maxCertificates bounds the client certificates that are remembered, some 500 bytes each.
const maxCertificates = 10_000

type chainKey struct{}

// WithCertificates notes the client certificate of the connection that a request came over, leaf first. The handshake has
// shown that the peer has its key; Authenticate has the identity providers say whose it is.
func WithCertificates(ctx context.Context, chain []*x509.Certificate) context.Context {
	return context.WithValue(ctx, chainKey{}, chain)
}

// provenCertificate is what a provider said of a leaf at a time. A zero External: nobody knows it.
type provenCertificate struct {
	x       External
	account int64 // its id; 0 for a robot
	at      time.Time
}

// certificates remembers what was said, by the digest of the leaf.
type certificates struct {
	entries *otter.Cache[[sha256.Size]byte, provenCertificate]
}

func newCertificates() (*certificates, error) {
	c, err := otter.New(&otter.Options[[sha256.Size]byte, provenCertificate]{MaximumSize: maxCertificates})
	if err != nil {
		return nil, fmt.Errorf("auth: remembered certificates: %w", err)
	}
	return &certificates{c}, nil
}

// byCertificate is who a connection's client certificate stands for. ok is false without one, and for one that no provider
// knows: such a connection is as one without.
func (s *Service) byCertificate(ctx context.Context, addr string) (p identity.Principal, ok bool, err error) {
	chain, _ := ctx.Value(chainKey{}).([]*x509.Certificate)
	if len(chain) == 0 {
		return identity.Principal{}, false, nil
	}
	key, now := sha256.Sum256(chain[0].Raw), s.o.Now()
	if e, hit := s.certs.entries.GetIfPresent(key); hit && now.Sub(e.at) < rememberCertificate && now.Sub(e.at) >= 0 {
		switch {
		case e.x.Provider == "":
			return identity.Principal{}, false, nil
		case past(e.x.ExpiresAt, now):
		case e.x.Robot != "":
			p, err = s.signInRobot(ctx, e.x, identity.ViaMTLS, addr)
			return p, true, err
		default:
			// The account that SignIn has found is asked for by its name: it is as it is now, or gone.
			if c, err := s.resolveAccount(ctx, e.x.Name); err == nil && c.ID == e.account {
				c.Via, c.Addr = identity.ViaMTLS, addr
				return c.Principal, true, nil
			}
		}
	}
	x, idp, err := s.identify(ctx, chain)
	if err != nil {
		return identity.Principal{}, false, s.driverError(ctx, idp, err)
	}
	if x.Provider == "" {
		s.certs.entries.Set(key, provenCertificate{at: now})
		return identity.Principal{}, false, nil
	}
	if p, err = s.SignIn(ctx, x, identity.ViaMTLS, addr); err != nil {
		return identity.Principal{}, false, ofCertificate(err, idp.Name, x.Name)
	}
	x.Name = p.Name
	s.certs.entries.Set(key, provenCertificate{x: x, account: p.ID, at: now})
	return p, true, nil
}

// ofCertificate says of a refusal that it is the client certificate which is refused: a client sends it without being told to, and
// would look for the reason elsewhere. With a login of its own the request is answered.
func ofCertificate(err error, provider, name string) error {
	f := (*fault.Error)(nil)
	if !errors.As(err, &f) || f.Kind != fault.Denied && f.Kind != fault.Unauthenticated {
		return err
	}
	return fault.New(f.Kind, f.Reason, "the client certificate of this connection stands for %.80q at identity provider %s and is refused: %s; connect without it, or log in with a name and password", name, provider, f.Message).Because(err)
}

// identify asks the providers in their order. A chain that is none of their business gives nobody.
func (s *Service) identify(ctx context.Context, chain []*x509.Certificate) (External, IdentityProvider, error) {
	for _, idp := range s.IdentityProviders() {
		if idp.Certificate == nil {
			continue
		}
		x, err := idp.Certificate.Identify(ctx, chain)
		switch {
		case err == nil:
			return x, idp, nil
		case !errors.Is(err, ErrNoAccount):
			return External{}, idp, err
		}
		s.o.Log.DebugContext(ctx, "client certificate is not known", "provider", idp.Name, "error", err)
	}
	return External{}, IdentityProvider{}, nil
}
