package server

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/ldap"
	"github.com/berth-registry/berth/server/auth/mtls"
	"github.com/berth-registry/berth/server/auth/oidc"
	"github.com/berth-registry/berth/server/auth/spiffe"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/metadb"
)

// agentWithin is how long a start waits for the SPIFFE agent, when it needs its certificate.
const agentWithin = 30 * time.Second

// providers makes the drivers of the configured identity providers. None of them is asked anything before somebody logs
// in, except the SPIFFE agent when its certificate is ours.
func (s *Server) providers(ctx context.Context) error {
	a := s.conf.Auth
	var all []auth.IdentityProvider
	for _, c := range a.LDAP {
		d, err := ldap.New(s.ldapOptions(c))
		if err != nil {
			return err
		}
		s.onClose(d.Close)
		all = append(all, provider(c.Name, c.Label, "ldap", c.Accounts, c.Groups.Create, auth.IdentityProvider{Directory: d}))
	}
	for _, c := range a.OIDC {
		p, err := oidc.New(s.oidcOptions(c))
		if err != nil {
			return err
		}
		all = append(all, provider(c.Name, c.Label, "oidc", c.Accounts, c.Groups.Create, auth.IdentityProvider{Browser: p, Device: p, Logout: p}))
	}
	if m := a.MTLS; m.IsOn() {
		p, err := mtls.New(s.mtlsOptions(m))
		if err != nil {
			return err
		}
		s.clientCAs = append(s.clientCAs, p.Authorities)
		all = append(all, provider(m.Name, "", "mtls", m.Accounts, false, auth.IdentityProvider{Certificate: p}))
	}
	if c := a.SPIFFE; c.IsOn() {
		p, err := s.openSPIFFE(ctx, c)
		if err != nil {
			return err
		}
		all = append(all, provider(c.Name, "", "spiffe", c.Accounts, false, auth.IdentityProvider{Certificate: p}))
	}
	return s.auth.Use(all)
}

// provider adds to the powers of a driver how far it is trusted with accounts.
func provider(name, label, kind, accounts string, groups bool, p auth.IdentityProvider) auth.IdentityProvider {
	p.Name, p.Label, p.Kind, p.Groups = name, label, kind, groups
	p.Create, p.Adopt = accounts != "existing", accounts == "adopt"
	return p
}

func (s *Server) ldapOptions(c config.LDAP) ldap.Options {
	return ldap.Options{
		Name: c.Name, Servers: c.Servers, Plain: c.Plain, CAFile: c.CA, ServerName: c.ServerName,
		BindDN: c.BindDN, BindPassword: c.BindPassword.Reveal(), Timeout: c.Timeout, Connections: c.Connections,
		Users: ldap.Users{
			Base: c.Users.Base, Filter: c.Users.Filter, ID: c.Users.ID, Name: c.Users.Name, Email: c.Users.Email, DisplayName: c.Users.DisplayName,
		},
		Groups: ldap.Groups{
			Base: c.Groups.Base, Filter: c.Groups.Filter, Name: c.Groups.Name, Nested: ldap.Nesting(c.Groups.Nested), Depth: c.Groups.Depth, Prefix: c.Groups.Prefix,
		},
		Required: c.Required, Admins: c.Admins, Now: s.clock(), Log: s.log.Logger,
	}
}

func (s *Server) oidcOptions(c config.OIDC) oidc.Options {
	o := oidc.Options{
		Name: c.Name, Issuer: c.Issuer, Hosts: c.Hosts, CAFile: c.CA, ClientID: c.ClientID, ClientSecret: c.ClientSecret.Reveal(),
		SecretInForm: c.SecretInForm, Scopes: c.Scopes, Algorithms: c.Algorithms, Username: c.Username, UserInfo: c.UserInfo,
		Groups: oidc.Groups{Claim: c.Groups.Claim, Parents: c.Groups.Parents, Prefix: c.Groups.Prefix},
		Admins: c.Admins, Lifetime: c.Lifetime, Now: s.clock(), Log: s.log.Logger,
	}
	for _, r := range c.Required {
		o.Required = append(o.Required, oidc.Requirement{Claim: r.Claim, Values: r.Values})
	}
	return o
}

func (s *Server) mtlsOptions(c config.MTLS) mtls.Options {
	o := mtls.Options{Name: c.Name, CAFiles: c.CAs, CRLFiles: c.CRLs, Now: s.clock(), Log: s.log.Logger}
	for _, r := range c.Rules {
		o.Rules = append(o.Rules, mtls.Rule{
			CN: r.CN, Email: r.Email, DNS: r.DNS, URI: r.URI, Subject: r.Subject, Account: r.Account, Robot: r.Robot, Groups: r.Groups,
		})
	}
	return o
}

func (s *Server) openSPIFFE(ctx context.Context, c config.SPIFFE) (*spiffe.Provider, error) {
	o := spiffe.Options{Name: c.Name, WorkloadAPI: c.WorkloadAPI, Audience: c.Audience, Now: s.clock(), Log: s.log.Logger}
	for _, b := range c.Bundles {
		o.Bundles = append(o.Bundles, spiffe.Bundle{TrustDomain: b.TrustDomain, File: b.File})
	}
	for _, r := range c.Rules {
		o.Rules = append(o.Rules, spiffe.Rule{ID: r.ID, Account: r.Account, Robot: r.Robot, Groups: r.Groups})
	}
	p, err := spiffe.New(o)
	if err != nil {
		return nil, err
	}
	s.onClose(p.Close)
	if c.Certificate {
		if err := p.First(ctx, agentWithin); err != nil {
			return nil, fmt.Errorf("auth.spiffe.certificate: %w", err)
		}
		s.ownCertificate = p.Certificate
	}
	s.clientCAs = append(s.clientCAs, p.Authorities)
	s.spiffe = p
	return p, nil
}

// clientAuthorities are what the listener names to clients. Nil: client certificates are no identities here.
func (s *Server) clientAuthorities() func() []*x509.Certificate {
	if len(s.clientCAs) == 0 {
		return nil
	}
	return func() (all []*x509.Certificate) {
		for _, some := range s.clientCAs {
			all = append(all, some()...)
		}
		return all
	}
}

// withCertificate notes the client certificate of a request's connection for who proves callers.
func (s *Server) withCertificate(r *http.Request) *http.Request {
	if len(s.clientCAs) == 0 || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return r
	}
	return r.WithContext(auth.WithCertificates(r.Context(), r.TLS.PeerCertificates))
}

// login is the face of logins with identity providers.
func (s *Server) login(ctx context.Context, origin *httpd.Origin) (http.Handler, error) {
	key, err := s.loginKey(ctx)
	if err != nil {
		return nil, err
	}
	return adminapi.NewLogin(s.auth, key, origin.ExternalURL, s.clock())
}

// loginKey seals what browsers keep while a login is under way, for all who share the database.
func (s *Server) loginKey(ctx context.Context) (key []byte, err error) {
	const name = "login_key"
	text, err := s.db.Setting(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails
		err = s.db.Update(ctx, func(tx *metadb.Tx) error {
			text, err = tx.EnsureSetting(name, hex.EncodeToString(fresh))
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(text)
}
