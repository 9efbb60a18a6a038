package blob

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
)

// Copy writes n bytes of content to w, and returns how many w took; fewer come with an error. A file is left to w, which
// may send it without copying. Anything else is read ahead, up to 512 KiB, while w writes: on its way through a process
// reading and writing cost as much as each other.
//
// An error of w is returned as it is, one of content is a *SourceError. Its goroutine has ended when it returns, which takes
// as long as a read of content.
func Copy(w io.Writer, content io.Reader, n int64) (int64, error) {
	_, isFile := content.(*os.File)
	if isFile || n <= ringBuffer {
		return io.CopyN(w, content, n)
	}
	a := &ahead{toWrite: make(chan chunk, ringBuffers), free: make(chan *[ringBuffer]byte, ringBuffers)}
	go a.read(content, n)
	done, err := a.write(w)
	if err != nil {
		return done, err
	}
	return done, a.err
}

// ahead is a line of two stations: one goroutine reads, the caller writes.
type ahead struct {
	toWrite chan chunk
	free    chan *[ringBuffer]byte
	failed  atomic.Bool // the writer has failed: reading on is useless
	err     error       // the reading side's own until toWrite is closed
}

func (a *ahead) read(r io.Reader, n int64) {
	defer close(a.toWrite)
	taken := 0
	for n > 0 && !a.failed.Load() {
		var buf *[ringBuffer]byte
		if taken < ringBuffers {
			select {
			case buf = <-a.free:
			default:
				taken++
				buf = ringPool.Get().(*[ringBuffer]byte)
			}
		} else {
			buf = <-a.free
		}
		m, err := r.Read(buf[:min(n, ringBuffer)])
		n -= int64(m)
		a.toWrite <- chunk{buf, m}
		if errors.Is(err, io.EOF) && n > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && n > 0 {
			a.err = &SourceError{err}
			return
		}
	}
}

func (a *ahead) write(w io.Writer) (done int64, err error) {
	for c := range a.toWrite {
		if err == nil {
			var m int
			if m, err = write(w, c.buf[:c.n]); err != nil {
				a.failed.Store(true)
			}
			done += int64(m)
		}
		a.free <- c.buf // there are no more buffers than it has room for
	}
	for {
		select {
		case buf := <-a.free:
			ringPool.Put(buf)
		default:
			return done, err
		}
	}
}
