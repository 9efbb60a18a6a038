package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

const (
	wireBuffer  = 256 << 10
	wireTimeout = 2 * time.Minute
)

// wire is one HTTP/1.1 connection that is kept open: the load generator's own client. It does the least that a correct client
// must: write a prepared request, read the status line and the few headers that matter, read or skip the body. net/http's
// client costs several times more, which on a shared machine would be taken from the server under test.
// Not safe for concurrent use.
type wire struct {
	addr string
	tls  *tls.Config
	conn net.Conn
	buf  []byte
	r, w int // the unread part of buf
	// patience is how long a request may take with its answer.
	patience time.Duration
}

// answer is a response. Its strings are set only when asked for (want).
type answer struct {
	status   int
	length   int64 // body bytes read
	location string
	digest   string
	header   []byte // all header lines
	body     []byte
}

// want says what to keep of a response.
type want uint8

const (
	wantNothing want = 0
	wantHeaders want = 1 << iota
	wantBody
)

func newWire(addr string, conf *tls.Config) *wire {
	return &wire{addr: addr, tls: conf, buf: make([]byte, wireBuffer), patience: wireTimeout}
}

func (c *wire) dial() error {
	conn, err := net.DialTimeout("tcp", c.addr, 5*time.Second)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if c.tls != nil {
		tc := tls.Client(conn, c.tls)
		if err := tc.Handshake(); err != nil {
			conn.Close()
			return fmt.Errorf("tls handshake: %w", err)
		}
		conn = tc
	}
	c.conn, c.r, c.w = conn, 0, 0
	return nil
}

func (c *wire) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// do sends one request (head is everything up to and including the empty line) and reads the answer.
func (c *wire) do(head, body []byte, isHEAD bool, keep want) (answer, error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return answer{}, err
		}
	}
	if err := c.send(head, body); err != nil {
		c.close()
		return answer{}, fmt.Errorf("send request: %w", err)
	}
	a, err := c.receive(isHEAD, keep)
	if err != nil {
		c.close()
	}
	return a, err
}

// stream sends head and then what body writes.
func (c *wire) stream(head []byte, body func(io.Writer) error, keep want) (answer, error) {
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return answer{}, err
		}
	}
	if err := c.send(head, nil); err != nil {
		c.close()
		return answer{}, fmt.Errorf("send request: %w", err)
	}
	if err := body(c.conn); err != nil {
		// A server that refuses answers early and closes: its answer says more than the broken pipe.
		a, rerr := c.receive(false, keep|wantBody)
		c.close()
		if rerr == nil {
			return a, nil
		}
		return answer{}, fmt.Errorf("send body: %w", err)
	}
	a, err := c.receive(false, keep)
	if err != nil {
		c.close()
	}
	return a, err
}

func (c *wire) send(head, body []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	if len(body) == 0 {
		_, err := c.conn.Write(head)
		return err
	}
	if tc, ok := c.conn.(*net.TCPConn); ok {
		both := net.Buffers{head, body}
		_, err := both.WriteTo(tc)
		return err
	}
	_, err := c.conn.Write(append(append(make([]byte, 0, len(head)+len(body)), head...), body...))
	return err
}

func (c *wire) receive(isHEAD bool, keep want) (answer, error) {
	for {
		head, err := c.readHead()
		if err != nil {
			return answer{}, fmt.Errorf("read answer: %w", err)
		}
		a, framing, err := parseHead(head, keep)
		if err != nil {
			return a, err
		}
		if a.status == 100 {
			continue
		}
		if isHEAD || a.status == 204 || a.status == 304 {
			framing.length, framing.chunked = 0, false
		}
		if err := c.readBody(&a, framing, keep&wantBody != 0); err != nil {
			return a, fmt.Errorf("read body: %w", err)
		}
		if framing.closes {
			c.close()
		}
		return a, nil
	}
}

// readHead returns the header block with its empty line; it stays valid until the next read.
func (c *wire) readHead() ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.Index(c.buf[c.r+scanned:c.w], []byte("\r\n\r\n")); i >= 0 {
			end := c.r + scanned + i + 4
			head := c.buf[c.r:end]
			c.r = end
			return head, nil
		}
		scanned = max(0, c.w-c.r-3)
		if c.r > 0 && c.w == len(c.buf) {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if c.w == len(c.buf) {
			return nil, errors.New("header is too large")
		}
		n, err := c.conn.Read(c.buf[c.w:])
		c.w += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// framing says where the body ends.
type framing struct {
	length  int64
	chunked bool
	closes  bool
}

// parseHead reads the status line and the headers that frame the body.
func parseHead(head []byte, keep want) (answer, framing, error) {
	var a answer
	var f framing
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return a, f, fmt.Errorf("read answer: %q is not HTTP/1", head[:min(len(head), 20)])
	}
	a.status = int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
	if keep&wantHeaders != 0 {
		a.header = bytes.Clone(head)
	}
	_, lines, _ := bytes.Cut(head, []byte("\r\n"))
	for len(lines) > 2 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, []byte("\r\n"))
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			break
		}
		name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
		switch colon {
		case len("content-length"):
			if bytes.EqualFold(name, []byte("content-length")) {
				n, err := strconv.ParseInt(string(value), 10, 64)
				if err != nil {
					return a, f, fmt.Errorf("read answer: content-length: %w", err)
				}
				f.length = n
			}
		case len("transfer-encoding"):
			f.chunked = f.chunked || bytes.EqualFold(name, []byte("transfer-encoding")) && bytes.EqualFold(value, []byte("chunked"))
		case len("connection"):
			f.closes = f.closes || bytes.EqualFold(name, []byte("connection")) && bytes.EqualFold(value, []byte("close"))
		case len("location"):
			if keep&wantHeaders != 0 && bytes.EqualFold(name, []byte("location")) {
				a.location = string(value)
			}
		case len("docker-content-digest"):
			if keep&wantHeaders != 0 && bytes.EqualFold(name, []byte("docker-content-digest")) {
				a.digest = string(value)
			}
		}
	}
	return a, f, nil
}

func (c *wire) readBody(a *answer, f framing, keep bool) error {
	if !f.chunked {
		return c.readN(a, f.length, keep)
	}
	for {
		line, err := c.readLine()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(line), 16, 64)
		if err != nil {
			return fmt.Errorf("chunk size: %w", err)
		}
		if err := c.readN(a, n, keep); err != nil {
			return err
		}
		if _, err := c.readLine(); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

func (c *wire) readLine() ([]byte, error) {
	for {
		if i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n")); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 2
			return line, nil
		}
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if c.w == len(c.buf) {
			return nil, errors.New("line is too long")
		}
		n, err := c.conn.Read(c.buf[c.w:])
		c.w += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// readN takes n bytes of body.
func (c *wire) readN(a *answer, n int64, keep bool) error {
	for n > 0 {
		if c.r == c.w {
			c.r, c.w = 0, 0
			got, err := c.conn.Read(c.buf[:min(int64(len(c.buf)), max(n, 64<<10))])
			c.w = got
			if got == 0 && err != nil {
				return err
			}
		}
		take := int(min(n, int64(c.w-c.r)))
		if keep {
			a.body = append(a.body, c.buf[c.r:c.r+take]...)
		}
		c.r += take
		a.length += int64(take)
		n -= int64(take)
	}
	return nil
}

const wireChunk = 32 << 10 // what Go's HTTP client, which docker uses, makes of a body of unknown length

// chunkWriter writes a body in chunks, those of one Write in one system call.
type chunkWriter struct {
	w   io.Writer
	buf []byte
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	c.buf = c.buf[:0]
	for rest := p; len(rest) > 0; {
		n := min(len(rest), wireChunk)
		c.buf = strconv.AppendInt(c.buf, int64(n), 16)
		c.buf = append(c.buf, "\r\n"...)
		c.buf = append(c.buf, rest[:n]...)
		c.buf = append(c.buf, "\r\n"...)
		rest = rest[n:]
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *chunkWriter) end() error {
	_, err := io.WriteString(c.w, "0\r\n\r\n")
	return err
}
