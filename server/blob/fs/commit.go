package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path"
	"sync"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Commit implements blob.Store: sync the file unless Suspend did, rename it over whatever has the digest's name, sync the
// directory.
//
// When the file cannot be synced the upload is gone, since what the disk holds of it is unknown. When only the
// directory cannot be synced, the blob stays (the name may have held an acknowledged blob before, which must not be
// taken away) but counts as not committed.
func (s *Store) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return err
	}
	shard, err := s.shard(d)
	if err != nil {
		return errors.New("fs: commit without a digest")
	}
	if s.inAttempts(state) {
		return s.commitAttempts(id, state, d, shard)
	}
	info, err := s.root.Stat(s.uploadName(id))
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return s.commitAgain(id, state, d, shard)
	case err != nil:
		return failed("commit", err)
	case info.Size() < state.Offset:
		return blob.UploadUnknown(id)
	}
	if err := shard.make(); err != nil {
		return failed("commit", err)
	}
	name := path.Join(s.base(d.Algorithm()), shard.name, d.Hex())
	if info.Size() == state.Offset {
		err = s.root.Rename(s.uploadName(id), name) // Suspend synced it
	} else {
		err = s.syncAndPublish(id, state, name)
	}
	if errors.Is(err, iofs.ErrNotExist) {
		// The directory is there, so it is the upload that is not: ended by another process in this moment.
		return blob.UploadUnknown(id)
	}
	return s.committed(d, err)
}

// committed is the outcome of giving content the name of d.
func (s *Store) committed(d oci.Digest, err error) error {
	switch {
	case errors.Is(err, durable.ErrDoubtful):
		s.doubtful.add(d)
		return failed("commit", err)
	case err != nil:
		return failed("commit", err)
	}
	s.doubtful.remove(d)
	return nil
}

// commitAttempts is Commit of an upload on a shared directory. A file that is not there any more may be the blob
// already: by another replica that was asked the same, or by a rename whose answer a file server lost and which it was
// sent a second time.
func (s *Store) commitAttempts(id string, state blob.State, d oci.Digest, shard *shard) error {
	if err := shard.make(); err != nil {
		return failed("commit", err)
	}
	err := s.publishAttempts(id, state, path.Join(s.base(d.Algorithm()), shard.name, d.Hex()))
	if fault.Has(err, fault.BlobUploadUnknown) || errors.Is(err, iofs.ErrNotExist) {
		return s.commitAgain(id, state, d, shard)
	}
	return s.committed(d, err)
}

// syncAndPublish is for an upload that an interrupted writer went on with.
func (s *Store) syncAndPublish(id string, state blob.State, name string) error {
	f, err := s.root.OpenFile(s.uploadName(id), os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	if err := restore(f, id, state); err != nil {
		return errors.Join(err, f.Close())
	}
	return s.root.Publish(f, name)
}

// commitAgain answers for an upload that has no file: one whose Commit came as far as the rename and is asked for
// again, by a caller that never heard the answer.
func (s *Store) commitAgain(id string, state blob.State, d oci.Digest, shard *shard) error {
	dir, err := shard.find()
	if errors.Is(err, iofs.ErrNotExist) || s.doubtful.has(d) {
		return blob.UploadUnknown(id)
	} else if err != nil {
		return failed("commit", err)
	}
	info, err := dir.Stat(d.Hex())
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return blob.UploadUnknown(id)
	case err != nil:
		return failed("commit", err)
	case info.Size() != state.Offset:
		return blob.UploadUnknown(id)
	}
	// The process that renamed it may not have lived to sync the two directories.
	if err := shard.make(); err != nil {
		return failed("commit", err)
	}
	if err := dir.SyncDir("."); err != nil {
		return failed("commit", err)
	}
	return nil
}

// doubts are the digests whose directory could not be synced when they were committed. Asking to sync again proves
// nothing, since the kernel reports a lost write once; only bytes that are sent again do.
type doubts struct {
	mu sync.Mutex
	of map[oci.Digest]struct{}
}

func (x *doubts) add(d oci.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of = map[oci.Digest]struct{}{}
	}
	x.of[d] = struct{}{}
}

func (x *doubts) remove(d oci.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.of, d)
}

func (x *doubts) has(d oci.Digest) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.of[d]
	return ok
}
