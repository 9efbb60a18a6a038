package fs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
)

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return open(t, t.TempDir(), nil) })
}

func TestContractShared(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return openShared(t, t.TempDir()) })
}

func openShared(t *testing.T, dir string) *fs.Store {
	t.Helper()
	s, err := fs.New(dir, fs.Options{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Impatient()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// open opens a store and closes it when the test ends.
func open(t *testing.T, dir string, hook durable.Hook) *fs.Store {
	t.Helper()
	s, err := fs.New(dir, fs.Options{Hook: hook})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestContentIsFile(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	d := blobtest.Put(t, s, "file", []byte("x"))
	c, _, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*os.File); !ok {
		t.Errorf("content is a %T; only *os.File is handed to sendfile", c)
	}
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	d := blobtest.Put(t, s, "done", []byte("x"))
	w, err := s.Upload(t.Context(), "going-on", blob.State{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for name, perm := range map[string]os.FileMode{
		"blobs":                        0o750,
		"blobs/sha256":                 0o750,
		"blobs/sha512":                 0o750,
		"blobs/sha256/" + d.Hex()[:2]:  0o750,
		"uploads":                      0o750,
		"uploads/going-on":             0o640,
		"blobs/sha256/" + shardPath(d): 0o640,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if extra := info.Mode().Perm() &^ perm; extra != 0 {
			t.Errorf("%s has permissions %o, want at most %o", name, info.Mode().Perm(), perm)
		}
	}
	requireFiles(t, dir, "blobs/sha256/"+shardPath(d), "uploads/going-on")
}

func shardPath(d oci.Digest) string { return d.Hex()[:2] + "/" + d.Hex() }

// A symbolic link that somebody put into the store does not lead out of it.
func TestLinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	d := blobtest.Put(t, s, "real", []byte("x"))
	name := filepath.Join(dir, "blobs/sha256", shardPath(d))
	if err := errors.Join(os.Remove(name), os.Symlink(secret, name), os.Symlink(secret, filepath.Join(dir, "uploads/link"))); err != nil {
		t.Fatal(err)
	}
	if c, _, err := s.Open(t.Context(), d); err == nil {
		c.Close()
		t.Error("a link out of the store was opened")
	}
	if w, err := s.Upload(t.Context(), "link", blob.State{}); err == nil {
		w.Close()
		t.Error("a link out of the store was opened for writing")
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
}

func TestCheckFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir, nil)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	err := s.Check(t.Context())
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("check of a directory that is gone: %v, want Unavailable", err)
	}
	if msg := fault.Of(err).Message; strings.Contains(msg, dir) {
		t.Errorf("the public message shows a path: %s", msg)
	}
}

func TestNewRefusesFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := fs.New(name, fs.Options{}); err == nil {
		s.Close()
		t.Error("a file was accepted as a store")
	}
}

// Opening a blob is the hot path of every pull: one look-up of one name, and one stat.
func BenchmarkOpen(b *testing.B) {
	s, err := fs.New(b.TempDir(), fs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	d := blobtest.Put(b, s, "bench", []byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		c, _, err := s.Open(b.Context(), d)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// Small blobs are bound by two syncs each, which the file system shares between workers.
func BenchmarkSmallPush(b *testing.B) {
	s, err := fs.New(b.TempDir(), fs.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var next atomic.Int64
	for range 1500 { // until nearly every shard is there
		smallPush(b, s, next.Add(1))
	}
	b.Run("workers=1", func(b *testing.B) {
		for b.Loop() {
			smallPush(b, s, next.Add(1))
		}
	})
	b.Run("workers=8", func(b *testing.B) {
		b.SetParallelism(max(1, 8/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				smallPush(b, s, next.Add(1))
			}
		})
	})
}

func smallPush(b *testing.B, s blob.Store, n int64) {
	data := append(binary.BigEndian.AppendUint64(nil, uint64(n)), make([]byte, 4096)...)
	blobtest.Put(b, s, fmt.Sprint("small-", n), data)
}

// Uploads to which nothing was added for a while are told, and nothing else that lies among them.
func TestStaleUploads(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	for _, id := range []string{"old", "young"} {
		w, err := s.Upload(t.Context(), id, blob.State{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "uploads", "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "uploads", "No upload"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	for _, name := range []string{"old", "directory", "No upload"} {
		if err := os.Chtimes(filepath.Join(dir, "uploads", name), hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	for what, store := range map[string]blob.Store{
		"store": s, "observed": blob.Observe(s, func(string, float64, error) {}), "faulty": blobtest.NewFaulty(s),
	} {
		ids, err := blob.StaleUploads(t.Context(), store, time.Now().Add(-time.Minute))
		if err != nil || !slices.Equal(ids, []string{"old"}) {
			t.Errorf("%s: %q, %v", what, ids, err)
		}
	}
}

func TestDisk(t *testing.T) {
	space, err := fs.Disk(t.TempDir()).Space(t.Context())
	if err != nil || space.Total <= 0 || space.Free <= 0 || space.Free > space.Total || space.Reserve <= 0 || space.Reserve > space.Total/8 {
		t.Errorf("%+v, %v", space, err)
	}
	s := open(t, t.TempDir(), nil)
	if kept, err := s.Space(t.Context()); err != nil || kept.Reserve != space.Reserve {
		t.Errorf("a store on it reserves %d, %v; want %d", kept.Reserve, err, space.Reserve)
	}
}
