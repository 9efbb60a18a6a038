package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// Opener gives the reference that an entry's source names, and the settings to read it with: a login for one registry is none
// for another.
type Opener func(source string) (types.ImageReference, *types.SystemContext, error)

// Reference lets go.podman.io/image copy a list as if it were an index that lies in one place: body is the list as Render
// wrote it, and each image is read from where its entry says. So a list can be pushed to every transport, with conversion,
// compression and signatures.
func Reference(name, mediaType string, body []byte, l *List, open Opener) types.ImageReference {
	return &listReference{name: name, mediaType: mediaType, body: body, list: l, open: open}
}

type listReference struct {
	name, mediaType string
	body            []byte
	list            *List
	open            Opener
}

// transport is the kind of place that a list is. Nobody can name one in a command line.
type transport struct{}

func (transport) Name() string { return "berth-list" }

func (transport) ParseReference(string) (types.ImageReference, error) {
	return nil, errors.New("index: a list is opened by its name")
}

func (transport) ValidatePolicyConfigurationScope(string) error { return nil }

func (r *listReference) Transport() types.ImageTransport         { return transport{} }
func (r *listReference) StringWithinTransport() string           { return r.name }
func (r *listReference) DockerReference() reference.Named        { return nil }
func (r *listReference) PolicyConfigurationIdentity() string     { return "" }
func (r *listReference) PolicyConfigurationNamespaces() []string { return nil }
func (r *listReference) DeleteImage(context.Context, *types.SystemContext) error {
	return errors.New("index: a list is deleted by its store")
}

func (r *listReference) NewImage(context.Context, *types.SystemContext) (types.ImageCloser, error) {
	return nil, errors.New("index: a list is no single image")
}

func (r *listReference) NewImageDestination(context.Context, *types.SystemContext) (types.ImageDestination, error) {
	return nil, errors.New("index: a list is written by its store")
}

func (r *listReference) NewImageSource(context.Context, *types.SystemContext) (types.ImageSource, error) {
	return &source{r: r, open: map[string]types.ImageSource{}, blobs: map[digest.Digest]types.ImageSource{}}, nil
}

// source reads each image from its own place.
type source struct {
	r *listReference

	mu    sync.Mutex
	open  map[string]types.ImageSource        // by the entries' sources
	blobs map[digest.Digest]types.ImageSource // where a blob of a manifest that was read is
}

func (s *source) Reference() types.ImageReference { return s.r }

func (s *source) Close() error {
	var errs []error
	for _, o := range s.open {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// HasThreadSafeGetBlob is false, because that of a source in an archive is not known before it is opened.
func (s *source) HasThreadSafeGetBlob() bool { return false }

// at opens the place of an image. instance is nil when the image is what the place has by itself.
func (s *source) at(ctx context.Context, d digest.Digest) (src types.ImageSource, instance *digest.Digest, body []byte, mediaType string, err error) {
	var from string
	for _, e := range s.r.list.Entries {
		if e.Digest.String() == d.String() {
			from = e.Source
			break
		}
	}
	if from == "" {
		return nil, nil, nil, "", fault.New(fault.NotFound, ListUnknown, "the list has no image %s", d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	src = s.open[from]
	if src == nil {
		ref, sys, err := s.r.open(from)
		if err != nil {
			return nil, nil, nil, "", err
		}
		if src, err = ref.NewImageSource(ctx, sys); err != nil {
			return nil, nil, nil, "", fmt.Errorf("index: image %s is not at %s any more: %w", d, from, err)
		}
		s.open[from] = src
	}
	if body, mediaType, err = src.GetManifest(ctx, nil); err != nil {
		return nil, nil, nil, "", err
	}
	if digest.FromBytes(body) != d {
		instance = &d
		if body, mediaType, err = src.GetManifest(ctx, instance); err != nil {
			return nil, nil, nil, "", fmt.Errorf("index: image %s is not at %s any more: %w", d, from, err)
		}
	}
	if digest.FromBytes(body) != d {
		return nil, nil, nil, "", fault.New(fault.Invalid, ListConflict, "%s has another image now than %s, which was added to the list; add it again", from, d)
	}
	return src, instance, body, mediaType, nil
}

func (s *source) GetManifest(ctx context.Context, d *digest.Digest) ([]byte, string, error) {
	if d == nil {
		return s.r.body, s.r.mediaType, nil
	}
	src, instance, body, mediaType, err := s.at(ctx, *d)
	if err != nil {
		return nil, "", err
	}
	m, err := oci.ParseManifest(mediaType, body)
	if err != nil {
		return nil, "", fmt.Errorf("index: image %s: %w", d, err)
	}
	infos, err := src.LayerInfosForCopy(ctx, instance)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range m.Layers {
		s.blobs[digest.Digest(b.Digest.String())] = src
	}
	if m.Config != nil {
		s.blobs[digest.Digest(m.Config.Digest.String())] = src
	}
	for _, i := range infos {
		s.blobs[i.Digest] = src
	}
	return body, mediaType, nil
}

func (s *source) GetBlob(ctx context.Context, info types.BlobInfo, cache types.BlobInfoCache) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	src := s.blobs[info.Digest]
	s.mu.Unlock()
	if src == nil {
		return nil, 0, fault.New(fault.NotFound, fault.BlobUnknown, "no image of the list has the blob %s", info.Digest)
	}
	return src.GetBlob(ctx, info, cache)
}

func (s *source) GetSignatures(ctx context.Context, d *digest.Digest) ([][]byte, error) {
	if d == nil {
		return nil, nil // a list in the making is signed when it is pushed
	}
	src, instance, _, _, err := s.at(ctx, *d)
	if err != nil {
		return nil, err
	}
	return src.GetSignatures(ctx, instance)
}

func (s *source) LayerInfosForCopy(ctx context.Context, d *digest.Digest) ([]types.BlobInfo, error) {
	if d == nil {
		return nil, nil
	}
	src, instance, _, _, err := s.at(ctx, *d)
	if err != nil {
		return nil, err
	}
	return src.LayerInfosForCopy(ctx, instance)
}
