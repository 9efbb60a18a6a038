package blob_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// tank is a disk with a known level.
type tank struct {
	space blob.Space
	err   error
	asked int
}

func (d *tank) Space(context.Context) (blob.Space, error) {
	d.asked++
	return d.space, d.err
}

func TestRoom(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const mb = 1 << 20
	content := &tank{space: blob.Space{Total: 1000 * mb, Free: 500 * mb, Reserve: 100 * mb}}
	metadata := &tank{space: blob.Space{Total: 1000 * mb, Free: 500 * mb, Reserve: 100 * mb}}
	r := blob.NewRoom(func() time.Time { return now }, content, metadata)
	check := func(what string, full bool) {
		t.Helper()
		err := r.Take(t.Context(), 1000)
		if full && !(fault.Is(err, fault.Full) && fault.Has(err, fault.StorageFull)) || !full && err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("plenty", false)
	content.space.Free = 99 * mb
	check("an answer is good for a second", false)
	now = now.Add(time.Second)
	check("content is full", true)
	content.space.Free = 500 * mb
	now = now.Add(time.Second)
	check("there is room again", false)
	metadata.space.Free = 0
	now = now.Add(time.Second)
	check("metadata is full", true)
	metadata.err = errors.New("no answer")
	now = now.Add(time.Second)
	check("who does not answer is not full", false)
	metadata.err = nil
	now = now.Add(-time.Hour)
	check("the clock was set back", true)

	metadata.space.Free = 500 * mb
	now = now.Add(time.Hour)
	asked := metadata.asked
	for range 100 {
		check("plenty", false)
	}
	if n := metadata.asked - asked; n != 1 {
		t.Errorf("asked %d times within a second", n)
	}
}

// However fast it is filled within a second, the reserve stays.
func TestRoomLeavesReserve(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	const mb = 1 << 20
	d := &tank{space: blob.Space{Total: 1000 * mb, Free: 500 * mb, Reserve: 64 * mb}}
	r := blob.NewRoom(func() time.Time { return now }, d)
	taken := 0
	for ; r.Take(t.Context(), 60_000) == nil; taken++ {
		d.space.Free -= 100_000
	}
	if d.space.Free < 64*mb || d.space.Free > 65*mb || taken < 1000 {
		t.Errorf("%d bytes are free after %d pushes, want just over the reserve", d.space.Free, taken)
	}
	if d.asked > taken/10 {
		t.Errorf("asked %d times for %d pushes", d.asked, taken)
	}
	d.space.Free += mb
	if err := r.Take(t.Context(), 60_000); err != nil {
		t.Errorf("when space was freed, at once: %v", err)
	}
}

func TestRoomWithoutDisks(t *testing.T) {
	if err := blob.NewRoom(time.Now).Take(t.Context(), 1<<40); err != nil {
		t.Error(err)
	}
}
