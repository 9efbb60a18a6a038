// Package signtest is a repository in memory for the tests of the formats, with ways to spoil what is in it. The formats are
// tested against real registries and real clients, too: test/interop.
package signtest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Store implements sign.Store. Its fields may be changed between calls; Fail, when set, is asked before each read.
type Store struct {
	Blobs     map[oci.Digest][]byte
	Manifests map[string]sign.Content // by tag and by digest
	Fail      func(what string) error

	mu sync.Mutex
}

var _ sign.Store = (*Store)(nil)

// New is an empty repository.
func New() *Store {
	return &Store{Blobs: map[oci.Digest][]byte{}, Manifests: map[string]sign.Content{}}
}

// Image pushes an image whose content is made from seed.
func (s *Store) Image(seed string) sign.Content {
	body := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":{"mediaType":"` + oci.MediaTypeEmpty +
		`","digest":"` + oci.FromBytes(oci.SHA256, []byte("{}")).String() + `","size":2},"layers":[],"annotations":{"seed":"` + seed + `"}}`)
	d := oci.FromBytes(oci.SHA256, body)
	_ = s.PutManifest(context.Background(), ref.Reference{Digest: d}, oci.MediaTypeManifest, body) // it cannot fail
	return s.Manifests[d.String()]
}

func (s *Store) fail(what string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(what)
}

// Manifest implements sign.Store.
func (s *Store) Manifest(_ context.Context, r ref.Reference) (sign.Content, error) {
	if err := s.fail("manifest " + r.String()); err != nil {
		return sign.Content{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.Manifests[r.String()]
	if !ok {
		return sign.Content{}, fault.New(fault.NotFound, fault.ManifestUnknown, "manifest %s is not there", r)
	}
	return c, nil
}

// PutManifest implements sign.Store.
func (s *Store) PutManifest(_ context.Context, r ref.Reference, mediaType string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := oci.FromBytes(oci.SHA256, body)
	c := sign.Content{MediaType: mediaType, Digest: d, Body: slices.Clone(body)}
	s.Manifests[d.String()] = c
	if r.Tag != "" {
		s.Manifests[r.Tag] = c
	}
	return nil
}

// Blob implements sign.Store. As the contract says, wrong bytes are refused.
func (s *Store) Blob(_ context.Context, d oci.Descriptor) ([]byte, error) {
	if err := s.fail("blob " + d.Digest.String()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.Blobs[d.Digest]
	switch {
	case !ok:
		return nil, fault.New(fault.NotFound, fault.BlobUnknown, "blob %s is not there", d.Digest)
	case len(b) > sign.MaxBytes:
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "blob %s is too large", d.Digest)
	case oci.FromBytes(d.Digest.Algorithm(), b) != d.Digest:
		return nil, fault.New(fault.Invalid, fault.DigestInvalid, "blob %s has other bytes", d.Digest)
	}
	return slices.Clone(b), nil
}

// PutBlob implements sign.Store.
func (s *Store) PutBlob(_ context.Context, d oci.Descriptor, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Blobs[d.Digest] = slices.Clone(body)
	return nil
}

// Referrers implements sign.Store.
func (s *Store) Referrers(_ context.Context, subject oci.Digest, artifactType string, limit int) (list []oci.Descriptor, more bool, err error) {
	if err := s.fail("referrers"); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.Manifests {
		m, err := oci.ParseManifest(c.MediaType, c.Body)
		if err != nil || !strings.Contains(name, ":") || m.Subject == nil || m.Subject.Digest != subject {
			continue
		}
		if artifactType == "" || m.ArtifactType == artifactType {
			d := c.Descriptor()
			d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b oci.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	if len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}
