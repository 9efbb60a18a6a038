package blob

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// roomAge is how old an answer about free space may be. In that time a busy registry writes less than any reserve.
const roomAge = time.Second

// Room says whether there is space for more content on disks that a registry shares between its content and its
// metadata: a database without room for its journal can neither delete nor start, so new content stops before that. It
// asks each disk once a second, however many ask it. Make one with NewRoom.
type Room struct {
	disks []Spacer
	now   func() time.Time
	asked atomic.Int64 // when the disks were asked last, or are being asked, in nanoseconds since 1970
	full  atomic.Pointer[error]
}

// NewRoom watches disks.
func NewRoom(now func() time.Time, disks ...Spacer) *Room { return &Room{disks: disks, now: now} }

// Check is nil, or STORAGE_FULL while one of the disks has less space than its reserve. A disk that does not answer is
// left to those who write to it.
func (r *Room) Check(ctx context.Context) error {
	now, asked := r.now().UnixNano(), r.asked.Load()
	if age := now - asked; (age < 0 || age >= int64(roomAge)) && r.asked.CompareAndSwap(asked, now) {
		r.ask(context.WithoutCancel(ctx))
	}
	if full := r.full.Load(); full != nil {
		return *full
	}
	return nil
}

func (r *Room) ask(ctx context.Context) {
	for _, d := range r.disks {
		space, err := d.Space(ctx)
		if err == nil && space.Free < space.Reserve {
			full := error(Full(fmt.Errorf("blob: %d bytes are free and %d are held in reserve", space.Free, space.Reserve)))
			r.full.Store(&full)
			return
		}
	}
	r.full.Store(nil)
}
