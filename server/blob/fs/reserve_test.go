package fs

import (
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// disk stands for the file system's answer about itself; what a test writes through the store is taken off.
type disk struct {
	free  int64
	asked int
}

func onDisk(t *testing.T, d *disk, reserve int64) blob.Writer {
	t.Helper()
	s, err := New(t.TempDir(), Options{Reserve: reserve})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.space = func() (blob.Space, error) {
		d.asked++
		return blob.Space{Total: 1 << 40, Free: d.free}, nil
	}
	if err := s.setReserve(reserve); err != nil {
		t.Fatal(err)
	}
	d.asked = 0
	w, err := s.Upload(t.Context(), "reserve", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// fill writes until the store refuses, at most limit bytes.
func fill(t *testing.T, d *disk, w blob.Writer, limit int64) int64 {
	t.Helper()
	piece := make([]byte, 10_000)
	var written int64
	for written < limit {
		n, err := w.Write(piece)
		written += int64(n)
		d.free -= int64(n)
		if err != nil {
			if n != 0 || !fault.Is(err, fault.Full) || !fault.Has(err, fault.StorageFull) {
				t.Fatalf("refused with %d, %v", n, err)
			}
			break
		}
	}
	return written
}

func TestReserveIsLeftFree(t *testing.T) {
	d := &disk{free: 5 << 20}
	w := onDisk(t, d, 1<<20)
	if written := fill(t, d, w, 100<<20); d.free < 1<<20 || d.free > 1<<20+10_000 {
		t.Errorf("%d bytes were written and %d are free, want just over %d", written, d.free, 1<<20)
	}
	// Writes go on as soon as there is room, and no further than that.
	d.free += 500_000
	if written := fill(t, d, w, 100<<20); written < 400_000 || d.free < 1<<20 {
		t.Errorf("%d bytes were written and %d are free after 500000 were freed", written, d.free)
	}
}

// Asking is a network request on NFS: plenty of room is asked for seldom.
func TestReserveIsAskedForSeldom(t *testing.T) {
	d := &disk{free: 100 << 30}
	w := onDisk(t, d, 0)
	if written := fill(t, d, w, 64<<20); written < 64<<20 || d.asked > 1 {
		t.Errorf("asked %d times for %d bytes", d.asked, written)
	}
}

func TestNoReserve(t *testing.T) {
	d := &disk{free: 0}
	w := onDisk(t, d, -1)
	if written := fill(t, d, w, 1<<20); written < 1<<20 || d.asked != 0 {
		t.Errorf("%d bytes were written, asked %d times", written, d.asked)
	}
}

func TestDefaultReserve(t *testing.T) {
	for total, want := range map[int64]int64{80 << 20: 10 << 20, 1 << 40: 64 << 20} {
		s := &Store{space: func() (blob.Space, error) { return blob.Space{Total: total, Free: total}, nil }}
		if err := s.setReserve(0); err != nil || s.reserve != want {
			t.Errorf("of %d bytes %d are reserved, %v; want %d", total, s.reserve, err, want)
		}
	}
}
