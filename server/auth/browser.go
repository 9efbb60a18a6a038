package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// Pending is a login by browser that has begun. It is for the browser that began it and for nobody else: whoever keeps it
// there makes it unreadable and unchangeable.
type Pending struct {
	Provider, State, Nonce, Verifier string
}

// BeginLogin is the address to send a browser to, and what FinishLogin needs when it comes back to redirect.
func (s *Service) BeginLogin(ctx context.Context, provider, redirect string) (address string, p Pending, err error) {
	idp, ok := s.idp(provider)
	if !ok || idp.Browser == nil {
		return "", Pending{}, noLogin(provider)
	}
	p = Pending{Provider: provider, State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()} // RFC 7636: 43 characters at least
	if address, err = idp.Browser.Begin(ctx, redirect, p.State, p.Nonce, p.Verifier); err != nil {
		return "", Pending{}, s.driverError(ctx, idp, err)
	}
	return address, p, nil
}

func noLogin(provider string) error {
	return fault.New(fault.NotFound, fault.DeniedReason, "identity provider %.80q is not in use for this kind of login", provider)
}

// Answer is what a provider's answer brings along: the parameters of the address that the browser comes back to.
type Answer struct {
	State, Code string
	Issuer      string // RFC 9207; "" without
	Error       string // the provider's no, in a word of RFC 6749 section 4.1.2.1
}

// FinishLogin opens a session for a browser that comes back. The answer must be the one to what this browser has begun, and
// of the provider that it was sent to.
func (s *Service) FinishLogin(ctx context.Context, p Pending, redirect string, a Answer, addr, userAgent string) (Opened, error) {
	idp, ok := s.idp(p.Provider)
	if !ok || idp.Browser == nil {
		return Opened{}, noLogin(p.Provider)
	}
	from, named := idp.Browser.(interface{ Issuer() string })
	switch {
	case p.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(p.State)) != 1:
		return Opened{}, fault.New(fault.Denied, fault.DeniedReason, "the login was not begun by this browser, or too long ago; log in again")
	case a.Issuer != "" && named && a.Issuer != from.Issuer():
		return Opened{}, fault.New(fault.Denied, fault.DeniedReason, "the answer is of another identity provider than the one that was asked; log in again")
	case a.Error != "":
		return Opened{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s says %.60q; log in again", idp.Name, a.Error)
	}
	x, err := idp.Browser.Finish(ctx, redirect, a.Code, p.Nonce, p.Verifier)
	if err != nil {
		return Opened{}, s.driverError(ctx, idp, err)
	}
	who, err := s.SignIn(ctx, x, identity.ViaSession, addr)
	if err != nil {
		return Opened{}, err
	}
	return s.Open(ctx, who, idp.Kind, &x, userAgent)
}

// BeginDevice begins a login of a program whose user has a browser elsewhere.
func (s *Service) BeginDevice(ctx context.Context, provider string) (DeviceLogin, error) {
	idp, ok := s.idp(provider)
	if !ok || idp.Device == nil {
		return DeviceLogin{}, noLogin(provider)
	}
	d, err := idp.Device.BeginDevice(ctx)
	if err != nil {
		return DeviceLogin{}, s.driverError(ctx, idp, err)
	}
	return d, nil
}

// FinishDevice asks how the login with the device code went. ErrPending, ErrSlowDown and ErrExpired come as they are.
func (s *Service) FinishDevice(ctx context.Context, provider, code, addr string) (identity.Principal, error) {
	idp, ok := s.idp(provider)
	if !ok || idp.Device == nil {
		return identity.Principal{}, noLogin(provider)
	}
	x, err := idp.Device.PollDevice(ctx, code)
	switch {
	case errors.Is(err, ErrPending), errors.Is(err, ErrSlowDown), errors.Is(err, ErrExpired):
		return identity.Principal{}, err
	case err != nil:
		return identity.Principal{}, s.driverError(ctx, idp, err)
	}
	return s.SignIn(ctx, x, identity.ViaBasic, addr)
}

// LoginWays are the providers that people can choose from where they log in.
func (s *Service) LoginWays() []IdentityProvider {
	return slices.DeleteFunc(s.IdentityProviders(), func(p IdentityProvider) bool { return p.Browser == nil && p.Device == nil && p.Directory == nil })
}
