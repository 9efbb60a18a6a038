package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"slices"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// List implements blob.Lister: directory by directory, each of which holds a 256th of the names. Files that are no digest
// are passed over.
func (s *Store) List(ctx context.Context, after oci.Digest, each func(blob.Listed) error) error {
	for _, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		all := &s.sha256
		if a == oci.SHA512 {
			all = &s.sha512
		}
		for i := range all.all {
			if err := ctx.Err(); err != nil {
				return err
			}
			if last := string(a) + ":" + all.all[i].name + "g"; last <= after.String() { // nothing in it lies behind
				continue
			}
			if err := all.all[i].list(ctx, a, after, each); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *shard) list(ctx context.Context, a oci.Algorithm, after oci.Digest, each func(blob.Listed) error) error {
	dir, err := s.find()
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	} else if err != nil {
		return failed("list", err)
	}
	names, err := dir.Names(".")
	if err != nil {
		return failed("list", err)
	}
	slices.Sort(names)
	for _, name := range names {
		d, err := oci.ParseDigest(string(a) + ":" + name)
		if err != nil || d.Hex()[:2] != s.name || d.String() <= after.String() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := dir.Stat(name)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		} else if err != nil {
			return failed("list "+d.String(), err)
		}
		if err := each(blob.Listed{Digest: d, Size: info.Size(), Modified: info.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}
