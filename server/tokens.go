package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/issuer"
	"github.com/berth-registry/berth/server/config"
)

// Tokens that others sign.

// tokenServer verifies the tokens of the server that auth.token names.
func tokenServer(t *config.Token, now func() time.Time) (auth.Issuer, error) {
	var keys *issuer.Static
	if t.JWKS != "" {
		text, err := os.ReadFile(t.JWKS)
		if err != nil {
			return nil, fmt.Errorf("auth.token.jwks: %w", err)
		}
		if keys, err = issuer.ParseKeySet(text); err != nil {
			return nil, fmt.Errorf("auth.token.jwks: %s: %w", t.JWKS, err)
		}
	}
	if t.RootCertBundle != "" {
		text, err := os.ReadFile(t.RootCertBundle)
		if err != nil {
			return nil, fmt.Errorf("auth.token.rootcertbundle: %w", err)
		}
		if keys, err = issuer.Bundle(text, keys, now); err != nil {
			return nil, fmt.Errorf("auth.token.rootcertbundle: %s: %w", t.RootCertBundle, err)
		}
	}
	v, err := issuer.New(issuer.Options{
		Issuer: t.Issuer, Audiences: []string{t.Service}, Algorithms: t.SigningAlgorithms, Keys: keys, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("auth.token: %w", err)
	}
	return v, nil
}

// openIssuer verifies the tokens of an issuer that administrators trust.
func (s *Server) openIssuer(c auth.IssuerConfig) (auth.Issuer, error) {
	if strings.HasPrefix(c.Issuer, "spiffe://") { // a trust domain, whose JWT-SVIDs the SPIFFE agent or a bundle vouches for
		if s.spiffe == nil || s.conf.Auth.SPIFFE.Audience == "" {
			return nil, badIssuer("issuer", fmt.Errorf("issuer %s is a SPIFFE trust domain; set auth.spiffe with an audience in the configuration", c.Issuer))
		}
		return s.spiffe, nil
	}
	var keys issuer.Keys
	if c.KeySet != nil {
		set, err := issuer.ParseKeySet(c.KeySet)
		if err != nil {
			return nil, badIssuer("jwks", err)
		}
		keys = set
	} else {
		var ca []byte
		if c.CA != "" {
			ca = []byte(c.CA)
		}
		remote, err := issuer.NewRemote(issuer.RemoteOptions{Issuer: c.Issuer, KeySet: c.KeySetURL, CA: ca, Bearer: c.BearerFile, Now: s.clock()})
		switch {
		case errors.Is(err, issuer.ErrAuthorities):
			return nil, badIssuer("ca", err)
		case err != nil:
			return nil, badIssuer(map[bool]string{true: "issuer", false: "jwksUrl"}[c.KeySetURL == ""], err)
		}
		keys = remote
	}
	v, err := issuer.New(issuer.Options{Issuer: c.Issuer, Audiences: c.Audiences, Algorithms: c.Algorithms, Keys: keys, Now: s.clock()})
	if err != nil { // the rest was checked by auth
		return nil, badIssuer("algorithms", err)
	}
	return v, nil
}

// badIssuer is what is wrong with a member of an issuer's configuration.
func badIssuer(member string, err error) error {
	return fault.New(fault.Invalid, fault.UnsupportedReason, "%s", err).At(member)
}

// realm is where a challenge sends clients for a token. base is this registry's address as the caller reached it, "" when
// nobody knows; then the challenge is for a password.
func realm(t *config.Token, base string) string {
	switch {
	case t != nil && !t.AutoRedirect:
		return t.Realm
	case base == "":
		return ""
	case t == nil:
		return base + "/token"
	}
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	u.Path = cmp.Or(t.AutoRedirectPath, "/auth/token")
	return u.String()
}

// serviceName is what the configured token server calls this registry; "" without one.
func serviceName(t *config.Token) string {
	if t == nil {
		return ""
	}
	return t.Service
}
