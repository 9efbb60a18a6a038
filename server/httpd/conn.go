package httpd

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a TCP connection whose first byte has been looked at. It keeps what makes a TCP connection fast (ReadFrom
// reaches sendfile) and cuts a peer that takes nothing for the stall time. It is what net/http sees for plain HTTP and
// what lies under TLS.
type conn struct {
	*net.TCPConn
	now   func() time.Time
	stall time.Duration // 0: no protection of writes

	first    [1]byte // given back by the first Read
	buffered atomic.Bool

	rolled   atomic.Int64 // when the write deadline was moved last, in Unix nanoseconds
	explicit atomic.Bool  // someone else (the TLS handshake, a close) has set a write deadline: hands off

	answering atomic.Bool // a handler has the connection; see canned.go

	unread atomic.Bool     // the last answer went out before its request's body was read; see linger
	closed <-chan struct{} // the listener is closed

	once    sync.Once
	release func()
}

func (c *conn) Read(b []byte) (int, error) {
	if len(b) > 0 && c.buffered.Load() && c.buffered.CompareAndSwap(true, false) {
		b[0] = c.first[0]
		return 1, nil
	}
	return c.TCPConn.Read(b)
}

// WriteTo must not reach TCPConn's own, which would miss the first byte.
func (c *conn) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, onlyReader{c}) }

// Write writes all of b unless the peer takes nothing for the stall time. A peer that takes little is patience, not
// failure: every byte that left starts the time anew.
func (c *conn) Write(b []byte) (int, error) {
	if replaced, ok := c.canned(b); ok {
		if _, err := c.TCPConn.Write(replaced); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	total := 0
	for {
		c.roll(false)
		n, err := c.TCPConn.Write(b[total:])
		total += n
		if err == nil || n == 0 || !c.mayGoOn(err) {
			return total, err
		}
		c.roll(true)
	}
}

// ReadFrom sends a file by sendfile. The kernel copies for as long as the peer takes bytes; when the deadline strikes,
// the bytes that left since decide whether to go on. The file's own offset says where.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	var total int64
	for {
		c.roll(true)
		n, err := c.TCPConn.ReadFrom(src)
		total += n
		if err == nil || n == 0 || !c.mayGoOn(err) || !resumable(src) {
			return total, err
		}
	}
}

// resumable reports whether what ReadFrom took from src is exactly what left: true for files, where the kernel did
// the copy; false where bytes that were read may have died in a buffer.
func resumable(src io.Reader) bool {
	if l, ok := src.(*io.LimitedReader); ok {
		src = l.R
	}
	_, ok := src.(interface{ Fd() uintptr })
	return ok
}

func (c *conn) mayGoOn(err error) bool {
	return c.stall > 0 && !c.explicit.Load() && errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *conn) roll(always bool) {
	if c.stall == 0 || c.explicit.Load() {
		return
	}
	now := c.now()
	if !always && now.UnixNano()-c.rolled.Load() < int64(rollEvery) {
		return
	}
	c.rolled.Store(now.UnixNano())
	_ = c.TCPConn.SetWriteDeadline(now.Add(c.stall)) // on a closed connection the write says so
}

// SetWriteDeadline lets others decide until they set none.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.explicit.Store(!t.IsZero())
	c.rolled.Store(0)
	return c.TCPConn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.TCPConn.SetReadDeadline(t)
}

const (
	lingerBytes  = 16 << 20
	lingerWithin = 5 * time.Second
)

// linger lets a peer that is still sending its body read the answer. Bytes that nobody reads make the kernel reset the
// connection, and a reset takes away what the peer has not read yet; so the rest is read, in bounds, after saying that
// nothing more comes from here. At the end of the process nobody waits for it.
func (c *conn) linger() {
	select {
	case <-c.closed:
		return
	default:
	}
	if c.TCPConn.CloseWrite() != nil || c.TCPConn.SetReadDeadline(c.now().Add(lingerWithin)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, onlyReader{c.TCPConn}, lingerBytes)
}

func (c *conn) Close() error {
	if c.unread.CompareAndSwap(true, false) {
		c.linger()
	}
	c.once.Do(c.release)
	return c.TCPConn.Close()
}
