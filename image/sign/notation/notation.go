// Package notation signs and verifies as the Notary Project does: signatures in JWS or COSE with X.509 certificates, in
// manifests that have the image as their subject; whom to believe is in a trust policy and a trust store, the files of
// notation's own configuration directory.
//
// Nothing but the repository is asked over the network. Whether a certificate was revoked is therefore not known of one that
// says where to ask: a policy that enforces revocation refuses it, one that logs it accepts it.
//
// Start reading at [Verify] and [Sign].
//
// Spec: Notary Project, signature-specification v1.1, trust-store-trust-policy v1.1.
package notation

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/result"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/dir"
	"github.com/notaryproject/notation-go/signer"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// ArtifactType is that of the manifest of a signature.
const ArtifactType = "application/vnd.cncf.notary.signature"

// thumbprints is the annotation with the digests of the signer's certificates.
const thumbprints = "io.cncf.notary.x509chain.thumbprint#S256"

// Signer is a key with its certificates, the signer's own first.
type Signer struct {
	Key    crypto.PrivateKey
	Chain  []*x509.Certificate
	Expiry time.Duration // after which the signature is believed no more; 0 is never
	Agent  string        // the program that signs, with its version
}

// Chain reads certificates from PEM, the signer's own first.
func Chain(file []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := file; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, key.Reason, "certificate %d of the file cannot be read", len(out)+1).Because(err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, key.Reason, "file has no certificate in PEM")
	}
	return out, nil
}

// Sign signs the image in JWS and stores the signature as its referrer. It returns the digest of the signature's manifest.
func (g Signer) Sign(ctx context.Context, s sign.Store, image sign.Content) (string, error) {
	local, err := signer.NewGenericSigner(g.Key, g.Chain)
	if err != nil {
		return "", fault.New(fault.Invalid, key.Reason, "key and certificates are not fit to sign: %s", err).Because(err)
	}
	sig, info, err := local.Sign(ctx, describe(image), notation.SignerSignOptions{
		SignatureMediaType: jws.MediaTypeEnvelope, ExpiryDuration: g.Expiry, SigningAgent: g.Agent,
	})
	if err != nil {
		return "", fault.New(fault.Invalid, key.Reason, "the image is not signed: %s", err).Because(err)
	}
	prints := make([]string, len(info.CertificateChain))
	for i, c := range info.CertificateChain {
		sum := sha256.Sum256(c.Raw)
		prints[i] = hex.EncodeToString(sum[:])
	}
	notes, err := json.Marshal(prints)
	if err != nil {
		return "", fmt.Errorf("notation: thumbprints: %w", err)
	}
	return push(ctx, s, image, sig, map[string]string{
		thumbprints: string(notes), ocispec.AnnotationCreated: info.SignedAttributes.SigningTime.UTC().Format(time.RFC3339),
	})
}

// push stores a signature as a manifest with it as its only layer.
func push(ctx context.Context, s sign.Store, image sign.Content, sig []byte, notes map[string]string) (string, error) {
	layer := oci.Descriptor{MediaType: jws.MediaTypeEnvelope, Digest: oci.FromBytes(oci.SHA256, sig), Size: int64(len(sig))}
	empty := []byte("{}")
	config := oci.Descriptor{MediaType: ArtifactType, Digest: oci.FromBytes(oci.SHA256, empty), Size: int64(len(empty))}
	if err := errors.Join(s.PutBlob(ctx, layer, sig), s.PutBlob(ctx, config, empty)); err != nil {
		return "", fmt.Errorf("notation: push the signature: %w", err)
	}
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": config,
		"layers": []oci.Descriptor{layer}, "subject": image.Descriptor(), "annotations": notes,
	})
	if err != nil {
		return "", fmt.Errorf("notation: manifest of the signature: %w", err)
	}
	d := oci.FromBytes(oci.SHA256, m)
	if err := s.PutManifest(ctx, ref.Reference{Digest: d}, oci.MediaTypeManifest, m); err != nil {
		return "", fmt.Errorf("notation: push the signature: %w", err)
	}
	return d.String(), nil
}

func describe(c sign.Content) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: c.MediaType, Digest: digest.Digest(c.Digest.String()), Size: int64(len(c.Body))}
}

// Trust is whom to believe: a trust policy and the store that it names certificates of.
type Trust struct {
	verifier notation.Verifier
}

// ParseTrust reads a trustpolicy.json. directory has the folder truststore, as notation's configuration directory does.
func ParseTrust(policy []byte, directory string) (*Trust, error) {
	var doc trustpolicy.Document
	if err := json.Unmarshal(policy, &doc); err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "trust policy is not JSON of notation's trustpolicy.json").Because(err)
	}
	store := truststore.NewX509TrustStore(dir.NewSysFS(directory))
	v, err := verifier.NewWithOptions(&doc, store, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator: offline{}, RevocationTimestampingValidator: offline{},
	})
	if err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "trust policy is not valid: %s", err).Because(err)
	}
	return &Trust{v}, nil
}

// offline says of certificates what can be said without asking anybody.
type offline struct{}

var _ revocation.Validator = offline{}

// ValidateContext implements revocation.Validator: a certificate without an address to ask cannot be revoked, of any other
// it is not known.
func (offline) ValidateContext(_ context.Context, o revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	out := make([]*result.CertRevocationResult, len(o.CertChain))
	for i, c := range o.CertChain {
		out[i] = &result.CertRevocationResult{Result: result.ResultNonRevokable, RevocationMethod: result.RevocationMethodUnknown}
		if i < len(o.CertChain)-1 && (len(c.OCSPServer) > 0 || len(c.CRLDistributionPoints) > 0) {
			out[i].Result = result.ResultUnknown
		}
		out[i].ServerResults = []*result.ServerResult{{Result: out[i].Result}}
	}
	return out, nil
}

// Verify finds a signature of the image that the trust policy accepts for reference, which is host, repository and digest. It
// returns one, or a *sign.Refusal. A policy that skips verification verifies nothing, so it is a refusal, too.
func (t *Trust) Verify(ctx context.Context, s sign.Store, image sign.Content, reference string) ([]sign.Verified, error) {
	opts := notation.VerifierVerifyOptions{ArtifactReference: reference}
	if v, ok := t.verifier.(interface {
		SkipVerify(context.Context, notation.VerifierVerifyOptions) (bool, *trustpolicy.VerificationLevel, error)
	}); ok {
		skip, _, err := v.SkipVerify(ctx, opts)
		if err != nil {
			return nil, &sign.Refusal{Why: sign.NoMatch, Message: fmt.Sprintf("the trust policy has nothing for %s: %s", reference, err)}
		}
		if skip {
			return nil, &sign.Refusal{Why: sign.NoMatch, Message: fmt.Sprintf("the trust policy skips verification of %s, so nothing was verified", reference)}
		}
	}
	list, more, err := s.Referrers(ctx, image.Digest, ArtifactType, sign.MaxSignatures)
	if err != nil {
		return nil, fmt.Errorf("notation: referrers of %s: %w", image.Digest, err)
	}
	r := &sign.Refusal{Why: sign.NoMatch}
	total := int64(0)
	for _, d := range list {
		if total > sign.MaxTotal {
			more = true
			break
		}
		v, n, err := t.one(ctx, s, image, d, opts)
		total += n
		switch {
		case err == nil:
			return []sign.Verified{v}, nil
		case fault.Is(err, fault.Unavailable), fault.Is(err, fault.Unauthenticated), fault.Is(err, fault.Denied), ctx.Err() != nil:
			return nil, err // the repository cannot be read: another signature may be there
		}
		r.Tried = append(r.Tried, sign.Attempt{Where: d.Digest.String(), Err: err})
	}
	r.Message = fmt.Sprintf("image %s has no Notation signature that is believed, of %d looked at", image.Digest.Short(), len(r.Tried))
	if len(r.Tried) == 0 {
		r.Why, r.Message = sign.NoSignature, fmt.Sprintf("image %s has no Notation signature", image.Digest.Short())
	}
	if more {
		r.Message += fmt.Sprintf(" (only the first %d of them, or %d MiB, are looked at)", sign.MaxSignatures, sign.MaxTotal>>20)
	}
	return nil, r
}

// one verifies one signature; n is how many bytes were read.
func (t *Trust) one(ctx context.Context, s sign.Store, image sign.Content, d oci.Descriptor, opts notation.VerifierVerifyOptions) (v sign.Verified, n int64, err error) {
	c, err := s.Manifest(ctx, ref.Reference{Digest: d.Digest})
	if err != nil {
		return v, 0, err
	}
	n = int64(len(c.Body))
	m, err := oci.ParseManifest(c.MediaType, c.Body)
	if err != nil {
		return v, n, err
	}
	switch {
	case m.Subject == nil || m.Subject.Digest != image.Digest:
		return v, n, errors.New("listed as a referrer of the image and is none")
	case len(m.Layers) != 1:
		return v, n, fmt.Errorf("has %d layers, and a signature has one", len(m.Layers))
	case !slices.Contains([]string{jws.MediaTypeEnvelope, cose.MediaTypeEnvelope}, m.Layers[0].MediaType):
		return v, n, fmt.Errorf("has a layer of type %.100q, which is no signature", m.Layers[0].MediaType)
	case m.Layers[0].Size > sign.MaxBytes:
		return v, n, fmt.Errorf("has %d bytes, more than the %d that are read of a signature", m.Layers[0].Size, sign.MaxBytes)
	}
	sig, err := s.Blob(ctx, m.Layers[0])
	if err != nil {
		return v, n, err
	}
	n += int64(len(sig))
	opts.SignatureMediaType = m.Layers[0].MediaType
	outcome, err := t.verifier.Verify(ctx, describe(image), sig, opts)
	if err != nil {
		return v, n, err
	}
	if outcome == nil || outcome.EnvelopeContent == nil || outcome.Error != nil {
		return v, n, errors.New("the signature was not verified")
	}
	chain := outcome.EnvelopeContent.SignerInfo.CertificateChain
	if len(chain) == 0 {
		return v, n, errors.New("the signature has no certificate")
	}
	return sign.Verified{
		Where: d.Digest.String(), Identity: chain[0].Subject.String(), Issuer: chain[len(chain)-1].Subject.String(),
		Payload: outcome.EnvelopeContent.Payload.Content,
	}, n, nil
}
