package referrer

import (
	"strings"

	"github.com/berth-registry/berth/oci"
)

// Kind is what something says about its subject.
type Kind string

// The kinds; "" is another one, or one that a list does not tell.
const (
	Signature   Kind = "signature"
	Attestation Kind = "attestation" // a signed statement
	SBOM        Kind = "sbom"
)

// bundle is what the artifact types of sigstore's bundles begin with, the form of cosign 3: of signatures and of attestations.
const bundle = "application/vnd.dev.sigstore.bundle"

// KindOf tells what a referrer is by what a list says of it, and in which format: who wrote it, or for an attestation the type of
// its statement. What a bundle of sigstore has in it stands in its annotations.
func KindOf(d oci.Descriptor) (kind Kind, format string) {
	predicate := d.Annotations["dev.sigstore.bundle.predicateType"]
	switch {
	case d.ArtifactType == "application/vnd.cncf.notary.signature":
		return Signature, "notation"
	case d.ArtifactType == "application/vnd.dev.cosign.artifact.sig.v1+json":
		return Signature, "cosign"
	case strings.HasPrefix(d.ArtifactType, bundle) && (predicate == "https://sigstore.dev/cosign/sign/v1" || d.Annotations["dev.sigstore.bundle.content"] == "message-signature"):
		return Signature, "cosign"
	case strings.HasPrefix(d.ArtifactType, bundle) && predicate != "":
		return Attestation, predicate
	case strings.HasPrefix(d.ArtifactType, bundle):
		return "", "sigstore"
	case d.ArtifactType == "application/vnd.in-toto+json", d.ArtifactType == "application/vnd.dsse.envelope.v1+json":
		return Attestation, d.Annotations["in-toto.io/predicate-type"]
	}
	for _, name := range []string{"spdx", "cyclonedx", "syft"} {
		if strings.Contains(d.ArtifactType, name) {
			return SBOM, name
		}
	}
	return "", ""
}
