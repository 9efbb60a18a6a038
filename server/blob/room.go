package blob

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// roomAge is how old an answer about free space may be: others write to the disk, too.
const roomAge = time.Second

// rowsCost is what the rows of a push may take in a database and its log, in bytes.
const rowsCost = 64 << 10

// Room says whether there is space for more content on disks that a registry shares between its content and its
// metadata: a database without room for its journal can neither delete nor start, so new content stops before that.
//
// The disks are asked once a second, and whenever as much was taken as a quarter of the reserve or of what is left before
// it: never for most pushes while there is plenty, and for every push near the end. So what others write meanwhile, large
// content too, is noticed before the reserve is gone. Make one with NewRoom.
type Room struct {
	disks     []Spacer
	now       func() time.Time
	allowance atomic.Int64          // bytes to hand out before the disks are asked again
	asked     atomic.Int64          // when they were asked last, in nanoseconds since 1970
	full      atomic.Pointer[error] // what they said
	asking    sync.Mutex
}

// NewRoom watches disks.
func NewRoom(now func() time.Time, disks ...Spacer) *Room { return &Room{disks: disks, now: now} }

// Take is nil, or STORAGE_FULL when n more bytes, and the rows that go with them, would leave one of the disks less than
// its reserve. A disk that does not answer is left to those who write to it.
func (r *Room) Take(ctx context.Context, n int64) error {
	cost := n + rowsCost
	age := r.now().UnixNano() - r.asked.Load()
	if age < 0 || age >= int64(roomAge) || r.allowance.Add(-cost) < 0 {
		r.ask(context.WithoutCancel(ctx), cost)
	}
	if full := r.full.Load(); full != nil {
		return *full
	}
	return nil
}

func (r *Room) ask(ctx context.Context, cost int64) {
	r.asking.Lock()
	defer r.asking.Unlock()
	usable, reserve, full := int64(math.MaxInt64), int64(math.MaxInt64), (*error)(nil)
	for _, d := range r.disks {
		space, err := d.Space(ctx)
		if err != nil {
			continue
		}
		reserve, usable = min(reserve, space.Reserve), min(usable, space.Free-space.Reserve)
		if usable < cost && full == nil {
			err := error(Full(fmt.Errorf("blob: %d bytes are free and %d are held in reserve", space.Free, space.Reserve)))
			full = &err
		}
	}
	allowance := min(usable, reserve)/4 - cost
	if full != nil {
		allowance = 0 // a smaller one may still fit
	}
	r.full.Store(full)
	r.allowance.Store(max(allowance, 0))
	r.asked.Store(r.now().UnixNano())
}
