// Package issuer verifies tokens that somebody else signs: a token server in front of this registry (the setting
// auth.token), and systems whose tokens are exchanged for ours, such as GitHub Actions, GitLab CI, Kubernetes and SPIRE.
//
// A key is only ever taken from what the operator named: a bundle of certificates, a key set in a file, or the key set that
// the issuer publishes at its own host. What a token brings along (jwk, jku, x5u) makes it invalid, except x5c with a chain
// that ends in the bundle. A key has one kind of algorithm, so that none can be taken for another.
//
// Start reading at [Verifier.Verify]; keys.go reads keys, bundle.go certificates, remote.go asks an issuer for its keys.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/berth-registry/berth/server/auth"
)

const (
	// maxToken bounds a token before it is parsed, in bytes. Those of GitLab are the longest, some 2 KiB.
	maxToken = 16 << 10
	leeway   = 60 * time.Second
)

// Options say whose tokens are accepted.
type Options struct {
	Issuer     string   // claim "iss", compared as it is
	Audiences  []string // claim "aud" names one of these
	Algorithms []string // default Algorithms()
	Keys       Keys
	Now        func() time.Time // default time.Now
}

// Keys are where a verifier finds the key of a token. Static and Remote are the two kinds.
type Keys interface {
	// find gives the keys with the id; errNoKey when there is none. header is the token's, whose signature is not checked.
	find(ctx context.Context, id string, header map[string]any) ([]key, error)
}

var errNoKey = errors.New("issuer: no such key")

// Algorithms are the signature algorithms that are accepted unless the options say less: all asymmetric ones. Whatever is
// listed, a key is used with algorithms of its own kind only.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// Verifier accepts the tokens of one issuer. It is an auth.Issuer.
type Verifier struct{ o Options }

// New checks the options. Nothing is read or asked yet.
func New(o Options) (*Verifier, error) {
	if len(o.Algorithms) == 0 {
		o.Algorithms = Algorithms()
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return nil, fmt.Errorf("signature algorithm %q is not accepted; use some of %s", a, strings.Join(Algorithms(), ", "))
		}
	}
	switch {
	case o.Issuer == "":
		return nil, errors.New("an issuer of tokens has no name; give the text of the claim iss")
	case len(o.Audiences) == 0 || slices.Contains(o.Audiences, ""):
		return nil, fmt.Errorf("issuer %s has no audience; without one every token that it signs for anybody would be accepted here", o.Issuer)
	case o.Keys == nil:
		return nil, fmt.Errorf("issuer %s has no keys", o.Issuer)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Verifier{o}, nil
}

// Verify implements auth.Issuer.
func (v *Verifier) Verify(ctx context.Context, text string) (auth.Statement, error) {
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return auth.Statement{}, refuse("token is too long or has not three parts")
	}
	var away error
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(
		jwt.WithValidMethods(v.o.Algorithms), jwt.WithIssuer(v.o.Issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(v.o.Now), jwt.WithStrictDecoding(),
	).ParseWithClaims(text, claims, func(t *jwt.Token) (any, error) {
		id, err := keyID(t.Header)
		if err != nil {
			return nil, err
		}
		found, err := v.o.Keys.find(ctx, id, t.Header)
		if err != nil {
			if !errors.Is(err, errNoKey) && !errors.Is(err, auth.ErrRefused) {
				away = err
			}
			return nil, err
		}
		var set jwt.VerificationKeySet
		for _, k := range found {
			if k.fits(t.Method.Alg()) {
				set.Keys = append(set.Keys, k.public)
			}
		}
		if len(set.Keys) == 0 {
			return nil, errors.New("issuer: the token's algorithm is not its key's")
		}
		return set, nil
	})
	switch {
	case away != nil:
		return auth.Statement{}, fmt.Errorf("keys of issuer %s: %w", v.o.Issuer, away)
	case err != nil:
		return auth.Statement{}, fmt.Errorf("%w: %w", auth.ErrRefused, err)
	}
	audience, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(v.o.Audiences, a) }) {
		return auth.Statement{}, refuse("token is for %q", audience)
	}
	subject, err := claims.GetSubject()
	if err != nil {
		return auth.Statement{}, refuse("subject is no text")
	}
	expires, err := claims.GetExpirationTime() // required above
	if err != nil || expires == nil {
		return auth.Statement{}, refuse("token does not expire")
	}
	return auth.Statement{Issuer: v.o.Issuer, Subject: subject, ExpiresAt: expires.Time, Claims: claims}, nil
}

// keyID is the id in a header that brings no key of its own. Other parameters that say nothing of the signature, such as
// x5t in GitHub's tokens, are passed over.
func keyID(header map[string]any) (string, error) {
	for _, name := range []string{"jwk", "jku", "x5u", "crit", "b64", "zip", "enc"} {
		if _, ok := header[name]; ok {
			return "", fmt.Errorf("issuer: token header has %s", name)
		}
	}
	// A token of another type, such as a logout token, is never a proof of who somebody is (RFC 8725 section 3.11).
	if typ, ok := header["typ"]; ok {
		text, _ := typ.(string)
		if !slices.ContainsFunc([]string{"JWT", "JOSE", "at+jwt", "application/at+jwt"}, func(t string) bool { return strings.EqualFold(t, text) }) {
			return "", fmt.Errorf("issuer: token type is %.40q", text)
		}
	}
	id, ok := header["kid"]
	if !ok {
		return "", nil
	}
	text, ok := id.(string)
	if !ok || len(text) > 512 {
		return "", errors.New("issuer: key id is no text, or too long")
	}
	return text, nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", auth.ErrRefused, fmt.Sprintf(format, args...))
}
