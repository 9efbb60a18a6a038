package referrer_test

import (
	"testing"

	"github.com/berth-registry/berth/image/referrer"
	"github.com/berth-registry/berth/oci"
)

func TestKindOf(t *testing.T) {
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	of := func(predicate string) map[string]string {
		return map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicate}
	}
	for name, c := range map[string]struct {
		d      oci.Descriptor
		kind   referrer.Kind
		format string
	}{
		"notation":               {oci.Descriptor{ArtifactType: "application/vnd.cncf.notary.signature"}, referrer.Signature, "notation"},
		"cosign 2":               {oci.Descriptor{ArtifactType: "application/vnd.dev.cosign.artifact.sig.v1+json"}, referrer.Signature, "cosign"},
		"cosign 3":               {oci.Descriptor{ArtifactType: bundle, Annotations: of("https://sigstore.dev/cosign/sign/v1")}, referrer.Signature, "cosign"},
		"a bare signature":       {oci.Descriptor{ArtifactType: bundle, Annotations: map[string]string{"dev.sigstore.bundle.content": "message-signature"}}, referrer.Signature, "cosign"},
		"an attested SBOM":       {oci.Descriptor{ArtifactType: bundle, Annotations: of("https://spdx.dev/Document")}, referrer.Attestation, "https://spdx.dev/Document"},
		"a bundle of whatever":   {oci.Descriptor{ArtifactType: bundle}, "", "sigstore"},
		"in-toto":                {oci.Descriptor{ArtifactType: "application/vnd.in-toto+json"}, referrer.Attestation, ""},
		"SPDX":                   {oci.Descriptor{ArtifactType: "application/spdx+json"}, referrer.SBOM, "spdx"},
		"CycloneDX":              {oci.Descriptor{ArtifactType: "application/vnd.cyclonedx+json"}, referrer.SBOM, "cyclonedx"},
		"something else":         {oci.Descriptor{ArtifactType: "application/vnd.example.review"}, "", ""},
		"a predicate without it": {oci.Descriptor{ArtifactType: "application/vnd.example.review", Annotations: of("https://spdx.dev/Document")}, "", ""},
	} {
		if kind, format := referrer.KindOf(c.d); kind != c.kind || format != c.format {
			t.Errorf("%s: %q, %q", name, kind, format)
		}
	}
}
