package cosign

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Signatures are the signatures of an image as they are stored, one JSON document each: a bundle, or what cosign prints of the
// tag scheme. Nothing of them was verified.
func Signatures(ctx context.Context, s sign.Store, image oci.Digest) ([][]byte, error) {
	return download(ctx, s, image, signatureSuffix, "signature", func(c candidate) ([]byte, error) {
		if c.message == nil {
			if st := c.statement(); st.PredicateType != SignPredicate {
				return nil, nil
			}
			return c.raw, nil
		}
		return json.Marshal(map[string]any{
			"Base64Signature": c.bundle.GetMessageSignature().GetSignature(), "Payload": c.message,
		})
	})
}

// Attestations are the attestations of an image, as Signatures are its signatures; of a type, or of any when it is "".
func Attestations(ctx context.Context, s sign.Store, image oci.Digest, predicateType string) ([][]byte, error) {
	return download(ctx, s, image, attestationSuffix, "attestation", func(c candidate) ([]byte, error) {
		st := c.statement()
		if c.message != nil || st.PredicateType == SignPredicate || predicateType != "" && st.PredicateType != predicateType {
			return nil, nil
		}
		return c.raw, nil
	})
}

// statement is what an envelope claims, the zero value when it cannot be read.
func (c candidate) statement() statement {
	st, err := parseStatement(c.bundle.GetDsseEnvelope().GetPayload())
	if err != nil {
		return statement{}
	}
	return st
}

func download(ctx context.Context, s sign.Store, image oci.Digest, suffix, what string, take func(candidate) ([]byte, error)) (out [][]byte, err error) {
	f, err := find(ctx, s, image, suffix, "")
	if err != nil {
		return nil, err
	}
	for _, c := range f.list {
		if c.err != nil || c.bundle == nil || c.bundle.Bundle == nil {
			continue
		}
		doc, err := take(c)
		if err != nil {
			return nil, fmt.Errorf("cosign: %s: %w", c.where, err)
		}
		if doc != nil {
			out = append(out, doc)
		}
	}
	if len(out) == 0 {
		return nil, &sign.Refusal{Why: sign.NoSignature, Message: fmt.Sprintf("image %s has no %s", image.Short(), what)}
	}
	return out, nil
}

// sbomTypes are what inventories are called, as an artifact or as the layer of one.
func sbomTypes() []string {
	return []string{"application/spdx+json", "text/spdx+json", "text/spdx", "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+xml",
		"application/vnd.syft+json"}
}

// SBOM is the first inventory that is attached to the image, and its media type: a referrer, or the tag sha256-….sbom. Nothing
// of it was verified; an attested one is found by Attestations.
func SBOM(ctx context.Context, s sign.Store, image oci.Digest) (body []byte, mediaType string, err error) {
	list, _, err := s.Referrers(ctx, image, "", sign.MaxSignatures)
	if err != nil {
		return nil, "", fmt.Errorf("cosign: referrers of %s: %w", image, err)
	}
	at := []ref.Reference{}
	for _, d := range list {
		if slices.Contains(sbomTypes(), d.ArtifactType) || strings.Contains(d.ArtifactType, "sbom") {
			at = append(at, ref.Reference{Digest: d.Digest})
		}
	}
	if tag := Tag(image, sbomSuffix); len(tag) <= ref.MaxTag {
		at = append(at, ref.Reference{Tag: tag})
	}
	for _, r := range at {
		c, err := s.Manifest(ctx, r)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("cosign: sbom %s: %w", r, err)
		}
		m, err := oci.ParseManifest(c.MediaType, c.Body)
		if err != nil || len(m.Layers) == 0 {
			continue
		}
		body, err := s.Blob(ctx, m.Layers[0])
		if err != nil {
			return nil, "", fmt.Errorf("cosign: sbom %s: %w", r, err)
		}
		return body, m.Layers[0].MediaType, nil
	}
	return nil, "", &sign.Refusal{Why: sign.NoInventory, Message: fmt.Sprintf("image %s has no sbom attached", image.Short())}
}
