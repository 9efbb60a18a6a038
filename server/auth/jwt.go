package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/fault"
)

// The types of tokens, in the header "typ" and compared exactly, so that one can never stand in for the other
// (RFC 8725 section 3.11).
const (
	typAccess  = "JWT" // what the Docker token specification says
	typRefresh = "refresh+jwt"
)

// claims of both types of tokens.
type claims struct {
	jwt.RegisteredClaims
	Access []resource `json:"access,omitempty"`
	// Stamp is the account's state when the token was made, keyed; "" for anonymous callers. A token carries no
	// rights of the account itself: those are looked up when it is used.
	Stamp string `json:"stamp,omitempty"`
	// Origin is what the token was made from, when that is not the account as a whole; see origin.
	Origin string `json:"origin,omitempty"`
}

// sign makes a token of the type. c has what it says of its subject.
func (s *Service) sign(k *signer, typ string, c claims, at time.Time, lifetime time.Duration) (string, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("auth: token id: %w", err)
	}
	c.RegisteredClaims = jwt.RegisteredClaims{
		Issuer: s.o.Issuer, Subject: c.Subject, Audience: jwt.ClaimStrings{s.o.Service},
		ExpiresAt: jwt.NewNumericDate(at.Add(lifetime)), NotBefore: jwt.NewNumericDate(at), IssuedAt: jwt.NewNumericDate(at),
		ID: base64.RawURLEncoding.EncodeToString(id),
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["typ"] = typ
	t.Header["kid"] = k.id
	text, err := t.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("auth: sign token: %w", err)
	}
	return text, nil
}

// verify checks the token's form, key, signature and claims, and nothing about its account.
//
// The key is found by its id in our own ring; whatever the header offers instead of it (jwk, x5c, jku …) makes the
// token invalid, and so does any parameter that this code did not write. The algorithm is the key's.
func (s *Service) verify(ctx context.Context, text, typ string) (*claims, *signer, error) {
	if len(text) > MaxHeader || strings.Count(text, ".") != 2 {
		return nil, nil, invalidToken(errors.New("auth: token is too long or has not three parts"))
	}
	var key *signer
	var unavailable error
	c := &claims{}
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{algEdDSA}),
		jwt.WithIssuer(s.o.Issuer), jwt.WithAudience(s.o.Service),
		jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(s.o.Now), jwt.WithStrictDecoding(),
	).ParseWithClaims(text, c, func(t *jwt.Token) (any, error) {
		id, err := keyID(t.Header, typ)
		if err != nil {
			return nil, err
		}
		if key, err = s.keys.verifying(ctx, id); err != nil {
			if !errors.Is(err, errUnknownKey) {
				unavailable = err
			}
			return nil, err
		}
		if t.Method.Alg() != key.alg {
			return nil, errors.New("auth: token names another algorithm than its key has")
		}
		return key.public, nil
	})
	switch {
	case err == nil && len(c.Audience) == 1:
		return c, key, nil
	case unavailable != nil:
		return nil, nil, unavailableError(unavailable)
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, nil, fault.New(fault.Unauthenticated, InvalidToken, "token has expired; ask for a new one or log in again").Because(err)
	}
	return nil, nil, invalidToken(err)
}

// keyID is the header's kid, when the header is one that sign writes.
func keyID(header map[string]any, typ string) (string, error) {
	for name := range header {
		if name != "alg" && name != "typ" && name != "kid" {
			return "", fmt.Errorf("auth: token header has %.20q", name)
		}
	}
	if header["typ"] != typ {
		return "", fmt.Errorf("auth: token type is not %s", typ)
	}
	id, ok := header["kid"].(string)
	if !ok || id == "" || len(id) > 64 {
		return "", errors.New("auth: token header has no key id")
	}
	return id, nil
}

// errNotOurs is in the chain of every refusal of a token that no key of ours signed, or not as it stands.
var errNotOurs = errors.New("auth: token is not ours")

func invalidToken(cause error) error {
	return fault.New(fault.Unauthenticated, InvalidToken, "token is not valid for this registry; log in again").
		Because(errors.Join(errNotOurs, cause))
}

func unavailableError(cause error) error {
	if f := (*fault.Error)(nil); errors.As(cause, &f) || abandoned(cause) {
		return cause
	}
	return fault.New(fault.Unavailable, fault.UnavailableReason, "accounts cannot be read now; try again later").Because(cause)
}
