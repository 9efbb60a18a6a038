package blob

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// ReceiveOptions bound what Receive accepts.
type ReceiveOptions struct {
	// Limit is the largest number of bytes to take, 0 for any. The byte after it ends the reception with
	// TooLarge SIZE_INVALID; those before it are kept.
	Limit int64
}

// SourceError is a failure of the side that sends: the client went away, its body was cut, or the request's context
// ended. What came before it was received in order and counts, so the upload can be resumed behind it.
type SourceError struct{ Err error }

// Error is the text of the failure, for logs.
func (e *SourceError) Error() string { return "receive: " + e.Err.Error() }

// Unwrap gives the failure itself.
func (e *SourceError) Unwrap() error { return e.Err }

// The sizes that bound an upload's memory: a body up to smallBuffer costs that much, any other at most smallBuffer +
// ringBuffers*ringBuffer, and less while its client is slower than we are, since a buffer is taken only when the
// others are in use.
const (
	smallBuffer = 32 << 10
	ringBuffer  = 128 << 10
	ringBuffers = 4
)

// Buffers live between uploads; a pool gives them back to the collector when nobody pushes.
var (
	smallPool = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	ringPool  = sync.Pool{New: func() any { return new([ringBuffer]byte) }}
)

// Receive appends all of r to w and h, and returns how many bytes w took. Reading, writing and hashing overlap; a
// small body is passed straight through.
//
// However it ends, h has seen exactly the n bytes that w holds, so that the hasher's and the writer's state can be
// saved together. An error of r, or the end of ctx, is a *SourceError; an error of w is returned as it is. ctx is
// looked at between reads: who wants a blocked read to end closes the source.
//
// Its goroutines have ended when it returns. It does not close w or r.
func Receive(ctx context.Context, w io.Writer, r io.Reader, h *oci.Hasher, o ReceiveOptions) (n int64, err error) {
	src := &source{ctx: ctx, r: r, limited: o.Limit > 0, left: o.Limit}

	small := smallPool.Get().(*[smallBuffer]byte)
	n, ended, err := pass(src, small[:], w, h)
	smallPool.Put(small)
	if ended {
		return n, err
	}

	large := ringPool.Get().(*[ringBuffer]byte)
	m, ended, err := pass(src, large[:], w, h)
	n += m
	if ended {
		ringPool.Put(large)
		return n, err
	}

	m, err = receiveOverlapped(src, large, w, h)
	return n + m, err
}

// pass moves one buffer from the source to w and h. ended is false when there may be more.
func pass(src *source, buf []byte, w io.Writer, h *oci.Hasher) (n int64, ended bool, err error) {
	filled, srcErr := src.fill(buf)
	written, err := write(w, buf[:filled])
	_, _ = h.Write(buf[:written]) // a hasher never fails
	switch {
	case err != nil:
		return int64(written), true, err
	case srcErr == io.EOF:
		return int64(written), true, nil
	case srcErr != nil:
		return int64(written), true, srcErr
	}
	return int64(written), false, nil
}

// write holds w to the promise of io.Writer: less than all is an error.
func write(w io.Writer, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := w.Write(p)
	if n < 0 || n > len(p) {
		return 0, errors.New("blob: the writer reports an impossible count")
	}
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// source reads whole buffers and says why it stopped.
type source struct {
	ctx     context.Context
	r       io.Reader
	limited bool
	left    int64
}

// fill reads until p is full. Less than that comes with io.EOF, a *SourceError, or the fault of the limit.
func (s *source) fill(p []byte) (int, error) {
	n, idle := 0, 0
	for n < len(p) {
		if err := s.ctx.Err(); err != nil {
			return n, &SourceError{context.Cause(s.ctx)}
		}
		rest := p[n:]
		// One byte more than allowed is asked for, since only its arrival tells a body that fits from one that does not.
		if s.limited && int64(len(rest)) > s.left {
			rest = rest[:s.left+1]
		}
		m, err := s.r.Read(rest)
		if s.limited && int64(m) > s.left {
			n, s.left = n+int(s.left), 0
			return n, s.tooLarge()
		}
		n, s.left = n+m, s.left-int64(m)
		switch {
		case err == io.EOF:
			return n, io.EOF
		case err != nil:
			return n, &SourceError{err}
		case m > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return n, &SourceError{io.ErrNoProgress}
			}
		}
	}
	return n, nil
}

func (s *source) tooLarge() error {
	return fault.New(fault.TooLarge, fault.SizeInvalid, "the content is larger than what was announced or is allowed; nothing behind that was kept")
}
