package spiffe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/berth-registry/berth/server/auth"
)

// maxToken bounds a JWT-SVID before it is parsed, in bytes.
const maxToken = 16 << 10

// GetJWTBundleForTrustDomain implements jwtbundle.Source: of a file, else of the agent.
func (p *Provider) GetJWTBundleForTrustDomain(domain spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	if f := p.files[domain]; f != nil {
		return f.Get().JWTBundle(), nil
	}
	if s := p.jwt.Load(); s != nil {
		if b, ok := s.Get(domain); ok {
			return b, nil
		}
	}
	return nil, errNoDomain
}

// Verify implements auth.Issuer for JWT-SVIDs. The statement's issuer is the trust domain, spiffe://example.org, whatever
// the token's own claim says, which SPIFFE does not define.
//
// Spec: SPIFFE JWT-SVID sections 3, 4 and 5.
func (p *Provider) Verify(_ context.Context, token string) (auth.Statement, error) {
	refuse := func(err error) (auth.Statement, error) {
		return auth.Statement{}, fmt.Errorf("%w: JWT-SVID: %w", auth.ErrRefused, err)
	}
	switch {
	case p.o.Audience == "":
		return refuse(errors.New("none are accepted: no audience is configured"))
	case token == "" || len(token) > maxToken || strings.Count(token, ".") != 2:
		return refuse(fmt.Errorf("%d bytes that are no compact JWT", len(token)))
	}
	svid, err := jwtsvid.ParseAndValidate(token, p, []string{p.o.Audience})
	if err != nil {
		return refuse(err)
	}
	if now := p.o.Now(); now.After(svid.Expiry.Add(time.Minute)) {
		return refuse(errors.New("it has expired"))
	}
	return auth.Statement{
		Issuer: svid.ID.TrustDomain().IDString(), Subject: svid.ID.String(), ExpiresAt: svid.Expiry, Claims: svid.Claims,
	}, nil
}
