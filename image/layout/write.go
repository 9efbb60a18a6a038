package layout

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
)

// buffer is how much is read and written at once.
const buffer = 256 << 10

// blobWriter writes one blob to a place in a file, hashing it.
type blobWriter struct {
	f interface {
		io.ReaderAt
		io.WriterAt
	}
	base  int64 // where the blob begins in the file
	d     oci.Descriptor
	hash  *oci.Hasher
	at    int64 // bytes written
	wrong bool  // the bytes are not the blob's

	mark func(at int64) error // told now and then how much is written; nil is nobody
}

// resume takes up what is in the file already: at most the first n bytes, which are read and hashed.
func (w *blobWriter) resume(n int64) error {
	n = min(n, w.d.Size)
	got, err := io.CopyBuffer(w.hash, struct{ io.Reader }{io.NewSectionReader(w.f, w.base, n)}, make([]byte, buffer))
	if err != nil {
		return fmt.Errorf("layout: read what was written: %w", err)
	}
	w.at = got
	return nil
}

// fill writes the blob from open, beginning after what is there, and verifies all of it.
func (w *blobWriter) fill(ctx context.Context, open remote.Open) error {
	resumed := w.at > 0
	if w.at < w.d.Size || w.d.Size == 0 {
		if err := w.copy(ctx, open); err != nil {
			return err
		}
	}
	if w.hash.Digest() == w.d.Digest {
		return nil
	}
	w.wrong = true
	if resumed { // what was left behind may have been wrong; the whole may not be
		w.at, w.hash, w.wrong = 0, oci.NewHasher(w.d.Digest.Algorithm()), false
		if err := w.copy(ctx, open); err != nil {
			return err
		}
		if w.hash.Digest() == w.d.Digest {
			return nil
		}
		w.wrong = true
	}
	return fault.New(fault.Unavailable, remote.ReasonWrongDigest, "blob %s: the bytes that came have the digest %s", w.d.Digest, w.hash.Digest())
}

func (w *blobWriter) copy(ctx context.Context, open remote.Open) error {
	src, err := open(ctx, w.at)
	if err != nil {
		return err
	}
	defer src.Close()
	buf := make([]byte, buffer)
	for {
		n, err := io.ReadFull(src, buf)
		if w.at+int64(n) > w.d.Size {
			w.wrong = true
			return fault.New(fault.Unavailable, remote.ReasonWrongDigest, "blob %s: more bytes came than the %d that its descriptor says", w.d.Digest, w.d.Size)
		}
		if n > 0 {
			if _, err := w.f.WriteAt(buf[:n], w.base+w.at); err != nil {
				return full(err)
			}
			_, _ = w.hash.Write(buf[:n]) // never fails
			w.at += int64(n)
			if w.mark != nil {
				if err := w.mark(w.at); err != nil {
					return err
				}
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if w.at < w.d.Size {
				return fault.New(fault.Unavailable, remote.ReasonWrongDigest, "blob %s: %d bytes came; its descriptor says %d", w.d.Digest, w.at, w.d.Size)
			}
			return nil
		default:
			return err
		}
	}
}

// full says that a disk is full in the words of a fault.
func full(err error) error {
	if durable.IsFull(err) {
		return fault.New(fault.Full, fault.StorageFull, "no space is left on the disk; what was written stays, and the same command goes on from there").Because(err)
	}
	return err
}

// verified reads a blob from r, closing c, and checks the digest when the reading began at its beginning. The last bytes are
// kept back until it is known to be right.
func verified(r io.Reader, c io.Closer, d oci.Descriptor, from int64, where string) io.ReadCloser {
	v := &verifier{r: r, c: c, d: d, at: from, where: where}
	if from == 0 {
		v.hash = oci.NewHasher(d.Digest.Algorithm())
	}
	return v
}

type verifier struct {
	r     io.Reader
	c     io.Closer
	d     oci.Descriptor
	hash  *oci.Hasher
	at    int64
	where string
	err   error
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p[:min(int64(len(p)), max(v.d.Size-v.at, 0))])
	v.at += int64(n)
	if v.hash != nil {
		_, _ = v.hash.Write(p[:n]) // never fails
	}
	switch {
	case v.at >= v.d.Size:
		v.err = io.EOF
		if v.hash != nil && v.hash.Digest() != v.d.Digest {
			v.err = spoiled("blob %s in %s is damaged: its bytes have the digest %s", v.d.Digest, v.where, v.hash.Digest())
			return 0, v.err
		}
	case err == io.EOF:
		v.err = spoiled("blob %s in %s is cut off after %d of %d bytes", v.d.Digest, v.where, v.at, v.d.Size)
	case err != nil:
		v.err = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, v.err
}

func (v *verifier) Close() error { return v.c.Close() }

// describe completes a descriptor by the manifest itself.
func describe(d oci.Descriptor, body []byte) (oci.Descriptor, []byte, error) {
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	return oci.Descriptor{MediaType: m.MediaType, Digest: d.Digest, Size: int64(len(body))}, body, nil
}

// entryOf is the descriptor of a manifest for the index, its platform where a config can tell it cheaply (none here), and
// whether it is a referrer.
func entryOf(d oci.Descriptor, body []byte) (oci.Descriptor, json.RawMessage, bool) {
	out := oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(body))}
	m, err := oci.ParseManifest(d.MediaType, body)
	if err != nil || m.Subject == nil {
		return out, nil, false
	}
	out.ArtifactType = m.ArtifactType
	return out, nil, true
}

func checkVersion(body []byte) error {
	var doc struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(body, &doc); err != nil || !strings.HasPrefix(doc.Version, "1.") {
		return damaged("the layout's version %.20q is not known; 1.0.0 is", doc.Version)
	}
	return nil
}

func unique() string { return strings.ToLower(rand.Text()) }
