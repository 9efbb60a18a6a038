package fs

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/server/blob"
)

const (
	maxReserve   = 64 << 20
	maxAllowance = 1 << 30
)

func (s *Store) setReserve(reserve int64) error {
	if reserve == 0 {
		space, err := s.space()
		if err != nil {
			return err
		}
		reserve = defaultReserve(space)
	}
	s.reserve = reserve
	return nil
}

func defaultReserve(space blob.Space) int64 { return min(maxReserve, space.Total/8) }

// Disk is the file system that a directory is on, with the same reserve as a store on it would keep: for a database that
// lies somewhere else than the store.
type Disk string

// Space implements blob.Spacer.
func (d Disk) Space(context.Context) (blob.Space, error) {
	space, err := statfs(string(d))
	space.Reserve = defaultReserve(space)
	return space, err
}

// allow is nil when n more bytes leave the reserve alone. The file system is asked once for every quarter of what is
// left, so that it costs nothing while there is plenty, and for every write near the end, so that writes go on at once
// when space was freed. What others take meanwhile is noticed late: then the disk itself says that it is full.
func (s *Store) allow(n int) error {
	if s.reserve < 0 || s.allowance.Add(int64(-n)) >= 0 {
		return nil
	}
	space, err := s.space()
	if err != nil {
		return failed("upload", err)
	}
	usable := space.Free - s.reserve
	if usable < int64(n) {
		s.allowance.Store(0)
		return blob.Full(fmt.Errorf("fs: %d bytes are free and %d are held in reserve", space.Free, s.reserve))
	}
	s.allowance.Store(min(usable/4, maxAllowance))
	return nil
}
