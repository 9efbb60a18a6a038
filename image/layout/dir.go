package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Dir is a layout in a directory. Safe for concurrent use; processes that change the same directory take turns.
//
// A blob that PutBlob took has its name, and is on the disk, when the next PutManifest or Settle has returned: blobs are synced many at a time,
// which a disk does nearly as fast as one. What Close meets before stays a part that the next PutBlob takes up.
type Dir struct {
	path string
	d    *durable.Dir

	mu sync.Mutex // the index

	blobs settling
}

// OpenDir opens a layout that is there. A directory that is none is LAYOUT_INVALID, none at all is NotFound.
func OpenDir(path string) (*Dir, error) {
	d, err := durable.OpenDir(path, nil)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "there is no layout at %s", path).Because(err)
		}
		return nil, fmt.Errorf("layout: open %s: %w", path, err)
	}
	l := &Dir{path: path, d: d}
	if err := l.check(); err != nil {
		_ = d.Close() // the check's error says more
		return nil, err
	}
	return l, nil
}

func (l *Dir) check() error {
	body, err := l.small(fileLayout, 1<<10)
	if fault.Has(err, ReasonLayout) {
		return err
	}
	if err != nil {
		return damaged("%s is not an OCI image layout: it has no %s", l.path, fileLayout)
	}
	if err := checkVersion(body); err != nil {
		return err
	}
	_, err = l.index()
	return err
}

// CreateDir opens a layout, and makes it where nothing is yet, or an empty directory.
func CreateDir(path string) (*Dir, error) {
	if err := durable.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("layout: create %s: %w", path, err)
	}
	d, err := durable.OpenDir(path, nil)
	if err != nil {
		return nil, fmt.Errorf("layout: create %s: %w", path, err)
	}
	l := &Dir{path: path, d: d}
	if err := l.furnish(); err != nil {
		_ = d.Close() // the error says more
		return nil, err
	}
	return l, nil
}

func (l *Dir) furnish() error {
	if _, err := l.d.Stat(fileLayout); err == nil {
		return l.check()
	}
	names, err := l.d.Names(".")
	if err != nil {
		return err
	}
	for _, n := range names {
		if n != dirBlobs && n[0] != '.' {
			return damaged("%s is neither empty nor an OCI image layout; it is left as it is", l.path)
		}
	}
	ix, err := newIndex().bytes()
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return l.d.Mkdir(dirBlobs, 0o755) },
		func() error { return l.d.Mkdir(dirBlobs+"/sha256", 0o755) },
		func() error { return l.d.WriteFile(fileIndex, ix, 0o644) },
		func() error { return l.d.WriteFile(fileLayout, []byte(layoutText), 0o644) }, // last: with it, it is a layout
	} {
		if err := step(); err != nil {
			return full(err)
		}
	}
	return nil
}

// Close releases the directory.
func (l *Dir) Close() error { return errors.Join(l.blobs.abandon(), l.d.Close()) }

// String is the path.
func (l *Dir) String() string { return l.path }

// small reads a file that must not be large.
func (l *Dir) small(name string, most int64) ([]byte, error) {
	f, err := l.regular(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(body)) > most {
		err = damaged("%s of the layout %s is larger than %d bytes", name, l.path, most)
	}
	return body, err
}

// regular opens a file that is neither a folder nor a device nor a pipe, which could make a reader wait for ever.
func (l *Dir) regular(name string) (*os.File, error) {
	info, err := l.d.Stat(name)
	if err != nil {
		return nil, l.unreadable(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, damaged("%s of the layout %s is not a regular file", name, l.path)
	}
	return l.d.Open(name)
}

// unreadable says of a file that is there and cannot be looked at that it is the layout which is wrong: a link leads out of it,
// or in a circle.
func (l *Dir) unreadable(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	return damaged("%s of the layout %s cannot be read, or is a link that leads out of it: %s", name, l.path, cause(err))
}

// cause is an error without the operation and the path that it was met at.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (l *Dir) index() (*index, error) {
	body, err := l.small(fileIndex, maxIndex)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, damaged("%s is not an OCI image layout: it has no %s", l.path, fileIndex)
		}
		return nil, err
	}
	ix, err := parseIndex(body)
	if err != nil {
		return nil, err
	}
	return ix, ix.unfold(l.read)
}

// change edits the index, one process at a time.
func (l *Dir) change(edit func(*index) error) error {
	return l.changeThen(edit, func(oci.Digest) error { return nil })
}

// changeThen does something more when the index is written, before the next process may change it. list is the digest of the
// list of referrers that is kept apart; the zero digest where none is.
func (l *Dir) changeThen(edit func(*index) error, then func(list oci.Digest) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock, err := l.d.OpenFile(fileLock, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("layout: lock the index of %s: %w", l.path, err)
	}
	defer lock.Close()
	if _, err := lock.Lock(true); err != nil {
		return fmt.Errorf("layout: lock the index of %s: %w", l.path, err)
	}
	ix, err := l.index()
	if err != nil {
		return err
	}
	if err := edit(ix); err != nil {
		return err
	}
	body, list, err := ix.render()
	if err != nil {
		return err
	}
	var at oci.Digest
	if list != nil {
		at = oci.FromBytes(oci.SHA256, list)
		if err := l.d.WriteFile(blobPath(at), list, 0o644); err != nil {
			return full(err)
		}
	}
	if err := l.d.WriteFile(fileIndex, body, 0o644); err != nil {
		return full(err)
	}
	return then(at)
}

// Manifest reads what a name or digest names; without either, the only image.
func (l *Dir) Manifest(_ context.Context, at ref.Reference) (oci.Descriptor, []byte, error) {
	d, err := l.resolve(at)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	body, err := l.read(d)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return describe(d, body)
}

// resolve also finds manifests that only an index names, by digest.
func (l *Dir) resolve(at ref.Reference) (oci.Descriptor, error) {
	ix, err := l.index()
	if err != nil {
		return oci.Descriptor{}, err
	}
	d, err := ix.find(at)
	if err == nil || at.Digest.IsZero() || at.Tag != "" {
		return d, err
	}
	info, statErr := l.d.Stat(blobPath(at.Digest))
	if statErr != nil {
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{Digest: at.Digest, Size: info.Size()}, nil
}

// Head describes what a name or digest names.
func (l *Dir) Head(ctx context.Context, at ref.Reference) (oci.Descriptor, error) {
	d, _, err := l.Manifest(ctx, at)
	return d, err
}

func (l *Dir) read(d oci.Descriptor) ([]byte, error) {
	body, err := l.small(blobPath(d.Digest), MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, fault.ManifestUnknown, "the layout %s lacks the manifest %s", l.path, d.Digest).Because(ErrSpoiled)
	}
	if err != nil {
		return nil, err
	}
	if oci.FromBytes(d.Digest.Algorithm(), body) != d.Digest {
		return nil, spoiled("manifest %s in the layout %s is damaged: its bytes have the digest %s", d.Digest, l.path, oci.FromBytes(d.Digest.Algorithm(), body))
	}
	return body, nil
}

// HasBlob reports whether the layout has a blob, which is read and hashed for that: one of other bytes than its name says counts as
// not there, and PutBlob replaces it.
func (l *Dir) HasBlob(ctx context.Context, d oci.Descriptor) (bool, error) {
	if l.blobs.waits(d.Digest) {
		return true, nil
	}
	info, err := l.d.Stat(blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, l.unreadable(blobPath(d.Digest), err)
	}
	if !info.Mode().IsRegular() || info.Size() != d.Size && d.Size != 0 {
		return false, nil
	}
	return l.intact(ctx, d.Digest)
}

// intact reports whether the bytes of a blob are what its name says.
func (l *Dir) intact(ctx context.Context, d oci.Digest) (bool, error) {
	f, err := l.regular(blobPath(d))
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	good, err := matches(ctx, f, d)
	if err != nil {
		err = fmt.Errorf("layout: read blob %s of %s: %w", d, l.path, err)
	}
	return good, err
}

// Blob opens a blob at an offset. From 0 to the end it gives io.EOF only when the digest is right.
func (l *Dir) Blob(_ context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	f, err := l.opened(d, from)
	if err != nil {
		return nil, err
	}
	return verified(f, f, d, from, l.path), nil
}

// BlobUnverified is Blob for a reader that compares the digest itself: only the size is checked.
func (l *Dir) BlobUnverified(_ context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	f, err := l.opened(d, from)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Verifies reports that PutBlob keeps only bytes that have the digest.
func (l *Dir) Verifies() bool { return true }

// opened opens the file of a blob at an offset.
func (l *Dir) opened(d oci.Descriptor, from int64) (*os.File, error) {
	if err := l.Settle(); err != nil {
		return nil, err
	}
	f, err := l.regular(blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, fault.BlobUnknown, "the layout %s lacks the blob %s", l.path, d.Digest).Because(ErrSpoiled)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != d.Size {
		err = spoiled("blob %s in the layout %s has %d bytes; its descriptor says %d", d.Digest, l.path, info.Size(), d.Size)
	}
	if err == nil {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Tags are the names in the index.
func (l *Dir) Tags(context.Context) ([]string, error) {
	ix, err := l.index()
	if err != nil {
		return nil, err
	}
	return ix.tags(), nil
}

// Referrers are the manifests in the layout whose subject is d.
func (l *Dir) Referrers(_ context.Context, d oci.Digest) ([]oci.Descriptor, error) {
	ix, err := l.index()
	if err != nil {
		return nil, err
	}
	return referrers(ix, d, l.read)
}

// PutManifest writes a manifest and enters it into the index: under a name; without name and digest as the image of the
// layout; under its digest only when it is a referrer, which nothing else would name.
func (l *Dir) PutManifest(_ context.Context, at ref.Reference, d oci.Descriptor, body []byte) error {
	if oci.FromBytes(d.Digest.Algorithm(), body) != d.Digest {
		return damaged("manifest %s is not written: its bytes have another digest", d.Digest)
	}
	if err := l.Settle(); err != nil { // before anything names them
		return err
	}
	if err := l.mkdir(d.Digest); err != nil {
		return err
	}
	if _, err := l.read(d); err != nil { // not there, or damaged: written anew
		if err := l.d.WriteFile(blobPath(d.Digest), body, 0o644); err != nil {
			return full(err)
		}
	}
	d, platform, referrer := entryOf(d, body)
	if at.Tag == "" && !at.Digest.IsZero() && !referrer {
		return nil
	}
	return l.change(func(ix *index) error { return ix.put(at.Tag, d, platform, referrer) })
}

// Delete takes a name or a digest out of the index. Content stays: something else may need it.
func (l *Dir) Delete(_ context.Context, at ref.Reference) error {
	return l.change(func(ix *index) error {
		if !ix.remove(at) {
			return fault.New(fault.NotFound, fault.ManifestUnknown, "the layout has no image %q", at.String())
		}
		return nil
	})
}

func (l *Dir) mkdir(d oci.Digest) error {
	if d.Algorithm() == oci.SHA256 {
		return nil
	}
	return l.d.Mkdir(dirBlobs+"/"+string(d.Algorithm()), 0o755)
}

// PutBlob writes a blob, which has its name when PutManifest or Settle has returned. What an interrupted one left is read, and open is asked for
// the rest only.
func (l *Dir) PutBlob(ctx context.Context, d oci.Descriptor, _ []ref.Name, open remote.Open) (remote.Outcome, error) {
	if err := l.mkdir(d.Digest); err != nil {
		return remote.Sent, err
	}
	f, name, err := l.part(dirBlobs + "/" + string(d.Digest.Algorithm()) + "/." + d.Digest.Hex() + ".part")
	if err != nil {
		return remote.Sent, full(err)
	}
	w := &blobWriter{f: f, d: d, hash: oci.NewHasher(d.Digest.Algorithm()), mark: writeback(f, d.Size)}
	size, err := f.Size()
	if err == nil {
		err = w.resume(size)
	}
	if err == nil {
		err = w.fill(ctx, open)
	}
	if err == nil {
		err = f.Truncate(d.Size) // of a wrong, longer beginning
	}
	if err != nil {
		if w.at == 0 || w.wrong { // the beginning of the right bytes is of use to the next attempt; wrong ones are not
			return remote.Sent, errors.Join(err, f.Close(), l.d.Remove(name))
		}
		return remote.Sent, errors.Join(err, f.Close())
	}
	due, err := l.blobs.add(d.Digest, durable.Publication{File: f, Name: blobPath(d.Digest)}, func() error { return l.d.Remove(name) })
	if due {
		err = l.Settle()
	}
	return remote.Sent, err
}

// part opens the file that a blob is written to before it is whole: one that an interrupted process left, or a new one. While
// another process writes to it, a file of one's own.
func (l *Dir) part(name string) (*durable.File, string, error) {
	for range 3 {
		f, err := l.d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, "", err
		}
		got, err := f.Lock(false)
		if err == nil && got {
			mine, err := f.Info()
			named, err2 := l.d.Stat(name)
			if err == nil && err2 == nil && os.SameFile(mine, named) {
				return f, name, nil
			}
		}
		if err := f.Close(); err != nil {
			return nil, "", err
		}
		if err != nil {
			return nil, "", err
		}
		if !got {
			break
		}
	}
	name += "." + unique()
	f, err := l.d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, "", err
	}
	if _, err := f.Lock(false); err != nil { // so that nobody takes it for left behind
		return nil, "", errors.Join(err, f.Close(), l.d.Remove(name))
	}
	return f, name, nil
}

// writeback has the disk begin with what was written of a blob while the rest still comes in, and others do.
func writeback(f *durable.File, size int64) func(int64) error {
	var done int64
	return func(at int64) error {
		if at-done >= 8<<20 || at == size {
			f.StartWriteback(done, at-done)
			done = at
		}
		return nil
	}
}
