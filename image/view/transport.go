package view

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Transport is a Source that reads from a transport of go.podman.io/image: a layout, an archive, a directory.
type Transport struct {
	src types.ImageSource
}

// NewTransport reads from an image source, which stays the caller's to close.
func NewTransport(src types.ImageSource) *Transport { return &Transport{src: src} }

// Manifest reads the primary manifest, or an instance of it. Places without tags of their own ignore the tag.
func (t *Transport) Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	body, mediaType, err := t.src.GetManifest(ctx, nil)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	if !at.Digest.IsZero() && at.Digest != d.Digest {
		instance := digest.Digest(at.Digest.String())
		if body, d.MediaType, err = t.src.GetManifest(ctx, &instance); err != nil {
			return oci.Descriptor{}, nil, err
		}
		d.Digest, d.Size = oci.FromBytes(at.Digest.Algorithm(), body), int64(len(body))
		if d.Digest != at.Digest {
			return oci.Descriptor{}, nil, fault.New(fault.Invalid, fault.DigestInvalid, "the manifest that is kept as %s has the digest %s: the archive is damaged", at.Digest, d.Digest)
		}
	}
	// What is called by no type, or by a general one, says itself what it is.
	m, err := oci.ParseManifest("", body)
	if err != nil && d.MediaType != "" {
		m, err = oci.ParseManifest(d.MediaType, body)
	}
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("view: manifest: %w", err)
	}
	d.MediaType = m.MediaType
	return d, body, nil
}

// Blob opens a blob. Its digest and size are compared at the end.
func (t *Transport) Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	r, _, err := t.src.GetBlob(ctx, types.BlobInfo{Digest: digest.Digest(d.Digest.String()), Size: d.Size, MediaType: d.MediaType, URLs: d.URLs}, none.NoCache)
	if err != nil {
		if infos, ierr := t.src.LayerInfosForCopy(ctx, nil); ierr == nil && infos != nil {
			return nil, fault.New(fault.Unsupported, fault.UnsupportedReason,
				"this place keeps layers in another form than its manifests say (local storage does); copy the image to oci:DIR first").Because(err)
		}
		return nil, err
	}
	if from > 0 {
		if _, err := io.CopyN(io.Discard, r, from); err != nil {
			return nil, errors.Join(fmt.Errorf("view: blob %s: %w", d.Digest, err), r.Close())
		}
		return r, nil
	}
	return &verifier{ReadCloser: r, want: d, hash: oci.NewHasher(d.Digest.Algorithm())}, nil
}

// verifier gives io.EOF only when the digest and the size were right.
type verifier struct {
	io.ReadCloser
	want oci.Descriptor
	hash *oci.Hasher
	n    int64
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	_, _ = v.hash.Write(p[:n])
	v.n += int64(n)
	if v.want.Size > 0 && v.n > v.want.Size {
		return n, fault.New(fault.Invalid, fault.DigestInvalid, "blob %s has more than the %d bytes that its manifest says", v.want.Digest, v.want.Size)
	}
	if errors.Is(err, io.EOF) {
		if got := v.hash.Digest(); got != v.want.Digest {
			return n, fault.New(fault.Invalid, fault.DigestInvalid, "blob %s is damaged: its bytes have the digest %s", v.want.Digest, got)
		}
	}
	return n, err
}
