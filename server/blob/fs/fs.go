// Package fs keeps blobs as files: a directory on a local disk, or on NFS shared by several registries.
//
//	blobs/sha256/ab/ab12…   content, named by its digest, below a directory of its first two digits
//	blobs/sha512/…
//	uploads/<id>            uploads in progress; with Options.Shared uploads/<id>.<token>, one for each attempt
//
// A file below blobs is always whole: it was synced under its upload's name before it was renamed, and the rename is
// synced before Commit returns. There are no locks and no links, so any number of processes may share the directory,
// and a backup is a copy of it.
//
// It may assume that nobody else renames or removes directories below its root. Start reading at [Store.Commit].
package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

const (
	dirPerm  iofs.FileMode = 0o750
	filePerm iofs.FileMode = 0o640
)

// Options adjust a store. The zero value is right for production.
type Options struct {
	// Reserve is how many bytes uploads leave free on the file system, for what shares it: a database that has no room
	// for its journal can neither delete nor start. 0 is 64 MiB or an eighth of the file system, whichever is less;
	// negative is nothing.
	Reserve int64

	// Shared says that other processes use the directory too, on this machine or on others: no two of them ever write to
	// one file, and what one has made may take a moment to be seen by another.
	Shared bool

	Hook durable.Hook // sees every change and every sync; for tests
}

// Store is a blob.Store on a file system. Make one with New.
type Store struct {
	path   string
	root   *durable.Dir
	shared bool
	// patience is the last wait for a blob that another machine has made and that this one does not see yet.
	patience time.Duration
	sha256   shards
	sha512   shards

	space     func() (blob.Space, error) // asks the file system, which on NFS may take as long as it likes
	reserve   int64
	allowance atomic.Int64 // bytes to write before the file system is asked again how much is free
	doubtful  doubts
	checking  atomic.Bool
}

// New opens the store in the directory root, which it makes when it is not there (its parent must be).
func New(root string, o Options) (*Store, error) {
	if err := durable.MkdirAll(root, dirPerm); err != nil {
		return nil, fmt.Errorf("fs: %w", err)
	}
	dir, err := durable.OpenDir(root, o.Hook)
	if err != nil {
		return nil, fmt.Errorf("fs: %w", err)
	}
	s := &Store{path: root, root: dir, shared: o.Shared, space: func() (blob.Space, error) { return statfs(root) }}
	if o.Shared {
		s.patience = sharedPatience
	}
	if err := errors.Join(s.prepare(), s.setReserve(o.Reserve)); err != nil {
		return nil, errors.Join(fmt.Errorf("fs: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) prepare() error {
	for _, name := range []string{"uploads", "blobs", s.base(oci.SHA256), s.base(oci.SHA512)} {
		if err := s.root.Mkdir(name, dirPerm); err != nil {
			return err
		}
	}
	return errors.Join(s.sha256.open(s.root, s.base(oci.SHA256)), s.sha512.open(s.root, s.base(oci.SHA512)))
}

// Close releases what the store holds open. Nothing may be in use.
func (s *Store) Close() error {
	return errors.Join(s.sha256.close(), s.sha512.close(), s.root.Close())
}

// Open implements blob.Store. The content is an *os.File.
func (s *Store) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	shard, err := s.shard(d)
	if err != nil {
		return nil, 0, err
	}
	f, err := shard.openFile(d.Hex())
	for pause := 5 * time.Millisecond; pause <= s.patience && errors.Is(err, iofs.ErrNotExist); pause *= 3 {
		if err := wait(ctx, pause); err != nil {
			return nil, 0, err
		}
		f, err = shard.openFile(d.Hex())
	}
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, 0, blob.Unknown(d)
	} else if err != nil {
		return nil, 0, failed("open "+d.String(), err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(failed("open "+d.String(), err), f.Close())
	}
	return f, info.Size(), nil
}

// sharedPatience is how long a shared directory is given to show a blob that another machine has made: 5, 15, 45 and 135 ms.
const sharedPatience = 135 * time.Millisecond

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Delete implements blob.Store. The removal is synced, also of what was gone already: the process that removed it may
// not have lived to sync it, and an orphan that a power loss brings back would have no row that names it.
func (s *Store) Delete(ctx context.Context, ds ...oci.Digest) error {
	touched := map[*shard]struct{}{}
	var errs []error
	for _, d := range ds {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		shard, err := s.shard(d)
		if err != nil {
			continue // no digest: nothing has that name
		}
		dir, err := shard.find()
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = dir.Remove(d.Hex())
		}
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			errs = append(errs, failed("delete "+d.String(), err))
			continue
		}
		touched[shard] = struct{}{}
	}
	for shard := range touched {
		dir, err := shard.find()
		if err == nil {
			err = dir.SyncDir(".")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("fs: delete: %w", err))
		}
	}
	return errors.Join(errs...)
}

// base is the directory of an algorithm's blobs below the root.
func (s *Store) base(a oci.Algorithm) string { return path.Join("blobs", string(a)) }

func (s *Store) uploadName(id string) string { return path.Join("uploads", id) }

// failed turns an error of the file system into the contract's: STORAGE_FULL, Unavailable when a file server does not
// answer, or an internal one.
func failed(what string, err error) error {
	err = fmt.Errorf("fs: %s: %w", what, err)
	switch {
	case durable.IsFull(err):
		return blob.Full(err)
	case isAway(err):
		return unavailable(err)
	}
	return err
}

// isAway says that the file server of a network or FUSE file system does not answer, or has forgotten the file.
func isAway(err error) bool {
	for _, away := range []error{syscall.ESTALE, syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ECONNREFUSED} {
		if errors.Is(err, away) {
			return true
		}
	}
	return false
}

// The content that Open gives must be a file that net/http can hand to sendfile.
var _ blob.Content = (*os.File)(nil)
