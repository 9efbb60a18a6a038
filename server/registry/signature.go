package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// What a manifest can have of signatures in the form of containers/image. They are in the database, and every pull by podman
// reads them all. A signature is about a kilobyte.
const (
	MaxSignatures     = 100
	MaxSignatureBytes = 64 << 10
)

// Signature is a signature in the form of containers/image. What is in it is between those who sign and those who verify: the
// registry keeps it and believes nothing.
type Signature struct {
	Name    string // 32 lowercase hexadecimal digits
	Content []byte
}

// Signatures are the signatures of a manifest, in the order in which they were put; none for one that has none. A manifest
// that is not there is MANIFEST_UNKNOWN.
//
// Spec: the X-Registry-Supports-Signatures extension of containers/image (docs/signature-protocols.md).
func (s *Service) Signatures(ctx context.Context, name ref.Name, d oci.Digest) ([]Signature, error) {
	if err := s.o.Access.Check(ctx, identity.Pull, name); err != nil {
		return nil, err
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := s.o.DB.Signatures(ctx, repo.ID, d)
	if err != nil {
		return nil, fmt.Errorf("registry: signatures of %s@%s: %w", name, d, err)
	}
	if len(rows) == 0 {
		if _, err := s.o.DB.Manifest(ctx, repo.ID, d); errors.Is(err, metadb.ErrNotFound) {
			return nil, unknownManifest(repo.Name, d)
		} else if err != nil {
			return nil, fmt.Errorf("registry: manifest %s@%s: %w", name, d, err)
		}
	}
	out := make([]Signature, len(rows))
	for i, r := range rows {
		out[i] = Signature{Name: r.Name, Content: r.Content}
	}
	return out, nil
}

// PutSignature adds a signature to a manifest of the repository. Signatures are not replaced: a name that is there with other
// content is refused, with the same content it is done. A manifest has at most MaxSignatures, of MaxSignatureBytes each.
func (s *Service) PutSignature(ctx context.Context, name ref.Name, d oci.Digest, sig Signature) error {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		return err
	}
	if !plainName(sig.Name) {
		return fault.New(fault.Invalid, fault.NameInvalid, "signature has the name %.60q; use 32 lowercase hexadecimal digits", sig.Name)
	}
	switch n := len(sig.Content); {
	case n == 0:
		return fault.New(fault.Invalid, fault.SizeInvalid, "signature %s is empty", sig.Name)
	case n > MaxSignatureBytes:
		return fault.New(fault.TooLarge, fault.SizeInvalid, "signature %s has %d bytes; at most %d are accepted", sig.Name, n, MaxSignatureBytes)
	}
	repo, err := s.repository(ctx, name)
	if err != nil {
		return err
	}
	if err := s.room(ctx, int64(len(sig.Content))); err != nil {
		return err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		count, added, same, err := tx.PutSignature(metadb.Signature{
			RepoID: repo.ID, Digest: d, Name: sig.Name, Content: sig.Content, CreatedBy: identity.From(ctx).String(),
		})
		switch {
		case err != nil:
			return err
		case !same:
			return fault.New(fault.Invalid, fault.Unknown, "signature %s of %s is there with other content; give the new one another name", sig.Name, d.Short())
		case count > MaxSignatures:
			return fault.New(fault.TooLarge, fault.Unknown, "manifest %s has %d signatures, which is as many as this registry keeps", d.Short(), MaxSignatures)
		case added:
			return tx.Emit(event.ManifestSigned(ctx, repo.Name, d, sig.Name))
		}
		return nil
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return unknownManifest(repo.Name, d)
	}
	return err
}

// plainName reports whether a signature may have the name: it becomes a part of a path for those who read it.
func plainName(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
