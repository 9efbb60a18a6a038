package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Target is where content is written to. A remote.Repository is one.
type Target interface {
	HasBlob(ctx context.Context, d oci.Descriptor) (bool, error)
	PutBlob(ctx context.Context, d oci.Descriptor, from []ref.Name, open remote.Open) (remote.Outcome, error)
	PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error
	Manifest(ctx context.Context, at ref.Reference) (oci.Descriptor, []byte, error)
}

// Options say how Push writes.
type Options struct {
	From []ref.Name // repositories of the same registry that may have the blobs, for mounts
	Jobs int        // blobs at the same time; 0 is 4
	// What is told of blobs, from several goroutines; nil is nobody. Moved counts the bytes of a blob that were read so far;
	// Done ends each: "sent", "mounted", "exists", or "skipped" for one that lives elsewhere.
	Start func(d oci.Descriptor)
	Moved func(d oci.Descriptor, n int64)
	Done  func(d oci.Descriptor, how string)
}

// Content is an image or an index.
type Content interface {
	RawManifest() ([]byte, error)
	Digest() (v1.Hash, error)
}

// Push writes an image, or an index and all that it lists, and gives it the name at the end: blobs first, then manifests
// from the leaves up, so that a name never leads to less than a whole image. A zero at is the digest. Blobs that the
// repository has are not sent.
func Push(ctx context.Context, t Target, at ref.Reference, c Content, o Options) (oci.Descriptor, error) {
	if o.Jobs == 0 {
		o.Jobs = 4
	}
	if o.Done == nil {
		o.Done = func(oci.Descriptor, string) {}
	}
	if o.Start == nil {
		o.Start = func(oci.Descriptor) {}
	}
	if o.Moved == nil {
		o.Moved = func(oci.Descriptor, int64) {}
	}
	p := &pusher{t: t, o: o}
	d, body, err := p.content(ctx, c)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if !at.Digest.IsZero() && at.Digest != d.Digest {
		return oci.Descriptor{}, fault.New(fault.Invalid, fault.DigestInvalid, "the content has the digest %s, and is to be pushed as %s; name a tag in place of the digest", d.Digest, at.Digest)
	}
	return d, t.PutManifest(ctx, at, d, body)
}

type pusher struct {
	t Target
	o Options
}

// content writes what the manifest needs and returns the manifest itself.
func (p *pusher) content(ctx context.Context, c Content) (oci.Descriptor, []byte, error) {
	var err error
	switch c := c.(type) {
	case v1.ImageIndex:
		err = p.index(ctx, c)
	case v1.Image:
		err = p.image(ctx, c)
	default:
		err = fmt.Errorf("view: push of %T", c)
	}
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	body, err := c.RawManifest() // after the layers: a streamed one has a digest only then
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("view: manifest: %w", err)
	}
	m, err := oci.ParseManifest("", body)
	if err != nil {
		return oci.Descriptor{}, nil, fmt.Errorf("view: manifest: %w", err)
	}
	algorithm := oci.SHA256
	if h, err := c.Digest(); err == nil && h.Algorithm == string(oci.SHA512) {
		algorithm = oci.SHA512
	}
	return oci.Descriptor{MediaType: m.MediaType, Digest: oci.FromBytes(algorithm, body), Size: int64(len(body))}, body, nil
}

func (p *pusher) index(ctx context.Context, x v1.ImageIndex) error {
	m, err := x.IndexManifest()
	if err != nil {
		return fmt.Errorf("view: index: %w", err)
	}
	for _, d := range m.Manifests {
		digest, err := Digest(d.Digest)
		if err != nil {
			return err
		}
		var child Content
		if d.MediaType.IsIndex() {
			child, err = x.ImageIndex(d.Digest)
		} else {
			child, err = x.Image(d.Digest)
		}
		if err != nil {
			return fmt.Errorf("view: %s of the index: %w", d.Digest, err)
		}
		desc, body, err := p.content(ctx, child)
		if err != nil {
			return err
		}
		if desc.Digest != digest {
			return fault.New(fault.Invalid, fault.DigestInvalid, "the index lists %s, and its content has the digest %s", digest, desc.Digest)
		}
		if err := p.t.PutManifest(ctx, ref.Reference{Digest: digest}, desc, body); err != nil {
			return err
		}
	}
	return nil
}

func (p *pusher) image(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("view: layers: %w", err)
	}
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(p.o.Jobs)
	for _, l := range layers {
		g.Go(func() error {
			d, err := describe(l)
			if err != nil {
				return err
			}
			return p.blob(inner, d, func(ctx context.Context, from int64) (io.ReadCloser, error) { return openLayer(l, from) })
		})
	}
	g.Go(func() error {
		body, err := img.RawConfigFile()
		if err != nil {
			return fmt.Errorf("view: configuration: %w", err)
		}
		h, err := img.ConfigName()
		if err != nil {
			return fmt.Errorf("view: configuration: %w", err)
		}
		digest, err := Digest(h)
		if err != nil {
			return err
		}
		return p.blob(inner, oci.Descriptor{Digest: digest, Size: int64(len(body))}, Bytes(body))
	})
	return g.Wait()
}

// blob writes one blob unless it is there.
func (p *pusher) blob(ctx context.Context, d oci.Descriptor, open remote.Open) error {
	if d.External() { // lives elsewhere, by its manifest's own word
		p.o.Done(d, "skipped")
		return nil
	}
	has, err := p.t.HasBlob(ctx, d)
	switch {
	case err != nil:
		return err
	case has:
		p.o.Done(d, "exists")
		return nil
	}
	p.o.Start(d)
	how, err := p.t.PutBlob(ctx, d, p.o.From, p.watched(d, open))
	if err != nil {
		return err
	}
	p.o.Done(d, map[remote.Outcome]string{remote.Sent: "sent", remote.Mounted: "mounted"}[how])
	return nil
}

// watched tells of the bytes as they are read.
func (p *pusher) watched(d oci.Descriptor, open remote.Open) remote.Open {
	return func(ctx context.Context, from int64) (io.ReadCloser, error) {
		r, err := open(ctx, from)
		if err != nil {
			return nil, err
		}
		return &watched{ReadCloser: r, n: from, moved: func(n int64) { p.o.Moved(d, n) }}, nil
	}
}

type watched struct {
	io.ReadCloser
	n     int64
	moved func(int64)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.n += int64(n)
	w.moved(w.n)
	return n, err
}

func describe(l v1.Layer) (oci.Descriptor, error) {
	h, err := l.Digest()
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("view: digest of a layer: %w", err)
	}
	digest, err := Digest(h)
	if err != nil {
		return oci.Descriptor{}, err
	}
	size, err := l.Size()
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("view: size of layer %s: %w", h, err)
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("view: type of layer %s: %w", h, err)
	}
	return oci.Descriptor{MediaType: string(mediaType), Digest: digest, Size: size}, nil
}

func openLayer(l v1.Layer, from int64) (io.ReadCloser, error) {
	r, err := l.Compressed()
	if err != nil || from == 0 {
		return r, err
	}
	if _, err := io.CopyN(io.Discard, r, from); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Bytes opens what is in memory.
func Bytes(b []byte) remote.Open {
	return func(_ context.Context, from int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[from:])), nil
	}
}

// File opens a file, which must not change until the push is over.
func File(path string) remote.Open {
	return func(_ context.Context, from int64) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}

// DescribeFile reads a file for its digest and size.
func DescribeFile(path string, a oci.Algorithm) (oci.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := oci.NewHasher(a)
	n, err := io.Copy(h, f)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("view: %w", err)
	}
	return oci.Descriptor{Digest: h.Digest(), Size: n}, nil
}
