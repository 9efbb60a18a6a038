package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxKeys bounds a key set.
const maxKeys = 200

// key is a public key and what may be verified with it.
type key struct {
	id     string // "" when the set gives none
	alg    string // the only algorithm; "" is any of its kind
	public crypto.PublicKey
}

// fits reports whether the key may verify this algorithm.
func (k key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, alg)
	case *ecdsa.PublicKey:
		return alg == map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[p.Curve]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// usable refuses keys that are too weak to prove anything.
func usable(public crypto.PublicKey) error {
	switch p := public.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < 2048 || p.N.BitLen() > 8192 || p.E < 3 || p.E%2 == 0 {
			return fmt.Errorf("RSA key has %d bits; 2048 to 8192 are accepted", p.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, p.Curve) {
			return errors.New("elliptic key has a curve other than P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("key of type %T cannot verify tokens", public)
	}
	return nil
}

// Static is a set of keys that does not change.
type Static struct {
	keys  []key
	chain *bundle // certificates that x5c may lead to; nil for none
}

func (s *Static) find(_ context.Context, id string, header map[string]any) ([]key, error) {
	if x5c, ok := header["x5c"]; ok {
		if s.chain == nil {
			return nil, refuse("token brings a certificate, and no bundle is configured")
		}
		found, err := s.chain.key(x5c)
		if err != nil {
			return nil, refuse("%v", err)
		}
		return found, nil
	}
	return choose(s.keys, id)
}

// choose gives the keys with the id. A token without an id is only ever for a set of one.
func choose(keys []key, id string) ([]key, error) {
	if id == "" {
		if len(keys) != 1 {
			return nil, errNoKey
		}
		return keys, nil
	}
	var found []key
	for _, k := range keys {
		if k.id == id {
			found = append(found, k)
		}
	}
	if found == nil {
		return nil, errNoKey
	}
	return found, nil
}

// ParseKeySet reads a JSON Web Key Set (RFC 7517). Keys for something else than signatures, private parts and kinds that are
// not known here are passed over; a set without any key left is an error.
func ParseKeySet(text []byte) (*Static, error) {
	var set struct {
		Keys []struct {
			Kty, Kid, Use, Alg, Crv, N, E, X, Y string
			KeyOps                              []string `json:"key_ops"`
		}
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("key set is not one in JSON: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("key set has %d keys; at most %d are read", len(set.Keys), maxKeys)
	}
	s := &Static{}
	for _, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" || k.KeyOps != nil && !slices.Contains(k.KeyOps, "verify") ||
			k.Alg != "" && !slices.Contains(Algorithms(), k.Alg) {
			continue
		}
		public, err := parseKey(k.Kty, k.Crv, k.N, k.E, k.X, k.Y)
		if errors.Is(err, errOtherKind) {
			continue
		}
		if err == nil {
			err = usable(public)
		}
		if err != nil {
			return nil, fmt.Errorf("key %.60q of the set: %w", k.Kid, err)
		}
		s.keys = append(s.keys, key{id: k.Kid, alg: k.Alg, public: public})
	}
	if len(s.keys) == 0 {
		return nil, errors.New("key set has no key that verifies signatures")
	}
	return s, nil
}

var errOtherKind = errors.New("issuer: key of another kind")

// parseKey reads the members of a JSON Web Key (RFC 7518 section 6, RFC 8037 section 2).
func parseKey(kty, crv, n, e, x, y string) (crypto.PublicKey, error) {
	part := func(text string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		return b
	}
	switch kty {
	case "RSA":
		modulus, exponent := new(big.Int).SetBytes(part(n)), new(big.Int).SetBytes(part(e))
		if exponent.BitLen() == 0 || exponent.BitLen() > 31 {
			return nil, errors.New("exponent is missing or too large")
		}
		return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
	case "EC":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
		if !ok {
			return nil, errOtherKind
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(part(x)) != size || len(part(y)) != size {
			return nil, errors.New("coordinates have another length than the curve")
		}
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, part(x), part(y)))
	case "OKP":
		if crv != "Ed25519" {
			return nil, errOtherKind
		}
		if len(part(x)) != ed25519.PublicKeySize {
			return nil, errors.New("key has another length than its curve")
		}
		return ed25519.PublicKey(part(x)), nil
	}
	return nil, errOtherKind
}
