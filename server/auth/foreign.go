package auth

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

// foreign reports whether a bearer token is for the configured token server to answer for: it says so itself, and is believed
// when its signature is right.
func (s *Service) foreign(text string) bool {
	return s.o.Foreign != nil && claimedIssuer(text) == s.o.ForeignKey && s.o.ForeignKey != s.o.Issuer
}

// foreignBearer proves an access token of the configured token server (distribution's auth.token). What its subject may do is
// what the token says, and nothing else.
//
// Spec: distribution, "Docker Registry v2 authentication: JSON Web Token".
func (s *Service) foreignBearer(ctx context.Context, text, addr string) (identity.Principal, error) {
	if len(text) > MaxHeader {
		return identity.Principal{}, invalidToken(errors.New("auth: token is too long"))
	}
	key, now := tokenKey(text), s.o.Now()
	if t, ok := s.tokens.get(key, now); ok && t.foreign {
		return foreignPrincipal(t, addr), nil
	}
	said, err := s.o.Foreign.Verify(ctx, text)
	switch {
	case errors.Is(err, ErrRefused):
		return identity.Principal{}, invalidToken(err)
	case err != nil:
		return identity.Principal{}, unavailableError(err)
	}
	t := &provenToken{typ: typAccess, subject: said.Subject, foreign: true, at: now, until: said.ExpiresAt.Add(leeway)}
	if t.grants, err = foreignGrants(said.Claims["access"]); err != nil {
		return identity.Principal{}, invalidToken(err)
	}
	if !plausible(said.Subject, "-") && said.Subject != "" {
		return identity.Principal{}, invalidToken(errors.New("auth: subject is not a name"))
	}
	s.tokens.entries.Set(key, t)
	return foreignPrincipal(t, addr), nil
}

func foreignPrincipal(t *provenToken, addr string) identity.Principal {
	p := identity.Principal{Kind: identity.User, Name: t.subject, Grants: t.grants, Delegated: true, Via: identity.ViaBearer, Addr: addr}
	if t.subject == "" {
		p.Kind = identity.Anonymous
	}
	return p
}

// foreignGrants reads the access claim of another server. What is not about repositories or the catalog of a registry is passed
// over, and so are actions that are not known here; "*" is all of the Docker token flow.
func foreignGrants(claim any) (*identity.Grants, error) {
	grants := &identity.Grants{}
	if claim == nil {
		return grants, nil
	}
	raw, err := json.Marshal(claim)
	if err != nil {
		return nil, err
	}
	var access []resource
	if err := json.Unmarshal(raw, &access); err != nil {
		return nil, err
	}
	if len(access) > maxScopes {
		return nil, errors.New("auth: access claim has too many entries")
	}
	for _, r := range access {
		if g, ok := foreignGrant(r); ok {
			grants.List = append(grants.List, g)
		}
	}
	return grants, nil
}

func foreignGrant(r resource) (g identity.Grant, ok bool) {
	kind, _, _ := strings.Cut(r.Type, "(")
	switch {
	case r.Type == "registry" && r.Name == "catalog":
		for _, a := range r.Actions {
			if a == "*" || a == "search" {
				return identity.Grant{Catalog: true, Verbs: []identity.Verb{identity.Catalog}}, true
			}
		}
		return g, false
	case kind != "repository":
		return g, false
	}
	if _, err := ref.ParseName(r.Name); err != nil {
		return g, false
	}
	g.Repository = r.Name
	for _, a := range r.Actions {
		switch v := identity.Verb(a); v {
		case "*":
			g.Verbs = addVerbs(g.Verbs, identity.Pull, identity.Push, identity.Delete)
		case identity.Pull, identity.Push, identity.Delete:
			g.Verbs = addVerbs(g.Verbs, v)
		}
	}
	return g, len(g.Verbs) > 0
}
