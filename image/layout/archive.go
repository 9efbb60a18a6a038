package layout

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Archive is a layout in one uncompressed tar file, opened for reading. Nothing is unpacked: the headers are read once, and
// content is read where it lies. Safe for concurrent use.
type Archive struct {
	path  string
	f     *os.File
	spans map[string]span // by the name of the entry
	ix    *index
}

// span is where the content of an entry lies.
type span struct{ off, size int64 }

// ReasonCompressed is the reason of an archive that would have to be unpacked first.
const ReasonCompressed fault.Reason = "ARCHIVE_COMPRESSED"

// OpenArchive opens a layout in a tar file. A file that is cut off, or is no layout, is LAYOUT_INVALID; a compressed one is
// ARCHIVE_COMPRESSED: OpenPacked opens it.
func OpenArchive(name string) (*Archive, error) {
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	a := &Archive{path: name, f: f, spans: map[string]span{}}
	if err := a.scan(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// openFile opens an archive. What is no file is not opened: a pipe could make the reader wait for ever.
func openFile(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "there is no archive at %s", name).Because(err)
	}
	if err != nil {
		return nil, fmt.Errorf("layout: open archive: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, damaged("archive %s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("layout: open archive: %w", err)
	}
	return f, nil
}

func (a *Archive) scan() error {
	info, err := a.f.Stat()
	if err != nil {
		return fmt.Errorf("layout: open archive: %w", err)
	}
	var magic [6]byte
	if n, _ := a.f.ReadAt(magic[:], 0); packing(magic[:n]) != nil {
		return fault.New(fault.Unsupported, ReasonCompressed, "archive %s is compressed; unpack it first", a.path)
	}
	err = walkTar(a.path, a.f, func(name string, h *tar.Header, _ io.Reader) error {
		off, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("layout: read archive: %w", err)
		}
		if left := info.Size() - off; h.Size > left {
			return spoiled("archive %s is cut off: %s needs %d bytes more", a.path, plainName(name), h.Size-left)
		}
		a.spans[name] = span{off, h.Size}
		return nil
	})
	if err != nil {
		return err
	}
	version, err := a.small(fileLayout, 1<<10)
	if err != nil {
		return damaged("archive %s is not an OCI image layout: it has no %s", a.path, fileLayout)
	}
	if err := checkVersion(version); err != nil {
		return err
	}
	body, err := a.small(fileIndex, maxIndex)
	if reasoned(err) {
		return err
	}
	if err != nil {
		return damaged("archive %s is not an OCI image layout: it has no %s", a.path, fileIndex)
	}
	if a.ix, err = parseIndex(body); err != nil {
		return err
	}
	return a.ix.unfold(a.read)
}

func plainName(s string) string { return fmt.Sprintf("%.80q", s) }

// small reads an entry that must not be large.
func (a *Archive) small(name string, most int64) ([]byte, error) {
	s, ok := a.spans[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if s.size > most {
		return nil, damaged("%s of the archive %s is larger than %d bytes", plainName(name), a.path, most)
	}
	body := make([]byte, s.size)
	_, err := a.f.ReadAt(body, s.off)
	return body, err
}

// File reads a further file of the archive, at most most bytes of it. One that is not there is fs.ErrNotExist.
func (a *Archive) File(name string, most int64) ([]byte, error) { return a.small(name, most) }

// Open opens a further file of the archive and says its size in bytes. One that is not there is fs.ErrNotExist.
func (a *Archive) Open(name string) (size int64, r io.Reader, err error) {
	s, ok := a.spans[name]
	if !ok {
		return 0, nil, fs.ErrNotExist
	}
	return s.size, io.NewSectionReader(a.f, s.off, s.size), nil
}

// Files are the names of all files in the archive that are no blobs, in no order.
func (a *Archive) Files() []string {
	var out []string
	for name := range a.spans {
		if !strings.HasPrefix(name, dirBlobs+"/") {
			out = append(out, name)
		}
	}
	return out
}

// Close releases the file.
func (a *Archive) Close() error { return a.f.Close() }

// String is the path.
func (a *Archive) String() string { return a.path }

// Manifest reads what a name or digest names; without either, the only image.
func (a *Archive) Manifest(_ context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	d, err := a.ix.find(at)
	if err != nil {
		if s, ok := a.spans[blobPath(at.Digest)]; ok && at.Tag == "" && !at.Digest.IsZero() {
			d, err = oci.Descriptor{Digest: at.Digest, Size: s.size}, nil
		}
	}
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	body, err := a.read(d)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return describe(d, body)
}

func (a *Archive) read(d oci.Descriptor) ([]byte, error) {
	body, err := a.small(blobPath(d.Digest), MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the archive %s lacks the manifest %s", a.path, d.Digest).Because(ErrSpoiled)
	}
	if err != nil {
		return nil, err
	}
	if oci.FromBytes(d.Digest.Algorithm(), body) != d.Digest {
		return nil, spoiled("manifest %s in the archive %s is damaged: its bytes have the digest %s", d.Digest, a.path, oci.FromBytes(d.Digest.Algorithm(), body))
	}
	return body, nil
}

// Head describes what a name or digest names.
func (a *Archive) Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error) {
	d, _, err := a.Manifest(ctx, at)
	return d, err
}

// HasBlob reports whether the archive has a blob of this digest and size.
func (a *Archive) HasBlob(_ context.Context, d oci.Descriptor) (bool, error) {
	s, ok := a.spans[blobPath(d.Digest)]
	return ok && (s.size == d.Size || d.Size == 0), nil
}

// Blob opens a blob at an offset. From 0 to the end it gives io.EOF only when the digest is right.
func (a *Archive) Blob(_ context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	r, err := a.section(d, from)
	if err != nil {
		return nil, err
	}
	return verified(r, io.NopCloser(nil), d, from, a.path), nil
}

// BlobUnverified is Blob for a reader that compares the digest itself: only the size is checked.
func (a *Archive) BlobUnverified(_ context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	r, err := a.section(d, from)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

// section is a blob from an offset on.
func (a *Archive) section(d oci.Descriptor, from int64) (*io.SectionReader, error) {
	s, ok := a.spans[blobPath(d.Digest)]
	if !ok {
		return nil, fault.New(fault.NotFound, fault.BlobUnknown, "the archive %s lacks the blob %s", a.path, d.Digest).Because(ErrSpoiled)
	}
	if s.size != d.Size || from > s.size {
		return nil, spoiled("blob %s in the archive %s has %d bytes; its descriptor says %d", d.Digest, a.path, s.size, d.Size)
	}
	return io.NewSectionReader(a.f, s.off+from, s.size-from), nil
}

// Tags are the names in the index.
func (a *Archive) Tags(context.Context) ([]string, error) { return a.ix.tags(), nil }

// Referrers are the manifests in the archive whose subject is d.
func (a *Archive) Referrers(_ context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	return referrers(a.ix, d, a.read)
}

// Digests are the digests of all blobs in the archive, by the names that they have, in no order.
func (a *Archive) Digests() []oci.Digest {
	var out []oci.Digest
	for name := range a.spans {
		if rest, ok := strings.CutPrefix(name, dirBlobs+"/"); ok {
			if d, err := oci.ParseDigest(strings.Replace(rest, "/", ":", 1)); err == nil {
				out = append(out, d)
			}
		}
	}
	return out
}
