package scrub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/metadb"
)

// verdict is what a look at a blob has shown.
type verdict struct {
	right   bool
	missing bool   // else it is wrong, or unreadable
	sick    bool   // the disk says that it cannot read it
	detail  string // what was found instead; "" when nothing can be said: see err
	err     error  // why it could not be looked at
}

func (v verdict) bad() bool { return !v.right && v.err == nil }

// lookAttempts is how often a store that does not answer is asked about one blob.
const lookAttempts = 3

// look reads all bytes of a blob. Bytes that are wrong are read twice: what is wrong once may be the reading.
func (s *Service) look(ctx context.Context, b metadb.Blob, pace *pace) (v verdict) {
	wrong := false
	for try := 1; ; try++ {
		v = s.lookOnce(ctx, b, pace)
		switch {
		case v.right && wrong:
			s.o.Log.WarnContext(ctx, "a blob was read wrongly once and rightly the next time; look at memory, disk and their cables", "digest", b.Digest)
			return v
		case v.right, ctx.Err() != nil:
			return v
		case v.bad() && wrong, v.err != nil && try >= lookAttempts:
			return v
		}
		wrong = v.bad()
		if pause(ctx, time.Duration(try)*200*time.Millisecond) != nil {
			return verdict{err: ctx.Err()}
		}
	}
}

func (s *Service) lookOnce(ctx context.Context, b metadb.Blob, pace *pace) verdict {
	if b.Inline {
		return s.lookInline(ctx, b)
	}
	c, size, err := blob.OpenAt(ctx, s.o.Blobs, b.Place, b.Digest)
	switch {
	case fault.Has(err, fault.BlobUnknown):
		return verdict{missing: true, detail: "the store does not have the content"}
	case unreadable(err):
		return verdict{sick: true, detail: "the content cannot be read: " + syscall.EIO.Error()}
	case err != nil:
		return verdict{err: err}
	}
	defer func() { _ = c.Close() }()
	if size != b.Size {
		return verdict{detail: (&blob.WrongError{Digest: b.Digest, Size: b.Size, Read: size}).Error()}
	}
	_, err = blob.Send(io.Discard, pace.reader(ctx, c), size, b.Digest)
	var wrong *blob.WrongError
	switch {
	case err == nil:
		return verdict{right: true}
	case errors.As(err, &wrong):
		return verdict{detail: wrong.Error()}
	case unreadable(err):
		return verdict{sick: true, detail: "the content cannot be read: " + syscall.EIO.Error()}
	}
	return verdict{err: err}
}

// unreadable says that a disk reports a defect of its own, which no second reading mends.
func unreadable(err error) bool { return errors.Is(err, syscall.EIO) }

func (s *Service) lookInline(ctx context.Context, b metadb.Blob) verdict {
	body, err := s.o.DB.Content(ctx, b.Digest)
	if errors.Is(err, metadb.ErrNotFound) {
		return verdict{missing: true, detail: "the database does not have the content"}
	}
	if err != nil {
		return verdict{err: err}
	}
	if got := oci.FromBytes(b.Digest.Algorithm(), body); got != b.Digest {
		return verdict{detail: fmt.Sprintf("the content in the database has digest %s", got)}
	}
	return verdict{right: true}
}

// release looks at a damaged blob and makes it live when its bytes are right: they may have been replaced while somebody
// read the old ones, or put back by hand.
func (s *Service) release(ctx context.Context, d oci.Digest) (released bool, err error) {
	b, err := s.o.DB.BlobAnywhere(ctx, d)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && b.State != metadb.Damaged {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v := s.look(ctx, b, nil)
	if !v.right {
		return false, v.err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		now, err := tx.BlobAnywhere(ctx, d)
		if err != nil || now.Place != b.Place || now.Inline != b.Inline {
			return err
		}
		released, err = tx.Release(d)
		return err
	})
	if err == nil && released {
		s.o.Log.InfoContext(ctx, "a damaged blob was looked at again and is right", "digest", d)
	}
	return released, err
}

// quarantine puts a blob aside, and looks once more: whoever pushed it again while it was read the first time has replaced
// the bytes. done says that it is damaged now.
func (s *Service) quarantine(ctx context.Context, b metadb.Blob, by string, v verdict) (done bool, err error) {
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
		now, err := tx.BlobAnywhere(ctx, b.Digest)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		if err != nil || now.Place != b.Place || now.Inline != b.Inline {
			return err
		}
		var repos []int64
		repos, done, err = tx.Quarantine(metadb.Damage{Digest: b.Digest, FoundBy: by, Missing: v.missing, Detail: v.detail})
		if done {
			tx.AfterCommit(func() { s.o.Forget(b.Digest, repos...) })
		}
		return err
	})
	if err != nil || !done {
		return false, err
	}
	if released, err := s.release(ctx, b.Digest); err == nil && released {
		return false, nil
	}
	s.metrics.found(v.missing, by)
	s.o.Log.ErrorContext(ctx, "a blob is damaged; a push of it repairs it, and berthd fsck tells which tags need it",
		"digest", b.Digest, "found", v.detail, "by", by)
	return true, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
