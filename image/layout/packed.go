package layout

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/inflate"
)

// ReasonBomb is the reason of an archive that unpacks to more than the limits allow.
const ReasonBomb fault.Reason = "ARCHIVE_TOO_LARGE"

// Limits bound what a compressed archive may unpack to.
type Limits = inflate.Limits

// maxWindow is the memory that a zstd frame may ask for; the format's own tools stop at the same size.
const maxWindow = 128 << 20

// packing is how bytes that begin so are unpacked; nil when they are not packed.
func packing(b []byte) func(io.Reader) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		return func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
	case bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")):
		return func(r io.Reader) (io.ReadCloser, error) {
			z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}
	case bytes.HasPrefix(b, []byte("BZh")):
		return func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }
	case bytes.HasPrefix(b, []byte("\xfd7zXZ\x00")):
		return func(io.Reader) (io.ReadCloser, error) {
			return nil, fault.New(fault.Unsupported, ReasonCompressed, "it is compressed by xz, which may ask for any amount of memory; unpack it first (xz -d)")
		}
	}
	return nil
}

// unpacked is the stream of a packed archive. It ends with ARCHIVE_TOO_LARGE when there is more than the limits allow.
type unpacked struct {
	ctx    context.Context
	path   string
	z      io.ReadCloser
	packed *inflate.Counter
	limits Limits
	n      int64
}

func unpack(ctx context.Context, name string, f *os.File, l Limits) (*unpacked, error) {
	var magic [6]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("layout: read archive: %w", err)
	}
	how := packing(magic[:n])
	if how == nil {
		return nil, nil
	}
	u := &unpacked{ctx: ctx, path: name, packed: &inflate.Counter{R: f}, limits: l.OrDefaults()}
	if u.z, err = how(u.packed); err != nil {
		if f := (*fault.Error)(nil); errors.As(err, &f) {
			return nil, fault.New(f.Kind, f.Reason, "archive %s: %s", name, f.Message)
		}
		return nil, damaged("archive %s cannot be unpacked: %s", name, err)
	}
	return u, nil
}

func (u *unpacked) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := u.z.Read(p)
	u.n += int64(n)
	switch l := u.limits; {
	case u.n > l.Bytes:
		return 0, fault.New(fault.TooLarge, ReasonBomb, "archive %s unpacks to more than %d bytes; if it is meant to, unpack it first", u.path, l.Bytes)
	case l.Bomb(u.n, u.packed.N):
		return 0, fault.New(fault.TooLarge, ReasonBomb, "archive %s unpacks to more than %d times its size, as an archive bomb does; if it is meant to, unpack it first", u.path, l.Ratio)
	}
	if err != nil && err != io.EOF {
		err = spoiled("archive %s is damaged or cut off: %s", u.path, err)
	}
	return n, err
}

func (u *unpacked) Close() error { return u.z.Close() }

// reasoned reports whether an error says all there is to say already.
func reasoned(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// OpenPacked opens a layout in a tar file that may be compressed. Such a one is unpacked into a file in dir that has no name
// and is gone with the Archive; what it may take there is bounded by the limits.
func OpenPacked(ctx context.Context, name, dir string, l Limits) (*Archive, error) {
	a, err := OpenArchive(name)
	if !fault.Has(err, ReasonCompressed) {
		return a, err
	}
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	u, err := unpack(ctx, name, f, l)
	if err != nil {
		return nil, err
	}
	defer u.Close() //nolint:errcheck // it was only read
	plain, err := os.CreateTemp(dir, "berth-archive-")
	if err != nil {
		return nil, fmt.Errorf("layout: unpack archive: %w", err)
	}
	_ = os.Remove(plain.Name()) // where an open file cannot be removed, Close leaves it to the system
	if _, err := io.CopyBuffer(struct{ io.Writer }{plain}, u, make([]byte, buffer)); err != nil {
		return nil, errors.Join(full(err), plain.Close())
	}
	a = &Archive{path: name, f: plain, spans: map[string]span{}}
	if _, err := plain.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("layout: unpack archive: %w", err), plain.Close())
	}
	if err := a.scan(); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return a, nil
}

// LookTar reads the headers of an archive of images, of any form, packed or not, that another program's code is about to unpack,
// and refuses what would take more room there than it has here or could be understood in two ways: an archive bomb is
// ARCHIVE_TOO_LARGE; sparse files, names that are there twice, and what is cut off are LAYOUT_INVALID. It writes nothing.
func LookTar(ctx context.Context, name string, l Limits) error {
	f, err := openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	u, err := unpack(ctx, name, f, l)
	if err != nil {
		return err
	}
	each := func(string, *tar.Header, io.Reader) error { return ctx.Err() }
	if u == nil {
		return walkTar(name, f, each)
	}
	defer u.Close() //nolint:errcheck // it was only read
	if err := walkTar(name, u, each); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{u}, make([]byte, buffer)) // what comes behind the archive is unpacked, too
	return err
}

// LookDir looks at the files of a folder that another program's code is about to read as an image (transport dir), and refuses
// what that would follow or read without bound: links that lead out, pipes and devices, and documents of more than MaxManifest
// bytes.
func LookDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("layout: open %s: %w", dir, err)
	}
	defer root.Close()
	f, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("layout: open %s: %w", dir, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("layout: open %s: %w", dir, err)
	}
	for _, name := range names {
		info, err := root.Stat(name)
		switch {
		case err != nil:
			return damaged("%s of the folder %s cannot be read, or is a link that leads out of it: %s", plainName(name), dir, err)
		case info.IsDir():
		case !info.Mode().IsRegular():
			return damaged("%s of the folder %s is not a regular file", plainName(name), dir)
		case info.Size() > MaxManifest && document(name):
			return damaged("%s of the folder %s is larger than %d bytes", plainName(name), dir, MaxManifest)
		}
	}
	return nil
}

// document reports whether a file of a folder is read into memory; the others are blobs.
func document(name string) bool {
	return name == "version" || filepath.Ext(name) == ".json" || strings.HasPrefix(name, "signature-") || strings.Contains(name, ".signature-")
}
