package auth

import (
	"cmp"
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

// PutIssuer makes an issuer, or changes the one of that name that still has the generation; a negative one is any. It asks for
// provider.write and, since rules give rights, for an administrator. What was exchanged under the configuration before ends.
func (s *Service) PutIssuer(ctx context.Context, t TrustedIssuer, generation int64) (TrustedIssuer, error) {
	if err := s.mayTrust(ctx); err != nil {
		return t, err
	}
	if err := cmp.Or(checkName(t.Name), CheckIssuer(t.Config)); err != nil {
		return t, err
	}
	if s.o.OpenIssuer == nil {
		return t, fault.New(fault.Unsupported, fault.UnsupportedReason, "tokens of issuers are not exchanged here")
	}
	if _, err := s.o.OpenIssuer(t.Config); err != nil { // its addresses, keys and algorithms
		return t, fault.New(fault.Invalid, fault.UnsupportedReason, "issuer %q: %s", t.Name, err)
	}
	if _, used := s.idp(t.Name); used || slices.Contains([]string{"local", fileSource}, t.Name) {
		return t, fault.New(fault.Conflict, NameTaken, "name %q is of another identity provider; choose another", t.Name)
	}
	text, err := json.Marshal(t.Config)
	if err != nil {
		return t, err
	}
	row := metadb.IdentityProvider{Name: t.Name, Kind: IssuerKind, Enabled: t.Enabled, Config: string(text)}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		before, err := tx.IdentityProvider(ctx, t.Name)
		switch {
		case errors.Is(err, metadb.ErrNotFound):
			row, err = tx.CreateIdentityProvider(row)
		case err == nil && before.Kind != IssuerKind:
			err = fault.New(fault.Conflict, NameTaken, "name %q is of another identity provider; choose another", t.Name)
		case err == nil:
			row, err = tx.UpdateIdentityProvider(row, generation)
		}
		return err
	})
	if err != nil {
		return t, fmt.Errorf("auth: issuer %s: %w", t.Name, changed(err, "issuer", t.Name))
	}
	s.issuers.changed.Store(true)
	return trustedIssuer(row)
}

// DeleteIssuer removes an issuer; what was exchanged by it ends. It asks for provider.write and an administrator.
func (s *Service) DeleteIssuer(ctx context.Context, name string) error {
	if err := s.mayTrust(ctx); err != nil {
		return err
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		row, err := tx.IdentityProvider(ctx, name)
		if errors.Is(err, metadb.ErrNotFound) || err == nil && row.Kind != IssuerKind {
			return absent("issuer %q is not known to this registry", name)
		}
		if err != nil {
			return err
		}
		_, err = tx.DeleteIdentityProvider(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: remove issuer %s: %w", name, err)
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
