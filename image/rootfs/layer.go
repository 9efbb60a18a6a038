package rootfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/inflate"
)

// maxWindow is the memory that a zstd frame may ask for; the format's own tools stop at the same size.
const maxWindow = 128 << 20

// Entry is one file of the image.
type Entry struct {
	Path   string      // slash-separated, without a leading slash; "." is the root
	Layer  v1.Hash     // digest of the layer that has it
	Number int         // of that layer, 0 is the lowest
	Header *tar.Header // Name is Path, and so is the Linkname of a hard link; that of a symbolic link is as written
}

// marker is what an archive entry means for the layers below.
type marker uint8

const (
	plain  marker = iota
	hide          // whiteout: what has this path below is gone
	opaque        // opaque whiteout: what is in this directory below is gone
	ignore        // bookkeeping of a storage driver
)

// layer is an open layer.
type layer struct {
	digest  v1.Hash
	number  int
	meter   *meter
	tar     *tar.Reader
	guard   *guard
	packed  *inflate.Counter
	closers []func() error
}

func (m *meter) open(ctx context.Context, l v1.Layer, number int) (*layer, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, fmt.Errorf("rootfs: digest of layer %d: %w", number, err)
	}
	stream, err := l.Compressed()
	if err != nil {
		return nil, fmt.Errorf("rootfs: open layer %s: %w", digest, err)
	}
	o := &layer{digest: digest, number: number, meter: m, packed: &inflate.Counter{R: reading{ctx, stream}}, closers: []func() error{stream.Close}}
	unpacked, err := o.unpack(bufio.NewReaderSize(o.packed, 64<<10))
	if err != nil {
		return nil, errors.Join(o.damaged(err), o.close())
	}
	o.guard = &guard{r: unpacked, meter: m, layer: digest, packed: o.packed}
	o.tar = tar.NewReader(o.guard)
	return o, nil
}

// unpack goes by the bytes and not by the media type: archives of docker save call everything a plain tar.
func (o *layer) unpack(r *bufio.Reader) (io.Reader, error) {
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, z.Close)
		return z, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, func() error { z.Close(); return nil })
		return z, nil
	}
	return r, nil
}

// next is the next entry with what it means, io.EOF at the end of the archive.
func (o *layer) next() (*Entry, marker, error) {
	h, err := o.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, plain, io.EOF
	}
	if err != nil {
		return nil, plain, o.damaged(err)
	}
	if err := o.meter.entry(o.digest); err != nil {
		return nil, plain, err
	}
	if err := o.sparse(h); err != nil {
		return nil, plain, err
	}
	p, inside := local(h.Name)
	if !inside {
		return nil, plain, fault.New(fault.Invalid, LayerUnsafe, "layer %s has the path %.200q, which leaves the image; nothing was read further", o.digest, h.Name)
	}
	h.Name = p
	if h.Typeflag == tar.TypeLink {
		target, ok := local(h.Linkname)
		if !ok {
			return nil, plain, fault.New(fault.Invalid, LayerUnsafe, "layer %s has at %.200q a hard link that leaves the image; nothing was read further", o.digest, p)
		}
		h.Linkname = target
	}
	e := &Entry{Path: p, Layer: o.digest, Number: o.number, Header: h}
	switch dir, base := path.Split(p); {
	case base == ".wh..wh..opq":
		e.Path = path.Clean(dir) // "" becomes "."
		return e, opaque, nil
	case strings.HasPrefix(base, ".wh..wh."):
		return e, ignore, nil
	case strings.HasPrefix(base, ".wh."):
		name := strings.TrimPrefix(base, ".wh.")
		if name == "" || name == "." || name == ".." {
			return nil, plain, fault.New(fault.Invalid, LayerUnsafe, "layer %s has the whiteout %.200q, which names no file", o.digest, p)
		}
		e.Path = dir + name
		return e, hide, nil
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeGNUSparse:
		return e, plain, nil
	}
	return e, ignore, nil // global headers and what no file system has
}

// sparse counts a file that is larger than what the archive has of it as what it unpacks to.
func (o *layer) sparse(h *tar.Header) error {
	is := h.Typeflag == tar.TypeGNUSparse
	for k := range h.PAXRecords {
		is = is || strings.HasPrefix(k, "GNU.sparse.")
	}
	if !is {
		return nil
	}
	o.meter.bytes = min(o.meter.bytes, math.MaxInt64-h.Size) + h.Size
	switch l := o.meter.limits; {
	case o.meter.bytes > l.Bytes:
		return o.guard.tooMuch()
	case h.Size > l.Free && h.Size/l.Ratio > o.packed.N:
		return o.guard.bomb()
	}
	return nil
}

// content is the bytes of the entry that next gave last.
func (o *layer) content() io.Reader { return damage{o} }

type damage struct{ o *layer }

func (d damage) Read(p []byte) (int, error) {
	n, err := d.o.tar.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.o.damaged(err)
	}
	return n, err
}

// finish reads what is left, so that whoever opened the layer compares its digest.
func (o *layer) finish() error {
	if _, err := io.Copy(io.Discard, o.guard); err != nil {
		return o.damaged(err)
	}
	if _, err := io.Copy(io.Discard, o.packed); err != nil {
		return o.damaged(err)
	}
	return nil
}

func (o *layer) close() error {
	var errs []error
	for i := len(o.closers) - 1; i >= 0; i-- {
		errs = append(errs, o.closers[i]())
	}
	return errors.Join(errs...)
}

// damaged says which layer could not be read. What is a fault already, and what ended by the caller's wish, stays.
func (o *layer) damaged(err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, LayerDamaged, "layer %s is cut short or cannot be unpacked", o.digest).Because(err)
	}
	return fault.New(fault.Invalid, LayerDamaged, "layer %s cannot be read as an archive of files", o.digest).Because(err)
}

// local gives the path inside of the image that an archive's name means, and whether it stays there. Absolute names are
// taken from the root of the image, as every runtime does.
func local(name string) (string, bool) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", false
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	return p, p != ".." && !strings.HasPrefix(p, "../")
}

// reading ends a stream when its context does.
type reading struct {
	ctx context.Context
	r   io.Reader
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
