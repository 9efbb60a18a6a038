package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
)

// replicas are stores on one directory, of which each call meets the next.
type replicas struct {
	all []*fs.Store
	n   atomic.Int64
}

func (r *replicas) next() *fs.Store { return r.all[int(r.n.Add(1))%len(r.all)] }

func (r *replicas) Upload(ctx context.Context, id string, st blob.State) (blob.Writer, error) {
	return r.next().Upload(ctx, id, st)
}

func (r *replicas) Commit(ctx context.Context, id string, st blob.State, d oci.Digest) error {
	return r.next().Commit(ctx, id, st, d)
}

func (r *replicas) Abort(ctx context.Context, id string, st blob.State) error {
	return r.next().Abort(ctx, id, st)
}

func (r *replicas) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	return r.next().Open(ctx, d)
}

func (r *replicas) OpenUpload(ctx context.Context, id string, st blob.State) (io.ReadCloser, error) {
	return r.next().OpenUpload(ctx, id, st)
}

func (r *replicas) Delete(ctx context.Context, ds ...oci.Digest) error {
	return r.next().Delete(ctx, ds...)
}
func (r *replicas) Check(ctx context.Context) error { return r.next().Check(ctx) }

func TestContractOfReplicas(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store {
		dir := t.TempDir()
		return &replicas{all: []*fs.Store{openShared(t, dir), openShared(t, dir), openShared(t, dir)}}
	})
}

// TestOvertakenAttempt: two replicas continue one upload from the same state. Only what the recorded state says becomes
// the blob, also when the other goes on writing after that.
func TestOvertakenAttempt(t *testing.T) {
	for name, start := range map[string]int{"from the beginning": 0, "in the middle": 100_000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := openShared(t, dir), openShared(t, dir)
			data, other := blobtest.Random(1, 400_000), blobtest.Random(2, 400_000)
			var st blob.State
			if start > 0 {
				st = write(t, a, "u", st, data[:start])
			}
			slow, err := a.Upload(t.Context(), "u", st)
			if err != nil {
				t.Fatal(err)
			}
			half := (start + len(data)) / 2
			mustWrite(t, slow, other[start:half])
			won := write(t, b, "u", st, data[start:])
			mustWrite(t, slow, other[half:half+1000])
			d := oci.FromBytes(oci.SHA256, data)
			if err := a.Commit(t.Context(), "u", won, d); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, slow, other[half+1000:])
			blobtest.RequireContent(t, b, d, data)
			lost, err := slow.Suspend(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			blobtest.RequireContent(t, a, d, data)
			// Whoever was overtaken in the middle continues from bytes that have gone; never with others.
			err = b.Commit(t.Context(), "u", lost, oci.FromBytes(oci.SHA256, other))
			if start > 0 && !fault.Has(err, fault.BlobUploadUnknown) || start == 0 && err != nil {
				t.Errorf("commit of the other attempt: %v", err)
			}
			if start == 0 {
				blobtest.RequireContent(t, a, oci.FromBytes(oci.SHA256, other), other)
			}
			if err := b.Abort(t.Context(), "u", blob.State{}); err != nil {
				t.Fatal(err)
			}
			requireNoUploads(t, dir)
		})
	}
}

// TestCommitOnBoth: two replicas are asked to commit the same upload; both say yes, and the blob is whole.
func TestCommitOnBoth(t *testing.T) {
	dir := t.TempDir()
	a, b := openShared(t, dir), openShared(t, dir)
	for i := range 60 {
		id := fmt.Sprint("u", i)
		data := blobtest.Random(byte(i), 90_000)
		st := write(t, a, id, blob.State{}, data[:50_000])
		if i%2 == 0 {
			st = write(t, b, id, st, data[50_000:])
		} else {
			data = data[:50_000]
		}
		d := oci.FromBytes(oci.SHA256, data)
		var both sync.WaitGroup
		for _, s := range []*fs.Store{a, b} {
			both.Go(func() {
				if err := s.Commit(t.Context(), id, st, d); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		both.Wait()
		blobtest.RequireContent(t, a, d, data)
	}
}

// TestAloneThenShared: an upload that a process began with the directory for itself goes on where it is shared.
func TestAloneThenShared(t *testing.T) {
	dir := t.TempDir()
	alone, shared := open(t, dir, nil), openShared(t, dir)
	data := blobtest.Random(3, 300_000)
	d := oci.FromBytes(oci.SHA256, data)
	st := write(t, alone, "u", blob.State{}, data[:100_000])
	st = write(t, shared, "u", st, data[100_000:200_000])
	st = write(t, alone, "u", st, data[200_000:])
	if err := shared.Commit(t.Context(), "u", st, d); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireContent(t, alone, d, data)
	requireNoUploads(t, dir)

	st = write(t, alone, "v", blob.State{}, data[:100_000])
	if err := shared.Commit(t.Context(), "v", st, oci.FromBytes(oci.SHA256, data[:100_000])); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireContent(t, shared, oci.FromBytes(oci.SHA256, data[:100_000]), data[:100_000])
}

// TestSeenLate: a blob that another machine has made may take a moment to be seen.
func TestSeenLate(t *testing.T) {
	dir := t.TempDir()
	s, err := fs.New(dir, fs.Options{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	data := blobtest.Random(4, 1000)
	d := blobtest.Put(t, s, "u", data)
	name := filepath.Join(dir, "blobs/sha256", shardPath(d))
	if err := os.Rename(name, name+".hidden"); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireNoBlob(t, s, d)
	shown := time.AfterFunc(40*time.Millisecond, func() { _ = os.Rename(name+".hidden", name) })
	defer shown.Stop()
	blobtest.RequireContent(t, s, d, data)
}

// TestFileServerAway: what a network file system says when its server does not answer is told as that.
func TestFileServerAway(t *testing.T) {
	for _, errno := range []error{syscall.ETIMEDOUT, syscall.ENOTCONN, syscall.ESTALE} {
		away := false
		s := open(t, t.TempDir(), func(durable.Op, string, string) error {
			if away {
				return errno
			}
			return nil
		})
		d := blobtest.Put(t, s, "u", []byte("x"))
		st := write(t, s, "v", blob.State{}, []byte("x"))
		away = true
		_, uploadErr := s.Upload(t.Context(), "w", blob.State{})
		for what, err := range map[string]error{
			"upload": uploadErr, "commit": s.Commit(t.Context(), "v", st, d), "abort": s.Abort(t.Context(), "v", st), "delete": s.Delete(t.Context(), d),
		} {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s, %v: %v; want Unavailable", what, errno, err)
			}
		}
	}
}

// TestStraysOfReplicas: what overtaken and dead attempts leave is found under the name of their upload, as young as its
// youngest file, and goes with one Abort.
func TestStraysOfReplicas(t *testing.T) {
	dir := t.TempDir()
	a, b := openShared(t, dir), openShared(t, dir)
	write(t, a, "old", blob.State{}, []byte("one attempt"))
	write(t, b, "old", blob.State{}, []byte("and another"))
	hourAgo := time.Now().Add(-time.Hour)
	files, err := filepath.Glob(filepath.Join(dir, "uploads", "old.*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		if err := os.Chtimes(name, hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	write(t, a, "at-work", blob.State{}, []byte("long ago"))
	if files, err = filepath.Glob(filepath.Join(dir, "uploads", "at-work.*")); err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if err := os.Chtimes(files[0], hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	write(t, b, "at-work", blob.State{}, []byte("just now"))
	// What an NFS client leaves of a file that was removed while it was open.
	if err := os.WriteFile(filepath.Join(dir, "uploads", ".nfs0000000000000001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := b.StaleUploads(t.Context(), hourAgo.Add(time.Minute))
	if err != nil || len(ids) != 1 || ids[0] != "old" {
		t.Fatalf("stale: %v, %v; want old", ids, err)
	}
	if err := b.Abort(t.Context(), "old", blob.State{}); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "uploads", "old*")); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}

// TestBrokenState: a state that says nonsense is an upload that is not known.
func TestBrokenState(t *testing.T) {
	s := openShared(t, t.TempDir())
	good := write(t, s, "u", blob.State{}, []byte("hello"))
	for cut := 1; cut < len(good.Driver); cut++ {
		_, err := s.Upload(t.Context(), "u", blob.State{Offset: good.Offset, Driver: good.Driver[:cut]})
		if !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("%d of %d bytes of a state: %v", cut, len(good.Driver), err)
		}
	}
	_, err := s.Upload(t.Context(), "v", good)
	if !fault.Has(err, fault.BlobUploadUnknown) {
		t.Errorf("the state of another upload: %v", err)
	}
}

func write(t testing.TB, s *fs.Store, id string, st blob.State, data []byte) blob.State {
	t.Helper()
	w, err := s.Upload(t.Context(), id, st)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, w, data)
	if st, err = w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	return st
}

func mustWrite(t testing.TB, w blob.Writer, data []byte) {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func requireNoUploads(t testing.TB, dir string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	if err != nil || len(left) > 0 {
		t.Errorf("uploads are left: %v, %v", left, err)
	}
}

const stormDir = "BERTH_TEST_STORM_DIRECTORY"

// TestStormOfProcesses: three processes upload, commit, delete and read on one directory. What is opened is whole.
func TestStormOfProcesses(t *testing.T) {
	if dir := os.Getenv(stormDir); dir != "" {
		storm(t, dir)
		return
	}
	dir := t.TempDir()
	openShared(t, dir)
	var all sync.WaitGroup
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStormOfProcesses$", "-test.v")
		cmd.Env = append(os.Environ(), stormDir+"="+dir)
		all.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	requireNoUploads(t, dir)
}

// storm works on 24 contents that all processes know.
func storm(t *testing.T, dir string) {
	s := openShared(t, dir)
	contents := make([][]byte, 24)
	for i := range contents {
		contents[i] = blobtest.Random(byte(i), 1+i*i*700)
	}
	var opened, missing atomic.Int64
	var workers sync.WaitGroup
	until := time.Now().Add(3 * time.Second)
	for w := range 4 {
		workers.Go(func() {
			for n := 0; time.Now().Before(until) && !t.Failed(); n++ {
				data := contents[rand.IntN(len(contents))]
				d := oci.FromBytes(oci.SHA256, data)
				switch rand.IntN(8) {
				case 0:
					if err := s.Delete(t.Context(), d); err != nil {
						t.Errorf("delete: %v", err)
					}
				case 1, 2, 3:
					stormUpload(t, s, fmt.Sprintf("p%d-%d-%d", os.Getpid(), w, n), data, d)
				default:
					switch err := stormRead(s, data, d); {
					case fault.Has(err, fault.BlobUnknown):
						missing.Add(1)
					case err != nil:
						t.Errorf("read: %v", err)
					default:
						opened.Add(1)
					}
				}
			}
		})
	}
	workers.Wait()
	if opened.Load() < 20 {
		t.Errorf("only %d blobs were read, %d were missing", opened.Load(), missing.Load())
	}
}

func stormUpload(t *testing.T, s *fs.Store, id string, data []byte, d oci.Digest) {
	var st blob.State
	for st.Offset < int64(len(data)) {
		w, err := s.Upload(t.Context(), id, st)
		if err != nil {
			t.Errorf("upload: %v", err)
			return
		}
		rest := data[st.Offset:]
		if rand.IntN(2) == 0 {
			rest = rest[:1+rand.IntN(len(rest))]
		}
		_, err = w.Write(rest)
		if err != nil || rand.IntN(8) == 0 {
			if closeErr := w.Close(); err != nil || closeErr != nil {
				t.Errorf("write: %v, close: %v", err, closeErr)
				return
			}
			continue
		}
		if st, err = w.Suspend(t.Context()); err != nil {
			t.Errorf("suspend: %v", err)
			return
		}
	}
	var err error
	if rand.IntN(6) == 0 {
		err = s.Abort(t.Context(), id, st)
	} else {
		err = s.Commit(t.Context(), id, st, d)
	}
	if err != nil {
		t.Errorf("end of upload: %v", err)
	}
}

func stormRead(s *fs.Store, data []byte, d oci.Digest) error {
	c, size, err := s.Open(context.Background(), d)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	if size != int64(len(data)) || !bytes.Equal(got, data) {
		return fmt.Errorf("blob %s has size %d and %d bytes, which are not its own", d.Short(), size, len(got))
	}
	return nil
}
