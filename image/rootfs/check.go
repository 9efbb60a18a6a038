package rootfs

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/oci"
)

// Summary is what a layer turned out to be.
type Summary struct {
	Digest   oci.Digest // of the bytes as they are kept
	DiffID   oci.Digest // of the archive inside
	Size     int64      // bytes as they are kept
	Unpacked int64      // bytes of the archive inside
	Entries  int
}

// Check reads one layer to its end: every path is one that stays in the image, the archive is whole, and the limits hold.
// The digests are computed and not compared; the caller knows what they should be.
func Check(ctx context.Context, l v1.Layer, limits Limits) (Summary, error) {
	m := &meter{limits: limits.orDefaults()}
	packed := oci.NewHasher(oci.SHA256)
	o, err := m.open(ctx, hashed{l, packed}, 0)
	if err != nil {
		return Summary{}, err
	}
	defer o.close() //nolint:errcheck // it was only read
	plain := oci.NewHasher(oci.SHA256)
	o.guard.r = io.TeeReader(o.guard.r, plain)
	for {
		if _, _, err := o.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Summary{}, err
		}
	}
	if err := o.finish(); err != nil {
		return Summary{}, err
	}
	return Summary{Digest: packed.Digest(), DiffID: plain.Digest(), Size: o.packed.N, Unpacked: o.guard.n, Entries: m.entries}, nil
}

// hashed is a layer whose bytes are hashed as they are read.
type hashed struct {
	v1.Layer
	hash *oci.Hasher
}

func (h hashed) Compressed() (io.ReadCloser, error) {
	r, err := h.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r, h.hash), r}, nil
}

// Archive calls visit for every entry of one archive, as it is: whiteouts mean nothing here. The rest is as with Walk.
func Archive(ctx context.Context, l v1.Layer, limits Limits, visit func(*Entry, io.Reader) error) error {
	m := &meter{limits: limits.orDefaults()}
	o, err := m.open(ctx, l, 0)
	if err != nil {
		return err
	}
	defer o.close() //nolint:errcheck // it was only read
	for {
		e, _, err := o.next()
		if errors.Is(err, io.EOF) {
			return o.finish()
		}
		if err != nil {
			return err
		}
		e.Path = e.Header.Name
		if err := visit(e, o.content()); err != nil {
			return err
		}
	}
}
