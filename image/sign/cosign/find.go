package cosign

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// candidate is something that was found where signatures are. It claims nothing until verify has looked at it.
type candidate struct {
	where   string
	bundle  *bundle.Bundle
	message []byte // what a signature of the tag scheme signs; nil when the bundle is an envelope with its content in it
	raw     []byte // as it was stored
	err     error  // why it is none: kept, so that a refusal can tell
}

// found is what a repository has for an image.
type found struct {
	list  []candidate
	more  bool // there was more than sign.MaxSignatures or sign.MaxTotal
	total int64
}

// suffix of the tags of the old scheme.
const (
	signatureSuffix   = ".sig"
	attestationSuffix = ".att"
	sbomSuffix        = ".sbom"
)

// Tag is where the old scheme keeps signatures (".sig"), attestations (".att") and SBOMs (".sbom") of an image.
func Tag(d oci.Digest, suffix string) string {
	return string(d.Algorithm()) + "-" + d.Hex() + suffix
}

// find reads all candidates, or those of one format: of the tag with the suffix, and bundles among the referrers. An error is one of the
// repository; what is wrong with a single candidate is in it.
func find(ctx context.Context, s sign.Store, subject oci.Digest, suffix string, only Format) (*found, error) {
	f := &found{}
	if only != Bundle {
		if err := f.tagged(ctx, s, subject, suffix); err != nil {
			return nil, err
		}
	}
	if only != Legacy {
		if err := f.referring(ctx, s, subject); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// tagged reads the layers of the tag.
func (f *found) tagged(ctx context.Context, s sign.Store, subject oci.Digest, suffix string) error {
	tag := Tag(subject, suffix)
	if _, err := ref.ParseTag(tag); err != nil { // sha512 is too long for this scheme
		return nil
	}
	c, err := s.Manifest(ctx, ref.Reference{Tag: tag})
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case fault.Is(err, fault.TooLarge), fault.Is(err, fault.Invalid):
		f.bad(tag, err)
		return nil
	case err != nil:
		return fmt.Errorf("cosign: signatures at %s: %w", tag, err)
	}
	m, err := oci.ParseManifest(c.MediaType, c.Body)
	if err != nil || m.IsIndex() {
		f.bad(tag, errors.Join(errors.New("not a manifest with signatures"), err))
		return nil
	}
	for i, layer := range m.Layers {
		where := fmt.Sprintf("%s layer %d", tag, i)
		body, err := f.blob(ctx, s, where, layer)
		if err != nil {
			return err
		}
		if body == nil {
			continue
		}
		can := candidate{where: where, raw: body}
		switch layer.MediaType {
		case SimpleType:
			can.bundle, can.err = fromSimple(body, layer.Annotations)
			can.message = body
		case EnvelopeType:
			can.bundle, can.err = fromEnvelope(body, layer.Annotations)
		default:
			can.err = fmt.Errorf("layer of type %q is none that is known", layer.MediaType)
		}
		f.list = append(f.list, can)
	}
	return nil
}

// referring reads the bundles among the referrers.
func (f *found) referring(ctx context.Context, s sign.Store, subject oci.Digest) error {
	list, more, err := s.Referrers(ctx, subject, "", sign.MaxSignatures)
	if err != nil {
		return fmt.Errorf("cosign: referrers of %s: %w", subject, err)
	}
	f.more = f.more || more
	for _, d := range list {
		// The type of a referrer is what a registry says of it: the manifest itself is asked, unless it plainly is another.
		if d.ArtifactType != "" && !strings.HasPrefix(d.ArtifactType, bundleTypeStart) {
			continue
		}
		if err := f.referrer(ctx, s, subject, d); err != nil {
			return err
		}
	}
	return nil
}

func (f *found) referrer(ctx context.Context, s sign.Store, subject oci.Digest, d oci.Descriptor) error {
	where := d.Digest.String()
	c, err := s.Manifest(ctx, ref.Reference{Digest: d.Digest})
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.TooLarge) || fault.Is(err, fault.Invalid) {
		f.bad(where, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cosign: referrer %s: %w", d.Digest, err)
	}
	m, err := oci.ParseManifest(c.MediaType, c.Body)
	if err != nil {
		f.bad(where, err)
		return nil
	}
	if m.Subject == nil || m.Subject.Digest != subject {
		f.bad(where, fmt.Errorf("listed as a referrer of %s and is none", subject.Short()))
		return nil
	}
	for _, layer := range m.Layers {
		if !strings.HasPrefix(layer.MediaType, bundleTypeStart) {
			continue
		}
		body, err := f.blob(ctx, s, where, layer)
		if err != nil {
			return err
		}
		if body == nil {
			continue
		}
		b := &bundle.Bundle{}
		can := candidate{where: where, bundle: b, raw: body, err: b.UnmarshalJSON(body)}
		f.list = append(f.list, can)
	}
	return nil
}

// blob reads a layer within the limits; nil when it is not to be looked at.
func (f *found) blob(ctx context.Context, s sign.Store, where string, d oci.Descriptor) ([]byte, error) {
	if len(f.list) >= sign.MaxSignatures || f.total > sign.MaxTotal {
		f.more = true
		return nil, nil
	}
	if d.Size > sign.MaxBytes {
		f.bad(where, fmt.Errorf("has %d bytes, more than the %d that are read of a signature", d.Size, sign.MaxBytes))
		return nil, nil
	}
	body, err := s.Blob(ctx, d)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.TooLarge) || fault.Is(err, fault.Invalid) {
		f.bad(where, err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: signature %s: %w", where, err)
	}
	f.total += int64(len(body))
	return body, nil
}

func (f *found) bad(where string, err error) {
	f.list = append(f.list, candidate{where: where, err: err})
}
