// Package sign says what signing and verifying have in common, whatever the format: the repository that holds an image and
// its signatures, what a verification found, and how it refuses. The formats are in the folders below: cosign (key pairs,
// certificates, attestations), gpg (simple signing), notation, and policy (policy.json, which asks for any of them).
//
// One rule holds in all of them: verified is what was checked and found right. A signature that is unknown, cannot be parsed,
// is too large or fails for any other reason is not verified, and never an excuse to look no further.
//
// Start reading at [Store] and [Refusal], then cosign.Verify.
package sign

import (
	"context"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// What a repository can make us read while we look for signatures. Whoever may push there decides how many there are.
const (
	MaxSignatures = 128      // of one image: further ones are not looked at, and the refusal says so
	MaxBytes      = 4 << 20  // of a signature, attestation or its manifest
	MaxTotal      = 64 << 20 // of all that is read for one image
)

// Reasons of faults of what the user names, and not of what a repository holds.
const (
	ReasonTrust     fault.Reason = "TRUST_INVALID"     // whom to believe is not said, is contradictory, or stands in a file that cannot be read
	ReasonStatement fault.Reason = "STATEMENT_INVALID" // what is to be stated about an image is none
)

// Content is a manifest as it is stored.
type Content struct {
	MediaType string
	Digest    oci.Digest
	Body      []byte
}

// Descriptor points at the content.
func (c Content) Descriptor() oci.Descriptor {
	return oci.Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: int64(len(c.Body))}
}

// Store is the repository that holds the signatures. Whoever implements it checks that bytes have the digest that was asked
// for, and reads no more than MaxBytes of a manifest or blob: a larger one is a fault of kind TooLarge. What is not there is a
// fault of kind NotFound.
type Store interface {
	Manifest(ctx context.Context, r ref.Reference) (Content, error)
	// PutManifest pushes body under a tag, or under its digest. When it has a subject, the repository lists it among the
	// subject's referrers afterwards, with or without the registry's help.
	PutManifest(ctx context.Context, r ref.Reference, mediaType string, body []byte) error
	Blob(ctx context.Context, d oci.Descriptor) ([]byte, error)
	PutBlob(ctx context.Context, d oci.Descriptor, body []byte) error
	// Referrers are the manifests that name the subject, at most limit of them. artifactType "" is any. more says that
	// there are others.
	Referrers(ctx context.Context, subject oci.Digest, artifactType string, limit int) (list []oci.Descriptor, more bool, err error)
}

// Why is the reason of a refusal.
type Why uint8

// The reasons. The first four are the exit codes of cosign in this order from 10.
const (
	NoSignature   Why = iota + 1 // there is none of the kind that was asked for
	NoImage                      // the image is not there
	NoMatch                      // there are some, and none of them is right
	NoCertificate                // an identity was asked for, and what there is was signed by a key
	ByPolicy                     // a policy.json does not allow it; no code of cosign
	NoInventory                  // no SBOM is attached; no code of cosign
)

// Refusal is the answer "not verified". Any other error of a verification means that it could not be done, which is not
// verified either.
type Refusal struct {
	Why     Why
	Message string // lowercase: what was asked for and what was found
	Tried   []Attempt
}

// Attempt is a signature that was looked at in vain.
type Attempt struct {
	Where string // the tag or the digest of the referrer, with the number of the layer where there are several
	Err   error
}

// Error is the message, and the first reasons.
func (r *Refusal) Error() string {
	s := r.Message
	shown := map[string]bool{}
	for _, t := range r.Tried {
		text := t.Err.Error()
		if shown[text] { // many are refused for one reason: it is said once
			continue
		}
		if len(shown) == 3 {
			return s + "; …"
		}
		shown[text] = true
		s += "; " + t.Where + ": " + text
	}
	return s
}

// Verified is a signature or attestation that is right.
type Verified struct {
	Where     string
	Key       string         // id of the key; "" when a certificate signed
	Identity  string         // subject of the certificate
	Issuer    string         // who vouched for the subject
	Predicate string         // type of what was attested; of a signature of cosign 3 it is SignPredicate
	Payload   []byte         // JSON: what was signed
	Envelope  []byte         // JSON of the DSSE envelope around Payload; nil of other formats
	Optional  map[string]any // annotations that were signed, too
	Reference string         // what the signer called the image; a claim, "" for none
}
