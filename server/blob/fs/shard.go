package fs

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// shards are the directories of one algorithm's blobs, by the first byte of the digest. Each is made when its first
// blob comes, and held open from its first use on, so that opening a blob is one look-up of one name.
type shards struct {
	dir *durable.Dir
	all [256]shard
}

type shard struct {
	in   *shards
	name string

	opened atomic.Pointer[durable.Dir]
	mu     sync.Mutex // of the fields below, and of setting opened
	made   bool       // it exists and its name is durable
}

func (s *shards) open(root *durable.Dir, name string) error {
	dir, err := root.Sub(name)
	if err != nil {
		return err
	}
	s.dir = dir
	names, err := dir.Names(".")
	if err != nil {
		return err
	}
	// The process that made them may not have lived to sync their names.
	if err := dir.SyncDir("."); err != nil {
		return err
	}
	for i := range s.all {
		s.all[i].in = s
		s.all[i].name = strconv.FormatUint(uint64(0x100+i), 16)[1:]
		s.all[i].made = slices.Contains(names, s.all[i].name)
	}
	return nil
}

func (s *shards) close() error {
	if s.dir == nil {
		return nil
	}
	var errs []error
	for i := range s.all {
		if dir := s.all[i].opened.Swap(nil); dir != nil {
			errs = append(errs, dir.Close())
		}
	}
	return errors.Join(append(errs, s.dir.Close())...)
}

// shard is where d belongs. The zero digest belongs nowhere: BLOB_UNKNOWN.
func (s *Store) shard(d oci.Digest) (*shard, error) {
	if d.IsZero() {
		return nil, blob.Unknown(d)
	}
	i, err := strconv.ParseUint(d.Hex()[:2], 16, 8)
	if err != nil {
		return nil, blob.Unknown(d)
	}
	if d.Algorithm() == oci.SHA512 {
		return &s.sha512.all[i], nil
	}
	return &s.sha256.all[i], nil
}

// find is the open directory, or fs.ErrNotExist when no blob has come yet.
func (s *shard) find() (*durable.Dir, error) {
	if dir := s.opened.Load(); dir != nil {
		return dir, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir := s.opened.Load(); dir != nil {
		return dir, nil
	}
	dir, err := s.in.dir.Sub(s.name)
	if err != nil {
		return nil, err
	}
	s.opened.Store(dir)
	return dir, nil
}

// openFile opens a blob's file.
func (s *shard) openFile(name string) (*os.File, error) {
	dir, err := s.find()
	if err != nil {
		return nil, err
	}
	return dir.Open(name)
}

// make sees to it that the directory exists durably. Its parent is synced also when another process has made it in the
// meantime and may not have come to that yet. Whoever comes meanwhile waits, since an acknowledged blob in a directory
// whose own name is lost is lost.
func (s *shard) make() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	if err := s.in.dir.Mkdir(s.name, dirPerm); err != nil {
		return err
	}
	s.made = true
	return nil
}
