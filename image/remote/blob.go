package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// HasBlob reports whether the repository has a blob of this digest. A size that differs is WRONG_DIGEST.
func (r *Repository) HasBlob(ctx context.Context, d oci.Descriptor) (bool, error) {
	cl := &call{method: http.MethodHead, path: r.path("blobs", d.Digest.String()), scope: r.pull(), repo: r.name.String(),
		what: "look for blob " + d.Digest.Short() + " of " + r.name.String(), missing: fault.BlobUnknown}
	resp, err := r.c.do(ctx, r.h, cl)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := cl.settled(r.h, resp); err != nil {
		return false, err
	}
	if d.Size > 0 && resp.ContentLength > 0 && resp.ContentLength != d.Size {
		return false, wrongDigest("%s: blob %s of %s has %d bytes; its descriptor says %d", r.h.name, d.Digest, r.name, resp.ContentLength, d.Size)
	}
	return true, nil
}

// Blob opens a blob for reading from an offset. A transfer that breaks or stalls goes on where it was, by Range, as often as
// it makes progress. Whoever reads from 0 to the end gets io.EOF only after the digest was right, and WRONG_DIGEST in its
// place otherwise; a read from elsewhere checks the size. d.Size is needed.
//
// Spec: OCI distribution v1.1.1, "Pulling blobs".
func (r *Repository) Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	b := &blobReader{r: r, ctx: ctx, d: d, at: from}
	if from == 0 {
		b.hash = oci.NewHasher(d.Digest.Algorithm())
	}
	return b, b.begin()
}

// BlobUnverified is Blob for a reader that compares the digest itself: only the size is checked.
func (r *Repository) BlobUnverified(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	b := &blobReader{r: r, ctx: ctx, d: d, at: from}
	return b, b.begin()
}

// Verifies reports that PutBlob ends well only when the bytes have the digest: a registry has to compare it.
//
// Spec: OCI distribution v1.1.1, "Pushing blobs".
func (r *Repository) Verifies() bool { return true }

// blobReader is a blob on its way. Not safe for concurrent use.
type blobReader struct {
	r    *Repository
	ctx  context.Context
	d    oci.Descriptor
	hash *oci.Hasher // nil when the beginning was not read, or the reader compares
	at   int64       // of the next byte

	body   io.ReadCloser // nil between connections
	conn   context.Context
	cancel context.CancelCauseFunc
	stall  *time.Timer
	failed error
	tries  int // since the last kibibyte that came
	came   int // since then
}

var errStalled = errors.New("the transfer stood still")

func (b *blobReader) call() *call {
	return &call{method: http.MethodGet, path: b.r.path("blobs", b.d.Digest.String()), scope: b.r.pull(), repo: b.r.name.String(),
		what: "get blob " + b.d.Digest.Short() + " of " + b.r.name.String(), missing: fault.BlobUnknown}
}

// begin connects where there is something to read.
func (b *blobReader) begin() error {
	if b.d.Size == b.at {
		return nil
	}
	return b.open()
}

// open connects at b.at.
func (b *blobReader) open() error {
	cl := b.call()
	if b.at > 0 {
		cl.header = http.Header{"Range": {"bytes=" + itoa(b.at) + "-"}}
		cl.ok = []int{http.StatusOK, http.StatusPartialContent}
	}
	ctx, cancel := context.WithCancelCause(b.ctx)
	resp, err := b.r.c.do(ctx, b.r.h, cl)
	if err != nil {
		cancel(nil)
		return err
	}
	b.body, b.conn, b.cancel = resp.Body, ctx, cancel
	b.stall = time.AfterFunc(b.r.c.o.Stall, func() { cancel(errStalled) })
	if err := b.position(cl, resp); err != nil {
		b.disconnect()
		return err
	}
	return nil
}

// position makes sure that the next byte of the body is the one at b.at, and that the blob is as long as it should be.
func (b *blobReader) position(cl *call, resp *http.Response) error {
	if resp.StatusCode == http.StatusPartialContent {
		from, _, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || from != b.at || total >= 0 && total != b.d.Size {
			return fault.New(fault.Unavailable, ReasonWrongDigest, "%s: %s: bytes from %d of %d were asked for, and %q came", b.r.h.name, cl.describe(), b.at, b.d.Size,
				plain(resp.Header.Get("Content-Range"), 60))
		}
		return nil
	}
	if resp.ContentLength >= 0 && resp.ContentLength != b.d.Size {
		return wrongDigest("%s: %s: the registry has %d bytes; the descriptor says %d", b.r.h.name, cl.describe(), resp.ContentLength, b.d.Size)
	}
	for left := b.at; left > 0; { // a registry without ranges sends all of it again
		b.stall.Reset(b.r.c.o.Stall)
		n, err := io.CopyN(io.Discard, resp.Body, min(left, 1<<20))
		if left -= n; err != nil {
			return cl.broken(b.ctx, b.r.h, err)
		}
	}
	return nil
}

func (b *blobReader) disconnect() {
	if b.body != nil {
		b.stall.Stop()
		_ = b.body.Close() // what was read has been checked, and the rest is not wanted
		b.cancel(nil)
		b.body = nil
	}
}

// Close ends the transfer.
func (b *blobReader) Close() error {
	b.disconnect()
	if b.failed == nil {
		b.failed = errors.New("remote: the blob is closed")
	}
	return nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	for b.failed == nil {
		if b.at == b.d.Size {
			b.failed = b.end()
			break
		}
		if b.body == nil {
			if err := b.open(); err != nil {
				b.failed = b.interrupted(err)
				continue
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.d.Size-b.at)])
		if n > 0 {
			b.stall.Reset(b.r.c.o.Stall)
			b.at += int64(n)
			if b.came += n; b.came >= 1<<10 { // fewer are no progress, see timely
				b.came, b.tries = 0, 0
			}
			if b.hash != nil {
				_, _ = b.hash.Write(p[:n]) // never fails
			}
			if b.at == b.d.Size {
				if b.failed = b.end(); b.failed != io.EOF {
					return 0, b.failed // the last bytes are kept back: who has all of a blob has the right one
				}
			}
			return n, nil
		}
		if err != nil {
			if errors.Is(context.Cause(b.conn), errStalled) {
				err = errStalled
			} else if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			b.disconnect()
			b.failed = b.interrupted(b.call().broken(b.ctx, b.r.h, err))
		}
	}
	return 0, b.failed
}

// interrupted decides whether to go on after a failure; nil is yes.
func (b *blobReader) interrupted(err error) error {
	if b.ctx.Err() != nil || lasting(err) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Range) || fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
		return err
	}
	if b.tries++; b.tries >= b.r.c.o.Tries {
		return err
	}
	b.r.c.o.Notice(Notice{Host: b.r.h.name, Kind: "resume", Text: fmt.Sprintf("blob %s goes on at byte %d of %d", b.d.Digest.Short(), b.at, b.d.Size)})
	if b.tries == 1 {
		return nil // the first time at once: most connections break alone
	}
	return b.r.c.again(b.ctx, b.r.h, b.tries, err)
}

// end is what stands in place of the byte after the last.
func (b *blobReader) end() error {
	b.disconnect()
	if b.hash == nil {
		return io.EOF
	}
	if got := b.hash.Digest(); got != b.d.Digest {
		return wrongDigest("%s: blob %s of %s: the bytes that came have the digest %s", b.r.h.name, b.d.Digest, b.r.name, got)
	}
	return io.EOF
}

// BlobSize is the size of a blob in bytes, as the registry says it. One that is not there is BLOB_UNKNOWN.
func (r *Repository) BlobSize(ctx context.Context, d oci.Digest) (int64, error) {
	cl := &call{method: http.MethodHead, path: r.path("blobs", d.String()), scope: r.pull(), repo: r.name.String(),
		what: "look for blob " + d.Short() + " of " + r.name.String(), missing: fault.BlobUnknown}
	resp, err := r.c.do(ctx, r.h, cl)
	if err != nil {
		return 0, err
	}
	if err := cl.settled(r.h, resp); err != nil {
		return 0, err
	}
	if resp.ContentLength < 0 {
		return 0, fault.New(fault.Unavailable, ReasonNoRegistry, "%s: %s: the registry does not say its size", r.h.name, cl.describe())
	}
	return resp.ContentLength, nil
}
