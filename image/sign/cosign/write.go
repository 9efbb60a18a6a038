package cosign

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Format is where a signature is kept.
type Format string

// The formats.
const (
	Bundle Format = "bundle" // as a referrer of the image: cosign 3
	Legacy Format = "tag"    // under the tag sha256-….sig or .att: cosign 1 and 2
)

// Signer makes signatures and attestations with a key.
type Signer struct {
	Key    *key.Private
	Format Format
	Now    func() time.Time
}

// Sign signs the image and stores the signature beside it. reference is what the image is called, host and repository. Signing
// twice adds a second signature; what is there stays. It returns where the signature is.
func (g Signer) Sign(ctx context.Context, s sign.Store, image sign.Content, reference string, annotations map[string]any) (string, error) {
	if g.Format == Bundle {
		// Cosign writes no name into the statement of a signature.
		st := statementOf("", image.Digest, SignPredicate, []byte("{}"), annotations)
		return g.bundled(ctx, s, image, st)
	}
	payload, err := json.Marshal(simpleOf(reference, image.Digest, annotations))
	if err != nil {
		return "", fmt.Errorf("cosign: payload: %w", err)
	}
	sig, err := g.Key.Sign(payload)
	if err != nil {
		return "", err
	}
	return g.append(ctx, s, image.Digest, signatureSuffix, payload, oci.Descriptor{
		MediaType: SimpleType, Annotations: map[string]string{signatureNote: base64.StdEncoding.EncodeToString(sig)},
	})
}

// Attest signs a statement about the image, and stores it as Sign does. predicate is JSON; predicateType a URI.
func (g Signer) Attest(ctx context.Context, s sign.Store, image sign.Content, reference, predicateType string, predicate []byte) (string, error) {
	if !json.Valid(predicate) {
		return "", fault.New(fault.Invalid, sign.ReasonStatement, "predicate is not JSON")
	}
	if len(predicate) > sign.MaxBytes/2 { // base64 and the envelope around it
		return "", fault.New(fault.TooLarge, sign.ReasonStatement, "predicate has %d bytes, and verifiers read no more than %d of an attestation", len(predicate), sign.MaxBytes)
	}
	st := statementOf(reference, image.Digest, predicateType, predicate, nil)
	if g.Format == Bundle {
		return g.bundled(ctx, s, image, st)
	}
	payload, sig, err := g.seal(st)
	if err != nil {
		return "", err
	}
	layer, err := json.Marshal(map[string]any{
		"payloadType": StatementType, "payload": payload, "signatures": []map[string]any{{"keyid": "", "sig": sig}},
	})
	if err != nil {
		return "", fmt.Errorf("cosign: envelope: %w", err)
	}
	return g.append(ctx, s, image.Digest, attestationSuffix, layer, oci.Descriptor{
		MediaType: EnvelopeType, Annotations: map[string]string{signatureNote: "", predicateNote: predicateType},
	})
}

// seal signs a statement as the content of an envelope.
func (g Signer) seal(st statement) (payload, sig []byte, err error) {
	if payload, err = json.Marshal(st); err != nil {
		return nil, nil, fmt.Errorf("cosign: statement: %w", err)
	}
	sig, err = g.Key.Sign(dsse.PAE(StatementType, payload))
	return payload, sig, err
}

// bundled pushes a statement as a bundle that refers to the image.
func (g Signer) bundled(ctx context.Context, s sign.Store, image sign.Content, st statement) (string, error) {
	payload, sig, err := g.seal(st)
	if err != nil {
		return "", err
	}
	body, err := protojson.Marshal(&pbbundle.Bundle{
		MediaType: BundleType,
		VerificationMaterial: &pbbundle.VerificationMaterial{Content: &pbbundle.VerificationMaterial_PublicKey{
			PublicKey: &pbcommon.PublicKeyIdentifier{Hint: g.Key.Public().Hint()},
		}},
		Content: &pbbundle.Bundle_DsseEnvelope{DsseEnvelope: &pbdsse.Envelope{
			PayloadType: StatementType, Payload: payload, Signatures: []*pbdsse.Signature{{Sig: sig}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("cosign: bundle: %w", err)
	}
	return refer(ctx, s, image, body, map[string]string{
		createdNote: g.Now().UTC().Format(time.RFC3339), contentNote: "dsse-envelope", predicateNote3: st.PredicateType,
	})
}

// document is a manifest as it is written.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        oci.Descriptor    `json:"config"`
	Layers        []oci.Descriptor  `json:"layers"`
	Subject       *oci.Descriptor   `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// refer pushes a bundle as the only layer of a manifest whose subject is the image.
func refer(ctx context.Context, s sign.Store, image sign.Content, body []byte, notes map[string]string) (string, error) {
	layer, err := put(ctx, s, BundleType, body, nil)
	if err != nil {
		return "", err
	}
	config, err := put(ctx, s, oci.MediaTypeEmpty, []byte("{}"), nil)
	if err != nil {
		return "", err
	}
	about := image.Descriptor()
	m, err := json.Marshal(document{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: BundleType, Config: config,
		Layers: []oci.Descriptor{layer}, Subject: &about, Annotations: notes,
	})
	if err != nil {
		return "", fmt.Errorf("cosign: manifest of the bundle: %w", err)
	}
	d := oci.FromBytes(oci.SHA256, m)
	if err := s.PutManifest(ctx, ref.Reference{Digest: d}, oci.MediaTypeManifest, m); err != nil {
		return "", fmt.Errorf("cosign: push the bundle: %w", err)
	}
	return d.String(), nil
}

// put pushes a blob and describes it.
func put(ctx context.Context, s sign.Store, mediaType string, body []byte, notes map[string]string) (oci.Descriptor, error) {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body)), Annotations: maps.Clone(notes)}
	if err := s.PutBlob(ctx, d, body); err != nil {
		return d, fmt.Errorf("cosign: push a blob of the signature: %w", err)
	}
	return d, nil
}

// tries is how often append begins again when somebody else signed at the same time.
const tries = 4

// append adds a layer to the manifest at the image's tag. The scheme has one manifest for all signers and no way to lock it:
// whoever finds another's manifest there after the push adds to that.
func (g Signer) append(ctx context.Context, s sign.Store, image oci.Digest, suffix string, body []byte, layer oci.Descriptor) (string, error) {
	tag := Tag(image, suffix)
	if _, err := ref.ParseTag(tag); err != nil {
		return "", fault.New(fault.Unsupported, fault.UnsupportedReason, "the digest of the image is too long for a signature at a tag; use the format %q", Bundle)
	}
	at := ref.Reference{Tag: tag}
	described, err := put(ctx, s, layer.MediaType, body, layer.Annotations)
	if err != nil {
		return "", err
	}
	for range tries {
		old, err := layersAt(ctx, s, at)
		if err != nil {
			return "", err
		}
		m, err := g.imageOf(ctx, s, append(old, described))
		if err != nil {
			return "", err
		}
		if err := s.PutManifest(ctx, at, oci.MediaTypeManifest, m); err != nil {
			return "", fmt.Errorf("cosign: push the signature to %s: %w", tag, err)
		}
		now, err := layersAt(ctx, s, at)
		if err != nil {
			return "", err
		}
		for i, l := range now {
			if l.Digest == described.Digest && l.Annotations[signatureNote] == described.Annotations[signatureNote] {
				return fmt.Sprintf("%s layer %d", tag, i), nil
			}
		}
	}
	return "", fault.New(fault.Conflict, fault.Unknown, "tag %s was changed by others while the signature was added; sign again", tag)
}

// layersAt are the layers of the manifest with the tag, none when there is no such tag.
func layersAt(ctx context.Context, s sign.Store, at ref.Reference) ([]oci.Descriptor, error) {
	c, err := s.Manifest(ctx, at)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: signatures at %s: %w", at, err)
	}
	m, err := oci.ParseManifest(c.MediaType, c.Body)
	if err != nil || m.IsIndex() {
		return nil, fault.New(fault.Conflict, fault.ManifestInvalid, "tag %s is there and is no manifest of signatures; it is not replaced", at).Because(err)
	}
	return m.Layers, nil
}

// imageOf is a manifest with the layers, in the form of an image, which every registry takes.
func (g Signer) imageOf(ctx context.Context, s sign.Store, layers []oci.Descriptor) ([]byte, error) {
	ids := make([]string, len(layers))
	for i, l := range layers {
		ids[i] = l.Digest.String()
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "", "os": "", "created": time.Time{}, "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return nil, fmt.Errorf("cosign: config of the signatures: %w", err)
	}
	described, err := put(ctx, s, imageConfigType, config, nil)
	if err != nil {
		return nil, err
	}
	m, err := json.Marshal(document{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: described, Layers: layers})
	if err != nil {
		return nil, fmt.Errorf("cosign: manifest of the signatures: %w", err)
	}
	return m, nil
}
