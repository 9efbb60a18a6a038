package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// TrustedIssuer is an issuer whose tokens are exchanged for ours, as it is configured.
type TrustedIssuer struct {
	Name       string
	Enabled    bool
	Config     IssuerConfig
	Generation int64
}

// Issuers lists issuers behind the name after, in the order of their names. It asks for provider.read.
func (s *Service) Issuers(ctx context.Context, after string, limit int) ([]TrustedIssuer, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.ProviderRead); err != nil {
		return nil, err
	}
	found, err := s.o.Store.IdentityProviders(ctx, IssuerKind, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: issuers: %w", err)
	}
	list := make([]TrustedIssuer, len(found))
	for i, row := range found {
		if list[i], err = trustedIssuer(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func trustedIssuer(row metadb.IdentityProvider) (TrustedIssuer, error) {
	t := TrustedIssuer{Name: row.Name, Enabled: row.Enabled, Generation: row.Generation}
	if err := json.Unmarshal([]byte(row.Config), &t.Config); err != nil {
		return t, fmt.Errorf("auth: issuer %s: configuration is not the JSON that this version writes: %w", row.Name, err)
	}
	return t, nil
}

// Issuer finds an issuer. It asks for provider.read.
func (s *Service) Issuer(ctx context.Context, name string) (TrustedIssuer, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.ProviderRead); err != nil {
		return TrustedIssuer{}, err
	}
	row, err := s.o.Store.IdentityProvider(ctx, name)
	if err == nil && row.Kind != IssuerKind {
		err = metadb.ErrNotFound
	}
	if err != nil {
		return TrustedIssuer{}, changed(err, "issuer", name)
	}
	return trustedIssuer(row)
}

// CreateIssuer makes an issuer. It asks for provider.write and, since rules give rights, for an administrator. A name that is
// in use is a Conflict.
func (s *Service) CreateIssuer(ctx context.Context, t TrustedIssuer) (TrustedIssuer, error) {
	if err := s.mayTrust(ctx); err != nil {
		return t, err
	}
	if err := checkName(t.Name); err != nil {
		return t, fault.Of(err).At("name")
	}
	if _, used := s.idp(t.Name); used || slices.Contains([]string{"local", fileSource}, t.Name) {
		return t, issuerTaken(t.Name)
	}
	return s.putIssuer(ctx, t, func(tx *metadb.Tx, row metadb.IdentityProvider) (metadb.IdentityProvider, error) {
		if err := MayReach(ctx, nil, t.Config); err != nil {
			return row, err
		}
		return tx.CreateIdentityProvider(row)
	})
}

func issuerTaken(name string) *fault.Error {
	return fault.New(fault.Conflict, NameTaken, "name %q is of another identity provider; choose another", name).At("name")
}

// UpdateIssuer replaces the configuration of the issuer of that name that still has the generation; a negative one is any. It
// asks for what CreateIssuer asks for. What was exchanged under the configuration before ends.
func (s *Service) UpdateIssuer(ctx context.Context, t TrustedIssuer, generation int64) (TrustedIssuer, error) {
	if err := s.mayTrust(ctx); err != nil {
		return t, err
	}
	return s.putIssuer(ctx, t, func(tx *metadb.Tx, row metadb.IdentityProvider) (metadb.IdentityProvider, error) {
		was, err := issuerRow(ctx, tx, t.Name)
		if err != nil {
			return row, err
		}
		before, err := trustedIssuer(was)
		if err != nil {
			return row, err
		}
		if err := MayReach(ctx, &before.Config, t.Config); err != nil {
			return row, err
		}
		return tx.UpdateIdentityProvider(row, generation)
	})
}

// TryIssuer says whether the configuration would be taken, and asks for what taking it would ask for. Nobody is asked for keys.
func (s *Service) TryIssuer(ctx context.Context, c IssuerConfig) error {
	if err := s.mayTrust(ctx); err != nil {
		return err
	}
	if err := MayReach(ctx, nil, c); err != nil {
		return err
	}
	return s.usable(c)
}

// usable says what is wrong with a configuration, in its form or in what its addresses, keys and algorithms are.
func (s *Service) usable(c IssuerConfig) error {
	if err := CheckIssuer(c); err != nil {
		return err
	}
	if s.o.OpenIssuer == nil {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "tokens of issuers are not exchanged here")
	}
	_, err := s.o.OpenIssuer(c)
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	return fault.New(fault.Invalid, fault.UnsupportedReason, "issuer %.100q: %s", c.Issuer, err).At("issuer")
}

// MayReach refuses a configuration that makes berthd send a file of its machine to somewhere, unless who administers the
// machine says so: an account of the registry could otherwise read files by it. What stays as it was before is let through.
func MayReach(ctx context.Context, before *IssuerConfig, c IssuerConfig) error {
	if k := identity.From(ctx).Kind; c.BearerFile == "" || k == identity.Local || k == identity.System {
		return nil
	}
	if before != nil && before.BearerFile == c.BearerFile && before.Issuer == c.Issuer && before.KeySetURL == c.KeySetURL && before.CA == c.CA {
		return nil
	}
	return fault.New(fault.Denied, fault.DeniedReason, "member \"bearerFile\" names a file of the server's machine that is sent to the issuer, which is for administrators of that machine; ask over its socket").At("bearerFile")
}

func (s *Service) putIssuer(ctx context.Context, t TrustedIssuer, put func(*metadb.Tx, metadb.IdentityProvider) (metadb.IdentityProvider, error)) (TrustedIssuer, error) {
	if err := s.usable(t.Config); err != nil {
		return t, err
	}
	text, err := json.Marshal(t.Config)
	if err != nil {
		return t, err
	}
	row := metadb.IdentityProvider{Name: t.Name, Kind: IssuerKind, Enabled: t.Enabled, Config: string(text)}
	var made metadb.IdentityProvider
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		made, err = put(tx, row)
		return err
	})
	if fault.Is(err, fault.Conflict) && !fault.Has(err, Changed) {
		err = issuerTaken(t.Name).Because(err)
	}
	if err != nil {
		return t, fmt.Errorf("auth: issuer %s: %w", t.Name, changed(err, "issuer", t.Name))
	}
	s.issuers.changed.Store(true)
	return trustedIssuer(made)
}

// issuerRow finds the row of an issuer; that of another kind is none.
func issuerRow(ctx context.Context, tx *metadb.Tx, name string) (metadb.IdentityProvider, error) {
	row, err := tx.IdentityProvider(ctx, name)
	if err == nil && row.Kind != IssuerKind {
		err = metadb.ErrNotFound
	}
	return row, err
}

// DeleteIssuer removes an issuer that still has the generation; a negative one is any. What was exchanged by it ends. It asks
// for provider.write alone: nobody has more rights by it.
func (s *Service) DeleteIssuer(ctx context.Context, name string, generation int64) error {
	if err := s.o.Access.CheckSystem(ctx, identity.ProviderWrite); err != nil {
		return err
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		row, err := issuerRow(ctx, tx, name)
		if err != nil {
			return err
		}
		if generation >= 0 && row.Generation != generation {
			return metadb.ErrChanged
		}
		_, err = tx.DeleteIdentityProvider(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: remove issuer %s: %w", name, changed(err, "issuer", name))
	}
	s.issuers.changed.Store(true)
	return nil
}

func (s *Service) mayTrust(ctx context.Context) error {
	if err := s.o.Access.CheckSystem(ctx, identity.ProviderWrite); err != nil {
		return err
	}
	if !administrator(ctx) {
		return fault.New(fault.Denied, fault.DeniedReason, "only an administrator says whose tokens are exchanged")
	}
	return nil
}
