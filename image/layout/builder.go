package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Builder writes a layout as one tar file. Blobs are written side by side: each gets its place in the file when it begins,
// for its size is known. The file is called NAME.partial until Commit gives it its name; it is then whole and on the disk.
// An older file of that name stays until that moment, and after Abort.
//
// A partial file that was left behind is taken up again: blobs that it has in the same places, whole or in part, are not
// fetched again. The order of places is that of the calls of Place, File and PutBlob, so who wants to resume makes them in an
// order of its own. Safe for concurrent use.
type Builder struct {
	path string
	name string
	dir  *durable.Dir
	f    *durable.File
	old  int64 // size of what was there at the start

	mu    sync.Mutex
	end   int64 // where the next entry begins
	blobs map[oci.Digest]*place
	ix    *index
	done  bool
}

// place is where a blob is, or is to be.
type place struct {
	off, size int64
	mu        sync.Mutex // one writer
	whole     bool
}

// NewBuilder begins an archive at path, or takes one up again.
func NewBuilder(path string) (*Builder, error) {
	dir, err := durable.OpenDir(filepath.Dir(path), nil)
	if err != nil {
		return nil, fmt.Errorf("layout: write archive %s: %w", path, err)
	}
	name := filepath.Base(path)
	if info, err := dir.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, errors.Join(damaged("%s is there and is not a file", path), dir.Close())
	}
	f, err := dir.OpenFile(name+".partial", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	b := &Builder{path: path, name: name, dir: dir, f: f, blobs: map[oci.Digest]*place{}, ix: newIndex()}
	got, err := f.Lock(false)
	if err == nil && !got {
		err = fault.New(fault.Conflict, fault.Unknown, "another process is writing %s", path)
	}
	if err == nil {
		b.old, err = f.Size()
	}
	if err == nil {
		_, err = b.File(fileLayout, []byte(layoutText))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), dir.Close())
	}
	return b, nil
}

// String is the path.
func (b *Builder) String() string { return b.path }

// maxArchive is the largest archive that is begun, in bytes. Sizes come from descriptors, which can say anything.
const maxArchive = 1 << 60

// header is the tar header of a file; nothing in it depends on when or by whom it is written.
func header(name string, size int64) ([]byte, error) {
	var buf bytes.Buffer
	t := tar.NewWriter(&buf)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if size >= 8<<30 {
		h.Format = tar.FormatPAX
	}
	if err := t.WriteHeader(h); err != nil {
		return nil, fmt.Errorf("layout: write archive: %w", err)
	}
	return buf.Bytes(), nil
}

// reserve takes the place of a file. It returns where the content begins, and whether the partial file has the same header
// there, so that what follows may be its content.
func (b *Builder) reserve(name string, size int64) (off int64, same bool, err error) {
	if size < 0 || size > maxArchive-b.end {
		return 0, false, damaged("archive %s: %s is said to have %d bytes, which no archive can hold", b.path, plainName(name), size)
	}
	h, err := header(name, size)
	if err != nil {
		return 0, false, err
	}
	at := b.end
	if at+int64(len(h)) <= b.old {
		was := make([]byte, len(h))
		if _, err := b.f.ReadAt(was, at); err != nil {
			return 0, false, fmt.Errorf("layout: read the partial archive: %w", err)
		}
		same = bytes.Equal(was, h)
	}
	if !same {
		if b.old > at { // what follows lies elsewhere by now
			b.old = at
			if err := b.f.Truncate(at); err != nil {
				return 0, false, full(err)
			}
		}
		if _, err := b.f.WriteAt(h, at); err != nil {
			return 0, false, full(err)
		}
	}
	off = at + int64(len(h))
	b.end = off + (size+511)/512*512
	return off, same, nil
}

// File writes a further file, at once.
func (b *Builder) File(name string, body []byte) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	off, _, err := b.reserve(name, int64(len(body)))
	if err != nil {
		return 0, err
	}
	if _, err := b.f.WriteAt(body, off); err != nil {
		return 0, full(err)
	}
	return off, nil
}

// Place gives a blob its place, so that the order of places does not depend on which blob comes first.
func (b *Builder) Place(d oci.Descriptor) error {
	_, err := b.place(d)
	return err
}

func (b *Builder) place(d oci.Descriptor) (*place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.blobs[d.Digest]; p != nil {
		if p.size != d.Size {
			return nil, damaged("blob %s has %d bytes in one descriptor and %d in another", d.Digest, p.size, d.Size)
		}
		return p, nil
	}
	off, _, err := b.reserve(blobPath(d.Digest), d.Size)
	if err != nil {
		return nil, err
	}
	p := &place{off: off, size: d.Size}
	b.blobs[d.Digest] = p
	return p, nil
}

// HasBlob reports whether a blob is in the archive, in its place of an earlier attempt included.
func (b *Builder) HasBlob(_ context.Context, d oci.Descriptor) (bool, error) {
	b.mu.Lock()
	p := b.blobs[d.Digest]
	b.mu.Unlock()
	if p == nil {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.whole, nil
}

// Verifies reports that PutBlob keeps only bytes that have the digest.
func (b *Builder) Verifies() bool { return true }

// PutBlob writes a blob into its place. What an earlier attempt left there is read, and open is asked for the rest only.
func (b *Builder) PutBlob(ctx context.Context, d oci.Descriptor, _ []ref.Name, open remote.Open) (remote.Outcome, error) {
	p, err := b.place(d)
	if err != nil {
		return remote.Sent, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole {
		return remote.Sent, nil
	}
	w := &blobWriter{f: b.f, base: p.off, d: d, hash: oci.NewHasher(d.Digest.Algorithm())}
	if left := b.left(p); left > 0 {
		if err := w.resume(left); err != nil {
			return remote.Sent, err
		}
		// What lies there whole may be right; of a part nobody knows where it ends: it is trusted up to the last mark, and
		// anything else is fetched again.
		if left < d.Size || w.hash.Digest() != d.Digest {
			if err := b.rewind(w, p); err != nil {
				return remote.Sent, err
			}
		}
	}
	w.mark = b.marker(p, d)
	if err := w.fill(ctx, open); err != nil {
		return remote.Sent, err
	}
	p.whole = true
	return remote.Sent, nil
}

// left is how many bytes of an earlier attempt may lie in a place.
func (b *Builder) left(p *place) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(min(b.old-p.off, p.size), 0)
}

// every is how often it is noted how far a large blob is: what an interruption costs at most.
const every = 4 << 20

// markName is the file that notes how far a blob of the partial archive is.
func (b *Builder) markName(d oci.Digest) string { return b.name + ".partial." + d.Hex()[:16] }

// marker notes how far a blob is, after every so many bytes are on the disk.
func (b *Builder) marker(p *place, d oci.Descriptor) func(int64) error {
	var done int64
	noted := false
	return func(at int64) error {
		if at == d.Size && noted {
			if err := b.dir.Remove(b.markName(d.Digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}
		if at-done < every || at == d.Size {
			return nil
		}
		b.f.StartWriteback(p.off+done, at-done)
		done, noted = at, true
		body, err := json.Marshal(mark{Offset: p.off, Written: at})
		if err != nil {
			return err
		}
		return full(os.WriteFile(filepath.Join(filepath.Dir(b.path), b.markName(d.Digest)), body, 0o644)) // losing it only costs bytes
	}
}

// mark is what is noted of a blob. The bytes are hashed again before they count.
type mark struct {
	Offset  int64 `json:"offset"`
	Written int64 `json:"written"`
}

// rewind goes back to the last mark of a blob, or to its beginning.
func (b *Builder) rewind(w *blobWriter, p *place) error {
	w.hash, w.at = oci.NewHasher(w.d.Digest.Algorithm()), 0
	f, err := b.dir.Open(b.markName(w.d.Digest))
	if err != nil {
		return nil
	}
	defer f.Close()
	var m mark
	if err := json.NewDecoder(io.LimitReader(f, 1<<10)).Decode(&m); err != nil || m.Offset != p.off || m.Written < 0 || m.Written > b.left(p) {
		return nil
	}
	return w.resume(m.Written)
}

// Head describes a manifest that was written; what was not is NotFound.
func (b *Builder) Head(_ context.Context, at ref.Reference) (oci.Descriptor, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at.Tag == "" && !at.Digest.IsZero() {
		if p := b.blobs[at.Digest]; p != nil && p.whole {
			return oci.Descriptor{Digest: at.Digest, Size: p.size}, nil
		}
	}
	return b.ix.find(at)
}

// Tags are the names that were written.
func (b *Builder) Tags(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ix.tags(), nil
}

// PutManifest writes a manifest and enters it into the index, by the rules of Dir.PutManifest.
func (b *Builder) PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error {
	d.Size = int64(len(body))
	open := func(_ context.Context, from int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body[from:])), nil
	}
	if _, err := b.PutBlob(ctx, d, nil, open); err != nil {
		return err
	}
	d, platform, referrer := entryOf(d, body)
	if at.Tag == "" && !at.Digest.IsZero() && !referrer {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ix.put(at.Tag, d, platform, referrer)
}

// Delete is refused: an archive is written once.
func (b *Builder) Delete(context.Context, ref.Reference) error {
	return fault.New(fault.Unsupported, fault.UnsupportedReason, "nothing is deleted from an archive that is being written")
}

// Commit ends the archive and gives it its name. A blob that got a place and no content is an error, and the file stays
// partial.
func (b *Builder) Commit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d, p := range b.blobs {
		if !p.whole {
			return damaged("archive %s is not finished: it lacks the blob %s", b.path, d)
		}
	}
	body, list, err := b.ix.render()
	if err != nil {
		return err
	}
	if d := oci.FromBytes(oci.SHA256, list); list != nil && b.blobs[d] == nil {
		off, _, err := b.reserve(blobPath(d), int64(len(list)))
		if err != nil {
			return err
		}
		if _, err := b.f.WriteAt(list, off); err != nil {
			return full(err)
		}
	}
	off, _, err := b.reserve(fileIndex, int64(len(body)))
	if err != nil {
		return err
	}
	if _, err := b.f.WriteAt(body, off); err != nil {
		return full(err)
	}
	// The padding of the last file and the two empty blocks that end an archive.
	tail := b.end + 1024
	if err := b.f.Truncate(off + int64(len(body))); err != nil {
		return full(err)
	}
	if err := b.f.Truncate(tail); err != nil {
		return full(err)
	}
	if err := b.dir.Publish(b.f, b.name); err != nil {
		return full(err)
	}
	b.done = true
	for d := range b.blobs {
		_ = b.dir.Remove(b.markName(d)) // most have none
	}
	return b.dir.Close()
}

// Close gives up what was not committed, and keeps the partial file for the next attempt. After Commit it does nothing.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil
	}
	b.done = true
	return errors.Join(b.f.Close(), b.dir.Close())
}

// Abort gives up and removes the partial file.
func (b *Builder) Abort() error {
	b.mu.Lock()
	done := b.done
	b.mu.Unlock()
	if done {
		return nil
	}
	return errors.Join(b.dir.Remove(b.name+".partial"), b.Close())
}
