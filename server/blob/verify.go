package blob

import (
	"errors"
	"fmt"
	"io"

	"github.com/berth-registry/berth/oci"
)

// WrongError says that content is not what its digest and its row say.
type WrongError struct {
	Digest oci.Digest // what it should have
	Found  oci.Digest // what it has; zero when it ends too early
	Size   int64      // bytes that it should have
	Read   int64      // bytes that there were
}

// Error is the finding, for people.
func (e *WrongError) Error() string {
	if e.Found.IsZero() {
		return fmt.Sprintf("the stored content has %d bytes instead of %d", e.Read, e.Size)
	}
	return fmt.Sprintf("the stored content has digest %s", e.Found)
}

// Send copies content to w and verifies it on the way: r should give size bytes with digest d. Nobody receives all of it
// before all of it was found to be right: the last bytes, at most 128 KiB, are held back until then. So whoever announced
// size bytes and breaks off at an error has not passed wrong content off as right. Hashing overlaps with reading and
// writing.
//
// n is what w took. Wrong content is a *WrongError, a failure of r a *SourceError, one of w is returned as it is. Its
// goroutine has ended when it returns.
func Send(w io.Writer, r io.Reader, size int64, d oci.Digest) (n int64, err error) {
	s := sending{h: oci.NewHasher(d.Algorithm()), toHash: make(chan chunk, ringBuffers), free: make(chan *[ringBuffer]byte, ringBuffers), done: make(chan struct{})}
	go s.hash()
	last, read, n, err := s.pass(w, r, size)
	close(s.toHash)
	<-s.done
	defer s.release()
	if err == nil && read < size {
		err = &WrongError{Digest: d, Size: size, Read: read}
	}
	if err != nil {
		return n, err
	}
	if found := s.h.Digest(); found != d {
		return n, &WrongError{Digest: d, Found: found, Size: size, Read: read}
	}
	m, err := write(w, last)
	return n + int64(m), err
}

// sending is a line of two stations: the caller reads and writes, one goroutine hashes.
type sending struct {
	h      *oci.Hasher
	toHash chan chunk
	free   chan *[ringBuffer]byte
	taken  int
	done   chan struct{}
}

// pass moves all but the last buffer, which it returns. read is less than size when r ended too early.
func (s *sending) pass(w io.Writer, r io.Reader, size int64) (last []byte, read, n int64, err error) {
	for read < size {
		buf := s.take()
		k, err := io.ReadFull(r, buf[:min(size-read, ringBuffer)])
		read += int64(k)
		s.toHash <- chunk{buf, k}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, read, n, nil
		case err != nil:
			return nil, read, n, &SourceError{err}
		case read == size:
			return buf[:k], read, n, nil
		}
		m, err := write(w, buf[:k])
		n += int64(m)
		if err != nil {
			return nil, read, n, err
		}
	}
	return nil, read, n, nil
}

// take is a buffer that was hashed, or another one up to the bound. What was hashed was written, too: its owner comes here
// after writing.
func (s *sending) take() *[ringBuffer]byte {
	if s.taken < ringBuffers {
		select {
		case buf := <-s.free:
			return buf
		default:
		}
		s.taken++
		return ringPool.Get().(*[ringBuffer]byte)
	}
	return <-s.free
}

func (s *sending) hash() {
	defer close(s.done)
	for c := range s.toHash {
		_, _ = s.h.Write(c.buf[:c.n]) // a hasher never fails
		s.free <- c.buf
	}
}

// release gives the buffers back; all of them were hashed.
func (s *sending) release() {
	for range s.taken {
		ringPool.Put(<-s.free)
	}
}
