package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Open implements blob.Store: one request, whose body is read as the content is. Reading elsewhere asks for the rest from
// there, and so does a body that breaks off or stalls. The end of ctx ends the reading, too.
func (s *Store) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if d.IsZero() {
		return nil, 0, blob.Unknown(d)
	}
	c, err := s.open(ctx, s.blobKey(d))
	if isMissing(err) {
		return nil, 0, blob.Unknown(d)
	} else if err != nil {
		return nil, 0, s.failed("open", err)
	}
	return c, c.size, nil
}

// URL implements blob.Redirector: an address that is signed here, without asking the service.
func (s *Store) URL(ctx context.Context, d oci.Digest) (string, error) {
	if d.IsZero() {
		return "", blob.Unknown(d)
	}
	return s.address(ctx, s.blobKey(d))
}

// content is an object that is being read.
type content struct {
	ctx    context.Context //nolint:containedctx // of the call that opened it, which is what it lives in
	s      *Store
	key    string
	etag   string
	size   int64
	pos    int64
	body   io.ReadCloser // nil when there is none
	at     int64         // of body
	stop   context.CancelCauseFunc
	timer  *time.Timer // stops body when it stalls
	closed bool
}

// errChanged says that an object is not any more what it was when it was opened.
var errChanged = errors.New("s3: the object was replaced or removed while it was read")

func (s *Store) open(ctx context.Context, key string) (*content, error) {
	c := &content{ctx: ctx, s: s, key: key}
	out, err := c.get(&s3.GetObjectInput{Bucket: &s.o.Bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	c.etag, c.size = aws.ToString(out.ETag), aws.ToInt64(out.ContentLength)
	if out.ContentLength == nil {
		c.drop()
		return nil, fmt.Errorf("s3: the service does not say how long %s is", key)
	}
	return c, nil
}

// get sends a request and keeps its body.
func (c *content) get(in *s3.GetObjectInput, opts ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	out, err := c.s.client.GetObject(ctx, in, opts...)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	c.body, c.stop, c.at = out.Body, cancel, c.pos
	return out, nil
}

// goOn asks for the bytes from pos on, of the very same object.
func (c *content) goOn() error {
	in := &s3.GetObjectInput{Bucket: &c.s.o.Bucket, Key: &c.key, Range: aws.String(fmt.Sprintf("bytes=%d-", c.pos))}
	if c.etag != "" {
		in.IfMatch = &c.etag
	}
	out, err := c.get(in, attempts(1)) // Read has the patience
	if isMissing(err) || errorCode(err) == "PreconditionFailed" || errorStatus(err) == 412 {
		return errChanged
	} else if err != nil {
		return err
	}
	want := fmt.Sprintf("bytes %d-%d/%d", c.pos, c.size-1, c.size)
	if got := aws.ToString(out.ContentRange); got != want || c.etag != aws.ToString(out.ETag) {
		c.drop()
		if c.etag != aws.ToString(out.ETag) {
			return errChanged
		}
		return fmt.Errorf("s3: asked for %s of %s, and the service sends %q", want, c.key, got)
	}
	return nil
}

func (c *content) Read(p []byte) (int, error) {
	if c.closed {
		return 0, errors.New("s3: read of closed content")
	}
	if len(p) == 0 {
		return 0, nil
	}
	for try := 1; ; try++ {
		if c.pos >= c.size {
			return 0, io.EOF
		}
		n, err := c.read(p)
		if n > 0 {
			return n, nil // what failed behind it fails again
		}
		if err == nil {
			continue
		}
		if try >= c.s.o.Attempts || c.ctx.Err() != nil || errors.Is(err, errChanged) || c.s.refusal(err) != "" {
			return 0, c.s.failed("read", err)
		}
		if err := c.pause(try); err != nil {
			return 0, err
		}
	}
}

// read reads once. After an error there is no body.
func (c *content) read(p []byte) (int, error) {
	if c.body != nil && c.at != c.pos {
		c.drop()
	}
	if c.body == nil {
		if err := c.goOn(); err != nil {
			return 0, err
		}
	}
	end := &stalled{operation: "GetObject", after: c.s.o.Stall}
	stop := c.stop
	if c.timer == nil {
		c.timer = time.AfterFunc(c.s.o.Stall, func() { stop(end) })
	} else {
		c.timer.Reset(c.s.o.Stall)
	}
	n, err := c.body.Read(p[:min(int64(len(p)), c.size-c.pos)])
	c.timer.Stop()
	c.pos += int64(n)
	c.at = c.pos
	if err == io.EOF && c.pos < c.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		c.drop()
		if n == 0 {
			return 0, fmt.Errorf("s3: read %s at %d of %d: %w", c.key, c.pos, c.size, err)
		}
	}
	return n, nil
}

// pause waits before another attempt.
func (c *content) pause(try int) error {
	t := time.NewTimer(backoff(try))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// drain is up to how many unread bytes are read so that the connection can be used again.
const drain = 64 << 10

// drop closes the body.
func (c *content) drop() {
	if c.body == nil {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil // it stops this body and no other
	}
	_ = c.body.Close() // what is left of it is of no interest
	c.stop(nil)
	c.body = nil
}

func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.size
	default:
		return 0, errors.New("s3: seek from nowhere")
	}
	if offset < 0 {
		return 0, errors.New("s3: seek before the beginning")
	}
	c.pos = offset
	return offset, nil
}

func (c *content) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	if c.body != nil && c.size-c.at <= drain && c.ctx.Err() == nil {
		_, _ = io.Copy(io.Discard, c.body)
	}
	c.drop()
	return nil
}
