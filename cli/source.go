package cli

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// imageSource opens an image for looking at it. Registries are asked by berth's own client, whose answers are bounded and compared
// with their digests; what registries.conf has mirrors or another place for, and every other transport, by the library.
func (a *app) imageSource(ctx context.Context, img types.ImageReference, sys *types.SystemContext, retry option.Retry) (types.ImageSource, error) {
	if img.DockerReference() == nil || img.Transport().Name() != "docker" {
		return img.NewImageSource(ctx, sys)
	}
	e, err := a.repository(img, sys, retry)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return img.NewImageSource(ctx, sys)
	}
	repo := e.source.(*remote.Repository)
	s := &remoteSource{img: img, repo: repo, at: e.at}
	if s.d, s.body, err = repo.Manifest(ctx, e.at); err != nil {
		return nil, err
	}
	return s, nil
}

// remoteSource lets the library look at an image that berth's own client reads. It has no signatures: who asks a policy opens the
// image by the library.
type remoteSource struct {
	img  types.ImageReference
	repo *remote.Repository
	at   ref.Reference
	d    oci.Descriptor
	body []byte
}

// Reference is the image's name.
func (s *remoteSource) Reference() types.ImageReference { return s.img }

// Close does nothing: nothing stays open.
func (s *remoteSource) Close() error { return nil }

// HasThreadSafeGetBlob is true of our client.
func (s *remoteSource) HasThreadSafeGetBlob() bool { return true }

// GetManifest gives the manifest that the name leads to, or one of its index.
func (s *remoteSource) GetManifest(ctx context.Context, instance *digest.Digest) ([]byte, string, error) {
	if instance == nil || instance.String() == s.d.Digest.String() {
		return s.body, s.d.MediaType, nil
	}
	d, err := oci.ParseDigest(instance.String())
	if err != nil {
		return nil, "", err
	}
	got, body, err := s.repo.Manifest(ctx, ref.Reference{Digest: d})
	return body, got.MediaType, err
}

// GetBlob opens a blob.
func (s *remoteSource) GetBlob(ctx context.Context, b types.BlobInfo, _ types.BlobInfoCache) (io.ReadCloser, int64, error) {
	d, err := oci.ParseDigest(b.Digest.String())
	if err != nil {
		return nil, 0, err
	}
	r, err := s.repo.Blob(ctx, oci.Descriptor{MediaType: b.MediaType, Digest: d, Size: b.Size, URLs: b.URLs}, 0)
	return r, b.Size, err
}

// GetSignatures gives none.
func (s *remoteSource) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) {
	return nil, nil
}

// LayerInfosForCopy says that layers are what the manifest says.
func (s *remoteSource) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}
