// Package cosign signs and verifies as cosign does, by key or by certificate, without asking anybody but the repository: no
// transparency log, no certificate authority and no time server is called. What they have said is checked where it lies
// beside a signature, against a trusted root that the caller gives.
//
// Signatures are in two places, and both are read: layers of the manifest with the tag sha256-….sig (attestations: .att), as
// cosign 1 and 2 wrote them, and bundles v0.3 in manifests that have the image as their subject, as cosign 3 does. Whatever
// is found becomes a bundle first, so there is one verifier for all.
//
// Start reading at [Verify] and [Sign]; [find] is where the formats come together.
//
// Spec: cosign's SIGNATURE_SPEC.md and ATTESTATION_SPEC.md; sigstore bundle v0.3; in-toto attestation v1; DSSE v1.
package cosign

// What the formats are called.
const (
	BundleType      = "application/vnd.dev.sigstore.bundle.v0.3+json" // layer and artifact type of a bundle
	SimpleType      = "application/vnd.dev.cosign.simplesigning.v1+json"
	EnvelopeType    = "application/vnd.dsse.envelope.v1+json"
	StatementType   = "application/vnd.in-toto+json"
	SignPredicate   = "https://sigstore.dev/cosign/sign/v1" // predicate of a bundle that is a signature
	legacyBundle    = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	bundleTypeStart = "application/vnd.dev.sigstore.bundle"
	simpleKind      = "cosign container image signature"
	statementV1     = "https://in-toto.io/Statement/v1"
	imageConfigType = "application/vnd.oci.image.config.v1+json"
)

// Annotations of cosign.
const (
	signatureNote   = "dev.cosignproject.cosign/signature"
	certificateNote = "dev.sigstore.cosign/certificate"
	logNote         = "dev.sigstore.cosign/bundle"
	timestampNote   = "dev.sigstore.cosign/rfc3161timestamp"
	predicateNote   = "predicateType"
	contentNote     = "dev.sigstore.bundle.content"
	predicateNote3  = "dev.sigstore.bundle.predicateType"
	createdNote     = "org.opencontainers.image.created"
)
