package fs_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
)

// recorder is a hook that keeps a journal, and fails what it is told to.
type recorder struct {
	mu      sync.Mutex
	journal []string
	fail    func(op durable.Op, name string) error
}

func (r *recorder) hook(op durable.Op, name, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := string(op) + " " + name
	if to != "" {
		line += " -> " + to
	}
	r.journal = append(r.journal, line)
	if r.fail != nil {
		return r.fail(op, name)
	}
	return nil
}

func (r *recorder) reset(fail func(op durable.Op, name string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal, r.fail = nil, fail
}

// failOn fails every operation of a kind on names with a prefix.
func failOn(op durable.Op, prefix string, err error) func(durable.Op, string) error {
	return func(o durable.Op, name string) error {
		if o == op && strings.HasPrefix(name, prefix) {
			return err
		}
		return nil
	}
}

func begun(t *testing.T, s blob.Store, id string, data []byte) blob.State {
	t.Helper()
	w, err := s.Upload(t.Context(), id, blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	state, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// What a power loss may take is decided by this order, so it is written down: the shard's own name is durable before a
// blob counts on it, the content before its name, the name before the answer.
func TestCommitOrder(t *testing.T) {
	var r recorder
	s := open(t, t.TempDir(), r.hook)
	data := []byte("content")
	d := oci.FromBytes(oci.SHA256, data)
	shard := "blobs/sha256/" + d.Hex()[:2]
	r.reset(nil)
	state := begun(t, s, "first", data)
	if err := s.Commit(t.Context(), "first", state, d); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"open uploads/first",
		"write uploads/first",
		"sync uploads/first",
		"syncdir uploads",
		"mkdir " + shard,
		"syncdir blobs/sha256",
		"rename uploads/first -> " + shard + "/" + d.Hex(),
		"syncdir " + shard,
	}
	if !slices.Equal(r.journal, want) {
		t.Errorf("first commit into a shard:\n%s\nwant\n%s", strings.Join(r.journal, "\n"), strings.Join(want, "\n"))
	}

	r.reset(nil)
	state = begun(t, s, "second", data)
	if err := s.Commit(t.Context(), "second", state, d); err != nil {
		t.Fatal(err)
	}
	want = []string{
		"open uploads/second",
		"write uploads/second",
		"sync uploads/second",
		"syncdir uploads",
		"rename uploads/second -> " + shard + "/" + d.Hex(),
		"syncdir " + shard,
	}
	if !slices.Equal(r.journal, want) {
		t.Errorf("second commit:\n%s\nwant\n%s", strings.Join(r.journal, "\n"), strings.Join(want, "\n"))
	}
}

func TestDeleteAndAbortOrder(t *testing.T) {
	var r recorder
	s := open(t, t.TempDir(), r.hook)
	d := blobtest.Put(t, s, "one", []byte("content"))
	state := begun(t, s, "two", []byte("x"))
	r.reset(nil)
	if err := errors.Join(s.Delete(t.Context(), d), s.Abort(t.Context(), "two", state)); err != nil {
		t.Fatal(err)
	}
	shard := "blobs/sha256/" + d.Hex()[:2]
	want := []string{"remove " + shard + "/" + d.Hex(), "syncdir " + shard, "remove uploads/two", "syncdir uploads"}
	if !slices.Equal(r.journal, want) {
		t.Errorf("%v, want %v", r.journal, want)
	}
}

// A disk that fails is never acknowledged, and what it may hold of the content is not used again. Here it fails for the
// bytes that an interrupted writer left behind the state: those that Commit itself cuts off and syncs.
func TestFailedSyncDiscardsUpload(t *testing.T) {
	var r recorder
	dir := t.TempDir()
	s := open(t, dir, r.hook)
	data := []byte("content")
	d := oci.FromBytes(oci.SHA256, data)
	state := begun(t, s, "a", data)
	interrupted(t, s, "a", state)
	r.reset(failOn(durable.OpSync, "uploads/", syscall.EIO))
	if err := s.Commit(t.Context(), "a", state, d); !errors.Is(err, syscall.EIO) {
		t.Fatalf("commit: %v", err)
	}
	if slices.ContainsFunc(r.journal, func(l string) bool { return strings.HasPrefix(l, "rename") }) {
		t.Errorf("renamed after a failed sync: %v", r.journal)
	}
	r.reset(nil)
	if err := s.Commit(t.Context(), "a", state, d); !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("commit again: %v", err)
	}
	if _, err := s.Upload(t.Context(), "a", state); !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("resume: %v", err)
	}
	blobtest.RequireNoBlob(t, s, d)
	requireFiles(t, dir)
	blobtest.RequireContent(t, s, blobtest.Put(t, s, "b", data), data)
}

// interrupted writes behind the state, and dies.
func interrupted(t *testing.T, s blob.Store, id string, state blob.State) {
	t.Helper()
	w, err := s.Upload(t.Context(), id, state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
}

// The same when it is suspended.
func TestFailedSuspendDiscardsUpload(t *testing.T) {
	var r recorder
	dir := t.TempDir()
	s := open(t, dir, r.hook)
	data := blobtest.Random(1, 100_000)
	state := begun(t, s, "a", data)
	w, err := s.Upload(t.Context(), "a", state)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	r.reset(failOn(durable.OpSync, "uploads/", syscall.EIO))
	if _, err := w.Suspend(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("suspend: %v", err)
	}
	r.reset(nil)
	if _, err := s.Upload(t.Context(), "a", state); !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("resume from before the failure: %v", err)
	}
	requireFiles(t, dir)
}

// A name that could not be synced is not acknowledged, whatever is asked again; but the blob that had the name before
// may have been, so nothing is taken away.
func TestFailedDirectorySync(t *testing.T) {
	var r recorder
	s := open(t, t.TempDir(), r.hook)
	data := []byte("content")
	d := blobtest.Put(t, s, "acknowledged", data)
	state := begun(t, s, "a", data)
	r.reset(failOn(durable.OpSyncDir, "blobs/", syscall.EIO))
	if err := s.Commit(t.Context(), "a", state, d); !errors.Is(err, syscall.EIO) {
		t.Fatalf("commit: %v", err)
	}
	r.reset(nil)
	if err := s.Commit(t.Context(), "a", state, d); !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("commit again, without bytes: %v", err)
	}
	blobtest.RequireContent(t, s, d, data)
	blobtest.Put(t, s, "b", data)
	if err := s.Commit(t.Context(), "b", state, d); err != nil {
		t.Errorf("commit again after the bytes came again: %v", err)
	}
}

// A shard whose own name could not be synced is made again by the next commit.
func TestFailedShardSync(t *testing.T) {
	var r recorder
	s := open(t, t.TempDir(), r.hook)
	data := []byte("content")
	d := oci.FromBytes(oci.SHA256, data)
	state := begun(t, s, "a", data)
	r.reset(failOn(durable.OpSyncDir, "blobs/sha256", syscall.EIO))
	if err := s.Commit(t.Context(), "a", state, d); !errors.Is(err, syscall.EIO) {
		t.Fatalf("commit: %v", err)
	}
	blobtest.RequireNoBlob(t, s, d)
	r.reset(nil)
	if err := s.Commit(t.Context(), "a", state, d); err != nil {
		t.Fatalf("commit again: %v", err)
	}
	if !slices.Contains(r.journal, "syncdir blobs/sha256") {
		t.Errorf("the shard's parent was not synced again: %v", r.journal)
	}
	blobtest.RequireContent(t, s, d, data)
}

// Each place where space can end says STORAGE_FULL, and Abort gives the space back.
func TestFull(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		for _, op := range []durable.Op{durable.OpOpen, durable.OpWrite, durable.OpMkdir, durable.OpSync, durable.OpRename, durable.OpSyncDir} {
			t.Run(fmt.Sprintf("%s-%d", op, errno), func(t *testing.T) {
				var r recorder
				dir := t.TempDir()
				s := open(t, dir, r.hook)
				r.reset(failOn(op, "", errno))
				err := pushed(t, s)
				if !fault.Is(err, fault.Full) || !fault.Has(err, fault.StorageFull) || !errors.Is(err, errno) {
					t.Fatalf("error %v, want STORAGE_FULL because of %v", err, errno)
				}
				if msg := fault.Of(err).Message; strings.Contains(msg, dir) || strings.Contains(msg, "no space left on device") {
					t.Errorf("the public message shows the inside: %s", msg)
				}
				r.reset(nil)
				if err := s.Abort(t.Context(), "full", blob.State{}); err != nil {
					t.Fatalf("abort: %v", err)
				}
				if op != durable.OpSyncDir { // the blob is whole, only not known to be durable
					requireFiles(t, dir)
				}
				if err := pushed(t, s); err != nil {
					t.Errorf("push when there is space again: %v", err)
				}
			})
		}
	}
}

func pushed(t *testing.T, s blob.Store) error {
	data := []byte("content")
	w, err := s.Upload(t.Context(), "full", blob.State{})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	state, err := w.Suspend(t.Context())
	if err != nil {
		return err
	}
	return s.Commit(t.Context(), "full", state, oci.FromBytes(oci.SHA256, data))
}

// Only a rename makes a blob: at no moment of a push is there a file below blobs that is not whole.
func TestNothingPartialIsNamed(t *testing.T) {
	dir := t.TempDir()
	data := blobtest.Random(1, 100_000)
	d := oci.FromBytes(oci.SHA256, data)
	look := func(op durable.Op, name, _ string) error {
		return filepath.WalkDir(filepath.Join(dir, "blobs"), func(path string, e iofs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // not made yet
			}
			got, err := os.ReadFile(path)
			if err != nil || oci.FromBytes(oci.SHA256, got).Hex() != e.Name() {
				t.Errorf("before %s %s: %s holds %d bytes that are not its digest's, %v", op, name, e.Name(), len(got), err)
			}
			return nil
		})
	}
	s := open(t, dir, look)
	for i := range 3 {
		w, err := s.Upload(t.Context(), fmt.Sprint("partial-", i), blob.State{})
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; rest = rest[10_000:] {
			if _, err := w.Write(rest[:10_000]); err != nil {
				t.Fatal(err)
			}
		}
		state, err := w.Suspend(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), fmt.Sprint("partial-", i), state, d); err != nil {
			t.Fatal(err)
		}
	}
	blobtest.RequireContent(t, s, d, data)
}

// A process that dies leaves its directory to the next one, wherever it was.
func TestReopen(t *testing.T) {
	for _, size := range []int{1000, 1 << 20} {
		for _, at := range []durable.Op{"", durable.OpSync, durable.OpRename, durable.OpSyncDir} {
			t.Run(fmt.Sprintf("%d-%s", size, at), func(t *testing.T) { testReopen(t, blobtest.Random(2, size), at) })
		}
	}
}

func testReopen(t *testing.T, data []byte, at durable.Op) {
	var r recorder
	dir := t.TempDir()
	d := oci.FromBytes(oci.SHA256, data)
	first, err := fs.New(dir, fs.Options{Hook: r.hook})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	state := begun(t, first, "id", data)
	if at == durable.OpSync { // a suspended upload has nothing to sync
		interrupted(t, first, "id", state)
	}
	died := errors.New("died")
	r.reset(func(op durable.Op, name string) error {
		switch {
		case op == durable.OpRemove: // the dead clean nothing up
			return died
		case at == durable.OpSyncDir: // of the shard: its blob has been renamed by then
			return failOn(at, "blobs/sha256/", died)(op, name)
		}
		return failOn(at, "", died)(op, name)
	})
	if at != "" {
		if err := first.Commit(t.Context(), "id", state, d); err == nil {
			t.Fatalf("died at %s: commit succeeded", at)
		}
	}
	second := open(t, dir, nil)
	if err := second.Commit(t.Context(), "id", state, d); err != nil {
		t.Errorf("the next process commits: %v", err)
	}
	blobtest.RequireContent(t, second, d, data)
}

// requireFiles fails the test unless these are the regular files below dir.
func requireFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, name)
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("files %v, %v; want %v", got, err, want)
	}
}
