package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Key is a signing key as people may see it.
type Key struct {
	ID        string
	Algorithm string
	CreatedAt time.Time
	RetiredAt time.Time // zero while it signs
	EndsAt    time.Time // when it is deleted; zero while it signs
}

// overlap is how long a retired key verifies: as long as the longest of its tokens lives.
func (s *Service) overlap() time.Duration {
	return max(s.o.TokenLifetime, s.o.RefreshLifetime, maxExchange) + 2*leeway
}

// Keys lists the signing keys, newest first. It asks for session.read.
func (s *Service) Keys(ctx context.Context) ([]Key, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SessionRead); err != nil {
		return nil, err
	}
	found, err := s.o.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("auth: signing keys: %w", err)
	}
	keys := make([]Key, len(found))
	for i, k := range found {
		keys[i] = Key{ID: k.ID, Algorithm: k.Algorithm, CreatedAt: k.CreatedAt, RetiredAt: k.RetiredAt}
		if !k.RetiredAt.IsZero() {
			keys[i].EndsAt = k.RetiredAt.Add(s.overlap())
		}
	}
	return keys, nil
}

// RotateKeys makes a new signing key and retires the others, which go on verifying what they signed for as long as that lives.
// With now they are deleted instead: every token of everybody ends at once, for a key that somebody else may have. It asks for
// session.write.
func (s *Service) RotateKeys(ctx context.Context, now bool) (Key, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.SessionWrite); err != nil {
		return Key{}, err
	}
	k, err := newSigningKey()
	if err != nil {
		return Key{}, err
	}
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		found, err := tx.SigningKeys(ctx)
		if err != nil {
			return err
		}
		for _, old := range found {
			if now {
				err = tx.DeleteSigningKey(old.ID)
			} else {
				err = tx.RetireSigningKey(old.ID)
			}
			if err != nil {
				return err
			}
		}
		return tx.AddSigningKey(k)
	})
	if err != nil {
		return Key{}, fmt.Errorf("auth: rotate signing keys: %w", err)
	}
	s.keys.changed.Store(true)
	s.tokens.entries.InvalidateAll()
	s.o.Log.InfoContext(ctx, "signing keys rotated", "key", k.ID, "deleted", now)
	return Key{ID: k.ID, Algorithm: k.Algorithm, CreatedAt: s.o.Now()}, nil
}

// trimKeys deletes keys whose last token has ended.
func (s *Service) trimKeys(ctx context.Context) error {
	found, err := s.o.Store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("auth: signing keys: %w", err)
	}
	limit := s.o.Now().Add(-s.overlap())
	found = slices.DeleteFunc(found, func(k metadb.SigningKey) bool { return k.RetiredAt.IsZero() || k.RetiredAt.After(limit) })
	if len(found) == 0 {
		return nil
	}
	return s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		for _, k := range found {
			if err := tx.DeleteSigningKey(k.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// newSigningKey makes a key. Its id is of its public half, so that it says nothing.
func newSigningKey() (metadb.SigningKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return metadb.SigningKey{}, fmt.Errorf("auth: signing key: %w", err)
	}
	sum := sha256.Sum256(public)
	return metadb.SigningKey{ID: base64.RawURLEncoding.EncodeToString(sum[:12]), Algorithm: algEdDSA, Private: private.Seed()}, nil
}

// JWKS is the public halves of the keys that verify our tokens, as a JSON Web Key Set, for services that read them. It is
// public.
//
// Spec: RFC 7517, RFC 8037.
func (s *Service) JWKS(ctx context.Context) ([]byte, error) {
	if _, err := s.keys.signing(ctx); err != nil { // there is always one to show
		return nil, unavailableError(err)
	}
	type key struct {
		Type      string `json:"kty"`
		Curve     string `json:"crv"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
		X         string `json:"x"`
	}
	set := struct {
		Keys []key `json:"keys"`
	}{[]key{}}
	for _, k := range s.keys.all() {
		set.Keys = append(set.Keys, key{"OKP", "Ed25519", "sig", k.alg, k.id, base64.RawURLEncoding.EncodeToString(k.public)})
	}
	return json.Marshal(set)
}
