package httpd

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/berth-registry/berth/fault"
)

// Large layers take hours over thin lines, so there is no limit on how long an answer or a body may take; but one that
// makes no progress for the stall time is cut. Deadlines are moved at most once a second, whatever the size of reads
// and writes: setting one costs a lock in the runtime's poller.

const rollEvery = time.Second

// roller moves a deadline along. It is used by one goroutine at a time.
type roller struct {
	stall time.Duration // 0: no protection
	now   func() time.Time
	last  time.Time
}

func (r *roller) roll(set func(time.Time) error) {
	if r.stall == 0 {
		return
	}
	now := r.now()
	if now.Sub(r.last) < rollEvery {
		return
	}
	r.last = now
	_ = set(now.Add(r.stall)) // a connection that cannot take a deadline is a closed one; the read or write says so
}

// stallBody cuts a request body that stops coming. It is allocated only for requests that have a body.
type stallBody struct {
	io.ReadCloser
	rolling roller
	set     func(time.Time) error
	read    int64
	done    bool
}

func (b *stallBody) Read(p []byte) (int, error) {
	if !b.done {
		b.rolling.roll(b.set)
	}
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case err == nil:
	case err == io.EOF:
		if !b.done {
			// From here on net/http listens for the peer's going away; our deadline would be taken for that.
			b.done = true
			_ = b.set(time.Time{})
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fault.New(fault.Invalid, BodyStalled, "the request body stood still for %s after %d bytes and was given up", b.rolling.stall, b.read).Because(err)
	default:
		// Whatever else a body's reader says is about the sender: cut off, reset, malformed chunks.
		err = fault.New(fault.Invalid, BodyCut, "the request body broke off after %d bytes", b.read).Because(err)
	}
	return n, err
}
