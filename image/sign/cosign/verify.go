package cosign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
)

// Verify finds the signatures of the image that were made by somebody whom t believes, and that carry the annotations. It
// returns one at least, or a *sign.Refusal. Attestations are no signatures: what was attested may well be that an image is bad.
func Verify(ctx context.Context, s sign.Store, image oci.Digest, t Trust, annotations map[string]string) ([]sign.Verified, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	f, err := find(ctx, s, image, signatureSuffix, t.Only)
	if err != nil {
		return nil, err
	}
	return f.verify("signature", image, func(c candidate) (sign.Verified, error) {
		v, err := t.signature(c, image)
		if err == nil {
			err = agrees(annotations, v.Optional)
		}
		return v, err
	})
}

// VerifyAttestations finds the attestations of the image, of a type or of any when it is "", as Verify finds signatures.
func VerifyAttestations(ctx context.Context, s sign.Store, image oci.Digest, t Trust, predicateType string) ([]sign.Verified, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	f, err := find(ctx, s, image, attestationSuffix, t.Only)
	if err != nil {
		return nil, err
	}
	what := "attestation"
	if predicateType != "" {
		what += " of type " + predicateType
	}
	return f.verify(what, image, func(c candidate) (sign.Verified, error) {
		v, err := t.statement(c, image)
		switch {
		case err != nil:
		case v.Predicate == SignPredicate:
			err = errOtherKind
		case predicateType != "" && v.Predicate != predicateType:
			err = fmt.Errorf("%w: it is an attestation of type %.200q", errOtherKind, v.Predicate)
		}
		return v, err
	})
}

// errOtherKind is something right that is not what was asked for.
var errOtherKind = errors.New("not what was asked for")

// verify looks at all candidates and takes those that are right.
func (f *found) verify(what string, image oci.Digest, one func(candidate) (sign.Verified, error)) ([]sign.Verified, error) {
	var good []sign.Verified
	r := &sign.Refusal{}
	keyOnly, others := 0, 0
	for _, c := range f.list {
		err := c.err
		var v sign.Verified
		if err == nil {
			v, err = one(c)
		}
		switch {
		case err == nil:
			v.Where = c.where
			good = append(good, v)
			continue
		case errors.Is(err, errNoCertificate):
			keyOnly++
		case errors.Is(err, errOtherKind):
			others++
		}
		r.Tried = append(r.Tried, sign.Attempt{Where: c.where, Err: err})
	}
	if len(good) > 0 {
		return good, nil
	}
	switch n := len(r.Tried); {
	case n == 0 || others == n:
		r.Why, r.Message = sign.NoSignature, fmt.Sprintf("image %s has no %s", image.Short(), what)
	case keyOnly > 0 && keyOnly+others == n:
		r.Why, r.Message = sign.NoCertificate, fmt.Sprintf("image %s has no %s with a certificate", image.Short(), what)
	default:
		r.Why, r.Message = sign.NoMatch, fmt.Sprintf("image %s has no %s that is believed, of %d looked at", image.Short(), what, n)
	}
	if f.more {
		r.Message += fmt.Sprintf(" (only the first %d of them, or %d MiB, are looked at)", sign.MaxSignatures, sign.MaxTotal>>20)
	}
	return nil, r
}

// signature verifies a signature of either scheme.
func (t Trust) signature(c candidate, image oci.Digest) (sign.Verified, error) {
	if c.message == nil {
		v, err := t.statement(c, image)
		if err == nil && v.Predicate != SignPredicate {
			err = fmt.Errorf("%w: it is an attestation of type %.200q", errOtherKind, v.Predicate)
		}
		return v, err
	}
	p, err := t.prove(c, message(c.message))
	if err != nil {
		return sign.Verified{}, err
	}
	var s simple
	if err := json.Unmarshal(c.message, &s); err != nil {
		return sign.Verified{}, fmt.Errorf("payload cannot be read: %w", err)
	}
	if err := s.check(image); err != nil {
		return sign.Verified{}, err
	}
	return sign.Verified{
		Key: p.key, Identity: p.subject, Issuer: p.issuer,
		Payload: c.message, Optional: s.Optional, Reference: s.Critical.Identity.DockerReference,
	}, nil
}

// statement verifies an envelope and finds the image in it.
func (t Trust) statement(c candidate, image oci.Digest) (sign.Verified, error) {
	e, ok := c.bundle.Content.(*pbbundle.Bundle_DsseEnvelope)
	if !ok {
		return sign.Verified{}, errors.New("bundle has a bare signature, and no statement about an image")
	}
	if e.DsseEnvelope.PayloadType != StatementType {
		return sign.Verified{}, fmt.Errorf("envelope has content of type %.100q, not %s", e.DsseEnvelope.PayloadType, StatementType)
	}
	p, err := t.prove(c, about(image))
	if err != nil {
		return sign.Verified{}, err
	}
	st, err := parseStatement(e.DsseEnvelope.Payload)
	if err != nil {
		return sign.Verified{}, err
	}
	named, ok := st.about(image)
	if !ok {
		return sign.Verified{}, errors.New("statement is about another image")
	}
	env, err := envelopeOf(e.DsseEnvelope)
	if err != nil {
		return sign.Verified{}, err
	}
	return sign.Verified{
		Key: p.key, Identity: p.subject, Issuer: p.issuer, Envelope: env,
		Predicate: st.PredicateType, Payload: e.DsseEnvelope.Payload, Optional: named.Annotations, Reference: named.Name,
	}, nil
}

func parseStatement(b []byte) (statement, error) {
	var st statement
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("statement cannot be read: %w", err)
	}
	if !strings.HasPrefix(st.Type, "https://in-toto.io/Statement/") {
		return st, fmt.Errorf("statement is of type %.100q", st.Type)
	}
	return st, nil
}
