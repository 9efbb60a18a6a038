package cosign

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
)

// Identity is whose certificate is believed. Of each pair one is given: the exact text or a regular expression, which has to
// match the whole text.
type Identity struct {
	Subject, SubjectRegexp string // e-mail address or URI
	Issuer, IssuerRegexp   string // who authenticated the subject
}

// Trust is whom to believe: keys, any one of which is enough, or certificates.
type Trust struct {
	Keys []*key.Public
	// Root has the certificate authorities, logs and time stamping authorities. With Keys it may be nil, and then no log is
	// asked for.
	Root     root.TrustedMaterial
	Identity Identity
	// NoLog does without an entry in a transparency log. Certificates then need a signed timestamp of the Root, or have to
	// be valid now.
	NoLog bool
	// Only looks at signatures of one format; "" at both.
	Only Format
	// NoSCT does without proof that a certificate was published when it was issued.
	NoSCT bool
}

// ParseRoot reads a trusted_root.json.
func ParseRoot(file []byte) (root.TrustedMaterial, error) {
	r, err := root.NewTrustedRootFromJSON(file)
	if err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "trusted root cannot be read; expected the JSON of a sigstore trusted_root.json").Because(err)
	}
	return r, nil
}

// Check reports what is missing to decide anything: to believe nobody in particular is to believe everybody.
func (t Trust) Check() error {
	if len(t.Keys) > 0 {
		if t.Identity != (Identity{}) {
			return fault.New(fault.Invalid, sign.ReasonTrust, "both a key and an identity of a certificate are given; verify with one of them")
		}
		return nil
	}
	if t.Root == nil {
		return fault.New(fault.Invalid, sign.ReasonTrust, "nothing is given to verify with; name a public key, or a trusted root and an identity")
	}
	if t.Identity.Subject == "" && t.Identity.SubjectRegexp == "" || t.Identity.Issuer == "" && t.Identity.IssuerRegexp == "" {
		return fault.New(fault.Invalid, sign.ReasonTrust, "a certificate proves an identity only: say which subject and which issuer are believed")
	}
	for _, expr := range []string{t.Identity.SubjectRegexp, t.Identity.IssuerRegexp} {
		if _, err := regexp.Compile(expr); err != nil {
			return fault.New(fault.Invalid, sign.ReasonTrust, "%q is not a regular expression", expr).Because(err)
		}
	}
	return nil
}

// errNoCertificate is what a signature by a key is when an identity was asked for.
var errNoCertificate = errors.New("signed by a key, without a certificate")

// proof is who signed.
type proof struct {
	key             string
	subject, issuer string
}

// artifact is what has to have been signed. It is made anew for every verification, which reads a message to its end.
type artifact func() verify.ArtifactPolicyOption

func message(b []byte) artifact {
	return func() verify.ArtifactPolicyOption { return verify.WithArtifact(bytes.NewReader(b)) }
}

// prove checks signature, certificate, log and time of a candidate. what is what was signed: the bytes of the message, or
// the digest of the subject, which has to be among those of the statement.
func (t Trust) prove(c candidate, what artifact) (proof, error) {
	content, err := c.bundle.VerificationContent()
	if err != nil {
		return proof{}, err
	}
	certified := content.Certificate() != nil
	if len(t.Keys) == 0 {
		if !certified {
			return proof{}, errNoCertificate
		}
		return t.byCertificate(c, what)
	}
	if certified {
		return proof{}, errors.New("signed by a certificate, and not by a key")
	}
	var errs []error
	for _, k := range t.Keys {
		for _, v := range verifiers(k, c.message == nil) {
			err := t.byKey(c, v, what)
			if err == nil {
				return proof{key: k.ID()}, nil
			}
			errs = append(errs, err)
		}
	}
	return proof{}, distinct(errs)
}

// errOtherKey is a signature that is whole and was made by nobody whose key was given, as far as that can be told.
var errOtherKey = errors.New("it was made by another key")

// distinct joins errors, each text once. The libraries say in several ways that a key does not fit.
func distinct(errs []error) error {
	var out []error
	seen := map[string]bool{}
	for _, err := range errs {
		for _, text := range []string{"accepted signatures do not match threshold", "invalid signature when validating ASN.1", "could not verify message: invalid signature", "crypto/rsa: verification error"} {
			if strings.Contains(err.Error(), text) {
				err = errOtherKey
				break
			}
		}
		if !seen[err.Error()] {
			seen[err.Error()] = true
			out = append(out, err)
		}
	}
	return errors.Join(out...)
}

func (t Trust) byKey(c candidate, v signature.Verifier, what artifact) error {
	held := root.NewExpiringKey(v, time.Time{}, time.Time{})
	material := keyed{TrustedMaterial: t.Root, key: held}
	if material.TrustedMaterial == nil {
		material.TrustedMaterial = &root.BaseTrustedMaterial{}
	}
	opts := []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if t.Root != nil && !t.NoLog {
		opts = append(opts, verify.WithTransparencyLog(1))
	}
	ver, err := verify.NewVerifier(material, opts...)
	if err != nil {
		return err
	}
	_, err = ver.Verify(c.bundle, verify.NewPolicy(what(), verify.WithKey()))
	return err
}

func (t Trust) byCertificate(c candidate, what artifact) (proof, error) {
	id, err := t.identity()
	if err != nil {
		return proof{}, err
	}
	opts, err := t.options(c)
	if err != nil {
		return proof{}, err
	}
	ver, err := verify.NewVerifier(t.Root, opts...)
	if err != nil {
		return proof{}, err
	}
	res, err := ver.Verify(c.bundle, verify.NewPolicy(what(), verify.WithCertificateIdentity(id)))
	if err != nil {
		return proof{}, err
	}
	if res.Signature == nil || res.Signature.Certificate == nil || res.VerifiedIdentity == nil {
		return proof{}, errors.New("the certificate's identity was not verified")
	}
	cert := res.Signature.Certificate
	return proof{subject: cert.SubjectAlternativeName, issuer: cert.Issuer}, nil
}

// options are the proofs of time and publication to ask for. A log of the second kind gives no time of its own, so there a
// signed timestamp is needed.
func (t Trust) options(c candidate) (opts []verify.VerifierOption, err error) {
	if !t.NoSCT {
		opts = append(opts, verify.WithSignedCertificateTimestamps(1))
	}
	stamps, err := c.bundle.Timestamps()
	if err != nil {
		return nil, err
	}
	if t.NoLog {
		if len(stamps) > 0 {
			return append(opts, verify.WithSignedTimestamps(1)), nil
		}
		return append(opts, verify.WithCurrentTime()), nil
	}
	entries, err := c.bundle.TlogEntries()
	if err != nil {
		return nil, err
	}
	timed := false
	for _, e := range entries {
		timed = timed || !e.IntegratedTime().IsZero()
	}
	opts = append(opts, verify.WithTransparencyLog(1))
	if timed {
		return append(opts, verify.WithIntegratedTimestamps(1)), nil
	}
	return append(opts, verify.WithSignedTimestamps(1)), nil
}

// identity is the matcher. Expressions are anchored: one that matches a part of a name is believed to mean the name.
func (t Trust) identity() (verify.CertificateIdentity, error) {
	anchor := func(s string) string {
		if s == "" {
			return ""
		}
		return "^(?:" + s + ")$"
	}
	san, err := verify.NewSANMatcher(t.Identity.Subject, anchor(t.Identity.SubjectRegexp))
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	issuer, err := verify.NewIssuerMatcher(t.Identity.Issuer, anchor(t.Identity.IssuerRegexp))
	if err != nil {
		return verify.CertificateIdentity{}, err
	}
	return verify.NewCertificateIdentity(san, issuer, certificate.Extensions{})
}

// keyed is trusted material with one key, by whatever name a signature calls it: the name is not signed.
type keyed struct {
	root.TrustedMaterial
	key *root.ExpiringKey
}

func (k keyed) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) { return k.key, nil }

// verifiers are the ways in which a key may have signed. Ed25519 signs messages, and, for logs that only keep digests, the
// digests of messages; larger curves signed SHA-256 in older versions.
func verifiers(k *key.Public, isEnvelope bool) (list []signature.Verifier) {
	if v, err := signature.LoadDefaultVerifier(k.Key()); err == nil {
		list = append(list, v)
	}
	if pub, ok := k.Key().(ed25519.PublicKey); ok && !isEnvelope {
		if v, err := signature.LoadDefaultVerifier(pub, options.WithED25519ph()); err == nil {
			list = append(list, v)
		}
	}
	if kind := k.Kind(); kind == "ecdsa-P-384" || kind == "ecdsa-P-521" {
		if v, err := signature.LoadVerifier(k.Key(), crypto.SHA256); err == nil {
			list = append(list, v)
		}
	}
	return list
}

// about asks that the statement's subjects include the image.
func about(image oci.Digest) artifact {
	b, err := hex.DecodeString(image.Hex())
	if err != nil { // a Digest is well formed
		b = nil
	}
	return func() verify.ArtifactPolicyOption { return verify.WithArtifactDigest(string(image.Algorithm()), b) }
}
