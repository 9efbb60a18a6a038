package blob

import (
	"io"
	"sync/atomic"

	"github.com/berth-registry/berth/oci"
)

// chunk is a buffer and how much of it counts: as read on the way to the writer, as written on the way to the hasher.
type chunk struct {
	buf *[ringBuffer]byte
	n   int
}

// overlap is a line of three stations that hand a few buffers on and back: the caller reads, one goroutine writes, one
// hashes. Writing comes before hashing so that the hasher never sees a byte that the writer refused.
type overlap struct {
	toWrite chan chunk
	toHash  chan chunk
	free    chan *[ringBuffer]byte
	taken   int // buffers in the ring; the reading side's own

	failed  atomic.Bool // the writer has failed: reading on is useless
	written int64       // the writing side's own until toHash is closed
	err     error       // the same
	done    chan struct{}
}

// receiveOverlapped moves the rest of the source. It owns buf and puts it into the ring.
func receiveOverlapped(src *source, buf *[ringBuffer]byte, w io.Writer, h *oci.Hasher) (int64, error) {
	o := &overlap{
		// As deep as there are buffers: no send ever blocks, so no station can hold up the end of another.
		toWrite: make(chan chunk, ringBuffers),
		toHash:  make(chan chunk, ringBuffers),
		free:    make(chan *[ringBuffer]byte, ringBuffers),
		taken:   1,
		done:    make(chan struct{}),
	}
	o.free <- buf
	go o.write(w)
	go o.hash(h)

	srcErr := o.read(src)
	close(o.toWrite)
	<-o.done
	for range o.taken {
		ringPool.Put(<-o.free)
	}
	switch {
	case o.err != nil:
		return o.written, o.err
	case srcErr == io.EOF:
		return o.written, nil
	}
	return o.written, srcErr
}

func (o *overlap) read(src *source) error {
	for {
		buf := o.take()
		n, err := src.fill(buf[:])
		o.toWrite <- chunk{buf, n}
		if err != nil {
			return err
		}
		if o.failed.Load() {
			return nil // o.err says why
		}
	}
}

// take is a buffer that nobody uses: one that came back, else a new one up to the bound, else the next that comes back.
func (o *overlap) take() *[ringBuffer]byte {
	select {
	case buf := <-o.free:
		return buf
	default:
	}
	if o.taken < ringBuffers {
		o.taken++
		return ringPool.Get().(*[ringBuffer]byte)
	}
	return <-o.free
}

func (o *overlap) write(w io.Writer) {
	defer close(o.toHash)
	for c := range o.toWrite {
		if o.err != nil {
			c.n = 0 // only the buffer goes on
		} else if c.n, o.err = write(w, c.buf[:c.n]); o.err != nil {
			o.failed.Store(true)
		}
		o.written += int64(c.n)
		o.toHash <- c
	}
}

func (o *overlap) hash(h *oci.Hasher) {
	defer close(o.done)
	for c := range o.toHash {
		_, _ = h.Write(c.buf[:c.n]) // a hasher never fails
		o.free <- c.buf
	}
}
