package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// referrersPage is the most descriptors of one page; most clients do not ask for a second one.
const referrersPage = 1000

// ReferrersQuery asks for a page of referrers.
type ReferrersQuery struct {
	Subject      oci.Digest
	ArtifactType string     // "" is any
	After        oci.Digest // of the last descriptor of the page before; zero for the first page
	Limit        int        // 0 is the registry's own
}

// Referrers is a page of the manifests that name a subject.
type Referrers struct {
	Descriptors []byte     // JSON objects with commas between; empty for none
	Next        oci.Digest // After of the next page; zero when this is the last
}

// Referrers lists the manifests of the repository that have the subject, whether or not the subject is there: a
// repository that is not there has none. What clients without this API keep in an index under the fallback tag is
// merged into the last page.
//
// Spec: OCI distribution v1.1.1, "Listing Referrers" and "Referrers Tag Schema".
func (s *Service) Referrers(ctx context.Context, name ref.Name, q ReferrersQuery) (*Referrers, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	repo, err := s.o.DB.Repository(ctx, name.String())
	if errors.Is(err, metadb.ErrNotFound) {
		return &Referrers{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("registry: referrers in %s: %w", name, err)
	}
	limit := q.Limit
	if limit <= 0 || limit > referrersPage {
		limit = referrersPage
	}
	page, err := s.o.DB.Referrers(ctx, repo.ID, q.Subject, q.ArtifactType, q.After, limit)
	if err != nil {
		return nil, fmt.Errorf("registry: referrers of %s@%s: %w", name, q.Subject, err)
	}
	out := &Referrers{Descriptors: page.Descriptors}
	if page.More {
		out.Next = page.Last
		return out, nil
	}
	return out, s.mergeFallback(ctx, &repo, q, out)
}

// describe is the descriptor of a manifest as the list of referrers has it, annotations included. One that fits into no
// page of the list is refused: the list would be more than any client reads.
func describe(m *oci.Manifest, d oci.Digest, size int) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // it makes six bytes of one
	err := enc.Encode(oci.Descriptor{
		MediaType: m.MediaType, Digest: d, Size: int64(size), ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	})
	if err != nil {
		return "", fmt.Errorf("registry: descriptor of %s: %w", d, err)
	}
	if b.Len() > metadb.MaxReferrerBytes {
		return "", fault.New(fault.TooLarge, fault.ManifestInvalid, "manifest %s has a subject and annotations of %d bytes, which the list of referrers would have to repeat; at most %d fit in there", d.Short(), b.Len(), metadb.MaxReferrerBytes)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// FallbackTag is the tag under which clients without the referrers API keep an index of a subject's referrers: at most
// 32 characters of the algorithm and 64 of the digits.
func FallbackTag(d oci.Digest) string {
	a, h := string(d.Algorithm()), d.Hex()
	return a + "-" + h[:min(len(h), 64)]
}

// Attached reports whether anything belongs to a digest: referrers, or signatures of podman and skopeo. It costs less than to list
// them, and says as much to who finds nothing.
func (s *Service) Attached(ctx context.Context, name ref.Name, d oci.Digest) (bool, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return false, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return false, err
	}
	attached, err := s.o.DB.Attached(ctx, repo.ID, d, FallbackTag(d))
	if err != nil {
		return false, fmt.Errorf("registry: what belongs to %s@%s: %w", name, d, err)
	}
	return attached, nil
}

// mergeFallback appends the descriptors of the fallback index that the database did not list.
func (s *Service) mergeFallback(ctx context.Context, repo *metadb.Repository, q ReferrersQuery, out *Referrers) error {
	tag, err := s.o.DB.Tag(ctx, repo.ID, FallbackTag(q.Subject))
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registry: fallback referrers in %s: %w", repo.Name, err)
	}
	index, err := s.manifest(ctx, repo, tag.Digest)
	if err != nil {
		return err
	}
	var doc struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(index.Body, &doc) != nil { // the tag may name anything; then it is no index
		return nil
	}
	for _, raw := range doc.Manifests {
		var d oci.Descriptor
		if json.Unmarshal(raw, &d) != nil || d.Digest.IsZero() || q.ArtifactType != "" && d.ArtifactType != q.ArtifactType {
			continue
		}
		row, err := s.o.DB.Manifest(ctx, repo.ID, d.Digest)
		if errors.Is(err, metadb.ErrNotFound) || err == nil && row.Subject == q.Subject {
			continue // gone, or listed by the database already
		}
		if err != nil {
			return fmt.Errorf("registry: fallback referrers in %s: %w", repo.Name, err)
		}
		if len(out.Descriptors)+len(raw)+1 > metadb.MaxReferrerBytes {
			return nil
		}
		if len(out.Descriptors) > 0 {
			out.Descriptors = append(out.Descriptors, ',')
		}
		out.Descriptors = append(out.Descriptors, raw...)
	}
	return nil
}
