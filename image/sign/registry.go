package sign

import (
	"bytes"
	"context"
	"io"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Registry is a repository of a registry as a Store.
func Registry(r *remote.Repository) Store { return registry{r} }

type registry struct{ r *remote.Repository }

func (s registry) Manifest(ctx context.Context, at ref.Reference) (Content, error) {
	d, body, err := s.r.Manifest(ctx, at)
	if err != nil {
		return Content{}, err
	}
	return Content{MediaType: d.MediaType, Digest: d.Digest, Body: body}, nil
}

func (s registry) PutManifest(ctx context.Context, at ref.Reference, mediaType string, body []byte) error {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	return s.r.PutManifest(ctx, at, d, body)
}

// Blob reads a blob into memory. Its reader verifies the digest, and fails at the end when it is another.
func (s registry) Blob(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if d.Size > MaxBytes {
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "blob %s has %d bytes, more than the %d that are read of a signature", d.Digest.Short(), d.Size, MaxBytes)
	}
	r, err := s.r.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > MaxBytes:
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "blob %s has more than the %d bytes that are read of a signature", d.Digest.Short(), MaxBytes)
	case oci.FromBytes(d.Digest.Algorithm(), b) != d.Digest: // whoever reads it, what is signed is these bytes
		return nil, fault.New(fault.Invalid, fault.DigestInvalid, "blob %s has other bytes than its digest says", d.Digest.Short())
	}
	return b, nil
}

func (s registry) PutBlob(ctx context.Context, d oci.Descriptor, body []byte) error {
	there, err := s.r.HasBlob(ctx, d)
	if err != nil || there {
		return err
	}
	_, err = s.r.PutBlob(ctx, d, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body[from:])), nil
	})
	return err
}

func (s registry) Referrers(ctx context.Context, subject oci.Digest, artifactType string, limit int) (list []oci.Descriptor, more bool, err error) {
	all, err := s.r.Referrers(ctx, subject)
	if err != nil {
		return nil, false, err
	}
	for _, d := range all {
		// A registry that does not say of what type a referrer is leaves it to whoever reads it.
		if artifactType != "" && d.ArtifactType != artifactType && d.ArtifactType != "" {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, d)
	}
	return list, false, nil
}
