package s3

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// markAgain is the age at which a marker is written again while parts are sent.
const markAgain = time.Hour

// assembly sends bytes that become one object, part by part, in a multipart upload that begins with the first. What comes
// behind as many parts as are sent goes into segments, objects of one part's size, which finish composes into the last
// parts; so parts never have to grow, and memory is the same for any size. It is used by one goroutine.
type assembly struct {
	s       *Store
	id, key string
	nonce   string // names the marker, and what this writer sends besides parts
	flights *flights

	begun *multipart // nil while there is no part
	own   bool       // it was begun here
	next  int        // number of the next part
	size  int64      // of the parts, and of the segments behind them
	more  segments   // behind the parts
	sent  []segment  // those of them that were sent here

	mu    sync.Mutex
	parts parts // filled in as they arrive
}

// add sends a part's worth of bytes.
func (a *assembly) add(body *pages) error {
	start := a.size
	a.size += body.size
	if len(a.more) > 0 || a.next > a.s.limits.direct {
		g := segment{a.nonce, start, body.size}
		a.more = a.more.add(g)
		return a.object(g, body)
	}
	if a.begun == nil {
		m, err := a.s.begin(a.flights.ctx, a.id, a.key, a.nonce, true)
		if err != nil {
			body.free()
			return err
		}
		a.begun, a.own = m, true
	}
	if a.s.now().Sub(a.begun.marked) > markAgain { // it goes on for hours, or was begun by another writer
		if err := a.begun.mark(a.flights.ctx); err != nil {
			body.free()
			return err
		}
	}
	number := a.next
	a.next++
	a.mu.Lock()
	i := len(a.parts)
	a.parts = append(a.parts, part{number: number, size: body.size})
	a.mu.Unlock()
	return a.flights.do(body, func(ctx context.Context) error {
		done, err := a.begun.part(ctx, number, body)
		a.mu.Lock()
		a.parts[i].etag = aws.ToString(done.ETag)
		a.mu.Unlock()
		return err
	})
}

// object sends bytes as an object of the upload.
func (a *assembly) object(g segment, body *pages) error {
	a.sent = append(a.sent, g)
	key := a.s.segmentKey(a.id, g)
	return a.flights.do(body, func(ctx context.Context) error { return a.s.put(ctx, key, body, false) })
}

// drop gives up what was sent here: the whole multipart upload, if it began here, and objects. Parts that were sent to one
// that began earlier are not named when it is completed.
func (a *assembly) drop(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer stop()
	if a.own {
		a.begun.abort(ctx)
	}
	var keys []string
	for _, g := range a.sent {
		keys = append(keys, a.s.segmentKey(a.id, g))
	}
	return a.s.remove(ctx, keys)
}

// finish completes a multipart upload of which there are parts, with sources and rest behind them. made are objects that are
// not needed afterwards, whatever became of it.
func (m *multipart) finish(ctx context.Context, id string, have parts, from []source, rest *pages) (made []string, err error) {
	size := have.size()
	all := make([]types.CompletedPart, 0, len(have)+len(from)+1)
	for _, p := range have {
		if p.etag == "" {
			return nil, errors.New("s3: the service gave a part no ETag")
		}
		all = append(all, types.CompletedPart{ETag: aws.String(p.etag), PartNumber: number(p.number)})
	}
	room := m.s.limits.parts - have.last()
	if rest != nil {
		room--
	}
	if len(from) > room {
		larger, err := m.s.bundle(ctx, id, from, max(room/2, 1))
		for _, b := range larger {
			made = append(made, b.key)
		}
		if err != nil {
			return made, err
		}
		from = larger
	}
	copied, gathered, err := m.gather(ctx, have.last()+1, from)
	if err != nil {
		return made, err
	}
	all, size = append(all, gathered...), size+copied
	if rest != nil {
		last, err := m.part(ctx, have.last()+len(from)+1, rest)
		if err != nil {
			return made, err
		}
		all, size = append(all, last), size+rest.size
	}
	return made, m.complete(ctx, all, size)
}

func number(n int) *int32 { return aws.Int32(int32(n)) } //nolint:gosec // at most 10,000
