package fs

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

// checkWithin bounds Check, whatever the file system does.
const checkWithin = time.Second

// Check implements blob.Store: the directory answers and is writable. A full file system passes, since it still serves
// pulls and deletes; Space tells of it.
func (s *Store) Check(ctx context.Context) error {
	_, err := s.ask(ctx)
	return err
}

// Space implements blob.Spacer.
func (s *Store) Space(ctx context.Context) (blob.Space, error) { return s.ask(ctx) }

// ask looks at the file system in a goroutine of its own, because a dead NFS server holds up a system call for ever.
// There is one at a time, so that no more than one is ever stuck.
func (s *Store) ask(ctx context.Context) (blob.Space, error) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	for !s.checking.CompareAndSwap(false, true) {
		select {
		case <-ctx.Done():
			return blob.Space{}, unavailable(ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	type answer struct {
		space blob.Space
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		space, err := s.space()
		space.Reserve = max(s.reserve, 0)
		err = errors.Join(err, s.writable())
		s.checking.Store(false)
		answers <- answer{space, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return blob.Space{}, unavailable(a.err)
		}
		return a.space, nil
	case <-ctx.Done():
		return blob.Space{}, unavailable(ctx.Err())
	}
}

func unavailable(cause error) error {
	f := fault.New(fault.Unavailable, fault.UnavailableReason,
		"the blob storage does not answer or is not writable; try again later").Because(cause)
	f.After = 5
	return f
}
