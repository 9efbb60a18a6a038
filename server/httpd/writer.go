package httpd

import (
	"io"
	"net/http"
	"time"
)

// writer is the chain's state for one request: the answer on its way out, counted, and the record.
//
// It is not recycled: a handler's goroutine that outlives its request then writes into nothing, not into the answer
// of a stranger. That costs one allocation; see BenchmarkChain.
type writer struct {
	http.ResponseWriter
	rec     Record
	status  int // 0 until the header is out
	bytes   int64
	idValue [1]string // backs the X-Request-Id header value without an allocation
	rolling roller    // stall protection for HTTP/2, whose streams share a connection
	isHTTP2 bool
}

// Unwrap lets http.ResponseController reach deadlines and full duplex of the server's writer.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if status >= 200 && w.status == 0 { // informational answers precede the real one
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// WriteString saves the copy that io.WriteString would make.
func (w *writer) WriteString(s string) (int, error) {
	w.begin()
	n, err := io.WriteString(w.ResponseWriter, s)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom is what io.Copy calls. Over plain HTTP/1.1 the server's writer hands a file to the kernel (sendfile);
// elsewhere the bytes go through a buffer that is larger than io.Copy's own, because each piece becomes TLS records.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	w.begin()
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		n, err := to.ReadFrom(src)
		w.bytes += n
		return n, err
	}
	buffers := &w.rec.chain.buffers
	buffer, ok := buffers.Get().(*[copyBufferSize]byte)
	if !ok {
		buffer = new([copyBufferSize]byte)
	}
	defer buffers.Put(buffer)
	return io.CopyBuffer(onlyWriter{w}, onlyReader{src}, buffer[:]) // Write counts
}

// Flush sends what is buffered.
func (w *writer) Flush() {
	w.begin()
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

func (w *writer) begin() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if w.isHTTP2 {
		w.rolling.roll(w.deadline)
	}
}

func (w *writer) deadline(t time.Time) error {
	if d, ok := w.ResponseWriter.(interface{ SetWriteDeadline(time.Time) error }); ok {
		return d.SetWriteDeadline(t)
	}
	return http.ErrNotSupported
}

const copyBufferSize = 64 << 10

// onlyWriter and onlyReader hide every other method, so that io.CopyBuffer uses the buffer.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
